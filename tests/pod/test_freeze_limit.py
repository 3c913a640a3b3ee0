"""If anything hangs while the job is frozen, the job is thawed after CheckpointFreezeTimeout and goes on undisturbed, and the error names
the reason."""
import time

import pytest

import lib
from test_fault_points import epochs, look, points, untouched
from test_memory import Job
from test_pod import base, pods  # noqa: F401  (fixtures)

LIMIT = 5
# worst case: the limit, a worker that comes after its driver, a second for the files' limits, and the start of everything
ENOUGH = 2 * (LIMIT + 3) + lib.DEADLINE / 3


@pytest.fixture(scope="module")
def conf(base):
    f = base / "freeze.conf"
    f.write_text((base / "fsched.conf").read_text() +
                 f"CheckpointFreezeTimeout = {LIMIT}\nCheckpointFileLimit = 16M\nCheckpointTmpLimit = 16M\n")
    return f


@pytest.mark.parametrize("name", points("hang"))
def test_hangs_in_the_freeze(pods, base, conf, name):
    job = Job(pods, base, "memory", 24, 1, 2)
    before = look(job)
    began = time.monotonic()
    said = job.checkpoint(fault=f"{'force-direct' if name == 'hang-in-write' else 'force-fork'},{name}", conf=conf, fails=True)
    took = time.monotonic() - began
    untouched(job, before)
    assert "CheckpointFreezeTimeout" in said, said
    assert LIMIT <= took < ENOUGH, said
    assert not epochs(job)
    assert "warning" not in job.checkpoint(fault="force-fork") and len(epochs(job)) == 1
    untouched(job, before)
    job.stop()
