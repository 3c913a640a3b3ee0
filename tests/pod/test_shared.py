"""Shared memory in the engine: copied once in the freeze, filled once at the restore; the rest is left to criu."""
import subprocess

import pytest

from test_memory import Job as MemoryJob
from test_memory import conf_criu, conf_incremental, criu_restores_an_export  # noqa: F401  (some are fixtures)
from test_pod import base, pods  # noqa: F401  (fixtures)

MIB = 1 << 20


class Job(MemoryJob):
    """A parent and a child that check each other's pages, see workloads/shared.c."""

    def __init__(self, pods, base, shape, mib):
        super().__init__(pods, base, "shared", shape, mib, 1)

    def memory(self):
        return self.manifest().get("memory", {})


@pytest.mark.parametrize("shape,data", [("anon", 24), ("memfd", 24), ("fd", 24), ("shm", 24), ("deleted", 24), ("sparse", 2)])
def test_shared_memory_comes_back(pods, base, shape, data):
    """Restored once from an epoch after which the job went on, once from that of a vacate."""
    job = Job(pods, base, shape, 24)
    job.checkpoint()
    assert job.manifest()["format"] == (4 if shape == "deleted" else 3)
    assert data * MIB <= job.memory()["objects"] <= (data + 1) * MIB, "every object once"
    job.fsched("kill", job.state)
    said = job.restore()
    assert "restored from epoch" in said and "takes longer" not in said, said
    job.checkpoint("--kill")
    assert data * MIB <= job.memory()["objects"] <= (data + 1) * MIB
    said = job.restore()
    assert "restored from epoch" in said and "takes longer" not in said, said
    job.stop()


def test_what_nobody_could_fill_stays_with_criu(pods, base):
    job = Job(pods, base, "sealed", 16)
    assert "warning" not in job.checkpoint()
    assert "objects" not in job.memory()
    job.fsched("kill", job.state)
    assert "restored from epoch" in job.restore()
    job.stop()


def test_increments_of_shared_memory(pods, base, conf_incremental):
    """Three of four pages never change, so an increment is small."""
    job = Job(pods, base, "anon", 32)
    job.checkpoint(conf=conf_incremental)
    job.checkpoint(conf=conf_incremental)
    assert job.memory()["increment"] and job.memory()["reused"] >= 20 * MIB, job.memory()
    job.fsched("kill", job.state)
    assert "restored from epoch 2" in job.restore()
    job.stop()


def test_the_ways_of_shared_memory(pods, base, conf_criu):
    """If the engine fails, criu saves the memory, with one warning. Each engine restores epochs of the other."""
    job = Job(pods, base, "anon", 16)
    said = job.checkpoint(fault="shared-fails")
    assert said.count("a fault on purpose") == 1 and "shared memory itself" in said, said
    assert "objects" not in job.memory()
    job.fsched("kill", job.state)
    assert "restored from epoch" in job.restore()
    job.checkpoint("--kill")
    assert job.manifest()["format"] == 3
    said = job.restore(fault="fill-fails")
    assert "restored from epoch" in said and "a fault on purpose" in said
    job.checkpoint("--kill")
    assert "MemoryEngine = criu" in job.restore(conf=conf_criu)
    job.stop()


def test_a_file_of_dev_shm_is_no_archive(pods, base, conf_incremental):
    """Its data is in the memory image, so unchanged data is not written again, also after a restore. An export has it in full."""
    job = Job(pods, base, "shm", 32)
    job.checkpoint(conf=conf_incremental)
    assert all(f.stat().st_size < MIB for f in job.state.glob("epochs/0*/files/shm.tar"))
    job.fsched("kill", job.state)
    assert "restored from epoch 1" in job.restore()
    job.checkpoint("--kill", conf=conf_incremental)
    assert job.memory()["reused"] >= 20 * MIB, job.memory()
    job.p.wait(30)
    images = job.dir / "images"
    p = subprocess.run([base / "stage/usr/bin/fsched", "export", job.state, "2", images], env=pods.env(), capture_output=True, text=True, check=False)
    assert p.returncode == 0, p.stderr
    data = (images / "dev/shm/segment").read_bytes()
    assert len(data) == 32 * MIB
    assert all(int.from_bytes(data[n:n + 8], "little") == n // 4096 for n in range(0, len(data), 4096))
    assert "restored from epoch 2" in job.restore()
    job.stop()


@pytest.mark.parametrize("shape", ["memfd", "sparse", "deleted"])
def test_an_export_has_the_shared_memory(pods, base, shape):
    job = Job(pods, base, shape, 24)
    job.checkpoint("--kill")
    job.p.wait(30)
    criu_restores_an_export(pods, base, job, 1)
