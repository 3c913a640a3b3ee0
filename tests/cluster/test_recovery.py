"""Nodes that die, lose their link, or cannot restore a job, on simulated hosts. `make test-recovery` runs this suite alone."""
import os
import random
import re
import signal
import time

import pytest

import lib

SCRIPT = "for ((i = 0; i < {n}; i++)); do echo \"step $i\"; sleep 0.1; done; echo end\n"
# Fast, so that a test takes seconds; cred_expire is Slurm's default, and fsched-requeue has to shorten the wait.
FAST = ["SlurmdTimeout=6", "MessageTimeout=3", "BatchStartTimeout=10", "KillWait=3", "AuthInfo=socket=/run/munge/munge.socket.2,cred_expire=120"]
FSCHED = ["CheckpointLeaseTime=4", "CRIU_MaxEpochs=3"]
LONG = lib.DEADLINE * 4
SOAK_ROUNDS = int(os.environ.get("FSCHED_SOAK_ROUNDS", "6"))
SOAK_SEED = int(os.environ.get("FSCHED_SOAK_SEED", "20261122"))


@pytest.fixture(scope="module")
def shared_hosts(base_dir):
    c = lib.Cluster(base_dir / "hosts", FSCHED, hosts=3, slurm_conf=FAST)
    yield c
    amiss = c.down()
    assert not amiss, amiss


@pytest.fixture
def hosts(shared_hosts):
    """Three hosts that work. Jobs that a test leaves are cancelled."""
    c = shared_hosts
    all_well(c)
    yield c
    c.run("scancel", "--user", lib.USER, user="root")
    lib.wait_for(lambda: not c.run("squeue", "-h", user="root").stdout.strip(), "an empty queue", LONG)
    all_well(c)


def host_state(c, name):
    host = c.lab.hosts()[name]
    return "down" if not host["pid"] else "cut" if host["cut"] else "up"


def all_well(c):
    """Boots, heals and resumes every host that is not idle."""
    for n in c.lab.node_names():
        state = host_state(c, n)
        if state == "cut":
            c.heal(n)
        elif state == "down":
            c.up(n)
    for n in not_resumed(c):    # one that has come back by itself meanwhile refuses
        c.run("scontrol", "update", f"nodename={n}", "state=resume", user="root")
    lib.wait_for(lambda: not not_resumed(c), "all nodes to be usable", LONG)


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
    """Waits where the time itself is the condition: a timeout of Slurm, or a random moment."""
    begun = begun or time.monotonic()
    lib.wait_for(lambda: time.monotonic() - begun > seconds, what)


def test_power_failure_with_the_timeouts_of_the_specification(new_cluster, jobdir, record_property):
    c = new_cluster(conf=["CRIU_MaxEpochs=2"], hosts=3, slurm_conf=[
        "SlurmdTimeout=15", "BatchStartTimeout=10",
        "AuthInfo=socket=/run/munge/munge.socket.2,cred_expire=180,ttl=180,requeue_timeout=30"])
    d = jobdir()
    job = submit(c, d, 600)
    c.checkpoint("create", job)
    lib.wait_for(lambda: steps(d) > 20, "some steps")
    off = time.time()
    c.kill_node("n1")
    done = steps(d)
    down = lib.wait_for(lambda: "down" in c.ok("sinfo", "-h", "-n", "n1", "-o", "%T") and time.time(), "n1 to be down", LONG)
    started = lib.wait_for(lambda: c.job(job).get("BatchHost") in ("n2", "n3") and time.time(), "the job to start again", LONG)
    lib.wait_for(lambda: steps(d) < done or c.entry(job).get("restored"), "the job to be restored", LONG)
    before = steps(d)
    again = lib.wait_for(lambda: steps(d) > before and time.time(), "the job to compute", LONG)
    record_property("say", f"recovery: computing again {again - off:.1f} s after power-off "
                    f"(node down after {down - off:.1f} s, job started after {started - off:.1f} s)")
    assert c.job(job)["Restarts"] == "1"
    assert c.wait_end(job, LONG) == ("COMPLETED", "0:0")
    expect_whole(d, 600)


@pytest.mark.parametrize("moment", ["checkpoint", "rename", "vacate", "restore"])
def test_power_failure_in_the_middle(hosts, jobdir, moment):
    c, d = hosts, jobdir()
    job = submit(c, d, 250)
    c.checkpoint("create", job)
    epochs = c.ckpt_dir(job) / "epochs"
    if moment == "restore":
        c.kill_node("n1")
        lib.wait_for(lambda: "restoring" == c.entry(job).get("state") and c.job(job).get("BatchHost") in ("n2", "n3"), "a restore", LONG,
                     0.01)
        c.kill_node(c.job(job)["BatchHost"])
    else:
        c.run("scontrol", "checkpoint", "vacate" if moment == "vacate" else "create", job, "--no-wait", timeout=LONG) \
            if moment == "vacate" else c.ok("sh", "-c", f"scontrol checkpoint create {job} >/dev/null 2>&1 &")
        if moment == "checkpoint":
            lib.wait_for((epochs / "000002.partial").exists, "the next epoch to be begun", poll=0.002)
        elif moment == "rename":
            lib.wait_for((epochs / "000002").exists, "the next epoch to be complete", poll=0.001)
        c.kill_node("n1")
    if moment == "vacate":
        # Slurm lets go of a job that was completing on a node only when that node is back
        c.up("n1")
        lib.wait_for(lambda: c.state(job) == "PENDING" and "COMPLETING" not in c.job(job)["line"] or c.entry(job).get("restored"),
                     "slurmctld to let go of the job", LONG)
        if c.job(job)["Priority"] == "0":
            c.checkpoint("restart", job)
    e = wait_restored(c, job)
    assert e["restored"] in ("1", "2")
    assert not list(epochs.glob("*.partial"))
    assert c.wait_end(job, LONG) == ("COMPLETED", "0:0")
    expect_whole(d, 250)


def test_reboot(hosts, jobdir):
    """The node is up again before Slurm has noticed its failure."""
    c, d = hosts, jobdir()
    begun = time.monotonic()
    job = submit(c, d, 230)
    # BatchStartTimeout and MessageTimeout: that a younger job is not there Slurm notices at the next registration but one
    pass_time(18, "Slurm to take the start for complete", begun)
    c.checkpoint("create", job)
    c.kill_node("n1")
    c.up("n1")
    wait_restored(c, job)
    # what an agent of the run before still has to tell is no news, if it comes from behind a link that was cut
    slurm = next(c.dir.glob("stage/usr/libexec/fsched/fsched-slurm"))
    for run, shown in (0, None), (1, "n9"):
        c.ok("env", f"FSCHED_RESTART_COUNT={run}", slurm, "publish", job, '{"tried":"n9"}', user="root")
        assert c.entry(job).get("tried") == shown
    assert c.wait_end(job, LONG) == ("COMPLETED", "0:0")
    expect_whole(d, 230)


def test_a_node_that_reboots_again_and_again(new_cluster, jobdir):
    """Slurm holds a job that was missing on its node for the sixth time. A job with a new epoch is released all the same."""
    c = new_cluster(conf=FSCHED, hosts=1, slurm_conf=[s.replace("Timeout=10", "Timeout=1") for s in FAST])
    d = jobdir()
    job = c.sbatch(SOAK, "--checkpoint=UNLIMITED", "-o", "out", cwd=d)
    c.wait_running(job)
    for i in range(6):
        c.checkpoint("create", job)
        pass_time(5, "Slurm to take the start for complete")
        c.kill_node("n1")
        c.up("n1")
        # each run is restored from an epoch of its own, so the entry is not that of the one before
        c.wait_entry(job, lambda e: e["state"] == "running" and e.get("restored") == str(i + 1), f"restart {i + 1}", LONG)
    assert "Holding JobId" in (c.dir / "log" / "slurmctld.log").read_text(), "Slurm did not hold it: what is this test for?"
    assert c.job(job)["Restarts"] == "6"
    (d / "stop").touch()
    assert c.wait_end(job, LONG) == ("COMPLETED", "0:0")
    got = counters(d)
    assert got == list(range(len(got)))


def test_node_set_down_while_it_lives(hosts, jobdir):
    c, d = hosts, jobdir()
    job = submit(c, d, 200)
    c.checkpoint("create", job)
    c.ok("scontrol", "update", "nodename=n1", "state=down", "reason=test", user="root")
    wait_restored(c, job)
    assert c.wait_end(job, LONG) == ("COMPLETED", "0:0")
    expect_whole(d, 200)


def test_what_leaves_a_job_alone(hosts, jobdir):
    """Drain, restart of slurmd, restart of slurmctld."""
    c, d = hosts, jobdir()
    job = submit(c, d, 250)
    c.checkpoint("create", job)
    c.ok("scontrol", "update", "nodename=n1", "state=drain", "reason=test", user="root")
    for daemon in ("slurmd.n1", "slurmctld"):
        c.lab.stop_daemon(daemon)
        c.lab.start_daemon(daemon)
    c.checkpoint("create", job)
    assert c.job(job)["Restarts"] == "0"
    assert c.wait_end(job, LONG) == ("COMPLETED", "0:0")
    expect_whole(d, 250)


def test_requeue_by_a_person_starts_over(hosts, jobdir):
    c, d = hosts, jobdir()
    job = submit(c, d, 100)
    c.checkpoint("create", job)
    lib.wait_for(lambda: steps(d) > 20, "some steps")
    c.ok("scontrol", "requeue", job)
    lib.wait_for(lambda: c.state(job) == "PENDING", "the job to be requeued")
    lib.wait_for(lambda: "COMPLETING" not in c.job(job)["line"], "its end")
    assert "next start is from the beginning" in c.log(job)
    c.ok("scontrol", "update", f"jobid={job}", "starttime=now+2", user="root")   # in the same second slurmd takes it for the old run: "credential revoked"
    c.wait_running(job, LONG)
    assert "restored" not in c.entry(job)
    assert c.wait_end(job, LONG) == ("COMPLETED", "0:0")
    expect_whole(d, 100)


ENDS = "echo begun >> log\nuntil [ -e go ]; do sleep 0.1; done\n"


def wait_done(c, job):
    lib.wait_for(lambda: c.record(job)["intent"] == "done", "the script's end to be recorded")


def expect_not_run_again(c, d, job, how):
    assert (d / "log").read_text() == "begun\n", "it has run again"
    assert "restored from" not in c.log(job)
    assert f"not run again: the script {how} on node n1" in c.log(job)
    assert f"job {job} is not run again: the script {how} on node n1" in (d / "out").read_text()


@pytest.mark.parametrize("last, end, how, epoch", [
    ("exit 0", ("COMPLETED", "0:0"), "ended with exit status 0", True),
    ("exit 7", ("FAILED", "7:0"), "ended with exit status 7", False),
    ("kill -SEGV $$", ("FAILED", "0:11"), "was killed by signal 11", False),
])
def test_a_script_that_ends_on_a_cut_node_does_not_run_again(hosts, jobdir, last, end, how, epoch):
    """Slurm requeues the job because it has not received its end."""
    c, d = hosts, jobdir()
    job = submit(c, d, script=ENDS + last)
    if epoch:
        c.checkpoint("create", job)
    c.cut("n1")
    (d / "go").touch()
    wait_done(c, job)
    assert c.wait_end(job, LONG) == end
    assert c.job(job)["Restarts"] == "1"
    expect_not_run_again(c, d, job, how)
    assert c.entry(job)["state"] == "ended"
    if not epoch:
        return
    # now it is a person who wants it
    c.ok("scontrol", "requeue", job)
    lib.wait_for(lambda: (d / "log").read_text() == "begun\nbegun\n", "the job to run again", LONG)
    assert c.wait_end(job, LONG) == end


def test_a_task_that_ends_before_a_power_failure_does_not_run_again(hosts, jobdir):
    """A task of an array. The power fails before the node has reported the end to Slurm."""
    c, d = hosts, jobdir()
    job = submit(c, d, 0, "--array=3", script=ENDS)
    c.cut("n1")
    (d / "go").touch()
    wait_done(c, job)
    c.kill_node("n1")
    assert c.wait_end(job, LONG) == ("COMPLETED", "0:0")
    expect_not_run_again(c, d, job, "ended with exit status 0")


def test_a_restored_script_that_ends_on_a_cut_node_does_not_run_again(hosts, jobdir):
    """It starts neither from the beginning nor from the epoch of its vacate."""
    c, d = hosts, jobdir()
    job = submit(c, d, script=ENDS)
    c.checkpoint("vacate", job)
    c.ok("scontrol", "update", "nodename=n2,n3", "state=drain", "reason=test", user="root")
    c.checkpoint("restart", job)
    c.ok("scontrol", "update", "nodename=n2,n3", "state=resume", user="root")
    restored = c.log(job).count("restored from")
    c.cut("n1")
    (d / "go").touch()
    wait_done(c, job)
    assert c.wait_end(job, LONG) == ("COMPLETED", "0:0")
    assert c.log(job).count("restored from") == restored == 1
    assert (d / "log").read_text() == "begun\n"


def test_a_cancelled_job_that_is_requeued_starts_over(hosts, jobdir):
    """The script ends with status 0, and Slurm accepts no update of a cancelled job's entry."""
    c, d = hosts, jobdir()
    job = submit(c, d, script="trap 'exit 0' TERM\n" + ENDS)
    c.ok("scancel", job)
    lib.wait_for(lambda: c.state(job) == "CANCELLED" and "COMPLETING" not in c.job(job)["line"], "the job's end", LONG)
    (d / "go").touch()
    c.ok("scontrol", "requeue", job)
    assert c.wait_end(job, LONG) == ("COMPLETED", "0:0")
    assert (d / "log").read_text() == "begun\nbegun\n"


def test_a_cut_node_stops_the_job(hosts, jobdir):
    c, d = hosts, jobdir()
    job = submit(c, d, 300)
    c.checkpoint("create", job)
    agent = c.agent_pid(job)
    pod = c.pod_pids(job)
    assert pod
    c.cut("n1")
    host = wait_host(c, job, "n1")
    wait_restored(c, job)
    assert "claim" not in (c.entry(job).get("error") or "")
    lib.wait_for(lambda: not any(lib.alive(p) for p in pod), "the old copy to be dead")
    assert "stopped on node n1" in c.log(job)
    c.heal("n1")
    lib.wait_for(lambda: not lib.alive(agent), "the old agent to be gone", LONG)
    assert c.job(job)["BatchHost"] == host
    assert c.wait_end(job, LONG) == ("COMPLETED", "0:0")
    expect_whole(d, 300)


def test_a_job_whose_lease_is_not_renewed_is_stopped(hosts, jobdir):
    """The process that renews the lease hangs, as in a file system that does not answer. Slurm does not notice."""
    c, d = hosts, jobdir()
    job = submit(c, d, 300)
    c.checkpoint("create", job)
    pod = c.pod_pids(job)
    keepers = [p for p in lib.children(c.agent_pid(job)) if lib.comm(p) == "fsched-agent"]
    assert keepers and pod
    for p in keepers:
        os.kill(p, signal.SIGSTOP)
    lib.wait_for(lambda: not any(lib.alive(p) for p in pod), "the job to be stopped", 30)
    wait_restored(c, job)
    assert c.wait_end(job, LONG) == ("COMPLETED", "0:0")
    expect_whole(d, 300)


def test_a_node_that_cannot_restore_is_excluded(hosts, jobdir):
    c, d = hosts, jobdir()
    job = submit(c, d, 250)
    c.checkpoint("create", job)
    # n2 is another processor: it lacks an instruction set
    c.exec("n2", "sh", "-c", "sed 's/ sse2 / /' /proc/cpuinfo > /run/cpuinfo && mount --bind /run/cpuinfo /proc/cpuinfo")
    try:
        c.kill_node("n1")      # Slurm takes n2 before n3
        e = wait_restored(c, job)
    finally:
        c.exec("n2", "umount", "/proc/cpuinfo")
    assert c.job(job)["BatchHost"] == "n3"
    assert e["tried"] == "n2"
    assert "lacks" in c.log(job) and "sse2" in c.log(job)
    assert c.wait_end(job, LONG) == ("COMPLETED", "0:0")
    expect_whole(d, 250)


def test_a_node_without_the_directory_is_excluded(hosts, jobdir):
    c, d = hosts, jobdir()
    job = submit(c, d, 250)
    c.checkpoint("create", job)
    place = c.ckpt_dir(job).parent
    c.exec("n2", "sh", "-c", f"mkdir -p /run/empty && mount --bind /run/empty {place}")
    try:
        c.ok("scontrol", "update", "nodename=n1,n3", "state=drain", "reason=test", user="root")
        c.checkpoint("vacate", job)
        said = c.run("scontrol", "checkpoint", "restart", job, "--no-wait")
        assert said.returncode == 3, said
        lib.wait_for(lambda: c.job(job).get("BatchHost") == "n2" or c.entry(job)["state"] == "held", "n2 to try", LONG)
        # n1 and n3 are drained: nobody else can have it
        e = c.wait_entry(job, lambda e: e["state"] == "held", "the job to be held", LONG)
        assert "JobCheckpointDir" in e["error"]
        c.ok("scontrol", "update", "nodename=n3", "state=resume", user="root")
        lib.wait_for(lambda: c.state(job) == "PENDING" and "COMPLETING" not in c.job(job)["line"], "the job to wait", LONG)
        assert c.run("scontrol", "checkpoint", "restart", job, "--no-wait").returncode == 3
        wait_restored(c, job)
    finally:
        c.exec("n2", "umount", str(place))
    assert c.job(job)["BatchHost"] == "n3"
    assert c.wait_end(job, LONG) == ("COMPLETED", "0:0")
    expect_whole(d, 250)


SOAK = """#!/bin/bash
for ((i = 0; i < 1000000; i++)); do
	echo "$(hostname) $i" >> log
	[ -e stop ] && exit 0
	sleep 0.1
done
"""


def counters(d):
    return [int(line.split()[1]) for line in (d / "log").read_text().splitlines()]


def disturb(c, dice, job):
    """Causes one failure at a random moment and returns its description."""
    node = wait_host(c, job)
    c.wait_entry(job, lambda e: e["epoch"] != "0", "a first epoch", LONG)
    wait = dice.uniform(0, 3)
    pass_time(wait, "the random moment")
    what = dice.choice(["kill", "cut", "cut and heal", "kill and up"])
    restarts = int(c.job(job)["Restarts"])
    if what.startswith("kill"):
        c.kill_node(node)
    else:
        c.cut(node)
    if what in ("kill", "cut") and dice.random() < 0.8:
        # an administrator is faster than SlurmdTimeout; the old copy, if the node is only cut, runs on at this moment
        c.ok("scontrol", "update", f"nodename={node}", "state=down", "reason=test", user="root")
    if what == "cut and heal":
        pause = dice.uniform(0, 5)
        pass_time(pause, "the link to be healed")
        c.heal(node)
    elif what == "kill and up":
        c.up(node)
    return f"{what} {node}", restarts


def continues(c, job, did, restarts):
    if did.startswith("cut and heal"):   # Slurm may not have noticed
        lib.wait_for(lambda: c.state(job) == "RUNNING", "the job to run", LONG)
    else:
        lib.wait_for(lambda: int(c.job(job)["Restarts"]) > restarts and c.state(job) == "RUNNING", f"another start after {did}", LONG)
        wait_restored(c, job)
    all_well(c)
    wait_host(c, job)


def test_no_line_twice_and_none_missing(hosts, jobdir):
    """SOAK_ROUNDS failures at random moments; a seed repeats them."""
    c, d = hosts, jobdir()
    dice = random.Random(SOAK_SEED)
    job = c.sbatch(SOAK, "--checkpoint=0:03", "-o", "out", cwd=d)
    c.wait_running(job)
    history = []
    for _ in range(SOAK_ROUNDS):
        did, restarts = disturb(c, dice, job)
        history.append(did)
        try:
            continues(c, job, did, restarts)
        except lib.Timeout as e:
            raise lib.Timeout(f"{e}; {history}; {c.job(job).get('line')}\n{c.logs(job)}") from None
        before = len(counters(d))
        lib.wait_for(lambda: len(counters(d)) > before or len(counters(d)) < before - 5, f"the job to go on after {did}", LONG)
        got = counters(d)
        assert got == list(range(len(got))), (history, [(a, b) for a, b in zip(got, got[1:]) if b != a + 1])
    (d / "stop").touch()
    assert c.wait_end(job, LONG) == ("COMPLETED", "0:0"), history
    got = counters(d)
    assert got == list(range(len(got))), history
    assert len(set(re.findall(r"restored from epoch \d+ on (\S+)", c.log(job)))) > 1, "it ran on one node only"


def test_no_job_that_ends_amid_failures_runs_twice(hosts, jobdir):
    """A third of the rounds: the script ends shortly before or after its node fails, as a job or as a task of an array."""
    c = hosts
    dice = random.Random(SOAK_SEED)
    for i in range(max(2, SOAK_ROUNDS // 3)):
        d = jobdir()
        job = submit(c, d, 0, *dice.choice([(), ("--array=1",)]), script=ENDS + "echo end >> log\nexit 3\n")
        c.checkpoint("create", job)   # without one, a power failure before the end is a start from the beginning
        what, early, pause = dice.choice(["kill", "cut", "cut and heal"]), dice.random() < 0.5, dice.uniform(0, 1)
        begun = time.monotonic()
        if early:
            (d / "go").touch()
            pass_time(pause, "the random moment", begun)
        c.kill_node("n1") if what == "kill" else c.cut("n1")
        if not early:
            pass_time(pause, "the random moment", begun)
            (d / "go").touch()
        if what == "cut and heal":
            pass_time(pause * 10, "the link to be healed", begun)
            c.heal("n1")
        did = f"round {i}: {what}, {'ends before' if early else 'ends after'}, {pause:.2f} s"
        assert c.wait_end(job, LONG) == ("FAILED", "3:0"), f"{did}\n{c.logs(job)}"
        assert (d / "log").read_text() == "begun\nend\n", f"{did}\n{c.logs(job)}"
        all_well(c)


def test_fail_over_to_a_backup_controller(new_cluster, jobdir):
    """The job goes on, requests work, and the backup's fsched-requeue handles the next failure."""
    c = new_cluster(conf=FSCHED, hosts=3, backup="n3", slurm_conf=[*FAST, "SlurmctldTimeout=10"])
    d = jobdir()
    job = submit(c, d, 900)
    c.checkpoint("create", job)
    # slurmctld writes its state some seconds after a change; what it had not written its backup does not know
    saved, since = c.dir / "state" / "job_state", time.time()
    lib.wait_for(lambda: saved.exists() and saved.stat().st_mtime > since, "slurmctld to save its state", 30)
    c.kill_node("ctl")
    lib.wait_for(lambda: c.run("scontrol", "checkpoint", "create", job, host="n3", timeout=LONG).returncode == 0,
                 "the backup to serve", LONG, 1)
    last = max(c.epochs(job))
    assert last >= 2
    c.kill_node("n1")

    def restored():
        p = c.run("scontrol", "show", "job", job, "-o", host="n3", user="root", timeout=LONG)
        e = lib.parse_checkpoint(p.stdout)
        return p.returncode == 0 and e and e["state"] == "running" and e.get("restored") == str(last)
    lib.wait_for(restored, "the job to be restored", LONG, 0.5)
    lib.wait_for(lambda: (d / "out").read_text().endswith("end\n"), "the job's end", LONG)
    expect_whole(d, 900)
    c.up("ctl")


def test_a_job_that_was_suspended_for_longer_than_its_lease_goes_on(hosts, jobdir):
    """Slurm stops the agent with the job, so the lease is not renewed. The agent still has the lease when both continue."""
    c, d = hosts, jobdir()
    job = submit(c, d, 100)
    lease = c.ckpt_dir(job) / "lease"
    lib.wait_for(lambda: lease.exists() and steps(d) > 5, "the job and its lease")
    c.ok("scontrol", "suspend", job, user="root")
    lib.wait_for(lambda: time.time() - lease.stat().st_mtime > 8, "the lease to run out")
    c.ok("scontrol", "resume", job, user="root")
    assert c.wait_end(job, LONG) == ("COMPLETED", "0:0")
    assert c.job(job)["Restarts"] == "0"
    assert "stopped on node" not in c.log(job)
    expect_whole(d, 100)
