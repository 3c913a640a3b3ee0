"""The worker or criu gets SIGKILL at each point that `fsched-worker faults` lists: the job goes on undisturbed, nothing of fsched stays in it,
and the next checkpoint or restore succeeds."""
import contextlib
import os
import re
import subprocess
from pathlib import Path

import lib
import pytest

from test_memory import Job
from test_pod import base, pods  # noqa: F401  (fixtures)


def points(*kinds):
    worker = lib.STAGE / "usr/libexec/fsched/fsched-worker"
    listed = subprocess.run([worker, "faults"], capture_output=True, text=True, check=True).stdout
    return [name for name, kind, _ in (line.split(None, 2) for line in listed.splitlines()) if kind in kinds]


def names_of_mappings(pid):
    return {line.split(None, 5)[5] for line in Path(f"/proc/{pid}/maps").read_text().splitlines() if len(line.split(None, 5)) > 5}


def descriptors(pid):
    found = {}
    for fd in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(FileNotFoundError):    # closed meanwhile
            found[fd] = os.readlink(f"/proc/{pid}/fd/{fd}")
    return found


def look(job):
    """Mappings and descriptors of the job's processes by pid, to find what is left in them."""
    return {pid: (names_of_mappings(pid), descriptors(pid)) for pid in job.processes()}


def untouched(job, before):
    """Waits until nothing of a checkpoint is left in the job's processes."""
    pid_1 = lib.children(job.p.pid)[-1]
    lib.wait_for(lambda: set(job.processes()) == set(before), "the children of a snapshot to be gone")
    lib.wait_for(lambda: not [p for p in lib.descendants(pid_1) if "criu" in " ".join(lib.command(p)) or lib.comm(p) == "fsched-worker"],
                 "criu and its driver to be gone")
    for pid, (mappings, fds) in before.items():
        lib.wait_for(lambda: "TracerPid:\t0\n" in Path(f"/proc/{pid}/status").read_text(), "the job not to be traced")
        lib.wait_for(lambda: re.search(r"^State:\t[RSD]", Path(f"/proc/{pid}/status").read_text(), re.M), "the job to run")
        assert names_of_mappings(pid) <= mappings
        assert descriptors(pid) == fds
        # uw, um: pages that a userfaultfd watches
        assert not re.search(r"^VmFlags:.* u[wm]\b", Path(f"/proc/{pid}/smaps").read_text(), re.M)


def epochs(job):
    return sorted(int(p.name) for p in job.state.glob("epochs/0*") if p.name.isdigit())


@pytest.mark.parametrize("program", [("waiter", 24), ("memory", 24, 1, 2)], ids=["waiter", "memory"])
@pytest.mark.parametrize("victim", ["worker", "criu"])
def test_killed_in_a_checkpoint(pods, base, victim, program):
    """waiter notices children, signals and descriptors; memory verifies every page."""
    job = Job(pods, base, *program)
    before = look(job)
    names = [n for n in points("checkpoint", "complete", "vacate") if n.startswith("criu-") == (victim == "criu")]
    assert len(names) >= (3 if victim == "criu" else 9)
    vacates = points("vacate")
    for i, name in enumerate(names):
        last = epochs(job)
        job.fsched("checkpoint", *(["--kill"] if name in vacates else []), job.state, fault=f"force-fork,{name}",
                   fails=not (victim == "criu" and name in vacates))
        if job.p.poll() is not None or (victim == "criu" and name in vacates):    # killed by whom it had been told to, after the epoch was complete
            assert "restored from epoch" in job.restore()
            before = look(job)
            continue
        untouched(job, before)
        assert epochs(job) == last or name in points("complete", "vacate"), name
        if i % 3 == 2:      # a good one in between
            job.checkpoint(fault="force-fork")
            untouched(job, before)
    said = job.checkpoint(fault="force-fork")
    assert "warning" not in said and job.manifest()["memory"]["method"] == "fork", said
    untouched(job, before)
    job.fsched("kill", job.state)
    assert "restored from epoch" in job.restore()
    job.stop()


# Of the steps of the system calls that a job is made to do every so many-th; tests/unit/test_inject.c goes through all.
EVERY = int(os.environ.get("FSCHED_TEST_EVERY", "29"))


@pytest.mark.parametrize("program", [("waiter", 24), ("memory", 24, 2, 2)], ids=["waiter", "memory"])
@pytest.mark.parametrize("name", ["criu-dies-in-call", "die-in-call"])
def test_killed_in_a_system_call(pods, base, name, program):
    assert name in points("call")
    f = base / "pre-dump.conf"
    f.write_text((base / "fsched.conf").read_text() + "CRIU_PreDump = YES\n")
    conf = f if name == "die-in-call" else None
    job = Job(pods, base, *program)
    job.checkpoint("--kill")
    assert "restored from epoch" in job.restore()
    before = look(job)
    step = len(program)
    while job.run("checkpoint", job.state, fault=f"force-fork,{name}={step}", conf=conf).returncode:
        untouched(job, before)
        step += EVERY
    assert step > 30 * len(job.processes()), "it has more steps than that"
    untouched(job, before)
    assert "warning" not in job.checkpoint(fault="force-fork", conf=conf)
    assert job.manifest()["memory"]["method"] == "fork"
    untouched(job, before)
    job.fsched("kill", job.state)
    assert "restored from epoch" in job.restore()
    job.stop()
    assert program[0] != "waiter" or "children 0 signals 0 handlers 0 short 0 descriptors 0" in job.out.read_text()


def test_killed_in_a_restore(pods, base):
    """No partial job is left: all its processes are gone, and the next restore succeeds."""
    job = Job(pods, base, "memory", 16, 1, 2)
    job.checkpoint("--kill")
    for name in points("restore"):
        said = job.restore(fault=name)
        assert "restored from" not in said, name
        assert job.p.wait(60) != 0 and not job.processes()
    for name in points("retry"):
        assert "restored from epoch" in job.restore(fault=name), name
        job.fsched("kill", job.state)
    assert "restored from epoch" in job.restore()
    job.stop()
