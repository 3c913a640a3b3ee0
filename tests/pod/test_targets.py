"""Processes of which a snapshot is difficult: each is saved, if necessary by a way that needs less, or the checkpoint is refused. The job
goes on undisturbed."""
import os
import shutil
import time
from pathlib import Path

import lib
import pytest

from test_memory import Job
from test_pod import base, pods  # noqa: F401  (fixtures)


def through(job, *ways):
    """Makes a checkpoint in each way, restores the last epoch and checks the end of the job."""
    for way in ways:
        assert "epoch" in job.checkpoint(fault=f"force-{way}" if way else "")
    job.fsched("kill", job.state)
    assert "restored from epoch" in job.restore(), job.said.read_text()
    job.stop()


def test_a_hundred_processes(pods, base):
    through(Job(pods, base, "targets", "many", 100), "fork")


@pytest.mark.parametrize("what", [("strict",), ("vfork", 100), ("exits",), ("direct",)], ids=lambda w: w[0])
def test_odd(pods, base, what):
    through(Job(pods, base, "targets", *what), "fork", "staged")


def test_a_process_that_dies_while_it_is_stopped(pods, base):
    """Another process kills it after criu has dumped it. The epoch may fail, the job goes on."""
    job = Job(pods, base, "targets", "exits")
    for way in ("fork", "staged"):
        p = job.run("checkpoint", job.state, fault=f"force-{way},target-dies")
        assert p.returncode == 0 or "the command runs on" in p.stderr, p.stderr
    through(job, "fork")


@pytest.mark.parametrize("tracer", ["strace", "gdb"])
def test_a_traced_process(pods, base, tracer):
    """A process has only one tracer, so the checkpoint is refused before the freeze."""
    program = shutil.which(tracer)
    if not program:
        pytest.skip(f"{tracer} is not installed")
    options = ["-f", "-o", "/dev/null"] if tracer == "strace" else ["-batch", "-nx", "-iex", "set startup-with-shell off", "-ex", "run", "--args"]
    job = Job(pods, base, program, *options, base / "memory", 8, 1, 1)
    said = job.checkpoint(fails=True)
    assert "trace" in said and "the command runs on" in said, said
    assert not list(job.state.glob("epochs/*"))
    job.stop()


@pytest.fixture
def memory_group(request):
    """group(bytes): puts the test and its children into a new cgroup with that memory limit."""
    v1 = Path("/sys/fs/cgroup/memory/memory.limit_in_bytes").exists()
    top = Path("/sys/fs/cgroup/memory" if v1 else "/sys/fs/cgroup")
    if not v1 and "memory" not in (top / "cgroup.subtree_control").read_text().split():
        pytest.skip("no memory cgroups here")
    group = top / f"fscheck-{os.getpid()}-{time.monotonic_ns()}"
    line = next(l for l in Path("/proc/self/cgroup").read_text().splitlines() if (":memory:" in l if v1 else l.startswith("0::")))
    back = top / line.rsplit(":", 1)[1].lstrip("/") / "cgroup.procs"

    def make(limit):
        group.mkdir()
        (group / ("memory.limit_in_bytes" if v1 else "memory.max")).write_text(str(limit))
        (group / "cgroup.procs").write_text(str(os.getpid()))
        return group / ("memory.oom_control" if v1 else "memory.events")
    yield make
    if group.exists():
        for pid in (group / "cgroup.procs").read_text().split():
            back.write_text(pid)
        lib.wait_for(lambda: not (group / "cgroup.procs").read_text().split(), "an empty cgroup")
        group.rmdir()


@pytest.mark.parametrize("way", ["", "fork"])
def test_near_the_limit_of_memory(pods, base, memory_group, way):
    """A job of about 96 MiB that rewrites most of it, some 30 MiB below the limit. Neither a copy nor a fork may get it killed."""
    conf = base / "two-threads.conf"        # each has its buffers
    conf.write_text((base / "fsched.conf").read_text() + "CheckpointThreads = 2\n")
    events = memory_group(128 << 20)
    job = Job(pods, base, "memory", 64, 2, 1)
    for _ in range(2):
        assert "epoch" in job.checkpoint(fault=f"force-{way}" if way else "", conf=conf)
        assert "\noom_kill 0\n" in "\n" + events.read_text(), events.read_text()
        assert job.manifest()["memory"]["method"] == "direct", job.manifest()["memory"]
    job.fsched("kill", job.state)
    assert "restored from epoch" in job.restore(conf=conf)
    job.stop()
