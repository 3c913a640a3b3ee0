"""Failures of nodes at random moments, always the same ones for a seed. `make soak` runs more of them."""
import os
import random
import re
import time

import lib
from failures import ENDS, LONG, SOAK, all_well, counters, pass_time, submit, wait_host, wait_restored

ROUNDS = int(os.environ.get("FSCHED_SOAK_ROUNDS", "6"))
SEED = int(os.environ.get("FSCHED_SOAK_SEED", "20261122"))


def disturb(c, dice, job):
    """One failure at a random moment; returns what was done."""
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
    """ROUNDS failures at random moments, always the same ones for a seed."""
    c, d = hosts, jobdir()
    dice = random.Random(SEED)
    job = c.sbatch(SOAK, "--checkpoint=0:03", "-o", "out", cwd=d)
    c.wait_running(job)
    history = []
    for _ in range(ROUNDS):
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
    """A third as many rounds: the script ends shortly before or after its node fails, alone or as a task of an array."""
    c = hosts
    dice = random.Random(SEED)
    for i in range(max(2, ROUNDS // 3)):
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


def expect_counted(d, history):
    for f in d.glob("*.count"):
        got = f.read_text().split()
        assert got == [str(i) for i in range(len(got))], (f, history, [p for p in zip(got, got[1:]) if int(p[1]) != int(p[0]) + 1])


def last_count(d):
    f = d / "main.count"
    return f.read_text().count("\n") if f.exists() else 0


def test_jobs_of_many_kinds_amid_failures(hosts, jobdir, workloads):
    """ROUNDS failures under five jobs at once. None of them computes a wrong number, and none starts over."""
    c, dice, history = hosts, random.Random(SEED), []
    dirs = {kind: jobdir(kind) for kind in ("growing", "tcp", "daemons", "pool", "sqlite")}
    jobs = {kind: c.sbatch(f"exec {workloads}/mixed.py {kind}\n", "--checkpoint=0:03", "-o", "out", cwd=d) for kind, d in dirs.items()}
    for kind, job in jobs.items():
        c.wait_running(job)
        c.wait_entry(job, lambda e: e["epoch"] != "0", f"the first epoch of {kind}", LONG)
    for _ in range(ROUNDS):
        did, _ = disturb(c, dice, jobs[dice.choice(sorted(jobs))])
        history.append(did)
        all_well(c)
        for kind, job in jobs.items():
            before = last_count(dirs[kind])
            try:
                lib.wait_for(lambda: c.state(job) == "RUNNING" and c.entry(job)["state"] == "running"
                             and (last_count(dirs[kind]) > before or last_count(dirs[kind]) < before - 5), f"{kind} to go on after {did}", LONG)
            except lib.Timeout as e:
                raise lib.Timeout(f"{e}; {history}; {c.job(job).get('line')}\n{(dirs[kind] / 'out').read_text()}\n{c.logs(job)}") from None
    for kind, job in jobs.items():
        (dirs[kind] / "stop").touch()
    for kind, job in jobs.items():
        assert c.wait_end(job, LONG) == ("COMPLETED", "0:0"), (kind, history, (dirs[kind] / "out").read_text(), c.logs(job))
        assert (dirs[kind] / "out").read_text() == "whole\n", (kind, history)
        expect_counted(dirs[kind], history)
        assert not list(dirs[kind].glob("out.run-*")), (kind, history, c.logs(job))
