"""Signals, exit status and environment: a script with --checkpoint sees the same as without."""
import os
import re

import pytest

import lib


def both(cluster, jobdir, script, *args, run=None, cwd_files=()):
    """Runs the script as a plain and as a checkpoint-enabled job. Calls run() with (id, dir) of each and returns both results."""
    results = []
    for name, extra in (("plain", []), ("checkpointed", ["--checkpoint=UNLIMITED"])):
        d = jobdir(name)
        job = cluster.sbatch(script, *extra, "-o", "out", *args, cwd=d)
        if run:
            run(job, d)
        state, code = cluster.wait_end(job)
        out = (d / "out").read_text() if (d / "out").exists() else None
        results.append((state, code, out))
    return results


@pytest.mark.parametrize("script,state,code", [
    ("exit 0", "COMPLETED", "0:0"), ("exit 5", "FAILED", "5:0"), ("exit 255", "FAILED", "255:0"),
    ("kill -9 $$", "FAILED", "0:9"), ("kill -TERM $$", None, None), ("kill -SEGV $$", None, None),
    ("trap 'exit 7' TERM; kill -TERM $$; sleep 1", "FAILED", "7:0"), ("nonexistent-command", "FAILED", "127:0"),
    ("exec sleep 0.1", "COMPLETED", "0:0"), ("sleep 5 & exit 2", "FAILED", "2:0"),
])
def test_exit_status(cluster, jobdir, script, state, code):
    plain, ckpt = both(cluster, jobdir, script)
    assert ckpt[:2] == plain[:2]
    if state:
        assert ckpt[:2] == (state, code)
    # bash names the job's directory and pid when it reports a signal
    mask = lambda t: re.sub(r"\d+", "N", t)
    assert mask(ckpt[2]) == mask(plain[2])


@pytest.mark.parametrize("script", [
    "kill -STOP 2; exit 3", "kill -9 2; sleep 0.5; echo alive; exit 4", "kill -9 2; exit 5", "kill -STOP 2; kill -9 $$",
    "kill -STOP 2; sleep 0.5; kill -9 2; sleep 0.5; exit 6", "kill -9 2; sleep 0.2; kill -TERM $$; sleep 5",
])
def test_a_job_that_signals_its_leader(cluster, jobdir, script):
    """fsched-leader is process 2 of the job and belongs to its user. Signals to it do not affect the script."""
    plain, ckpt = both(cluster, jobdir, script)
    assert ckpt[:2] == plain[:2]
    assert ("alive" in ckpt[2]) == ("alive" in plain[2])


@pytest.mark.parametrize("script,result", [
    ("sleep 100 & kill -9 -1; sleep 1; echo alive", ("COMPLETED", "0:0", "alive")),
    ("(sleep 0.2; kill -9 -1) & sleep 5", ("FAILED", "0:9", "")),
])
def test_a_job_that_kills_all_its_processes(cluster, jobdir, script, result):
    """Without a plain job for comparison, which would kill the user's other processes on this machine."""
    d = jobdir()
    job = cluster.sbatch(script, "--checkpoint=UNLIMITED", "-o", "out", cwd=d)
    assert cluster.wait_end(job) == result[:2]
    assert result[2] in (d / "out").read_text()


def test_a_job_without_leader_is_not_checkpointed(cluster, jobdir):
    d = jobdir()
    script = "while [ ! -e kill ]; do sleep 0.1; done; kill -9 2; while [ ! -e go ]; do sleep 0.1; done; echo end; exit 3"
    job = cluster.sbatch(script, "--checkpoint=UNLIMITED", "-o", "out", cwd=d)
    cluster.wait_running(job)
    # the script's pid must be known in a restored pod too
    cluster.checkpoint("vacate", job)
    cluster.checkpoint("restart", job)
    cluster.wait_running(job)
    (d / "kill").touch()
    entry = cluster.wait_entry(job, lambda e: e.get("error"), "the error in show job")
    assert "fsched-leader" in entry["error"]
    for op in ("create", "vacate"):
        assert "killed fsched-leader" in cluster.fails("scontrol", "checkpoint", op, job)
    (d / "go").touch()
    assert cluster.wait_end(job) == ("FAILED", "3:0")
    assert (d / "out").read_text() == "end\n"


def test_a_stopped_leader_is_restored_and_ends(cluster, jobdir):
    d = jobdir()
    job = cluster.sbatch("kill -STOP 2; touch up; while [ ! -e go ]; do sleep 0.1; done; exit 3", "--checkpoint=UNLIMITED", "-o", "out", cwd=d)
    cluster.wait_running(job)
    lib.wait_for(lambda: (d / "up").exists(), "the script")
    cluster.checkpoint("vacate", job)
    cluster.checkpoint("restart", job)
    cluster.wait_running(job)
    (d / "go").touch()
    assert cluster.wait_end(job) == ("FAILED", "3:0")


def test_surroundings(cluster, jobdir, workloads):
    probe = (workloads / "probe.sh").read_text()
    for args in ([], ["--nice=0", "-J", "a name", "--export=ALL,PLAIN=1", "-t", "10"], ["-o", "out", "-e", "err.%x", "-i", "/etc/hostname", "a", "b c"]):
        results = []
        for extra in ([], ["--checkpoint=UNLIMITED"]):
            d = jobdir()
            script_args = [a for a in args if a in ("a", "b c")]
            opts = [a for a in args if a not in script_args]
            (d / "job.sh").write_text(probe)
            (d / "job.sh").chmod(0o755)
            out = cluster.ok("sbatch", "--wait", *extra, "-o", "out", *opts, d / "job.sh", *script_args, cwd=d)
            text = (d / "out").read_text()
            # the directory and the names of the files differ by construction
            results.append(re.sub(re.escape(str(d)), "DIR", text))
            assert out
        plain, ckpt = (set(r.splitlines()) for r in results)
        extra = {l for l in ckpt - plain}
        missing = {l for l in plain - ckpt}
        # and what lets mpiexec start its ranks in the pod
        mpi = ("HYDRA_LAUNCHER=", "I_MPI_HYDRA_BOOTSTRAP", "OMPI_MCA_", "PRTE_MCA_", "FSCHED_MPI_LAUNCHER=")
        allowed = lambda l: l.startswith(("SLURM_JOBID", *mpi)) or "OPEN_MODE" in l or re.match(r"fd [12] ->", l)
        assert not [l for l in extra | missing if not allowed(l)], (sorted(missing), sorted(extra))
        # O_APPEND on standard output is the one intended difference
        for l in extra:
            assert not l.startswith("fd") or re.match(r"fd [12] -> \S+ 0?10?2001$", l), l


def test_surroundings_survive_a_restart(cluster, jobdir, workloads):
    """The restored script has the same limits, umask, credentials, descriptors and environment."""
    d = jobdir()
    script = f"ulimit -n 512 -s 4096 -c 0; umask 027; renice -n 5 $$ > /dev/null; . {workloads}/probe.sh > before; touch up\n" \
             f"while [ ! -e go ]; do sleep 0.1; done; . {workloads}/probe.sh > after"
    job = cluster.sbatch(script, "--checkpoint=UNLIMITED", "-o", "out", cwd=d)
    cluster.wait_running(job)
    lib.wait_for(lambda: (d / "up").exists(), "the first look")
    cluster.checkpoint("vacate", job)
    cluster.checkpoint("restart", job)
    (d / "go").touch()
    assert cluster.wait_end(job) == ("COMPLETED", "0:0")
    # the probe's own output goes to another file the second time
    before, after = ((d / f).read_text().replace("-> before", "-> X").replace("-> after", "-> X") for f in ("before", "after"))
    assert after == before


def test_no_descriptor_leaks(cluster, jobdir):
    results = both(cluster, jobdir, "for p in /proc/[0-9]*; do ls -l $p/fd 2>/dev/null | awk '{print $(NF-1), $NF}' | grep -E 'socket|memfd|anon|pipe' ; done; echo checked")
    assert results[1][2] == "checked\n"


@pytest.mark.parametrize("how", ["batch", "full", "term"])
def test_each_signal_is_seen_once(cluster, jobdir, workloads, how):
    script = (workloads / "signals.py").read_text()

    def send(job, d):
        lib.wait_for(lambda: (d / "out").exists() and "ready" in (d / "out").read_text(), "the script")
        if how == "batch":
            for n in (1, 2, 3):
                cluster.ok("scancel", "--signal=USR1", "--batch", job)
                lib.wait_for(lambda: (d / "out").read_text().count("got USR1") >= n, f"USR1 number {n}")
            cluster.ok("scancel", "--signal=USR2", "--batch", job)
        elif how == "full":
            cluster.ok("scancel", "--signal=USR1", "--full", job)
            lib.wait_for(lambda: "got USR1" in (d / "out").read_text(), "USR1")
            cluster.ok("scancel", "--signal=USR2", "--batch", job)
        else:
            cluster.ok("scancel", "--signal=TERM", "--batch", job)
            lib.wait_for(lambda: "got TERM" in (d / "out").read_text(), "TERM")
            cluster.ok("scancel", "--signal=USR2", "--batch", job)
    plain, ckpt = both(cluster, jobdir, script, run=send)
    drop = lambda t: [l for l in t.splitlines() if "CANCELLED" not in l and "slurmstepd" not in l and "Terminated" not in l and "User defined" not in l]
    assert ckpt[:2] == plain[:2]
    assert drop(ckpt[2]) == drop(plain[2])


def test_signals_after_a_restart(cluster, jobdir, workloads):
    d = jobdir()
    job = cluster.sbatch((workloads / "signals.py").read_text(), "--checkpoint=UNLIMITED", "-o", "out", cwd=d)
    cluster.wait_running(job)
    lib.wait_for(lambda: "ready" in (d / "out").read_text(), "the script")
    cluster.checkpoint("vacate", job)
    cluster.checkpoint("restart", job)
    cluster.ok("scancel", "--signal=USR1", "--batch", job)
    lib.wait_for(lambda: "got USR1" in (d / "out").read_text(), "USR1")
    cluster.ok("scancel", "--signal=USR2", "--batch", job)
    assert cluster.wait_end(job)[1] == "7:0"
    text = (d / "out").read_text()
    assert text.count("got USR1") == 1 and text.count("ready") == 1


def test_scancel(cluster, jobdir, workloads):
    script = (workloads / "signals.py").read_text().replace('"USR2": 7', '"TERM": 3')

    def cancel(job, d):
        lib.wait_for(lambda: (d / "out").exists() and "ready" in (d / "out").read_text(), "the script")
        cluster.ok("scancel", job)
    plain, ckpt = both(cluster, jobdir, script, run=cancel)
    assert ckpt[:2] == plain[:2]
    assert ckpt[2].count("got TERM") == plain[2].count("got TERM") == 1
    assert not cluster.run("squeue", "-h").stdout.strip()


def test_scancel_of_a_script_that_ignores_it(cluster, jobdir):
    """Slurm kills it and the agent after KillWait. The output says no more than that of a plain job."""
    def cancel(job, d):
        lib.wait_for(lambda: (d / "out").exists() and "ready" in (d / "out").read_text(), "the script")
        cluster.ok("scancel", job)
    plain, ckpt = both(cluster, jobdir, "trap '' TERM; echo ready; while :; do sleep 0.1; done", run=cancel)
    mask = lambda text: re.sub(r"\d+", "N", text)
    assert (*ckpt[:2], mask(ckpt[2])) == (*plain[:2], mask(plain[2]))


def test_warning_signal_before_the_time_limit(cluster, jobdir, workloads):
    """--signal=B:USR1@… reaches the batch script once. Slurm checks time limits rarely, so the limit is one minute."""
    results = []
    jobs = []
    for extra in ([], ["--checkpoint=UNLIMITED"]):
        d = jobdir()
        jobs.append((cluster.sbatch((workloads / "signals.py").read_text().replace('"USR2": 7', '"USR1": 0'),
                                    *extra, "-o", "out", "-t", "1", "--signal=B:USR1@50", cwd=d), d))
    for job, d in jobs:
        state, code = cluster.wait_end(job, deadline=150)
        # Slurm sends a SIGCONT with the SIGUSR1: their order is the system's affair, and the script ends at the latter
        results.append((state, code, [l for l in (d / "out").read_text().splitlines() if l != "got CONT"]))
    assert results[1] == results[0]
    assert results[1][2].count("got USR1") == 1


def test_time_limit(cluster, jobdir):
    jobs = []
    for extra in ([], ["--checkpoint=UNLIMITED"]):
        d = jobdir()
        jobs.append((cluster.sbatch("trap 'echo got TERM; exit 3' TERM; while :; do sleep 0.1; done", *extra, "-o", "out", "-t", "1", cwd=d), d))
    ends = []
    for job, d in jobs:
        state, code = cluster.wait_end(job, deadline=200)
        ends.append((state, code, (d / "out").read_text().count("got TERM")))
    assert ends[1] == ends[0] and ends[0][0] == "TIMEOUT"


def test_a_long_freeze_holds_signals_back_but_loses_none(cluster, jobdir, workloads):
    d = jobdir()
    job = cluster.sbatch((workloads / "signals.py").read_text(), "--checkpoint=UNLIMITED", "-o", "out", cwd=d)
    cluster.wait_running(job)
    lib.wait_for(lambda: "ready" in (d / "out").read_text(), "the script")
    import threading
    t = threading.Thread(target=lambda: cluster.checkpoint("create", job))
    t.start()
    cluster.ok("scancel", "--signal=USR1", "--batch", job)
    t.join()
    lib.wait_for(lambda: "got USR1" in (d / "out").read_text(), "USR1")
    cluster.ok("scancel", "--signal=USR2", "--batch", job)
    assert cluster.wait_end(job)[1] == "7:0"
    assert (d / "out").read_text().count("got USR1") == 1
