"""TCP connections within a job: byte streams with full queues, requests and replies, half-closed ones, listening sockets; every byte is
checked. 5 cycles of a checkpoint, a kill and a restore in `make test`; `make test-memory CYCLES=50` for more."""
import os
import re
from pathlib import Path

import lib
import pytest

from test_fault_points import look, points, untouched
from test_memory import Job
from test_pod import base, pods  # noqa: F401  (fixtures)

CYCLES = int(os.environ.get("FSCHED_CYCLES", "5"))


class Pair(Job):
    """Two connected processes that report any fault of the connection in their output."""
    def __init__(self, pods, base, program="tcp", *argv):
        super().__init__(pods, base, program, *argv)
        self.step = {"tcp": 1 << 20, "objects": 4096}[program]
        lib.wait_for(lambda: self.out.read_text().count("ready") == 2, "both ends")

    def moves(self):
        """Waits until all threads of both processes have read and written."""
        def io():
            return {p: [int(n) for n in re.findall(r"^[rw]char: (\d+)", Path(f"/proc/{p}/io").read_text(), re.M)] for p in self.processes()}
        first = io()
        assert len(first) == 2, self.out.read_text()
        lib.wait_for(lambda: all(now[i] > first[p][i] + self.step for p, now in io().items() for i in (0, 1)), "bytes that move")


@pytest.mark.parametrize("engine", ["auto", "criu"])
def test_cycles(pods, base, engine, record_property):
    conf = base / f"tcp-{engine}.conf"
    conf.write_text((base / "fsched.conf").read_text() + f"MemoryEngine = {engine}\n")
    job = Pair(pods, base)
    for n in range(CYCLES):
        job.moves()
        if n % 2:
            job.checkpoint(conf=conf)
            job.moves()
        said = job.checkpoint("--kill", conf=conf)
        assert "warning" not in said, (n, said)
        assert "restored from epoch" in job.restore(conf=conf), (n, job.said.read_text())
        assert "connection" not in job.out.read_text(), (n, job.out.read_text())
    job.moves()
    job.stop()
    record_property("say", f"{CYCLES} cycles")


def test_many_checkpoints_of_a_job_that_runs_on(pods, base):
    job = Pair(pods, base, "tcp", 8)
    for _ in range(CYCLES):
        assert "warning" not in job.checkpoint()
        job.moves()
    job.stop()


@pytest.mark.parametrize("modes", [("create",), ("create", "vacate"), ("vacate", "create")], ids="-".join)
def test_sockets_without_a_connection_can_be_connected(pods, base, modes):
    """A socket that is not connected at a checkpoint is used afterwards."""
    job = Job(pods, base, lib.ROOT / "tests/workloads/unconnected.py")
    for mode in modes:
        if mode == "create":
            assert "warning" not in job.checkpoint()
        else:
            job.checkpoint("--kill")
            assert "restored from epoch" in job.restore()
    job.stop()


@pytest.mark.parametrize("program", ["tcp", "objects"])
@pytest.mark.parametrize("victim", ["worker", "criu"])
def test_whoever_dies_in_a_checkpoint(pods, base, victim, program):
    """No read or write fails, since TCP sockets leave criu's repair mode before the job goes on."""
    job = Pair(pods, base, program)
    names = [n for n in points("checkpoint", "complete", "vacate") if n.startswith("criu-") == (victim == "criu")]
    assert len(names) >= (3 if victim == "criu" else 9)
    before = look(job)
    for name in names:
        held = name in points("vacate")
        job.fsched("checkpoint", *(["--kill"] if held else []), job.state, fault=f"force-fork,{name}",
                   fails=not (victim == "criu" and held))
        if job.p.poll() is not None or (victim == "criu" and held):
            assert "restored from epoch" in job.restore()
            before = look(job)
        untouched(job, before)
        job.moves()
        assert "connection" not in job.out.read_text(), (name, job.out.read_text())
    assert "warning" not in job.checkpoint("--kill")
    assert "restored from epoch" in job.restore()
    job.moves()
    job.stop()


@pytest.mark.parametrize("name", ["criu-hangs", "hang-frozen"])
def test_a_freeze_that_takes_too_long(pods, base, name):
    conf = base / "tcp-limit.conf"
    conf.write_text((base / "fsched.conf").read_text() + "CheckpointFreezeTimeout = 5\n"
                    "CheckpointFileLimit = 16M\nCheckpointTmpLimit = 16M\n")
    job = Pair(pods, base)
    assert "CheckpointFreezeTimeout" in job.checkpoint(fault=name, conf=conf, fails=True)
    job.moves()
    assert "warning" not in job.checkpoint()
    job.stop()
