"""Checkpoints by the timer: the interval, retention, the load gate."""
import os
import re
import subprocess
import time

import lib

WAIT = "while [ ! -e go ]; do sleep 0.1; done; echo end"


def test_interval_and_retention(new_cluster, jobdir):
    c = new_cluster(conf=["CRIU_MaxEpochs = 2"])
    d = jobdir()
    start = time.monotonic()
    job = c.sbatch(WAIT, "--checkpoint=0:02", "-o", "out", cwd=d)
    c.wait_running(job)
    c.wait_entry(job, lambda e: int(e["epoch"]) >= 4, "the fourth epoch")
    took = time.monotonic() - start
    assert took >= 8, f"four epochs of a two-second interval after {took:.1f} s"
    (d / "go").touch()
    assert c.wait_end(job) == ("COMPLETED", "0:0")
    kept = c.epochs(job)
    assert len(kept) == 2 and kept[1] == kept[0] + 1
    assert not [p for p in (c.ckpt_dir(job) / "epochs").iterdir() if p.name.endswith(".partial")]
    entry = c.entry(job)
    assert entry["kept"] == ",".join(map(str, kept))
    assert re.match(r"\d+(\.\d+)?(B|[KMG]iB)", entry["size"]) and entry["frozen"]
    log = c.log(job)
    for n in range(1, kept[1] + 1):
        assert re.search(rf"epoch {n}\b.*frozen", log), log


def test_on_request_only_makes_none(cluster, jobdir):
    d = jobdir()
    job = cluster.sbatch("sleep 3", "--checkpoint=UNLIMITED", cwd=d)
    assert cluster.wait_end(job) == ("COMPLETED", "0:0")
    assert cluster.epochs(job) == []


def test_busy_node_skips_scheduled_but_not_requested_checkpoints(new_cluster, jobdir):
    """Load outside Slurm: two busy loops on two CPUs."""
    c = new_cluster(conf=["CRIU_LoadAware = YES", "CRIU_LoadThresholdCPU = 0.5", "CheckpointMaxSkip = 3"])
    d = jobdir()
    cpus = len(os.sched_getaffinity(0))
    hogs = [subprocess.Popen(["sh", "-c", "while :; do :; done"]) for _ in range(cpus + 1)]
    try:
        job = c.sbatch(WAIT, "--checkpoint=0:06", cwd=d)
        c.wait_running(job)
        c.wait_entry(job, lambda e: int(e["skipped"]) >= 1, "a skipped checkpoint")
        assert c.entry(job)["epoch"] == "0"
        assert "CRIU_LoadThresholdCPU" in c.log(job)
        assert "epoch 1" in c.checkpoint("create", job)
        entry = c.wait_entry(job, lambda e: int(e["epoch"]) >= 2, "the one made anyway after three intervals")
        assert int(entry["skipped"]) >= 3
    finally:
        for h in hogs:
            h.kill()
            h.wait()
    (d / "go").touch()
    assert c.wait_end(job)[0] == "COMPLETED"


def test_memory_threshold(new_cluster, jobdir):
    """Memory use is always above 0, so checkpoints are skipped, counted, and made after CheckpointMaxSkip."""
    c = new_cluster(conf=["CRIU_LoadAware = YES", "CRIU_LoadThresholdMemory = 0.0", "CRIU_LoadThresholdCPU = 1.0", "CRIU_LoadThresholdIO = 1.0",
                          "CheckpointMaxSkip = 1000"])
    d = jobdir()
    job = c.sbatch(WAIT, "--checkpoint=0:02", cwd=d)
    c.wait_running(job)
    c.wait_entry(job, lambda e: int(e["skipped"]) >= 2, "two skipped checkpoints")
    assert c.entry(job)["epoch"] == "0" and c.epochs(job) == []
    assert re.search(r"periodic checkpoint skipped \(\d+ so far\): .*CRIU_LoadThresholdMemory", c.log(job)), c.log(job)
    assert c.record(job)["skipped"] >= 2
    (d / "go").touch()
    assert c.wait_end(job)[0] == "COMPLETED"


def test_a_full_node_of_well_behaved_jobs_is_no_load(new_cluster, jobdir):
    """Every CPU is busy with the job that it is allocated to: checkpoints are made."""
    cpus = os.cpu_count()
    c = new_cluster(conf=["CRIU_LoadAware = YES", "CRIU_LoadThresholdCPU = 0.7"], cpus=cpus)
    jobs = []
    for _ in range(cpus):
        d = jobdir()
        jobs.append((c.sbatch("while [ ! -e go ]; do for ((i = 0; i < 50000; i++)); do :; done; done", "-c1", "--checkpoint=0:05", cwd=d), d))
    for job, _ in jobs:
        c.wait_running(job)
    for job, d in jobs:
        c.wait_entry(job, lambda e: int(e["epoch"]) >= 2, "two epochs on the full node")
    for job, d in jobs:
        (d / "go").touch()
        assert c.wait_end(job)[0] == "COMPLETED"


def test_pre_dumps_and_increments(new_cluster, jobdir, workloads):
    """With both keys set: epochs by the timer, then a restart from the last one."""
    c = new_cluster(conf=["CRIU_PreDump = YES", "CRIU_PreDumpDelay = 0", "CRIU_Incremental = YES", "CRIU_MaxEpochs = 2"])
    d = jobdir()
    job = c.sbatch(f"exec {workloads}/threads 2000 100", "--checkpoint=0:05", "-o", "out", cwd=d)
    c.wait_running(job)
    c.wait_entry(job, lambda e: int(e["epoch"]) >= 2, "the second epoch")
    assert "pre-dump:" in c.entry(job)["memory"], c.log(job)
    c.checkpoint("vacate", job)
    c.checkpoint("restart", job)
    (d / "hurry").touch()
    assert c.wait_end(job) == ("FAILED", "5:0")
    want = subprocess.run([workloads / "threads", "2000", "100"], env={**os.environ, "WORKLOAD_STEP_US": "0"}, capture_output=True, check=False).stdout
    assert (d / "out").read_bytes() == want


def test_increments_are_tracked_where_it_pays(new_cluster, jobdir, workloads):
    """A job that changes little is tracked from one worker to the next, through its agent. After a restart tracking begins again."""
    c = new_cluster(conf=["CRIU_Incremental = YES", "CRIU_MaxEpochs = 2"])
    d = jobdir()
    job = c.sbatch(f"exec {workloads}/waiter 192", "--checkpoint=UNLIMITED", "-o", "out", cwd=d)
    c.wait_running(job)
    lib.wait_for(lambda: "ready" in (d / "out").read_text(), "the job")

    def checkpoints(n):
        seen = []
        for _ in range(n):
            c.checkpoint("create", job)
            # the entry follows a moment later
            entry = c.wait_entry(job, lambda e: e["epoch"] == str(c.epochs(job)[-1]) and "memory" in e, "the entry of the epoch")
            seen.append("tracked" in entry["memory"])
        return seen
    assert checkpoints(5) == [False, False, False, True, True], c.log(job)
    assert "Tracked:   since the epoch before (wp-async)" in c.ok("fsched", "show", job, "5", user="root")
    c.checkpoint("vacate", job)
    c.checkpoint("restart", job)
    assert checkpoints(2) == [False, True], c.log(job)
    (d / "stop").touch()
    assert c.wait_end(job) == ("COMPLETED", "0:0")
    assert "children 0 signals 0 handlers 0 short 0 descriptors 0" in (d / "out").read_text()


def test_a_failure_that_passes_is_tried_again_soon(new_cluster, jobdir):
    """MUNGE does not answer for a moment. The next success does not reset the count of failures."""
    c, d = new_cluster(), jobdir()
    job = c.sbatch(WAIT, "--checkpoint=0:20", "-o", "out", cwd=d)
    c.wait_running(job)
    c.lab.stop_daemon("munged")
    try:
        lib.wait_for(lambda: "tried again soon" in c.log(job), "the periodic checkpoint to fail")
        failed = time.monotonic()
    finally:
        c.lab.start_daemon("munged")
    lib.wait_for(lambda: c.epochs(job), "the one that is tried again", poll=0.02)
    assert time.monotonic() - failed < 17, "it has waited for the next interval"
    entry = c.wait_entry(job, lambda e: int(e["epoch"]) >= 1 and not e.get("error"), "the entry of the epoch")
    assert int(entry["failed"]) >= 1 and entry["since"].startswith("20")
    assert c.log(job).count("checkpoint (periodic) failed") == 1
    (d / "go").touch()
    assert c.wait_end(job)[0] == "COMPLETED"
