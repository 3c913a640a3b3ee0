"""CRIU_PreDump: memory is copied while the job runs, and the freeze copies the pages written since."""
from pathlib import Path

import lib
import pytest

from test_fault_points import points
from test_memory import Job
from test_pod import base, pods  # noqa: F401  (fixtures)

MIB = 1 << 20


@pytest.fixture
def conf(base):
    def make(*lines, delay=0):
        f = base / "pre-dump.conf"
        f.write_text("\n".join([(base / "fsched.conf").read_text(), "CRIU_PreDump = YES", f"CRIU_PreDumpDelay = {delay}", *lines, ""]))
        return f
    return make


def tracked_by_nobody(job):
    """True if no tracking is left: no mapping registered with a userfaultfd ("uw" in VmFlags), no descriptor, no tracer."""
    for p in job.processes():
        assert "TracerPid:\t0\n" in Path(f"/proc/{p}/status").read_text()
        flags = [line.split()[1:] for line in Path(f"/proc/{p}/smaps").read_text().splitlines() if line.startswith("VmFlags:")]
        assert not any("uw" in f for f in flags)
        assert not any("userfaultfd" in str(fd.readlink()) for fd in Path(f"/proc/{p}/fd").iterdir())


@pytest.mark.parametrize("shape,way", [((48, 2, 1), "fork"), ((16, 1, 3), "staged"), ((16, 2, 2), "direct")])
def test_every_page_of_every_generation(pods, base, conf, shape, way):
    job = Job(pods, base, "memory", *shape)
    job.checkpoint(fault=f"force-{way}", conf=conf())
    assert job.manifest()["memory"]["rounds"] >= 1
    assert not list(job.state.glob("epochs/0*/pre-dump*"))
    tracked_by_nobody(job)
    job.fsched("kill", job.state)
    assert "restored from epoch" in job.restore()
    job.checkpoint("--kill", conf=conf())
    assert "restored from epoch" in job.restore()
    job.stop()


def test_little_is_left_of_a_heap_that_hardly_changes(pods, base, conf):
    job = Job(pods, base, "waiter", 96)
    job.checkpoint(conf=conf(delay=1))
    memory = job.manifest()["memory"]
    assert memory["rounds"] >= 1 and memory["tracking"] in ("wp-async", "soft-dirty")
    assert memory["pages"] > 90 * MIB and memory["taken"] < 16 * MIB
    assert memory["raw"] + memory["reused"] + memory["zero"] == memory["pages"] and not memory["increment"]
    job.fsched("kill", job.state)
    assert "restored from epoch 1" in job.restore()
    job.stop()


def test_increments_of_what_a_pre_dump_has_copied(pods, base, conf):
    """An increment refers to chunks of pre-dump rounds, and rounds refer to chunks of older epochs."""
    c = conf("CRIU_Incremental = YES", "CRIU_FullEvery = 4")
    job = Job(pods, base, "waiter", 48)
    seen = []
    for n in range(5):
        job.checkpoint(conf=c)
        seen.append(job.manifest()["memory"])
        if n in (1, 4):
            job.fsched("kill", job.state)
            assert "restored from epoch" in job.restore()
    assert [m["increment"] for m in seen] == [False, True, True, False, True]
    assert seen[1]["reused"] > 40 * MIB and seen[1]["raw"] < 8 * MIB
    job.stop()


@pytest.mark.parametrize("fault,said", [("pre-dump-fails", "a fault on purpose"), ("snapshot-fails", "a fault on purpose")])
def test_without_it_when_it_fails(pods, base, conf, fault, said):
    job = Job(pods, base, "memory", 16, 1, 1)
    assert said in job.checkpoint(fault=fault, conf=conf())
    assert job.manifest().get("memory", {}).get("rounds", 0) == 0
    tracked_by_nobody(job)
    job.fsched("kill", job.state)
    assert "restored from epoch 1" in job.restore()
    job.stop()


def test_a_worker_that_is_killed_in_it(pods, base, conf):
    job = Job(pods, base, "memory", 16, 2, 2)
    names = points("pre-dump")
    assert names
    for name in names:
        job.checkpoint(fault=name, conf=conf(), fails=True)
        lib.wait_for(lambda: len(job.processes()) == 2, "the job's own processes alone")
        tracked_by_nobody(job)
    job.checkpoint(conf=conf())
    job.fsched("kill", job.state)
    assert "restored from epoch" in job.restore()
    job.stop()


def test_it_is_not_seen_by_the_job(pods, base, conf):
    job = Job(pods, base, "waiter", 32, "seccomp")
    for _ in range(3):
        job.checkpoint(conf=conf())
        assert job.manifest()["memory"]["rounds"] >= 1
    job.stop()
    assert "children 0 signals 0 handlers 0 short 0 descriptors 0" in job.out.read_text()
