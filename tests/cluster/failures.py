"""What tests of failing nodes share: clusters of simulated hosts, jobs that count, and hosts made well again."""
import re
import time

import pytest

import lib

SCRIPT = "for ((i = 0; i < {n}; i++)); do echo \"step $i\"; sleep 0.1; done; echo end\n"
# Fast, so that a test takes seconds; cred_expire is Slurm's default, and fsched-requeue has to shorten the wait.
FAST = ["SlurmdTimeout=6", "MessageTimeout=3", "BatchStartTimeout=10", "KillWait=3", "AuthInfo=socket=/run/munge/munge.socket.2,cred_expire=120"]
FSCHED = ["CheckpointLeaseTime=4", "CRIU_MaxEpochs=3"]
LONG = lib.DEADLINE * 4
ENDS = "echo begun >> log\nuntil [ -e go ]; do sleep 0.1; done\n"
SOAK = """#!/bin/bash
for ((i = 0; i < 1000000; i++)); do
	echo "$(hostname) $i" >> log
	[ -e stop ] && exit 0
	sleep 0.1
done
"""


@pytest.fixture(scope="module")
def shared_hosts(base_dir, request):
    c = lib.Cluster(base_dir / request.module.__name__.rsplit("_", 1)[-1], FSCHED, hosts=3, slurm_conf=FAST)
    yield c
    amiss = c.down()
    assert not amiss, amiss


@pytest.fixture
def hosts(shared_hosts):
    """Three hosts, all of them well; jobs that a test leaves are cancelled."""
    c = shared_hosts
    all_well(c)
    yield c
    c.run("scancel", "--user", lib.USER, user="root")
    lib.wait_for(lambda: not c.run("squeue", "-h", user="root").stdout.strip(), "an empty queue", LONG)
    all_well(c)


def all_well(c):
    """Boots, heals and resumes whatever is not idle."""
    for n in c.lab.node_names():
        if not c.lab.hosts()[n]["pid"]:
            c.up(n)
        if c.lab.hosts()[n]["cut"]:     # before the power failure, too: a link that was cut stays cut
            c.heal(n)
    try:
        lib.wait_for(lambda: resume(c), "all nodes to be usable", LONG)
    except lib.Timeout as e:
        raise lib.Timeout(f"{e}\n{c.run('scontrol', 'show', 'node', '-o').stdout}{c.run('squeue', '-a').stdout}") from None


def resume(c):
    """True if all nodes are usable. To be called again and again: Slurm drains a healed node if a job comes back to it while it still ends the
    run before."""
    nodes = not_resumed(c)
    for n in nodes:     # one that has come back by itself meanwhile refuses
        c.run("scontrol", "update", f"nodename={n}", "state=resume", user="root")
    return not nodes


def not_resumed(c):
    states = dict(line.split() for line in c.ok("sinfo", "-h", "-N", "-o", "%N %T").splitlines())
    return [n for n, s in states.items() if s not in ("idle", "mixed", "allocated", "completing")]


def expect_whole(d, n):
    assert (d / "out").read_text() == "".join(f"step {i}\n" for i in range(n)) + "end\n"


def steps(d):
    return (d / "out").read_text().count("\n") if (d / "out").exists() else 0


def submit(c, d, n=200, *more, interval="UNLIMITED", node="n1", script=SCRIPT):
    """A job that starts on node and may run on each."""
    others = [m for m in c.lab.node_names() if m != node]
    c.ok("scontrol", "update", "nodename=" + ",".join(others), "state=drain", "reason=test", user="root")
    job = c.sbatch(script.format(n=n), f"--checkpoint={interval}", "-o", "out", *more, cwd=d)
    c.wait_running(job)
    c.ok("scontrol", "update", "nodename=" + ",".join(others), "state=resume", user="root")
    return job


def wait_restored(c, job, deadline=LONG):
    return c.wait_entry(job, lambda e: e["state"] == "running" and e.get("restored") and e.get("agent"), f"job {job} to be restored",
                        deadline)


def wait_host(c, job, other_than=None):
    return lib.wait_for(lambda: (lambda d: d.get("BatchHost") if d.get("JobState") == "RUNNING" and d.get("BatchHost") != other_than
                                 else None)(c.job(job)), f"job {job} to run on another node than {other_than}", LONG)


def pass_time(seconds, what, begun=None):
    """Where the time itself is the condition: a timeout of Slurm's, or a random moment."""
    begun = begun or time.monotonic()
    lib.wait_for(lambda: time.monotonic() - begun > seconds, what)


def counters(d):
    return [int(line.split()[1]) for line in (d / "log").read_text().splitlines()]
