"""Every process of a job is in its epochs, with its parent, group and session, or the checkpoint is refused."""
import contextlib
import shutil
import subprocess
from pathlib import Path

import lib
import pytest

from test_memory import Job
from test_pod import USER, base, pods  # noqa: F401  (fixtures)


def status(pid):
    text = Path(f"/proc/{pid}/status").read_text()
    return dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)


def pid_1(job):
    return next(p for p in lib.descendants(job.p.pid) if lib.comm(p) == "fsched-init")


def family(job):
    """The relations of the job's processes by their pids in the pod: {pid: (name, state, parent, group, session)}."""
    init = pid_1(job)
    inner, found = {init: 1}, {}
    all_of = {p: status(p) for p in lib.descendants(init)}
    inner.update({p: int(s["NSpid"].split()[-1]) for p, s in all_of.items()})
    for p, s in all_of.items():
        state = s["State"][0].replace("R", "S")    # asleep or about to be
        found[inner[p]] = (s["Name"], state, inner[int(s["PPid"])], int(s["NSpgid"].split()[-1]), int(s["NSsid"].split()[-1]))
    return found


def settled(job, want):
    """The job's processes when they match the expectation, or at the deadline."""
    try:
        lib.wait_for(lambda: family(job) == want, "the family", 20)
    except (lib.Timeout, OSError, KeyError):
        pass
    return family(job)


def started(pods, base, *argv):
    job = Job(pods, base, "daemons", *argv)
    lib.wait_for(lambda: sum(v[1] == "T" for v in family(job).values()) == 2, "two stopped processes")
    return job, family(job)


def test_ten_cycles_lose_nobody(pods, base):
    """Daemons, orphans, groups and sessions without a leader, stopped processes and zombies, in ten cycles."""
    job, want = started(pods, base)
    assert {v[0] for v in want.values()} >= {"daemon", "stopped-daemon", "zombies-parent", "zombie", "leaderless", "zombies-session"}
    for n in range(10):
        if n % 3 == 2:
            job.checkpoint()
        job.checkpoint("--kill")
        assert "restored from epoch" in job.restore(), job.said.read_text()
        assert settled(job, want) == want, f"cycle {n + 1}"
    ends_well(job)


def ends_well(job):
    (job.work / "stop").touch()
    assert job.p.wait(60) == 3


def refused(job, *words):
    said = job.checkpoint(fails=True)
    assert all(w in said for w in words) and "the command runs on" in said, said
    assert not list(job.state.glob("epochs/*"))


def test_an_orphan_that_another_process_has_adopted(pods, base):
    """Refused: criu could not restore its session."""
    job, want = started(pods, base, "lost-session")
    pid = next(p for p, v in want.items() if want.get(v[2], [""])[0] == "lost")
    refused(job, f"process {pid} (daemon)", "session")
    assert settled(job, want) == want
    # an orphan once more, it is adopted by the first process
    subprocess.run(["kill", "-9", str(next(p for p in lib.descendants(pid_1(job)) if lib.comm(p) == "lost"))], check=True)
    lib.wait_for(lambda: family(job)[pid][2] == 2, "the daemon to be adopted")
    want = family(job)
    job.checkpoint("--kill")
    assert "restored from epoch" in job.restore()
    assert settled(job, want) == want
    ends_well(job)


@pytest.fixture
def stray():
    """stray(job): a process of the job's user that is a child of pid 1, as an older version has restored daemons.
    Returns (its name, end it)."""
    with contextlib.ExitStack() as stack:
        def make(job):
            init = pid_1(job)
            subprocess.run(["nsenter", "-t", str(init), "-p", "-m", "setpriv", "--reuid", USER, "--clear-groups", "setsid", "sh", "-c",
                            "sleep 1000 >/dev/null 2>&1 &"], check=True, stdin=subprocess.DEVNULL)
            pid = lib.wait_for(lambda: next((p for p in lib.children(init) if lib.comm(p) == "sleep"), None), "the stray")
            inner = status(pid)["NSpid"].split()[-1]
            end = ["kill", "-9", str(pid)]
            stack.callback(lambda: lib.comm(pid) == "sleep" and subprocess.run(end, check=True))
            return f"process {inner} (sleep)", lambda: subprocess.run(end, check=True)
        yield make


def test_a_process_that_is_not_below_the_leader(pods, base, stray):
    if not shutil.which("nsenter"):
        pytest.skip("nsenter is not installed")
    job, _ = started(pods, base)
    name, end = stray(job)
    refused(job, name)
    end()
    assert "epoch 1" in job.checkpoint()
    ends_well(job)


def test_a_process_that_comes_between_the_look_and_the_freeze(pods, base, stray):
    """The freeze finds the process: no epoch is made, and the job goes on."""
    job, want = started(pods, base)
    waiting = job.state / "waiting"
    p = job.begin("checkpoint", job.state, fault="wait-before-freeze")
    lib.wait_for(waiting.exists, "the worker")
    name, end = stray(job)
    waiting.unlink()
    said = p.communicate(timeout=120)[0]
    assert p.returncode != 0 and name in said and "the command runs on" in said, said
    assert not list(job.state.glob("epochs/*"))
    end()
    assert settled(job, want) == want
    assert "epoch" in job.checkpoint("--kill")
    assert "restored from epoch" in job.restore()
    ends_well(job)
