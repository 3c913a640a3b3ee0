"""Faults of the checkpoint directory's file system: full, slow, hanging, not writable, unreadable (faultfs.c)."""
import os
import re
import shutil
import subprocess
import tempfile
import threading
import time
from pathlib import Path

import pytest

import lib

STEPS = 3000
SCRIPT = f"for ((i = 0; i < {STEPS}; i++)); do echo \"step $i\"; echo x >> progress; [ -e hurry ] || sleep 0.1; done; echo end\n"
LEASE = 6
LONG = lib.DEADLINE * 2


class FaultFs:
    """faultfs on a directory. fault(word) starts a fault, fault("off") ends it."""

    def __init__(self, program, base):
        self.source, self.mount, self.control = base / "source", base / "mounted", base / "control"
        for d in (self.source, self.mount):
            d.mkdir()
        self.fault("off")
        with open(base / "faultfs.log", "wb") as log:
            self.process = subprocess.Popen([program, self.source, self.mount, self.control], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        lib.wait_for(lambda: os.path.ismount(self.mount) or self.process.poll() is not None, "faultfs to be mounted")
        if self.process.poll() is not None:
            pytest.skip("FUSE cannot be used here: " + (base / "faultfs.log").read_text().strip())

    def fault(self, word):
        new = self.control.with_name("control.new")
        new.write_text(word + "\n")
        new.rename(self.control)

    def end(self):
        self.fault("off")
        subprocess.run(["umount", "-l", self.mount], check=False)
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(5)


@pytest.fixture(scope="session")
def faultfs_program(base_dir):
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        pytest.skip("/dev/fuse cannot be used here")
    flags = subprocess.run(["pkg-config", "--cflags", "--libs", "fuse3"], capture_output=True, text=True)
    if flags.returncode:
        pytest.skip("libfuse3-dev is not installed (scripts/get-deps.sh test)")
    out = base_dir / "faultfs"
    subprocess.run(["gcc", "-O1", "-o", out, lib.ROOT / "tests" / "cluster" / "faultfs.c", *flags.stdout.split(), "-pthread"], check=True)
    return out


@pytest.fixture
def fs(faultfs_program, base_dir, request):
    # a directory of its own for each time that the test is run
    base = Path(tempfile.mkdtemp(prefix="fs_" + re.sub(r"\W", "_", request.node.name)[-30:] + "_", dir=base_dir))
    base.chmod(0o755)
    f = FaultFs(faultfs_program, base)
    yield f
    f.end()


@pytest.fixture
def c(fs, new_cluster):
    """A cluster whose checkpoint directory is on fs. The fault is ended before the cluster."""
    yield new_cluster(conf=[f"JobCheckpointDir = {fs.mount}/checkpoint", f"CheckpointLeaseTime = {LEASE}", "CRIU_MaxEpochs=3"])
    fs.fault("off")


def on_disk(fs, job):
    """Names in the job's epochs/, read below faultfs, so that a hang does not block the test."""
    d = fs.source / "checkpoint" / str(job) / "epochs"
    return sorted(p.name for p in d.iterdir()) if d.is_dir() else []


def log(fs, job):
    p = fs.source / "checkpoint" / str(job) / "checkpoint.log"
    return p.read_text() if p.exists() else ""


def progress(d):
    f = d / "progress"
    return f.stat().st_size if f.exists() else 0


def computes_on(d, lines=5):
    before = progress(d)
    lib.wait_for(lambda: progress(d) >= before + 2 * lines, "the job to compute on", 20 + lines / 5)


def submit(c, d, *more):
    job = c.sbatch(SCRIPT, "--checkpoint=UNLIMITED", "-o", "out", *more, cwd=d)
    c.wait_running(job)
    lib.wait_for(lambda: progress(d), "progress")
    return job


def ends_whole(c, d, job):
    lib.hurry(d)
    assert c.wait_end(job, LONG) == ("COMPLETED", "0:0")
    assert (d / "out").read_text() == "".join(f"step {i}\n" for i in range(STEPS)) + "end\n"


def test_full(c, fs, jobdir):
    d = jobdir()
    job = submit(c, d)
    c.checkpoint("create", job)
    fs.fault("full")
    said = c.fails("scontrol", "checkpoint", "create", job)
    assert re.search("no space left", said, re.I), said
    computes_on(d, (LEASE + 3) * 10)     # the lease can be renewed without space
    assert on_disk(fs, job) == ["000001"]
    assert re.search("no space", c.wait_entry(job, lambda e: e.get("error"), "the error")["error"], re.I)
    fs.fault("off")
    assert "saved" in c.checkpoint("create", job)
    assert on_disk(fs, job) == ["000001", "000002"]
    ends_whole(c, d, job)


def test_slow(c, fs, jobdir):
    d = jobdir()
    job = submit(c, d)
    fs.fault("delay 50")
    began = time.monotonic()
    assert "saved" in c.checkpoint("create", job)
    assert time.monotonic() - began > 0.5
    computes_on(d, 2 * LEASE * 10)
    assert on_disk(fs, job) == ["000001"] and "stopped on node" not in log(fs, job)
    fs.fault("off")
    ends_whole(c, d, job)
    assert c.job(job)["Restarts"] == "0"


def test_short_hang(c, fs, jobdir):
    d = jobdir()
    job = submit(c, d)
    fs.fault("hang")
    computes_on(d, (LEASE - 4) * 10)
    fs.fault("off")
    assert "saved" in c.checkpoint("create", job)
    ends_whole(c, d, job)
    assert c.job(job)["Restarts"] == "0"


def still(d):
    """The job makes no progress and has no process."""
    before = progress(d)
    time.sleep(1)
    return progress(d) == before


@pytest.mark.parametrize("busy", [False, True], ids=["idle", "in-a-checkpoint"])
def test_long_hang(c, fs, jobdir, busy):
    """busy: the agent itself waits for the file system too."""
    d = jobdir()
    job = submit(c, d)
    c.checkpoint("create", job)
    fs.fault("hang")
    client = None
    if busy:
        client = threading.Thread(target=lambda: c.run("scontrol", "checkpoint", "create", job))
        client.start()
    lib.wait_for(lambda: still(d), "the job to be stopped", LEASE + 30)
    assert c.state(job) == "RUNNING" or not busy
    fs.fault("off")
    c.wait_entry(job, lambda e: e["state"] == "running" and e.get("restored"), "the job to be continued", LONG)
    if client:
        client.join(30)
        assert not client.is_alive()
    ends_whole(c, d, job)
    assert c.job(job)["Restarts"] == "1"
    assert all(name.isdigit() for name in on_disk(fs, job)), on_disk(fs, job)


@pytest.mark.parametrize("busy", [False, True], ids=["idle", "in-a-checkpoint"])
def test_cancelled_in_a_hang(c, fs, jobdir, busy):
    d = jobdir()
    job = submit(c, d)
    fs.fault("hang")
    client = threading.Thread(target=lambda: c.run("scontrol", "checkpoint", "create", job))
    if busy:
        client.start()
    c.ok("scancel", job)
    lib.wait_for(lambda: still(d), "the job to be stopped", LEASE + 30)
    fs.fault("off")
    assert c.wait_end(job)[0] == "CANCELLED"
    lib.wait_for(lambda: c.node_state("t1") == "idle", "the node to be free")
    lib.wait_for(lambda: not c.agent_pid(job), "the agent to end")
    if busy:
        client.join(30)
        assert not client.is_alive()


@pytest.mark.parametrize("word,reason", [("readonly", "Read-only file system"), ("squash", "Permission denied")])
def test_not_writable_at_submit(c, fs, jobdir, word, reason):
    (fs.source / "checkpoint").mkdir(exist_ok=True)
    d = jobdir()
    fs.fault(word)
    job = submit(c, d)
    error = c.entry(job)["error"]
    assert f"{fs.mount}/checkpoint" in error and reason in error, error
    said = c.fails("scontrol", "checkpoint", "create", job)
    assert f"{fs.mount}/checkpoint" in said and reason in said, said
    computes_on(d)
    fs.fault("off")
    assert "saved" in c.checkpoint("create", job)
    c.wait_entry(job, lambda e: not e.get("error"), "the error to go away")
    ends_whole(c, d, job)


@pytest.mark.parametrize("what", ["job.json", "pages-"])
def test_unreadable_at_the_restore(c, fs, jobdir, what):
    d = jobdir()
    job = submit(c, d)
    c.checkpoint("create", job)
    c.checkpoint("vacate", job)
    fs.fault(f"eio {what}")
    said = c.fails("scontrol", "checkpoint", "restart", job)
    assert "Input/output error" in said and what in said, said
    lib.wait_for(lambda: c.state(job) == "PENDING" and c.job(job)["Priority"] == "0", "the job to be held again")
    error = c.entry(job)["error"]
    assert "cannot be" in error, error
    fs.fault("off")
    assert on_disk(fs, job) == ["000001", "000002"]
    assert "restored from epoch 2" in c.checkpoint("restart", job)
    ends_whole(c, d, job)


def test_not_writable_while_it_runs(c, fs, jobdir):
    """The lease cannot be renewed: the job is stopped with the reason, and continues where the directory is writable."""
    d = jobdir()
    job = submit(c, d)
    c.checkpoint("create", job)
    fs.fault("readonly")
    # Not the entry: on a quick machine it says so for a moment only, until the job is started again. The log names the last error, if the agent has seen one.
    log = c.dir / "log/fsched.log"
    lib.wait_for(lambda: f"job {job}: error: stopped on node t1: its lease" in log.read_text(), "the job to be stopped", LEASE + 30)
    fs.fault("off")
    c.wait_entry(job, lambda e: e["state"] == "running" and e.get("restored"), "the job to be continued", LONG)
    ends_whole(c, d, job)


def test_what_is_beyond_a_limit_is_said_before_the_freeze(new_cluster, jobdir):
    """The first periodic checkpoint writes it into the entry. No epoch is made that could not be restored."""
    c, d = new_cluster(conf=["CheckpointTmpLimit=1M", "CheckpointFileLimit=1M"]), jobdir()
    script = "head -c 3M /dev/zero | tr '\\0' x > {0}\nexec 3<> {0}\nuntil [ -e go ]; do sleep 0.1; done\n"
    private = c.sbatch(script.format("/tmp/large"), "--checkpoint=0:02", "-o", "out", cwd=d)
    inplace = c.sbatch(script.format("large"), "--checkpoint=0:02", "-o", "out2", cwd=d)
    for job, key in (private, "CheckpointTmpLimit"), (inplace, "CheckpointFileLimit"):
        e = c.wait_entry(job, lambda e: "not made" in e.get("error", ""), "the first periodic checkpoint", lib.DEADLINE * 2)
        assert key in e["error"] or key in c.log(job), e
        said = c.fails("scontrol", "checkpoint", "create", job)
        assert key in said and "raise" in said, said
        assert not c.epochs(job) and not list((c.ckpt_dir(job) / "epochs").glob("*"))
    # somebody else could change the file after a vacate
    assert "CheckpointFileLimit" in c.fails("scontrol", "checkpoint", "vacate", inplace)
    (d / "go").touch()
    for job in private, inplace:
        assert c.wait_end(job) == ("COMPLETED", "0:0")


def test_output_that_is_not_copied_in_time(fs, new_cluster, jobdir):
    """The job starts over, and its output is on a file system that is too slow to copy the output of the run before."""
    c, d = new_cluster(conf=["CheckpointTimeout=10"]), jobdir()
    fs.source.chmod(0o777)
    (fs.source / "out").touch()     # faultfs makes files for root alone
    shutil.chown(fs.source / "out", lib.USER)
    out = fs.mount / "out"
    job = c.sbatch("echo begun $SLURM_RESTART_COUNT; until [ -e go ]; do sleep 0.1; done; echo end\n",
                   "--checkpoint=UNLIMITED", "--checkpoint-on-requeue=restart", "-o", out, "--open-mode=truncate", cwd=d)
    c.wait_running(job)
    lib.wait_for(lambda: "begun" in out.read_text(), "some output")
    c.checkpoint("create", job)
    c.ok("scontrol", "requeue", job)
    lib.wait_for(lambda: c.state(job) == "PENDING" and "COMPLETING" not in c.job(job)["line"], "the job to be in the queue")
    fs.fault("delay 12000")
    c.ok("scontrol", "update", f"jobid={job}", "starttime=now+2", user="root")
    lib.wait_for(lambda: "could not be kept beside (it took longer than CheckpointTimeout)" in c.log(job), "the copy to be given up", LONG)
    fs.fault("off")
    (d / "go").touch()
    assert c.wait_end(job, LONG) == ("COMPLETED", "0:0")
    text = out.read_text()
    assert text.startswith("begun\n") and text.endswith("begun 1\nend\n"), text
