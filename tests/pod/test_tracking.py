"""Increments for which the kernel has tracked the writes since the last epoch, from one worker to the next."""
import subprocess

import lib
import pytest

from test_fault_points import points
from test_increments import conf  # noqa: F401  (a fixture)
from test_memory import WAYS, Job
from test_pod import base, pods  # noqa: F401  (fixtures)
from test_predump import tracked_by_nobody

MIB = 1 << 20


def tracked(job):
    return job.manifest()["memory"]["tracking"] == "wp-async"


def test_little_is_read_and_taken(pods, base, conf):
    """Full epochs are tracked too. After a checkpoint without increments, or if an epoch is gone, the next checkpoint scans everything."""
    c, plain = conf("CRIU_FullEvery = 4", "CRIU_MaxEpochs = 3"), base / "fsched.conf"
    job = Job(pods, base, "waiter", 96)
    seen = []

    def checkpoint(conf=c, **kw):
        said = job.checkpoint(fault="force-tracking", conf=conf, **kw)
        assert "warning" not in said, said
        seen.append(job.manifest()["memory"])
        return seen[-1]
    for _ in range(5):
        checkpoint()
    assert [m["tracking"] for m in seen] == ["none", "wp-async", "wp-async", "none", "wp-async"]
    assert [m["increment"] for m in seen] == [False, True, True, False, True]
    for m in (seen[1], seen[2], seen[4]):
        assert m["pages"] > 90 * MIB and m["scanned"] < 16 * MIB and m["taken"] < 16 * MIB and m["reused"] > 80 * MIB
        assert m["raw"] + m["reused"] + m["zero"] == m["pages"]
    assert checkpoint(plain)["tracking"] == "none"
    m = checkpoint()
    assert m["tracking"] == "none" and not m["increment"]    # that one has no hashes to continue
    assert checkpoint()["tracking"] == "none"                # 8 is full
    assert checkpoint()["tracking"] == "wp-async"
    newest = max(job.state.glob("epochs/0*"))
    subprocess.run(["rm", "-r", newest], check=True)
    m = checkpoint()
    assert m["tracking"] == "none" and m["increment"] and m["scanned"] > 80 * MIB
    assert checkpoint()["tracking"] == "wp-async"
    job.fsched("kill", job.state)
    assert "restored from epoch" in job.restore()
    assert checkpoint()["tracking"] == "none"                # 12 is full
    assert checkpoint()["tracking"] == "wp-async"
    job.fsched("kill", job.state)
    assert "restored from epoch" in job.restore()
    m = checkpoint()
    assert m["tracking"] == "none" and m["increment"]
    job.stop()
    assert "children 0 signals 0 handlers 0 short 0 descriptors 0" in job.out.read_text()


@pytest.mark.parametrize("shape", [("memory", 48, 2, 1), ("memory", 12, 2, 3), ("kinds",)])
def test_every_page_of_every_generation(pods, base, conf, shape):
    c = conf("CRIU_FullEvery = 4", "CRIU_MaxEpochs = 2")
    job = Job(pods, base, *shape)
    epoch = 0
    for way in WAYS:
        for n in range(3):
            epoch += 1
            job.checkpoint(fault=f"force-tracking,force-{way}", conf=c)
            assert tracked(job) == (n > 0 and epoch % 4 != 0)
            if shape[0] == "memory":
                job.work_on()
        job.fsched("kill", job.state)
        assert "restored from epoch" in job.restore()
    job.checkpoint(fault="force-tracking", conf=c)
    job.checkpoint("--kill", fault="force-tracking", conf=c)
    assert tracked(job)
    assert "restored from epoch" in job.restore()
    job.stop()


def test_pre_dumps_go_on_with_it(pods, base, conf):
    """The first round reads only pages written since the last epoch."""
    c = conf("CRIU_PreDump = YES", "CRIU_PreDumpDelay = 0")
    job = Job(pods, base, "waiter", 96)
    for n in range(3):
        job.checkpoint(fault="force-tracking", conf=c)
        m = job.manifest()["memory"]
        assert m["rounds"] >= 1 and m["increment"] == (n > 0) and (m["scanned"] < 48 * MIB) == (n > 0), m
    job.checkpoint("--kill", fault="force-tracking", conf=c)
    assert "restored from epoch 4" in job.restore()
    job.stop()
    assert "children 0 signals 0 handlers 0 short 0 descriptors 0" in job.out.read_text()


def test_whatever_dies(pods, base, conf):
    """If a worker or criu is killed, tracking ends, and the next checkpoint begins again."""
    c = conf()
    job = Job(pods, base, "memory", 16, 1, 2)
    for name in points("checkpoint"):
        job.checkpoint(fault="force-tracking", conf=c)
        job.checkpoint(fault=f"force-tracking,{name}", conf=c, fails=True)
        lib.wait_for(lambda: len(job.processes()) == 2, "the job's own processes alone")
        tracked_by_nobody(job)
    job.checkpoint(fault="force-tracking,snapshot-fails", conf=c)
    tracked_by_nobody(job)
    job.fsched("kill", job.state)
    assert "restored from epoch" in job.restore()
    job.stop()


def test_only_where_it_pays(pods, base, conf):
    """Tracking begins when hashes have shown that little changes, continues from epoch to epoch, and ends when that is no longer true."""
    c = conf()
    job = Job(pods, base, "waiter", 192)
    seen = []
    for _ in range(5):
        job.checkpoint(conf=c)
        seen.append(tracked(job))
    assert seen == [False, False, False, True, True], seen
    job.stop()
    busy = Job(pods, base, "memory", 32, 2, 1)
    for _ in range(5):
        busy.checkpoint(conf=c)
        assert not tracked(busy)
        tracked_by_nobody(busy)
        busy.work_on()
    busy.stop()
