"""Jobs that verify every page of their memory, through random cycles of full epochs, tracked and other increments, the ways of taking memory,
kills and restores. 3 cycles in `make test`; `make test-memory CYCLES=50 SEED=n` for more. A failure names its seed."""
import os
import random

import pytest

from test_memory import WAYS, Job
from test_pod import base, pods  # noqa: F401  (fixtures)

CYCLES = int(os.environ.get("FSCHED_CYCLES", "3"))
SEED = int(os.environ.get("FSCHED_SEED", "0")) or random.randrange(1, 100000)
SHAPES = {"threads": ("memory", 32, 4, 1), "processes": ("memory", 12, 2, 3), "kinds": ("kinds",)}


@pytest.fixture
def confs(base):
    """Configurations; every epoch uses another one, and increments refer to epochs of the others."""
    made = {}
    for name, lines in {"full": [], "increment": ["CRIU_Incremental = YES", "CRIU_FullEvery = 4"],
                        "pre-dump": ["CRIU_Incremental = YES", "CRIU_PreDump = YES", "CRIU_PreDumpDelay = 0"],
                        "criu": ["MemoryEngine = criu"]}.items():
        made[name] = base / f"cycles-{name}.conf"
        made[name].write_text("\n".join([(base / "fsched.conf").read_text(), "CRIU_MaxEpochs = 2", *lines, ""]))
    return made


@pytest.mark.parametrize("shape", SHAPES)
def test_cycles(pods, base, confs, shape, record_property):
    rng = random.Random(f"{SEED} {shape}")
    job = Job(pods, base, *SHAPES[shape])
    done = []

    def checkpoint(*argv):
        # criu alone is slow and tested elsewhere; what it makes has to be continued all the same
        conf = rng.choice(["full", "increment", "increment", "increment", "pre-dump", "pre-dump", "criu"])
        fault = "" if argv or conf == "criu" else f"force-{rng.choice(WAYS)}"
        if rng.random() < 0.7:
            fault += ",force-tracking"
        done.append(" ".join([conf, fault, *argv]))
        said = job.checkpoint(*argv, fault=fault, conf=confs[conf])
        assert "criu had to write" not in said, (SEED, done, said)

    for _ in range(CYCLES):
        for _ in range(rng.choice([1, 1, 2])):
            checkpoint()
        if rng.random() < 0.5:
            checkpoint("--kill")
        else:
            done.append("kill")
            job.fsched("kill", job.state)
        done.append("restore")
        assert "restored from epoch" in job.restore(), (SEED, done, job.said.read_text())
        assert job.p.poll() is None and not errors(job), (SEED, done, errors(job))
    try:
        job.stop()
    finally:
        assert not errors(job), (SEED, done, errors(job))
    record_property("say", f"{shape}: {CYCLES} cycles, FSCHED_SEED={SEED}")


def errors(job):
    """The differences that the job has found."""
    return [line for line in job.out.read_text().splitlines() if "differs" in line]
