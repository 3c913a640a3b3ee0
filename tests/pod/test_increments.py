"""CRIU_Incremental, CRIU_FullEvery and CRIU_MaxEpochs together: which epochs are full, which files stay when older epochs are removed, and the effects of damage."""
import os
import re
import subprocess

import lib
import pytest

from test_memory import Job
from test_pod import base, pods  # noqa: F401  (fixtures)


@pytest.fixture
def conf(base):
    """conf(line, ...): a configuration for increments."""
    def make(*lines):
        f = base / f"increments-{abs(hash(lines))}.conf"
        f.write_text("\n".join([(base / "fsched.conf").read_text(), "CRIU_Incremental = YES", *lines, ""]))
        return f
    return make


def epochs(job):
    return sorted(int(p.name) for p in job.state.glob("epochs/0*"))


def chunks(job, epoch):
    """Names of the chunk files that an epoch refers to."""
    return {p.name for p in (job.state / f"epochs/{epoch:06d}/memory").glob("chunks-*")}


def flip(path):
    with open(path, "r+b") as f:
        f.seek(path.stat().st_size // 2)
        byte = f.read(1)
        f.seek(-1, os.SEEK_CUR)
        f.write(bytes([byte[0] ^ 1]))


def log(job):
    return (job.state / "checkpoint.log").read_text()


def test_every_tenth_is_full(pods, base, conf):
    """CRIU_FullEvery = 10 (default): 1 to 9 are increments, the first of them without a predecessor; 10 is full and shares nothing; 11 refers to it."""
    c = conf("CRIU_MaxEpochs = 2")
    job = Job(pods, base, "waiter", 16)
    full = []
    for n in range(1, 12):
        job.checkpoint(conf=c)
        m = job.manifest()["memory"]
        full.append(not m["increment"])
        assert m["increment"] == (m["reused"] > 12 << 20) and (m["raw"] < 4 << 20) == m["increment"], (n, m)
        assert epochs(job) == [n - 1, n][-n:]
    assert full == [True] + 8 * [False] + [True, False]
    assert chunks(job, 10) and {name.split("-")[1] for name in chunks(job, 10)} == {"000010"}
    assert "000010" in {name.split("-")[1] for name in chunks(job, 11)}
    job.checkpoint("--kill", conf=c)
    assert "restored from epoch 12" in job.restore()
    job.stop()


def test_what_newer_epochs_need_stays_and_is_told(pods, base, conf):
    c = conf("CRIU_MaxEpochs = 2")
    job = Job(pods, base, "waiter", 32)
    for _ in range(3):
        job.checkpoint(conf=c)
    assert epochs(job) == [2, 3]
    kept = {name for name in chunks(job, 3) if name.startswith("chunks-000001-")}
    assert kept and kept <= chunks(job, 2)
    assert re.search(r"epoch 1 removed; [\d.]+ [KM]iB of it are kept, newer epochs refer to them", log(job)), log(job)
    listed = job.fsched("list", job.state).splitlines()
    head = next(line.split() for line in listed if "SHARED" in line)
    rows = [re.split(r"  +", line.strip()) for line in listed if re.match(r" +[23] ", line)]
    for row in rows:
        assert re.fullmatch(r"[\d.]+ [KM]iB", row[head.index("SHARED")]), row
    # the older of the two goes: nothing that the newer one needs does
    subprocess.run(["rm", "-r", job.state / "epochs/000002"], check=True)
    job.fsched("kill", job.state)
    assert "restored from epoch 3" in job.restore()
    job.stop()


def restore(job, epoch):
    """Restores that epoch and returns the output."""
    job.p.wait(60)
    out = job.work / f"restore-{epoch}-{job.restores}"
    job.restores += 1
    job.p = job.pods.start(job.work, "restore", "--epoch", epoch, job.state, out=out)
    lib.wait_for(lambda: "restored from epoch" in out.read_text() or job.p.poll() is not None, "the restore")
    return out.read_text()


def test_a_broken_link(pods, base, conf):
    """A chunk that two epochs share is damaged. Both are detected as damaged, the epoch before them is intact, and the next checkpoint is
    full, whatever CRIU_FullEvery says. Then increments continue."""
    c = conf("CRIU_MaxEpochs = 20", "CRIU_FullEvery = 4")
    job = Job(pods, base, "waiter", 16)
    for _ in range(5):
        job.checkpoint(conf=c)          # 4 is full, 5 continues it
    job.fsched("kill", job.state)
    flip(max((job.state / "epochs/000004/memory").glob("chunks-000004-*"), key=lambda p: p.stat().st_size))
    for damaged in (5, 4):
        said = restore(job, damaged)
        assert "restored from" not in said and "memory/chunks-000004" in said and "damaged" in said, said
        assert job.p.wait(60) != 0
    assert "restored from epoch 3" in restore(job, 3)
    said = job.checkpoint(conf=c)
    assert "saved in full" in said and not job.manifest()["memory"]["increment"], said
    assert {name.split("-")[1] for name in chunks(job, 6)} == {"000006"}
    assert "saved in full" not in job.checkpoint(conf=c)
    assert job.manifest()["memory"]["increment"]
    job.fsched("kill", job.state)
    assert "restored from epoch 7" in restore(job, 7)
    job.stop()


@pytest.mark.parametrize("what", ["image", "hashes", "chunks"])
def test_an_epoch_that_cannot_be_continued(pods, base, conf, what):
    """The next checkpoint itself finds the damage: it is full, and a warning says so."""
    c = conf("CRIU_MaxEpochs = 3")
    job = Job(pods, base, "waiter", 16)
    job.checkpoint(conf=c)
    memory = job.state / "epochs/000001/memory"
    if what == "chunks":
        next(memory.glob("chunks-*")).unlink()
    else:
        flip(memory / what)
    said = job.checkpoint(conf=c)
    assert "the memory is saved in full, because epoch 1 cannot be continued" in said, said
    assert not job.manifest()["memory"]["increment"]
    assert "saved in full" not in job.checkpoint(conf=c) and job.manifest()["memory"]["increment"]
    job.fsched("kill", job.state)
    assert "restored from epoch 3" in job.restore()
    job.stop()
