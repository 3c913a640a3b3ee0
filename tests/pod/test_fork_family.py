"""Processes that share most of their memory since a fork: a checkpoint takes it once and leaves it shared, and a restore shares it again."""
import subprocess
import threading

import leftovers
import lib
import pytest

from test_memory import Job, conf_criu, criu_restores_an_export  # noqa: F401  (fixtures)
from test_pod import base, pods  # noqa: F401  (fixtures)

MIB = 1 << 20


class Family(Job):
    """brood: a process with memory, its children, and the part that each child rewrites."""

    def __init__(self, pods, base, mib, children, *busy, own_kib=64):
        self.size = mib * MIB
        # each page once; and stacks, the C library's, what is rewritten
        self.once = self.size + (children + 2) * ((3 * own_kib + 256) << 10)
        super().__init__(pods, base, "brood", mib << 10, children, own_kib, *busy)

    def held(self, key="Pss_Anon:"):
        """Bytes of memory of all processes, shared memory counted once."""
        return sum(int(line.split()[1]) << 10 for p in self.processes() for line in open(f"/proc/{p}/smaps_rollup") if line.startswith(key))

    def check(self):
        """The memory stays shared and is stored once."""
        memory = self.manifest()["memory"]
        assert self.held() < self.once, memory
        assert memory["raw"] + memory["criu"] < self.once, memory
        return memory


def verify(base, job, epoch):
    """Every byte of the epoch is as it was written."""
    p = subprocess.run([base / "stage/usr/bin/fsched", "verify", "--conf", base / "fsched.conf", f"{job.state}:{epoch}"], capture_output=True, text=True,
                       timeout=120, check=False)
    assert p.returncode == 0 and "every byte is as it was written" in p.stdout, p.stdout + p.stderr


class Peak(threading.Thread):
    """Peak memory of the workers of this job."""

    def __init__(self, job):
        super().__init__()
        self.job, self.done, self.bytes = job, threading.Event(), 0

    def look(self):
        for p in leftovers.pids():
            if (lib.program(p) or "").startswith(str(self.job.base / "stage")) and (lib.program(p) or "").endswith("fsched-worker"):
                try:
                    with open(f"/proc/{p}/status") as f:
                        self.bytes = max([self.bytes] + [int(line.split()[1]) << 10 for line in f if line.startswith("VmHWM:")])
                except OSError:
                    pass

    def run(self):
        while not self.done.wait(0.02):
            self.look()

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.done.set()
        self.join()


@pytest.mark.parametrize("shape,way", [((20, 60), "staged"), ((100, 8), "fork"), ((100, 8), "direct")], ids=["many", "fork", "direct"])
def test_memory_stays_in_common(pods, base, shape, way):
    job = Family(pods, base, *shape)
    assert job.held() < job.once < job.held("Anonymous:") / 4
    with Peak(job) as peak:
        for _ in range(5):
            job.checkpoint(fault=f"force-{way}")
            job.check()
    # A copy of it, an eighth more, what is kept for criu's images, and some 40 MiB of the worker's own.
    assert 0 < peak.bytes < job.once * 9 / 8 + 80 * MIB
    job.checkpoint("--kill", fault=f"force-{way}")
    assert "takes longer" not in job.restore()
    assert job.held() < 1.25 * job.once
    job.checkpoint()
    job.check()
    job.stop()


def test_criu_alone_shares_it_again(pods, base, conf_criu):
    job = Family(pods, base, 40, 10)
    job.checkpoint("--kill")
    assert "MemoryEngine = criu" in job.restore(conf=conf_criu)
    assert job.held() < 1.25 * job.once
    job.stop()


def test_an_export_of_a_family(pods, base):
    job = Family(pods, base, 10, 6)
    job.checkpoint()
    job.fsched("kill", job.state)
    job.p.wait(60)
    verify(base, job, 1)
    criu_restores_an_export(pods, base, job, 1)


def test_increments_of_a_family(pods, base):
    conf = base / "family-incremental.conf"
    conf.write_text((base / "fsched.conf").read_text() + "CRIU_Incremental = YES\nCRIU_FullEvery = 20\n")
    job = Family(pods, base, 40, 12)
    job.checkpoint(conf=conf)
    job.check()
    for fault in ("", "force-tracking", "force-tracking"):
        job.checkpoint(conf=conf, fault=fault)
        memory = job.check()
        assert memory["increment"], memory
        assert memory["raw"] < job.once - job.size, memory
    job.checkpoint("--kill", conf=conf)
    job.restore(conf=conf)
    assert job.held() < 1.25 * job.once
    job.checkpoint(conf=conf)
    job.check()
    job.stop()


@pytest.mark.parametrize("busy", [[], ["busy"]], ids=["idle", "busy"])
def test_a_pre_dump_of_a_family(pods, base, busy):
    """busy: the process from which a round copied shared pages writes to them. With hashes, which find unchanged pages if that process could
    not be stopped in time on a busy machine."""
    conf = base / "family-pre-dump.conf"
    conf.write_text((base / "fsched.conf").read_text() + "CRIU_PreDump = yes\nCRIU_PreDumpDelay = 1\nCRIU_Incremental = yes\n")
    job = Family(pods, base, 40, 12, *busy)
    job.once += job.size // 4 if busy else 0
    for _ in range(2):
        job.checkpoint(conf=conf)
        memory = job.check()
        assert memory["rounds"], memory
    job.fsched("kill", job.state)
    job.restore(conf=conf)
    assert busy or job.held() < 1.25 * job.once
    job.stop()
