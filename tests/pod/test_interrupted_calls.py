"""System calls that a checkpoint interrupts go on as if nothing had happened (preload/interrupted_call.c)."""
import time

import lib
import pytest

from test_memory import Job
from test_pod import base, pods  # noqa: F401  (fixtures)

KINDS = ["nanosleep", "nanosleep_rest", "clock_nanosleep", "sleep_until", "poll", "ppoll", "select", "futex", "futex_until"]
RESTART_BLOCK = ["nanosleep", "poll", "futex"]   # a call of each kind for which only the kernel knows the time that is left
WHO = ["main", "thread"]


def calls(job, who):
    """Begin and end of each call, in seconds."""
    lines = [line.split() for line in job.out.read_text().splitlines()]
    return [(int(w[1]) / 1000, int(w[2]) / 1000) for w in lines if w[0] == who and len(w) == 3]


def count(job):
    return [len(calls(job, who)) for who in WHO]


def expect_to_go_on(job, n=2):
    before = count(job)
    lib.wait_for(lambda: all(b >= a + n for a, b in zip(before, count(job))) or job.p.poll() is not None, "more calls", 60)
    assert job.p.poll() is None, job.out.read_text()


def finish(job):
    (job.work / "stop").touch()
    lib.wait_for(lambda: job.p.poll() is not None, "the end", 120)
    assert job.p.returncode == 0 and job.out.read_text().endswith("done\n"), job.out.read_text()


@pytest.mark.parametrize("kind", KINDS)
def test_no_call_is_interrupted(pods, base, kind):
    """Both threads are in the call nearly all the time. They go on after checkpoints and after restores."""
    job = Job(pods, base, "calls", kind, 150)
    for way in ("", "force-fork", ""):
        job.checkpoint(fault=way)
        expect_to_go_on(job)
    job.checkpoint("--kill")
    job.restore()
    expect_to_go_on(job)
    job.checkpoint()
    job.fsched("kill", job.state)
    job.restore()
    expect_to_go_on(job)
    finish(job)


@pytest.mark.parametrize("kind", RESTART_BLOCK)
def test_a_checkpoint_does_not_begin_a_call_again(pods, base, kind):
    """A call that a checkpoint begins again at the time t ends at t + 4 s or later."""
    job = Job(pods, base, "calls", kind, 4000)
    checkpoints = []

    def within(who):
        """Pairs of a checkpoint in the middle of a call, and the end of the call."""
        return [(t, end) for t in checkpoints for begin, end in calls(job, who) if begin + 0.5 < t < end]

    def seen():
        checkpoints.append(time.monotonic())
        job.checkpoint()
        return all(within(who) for who in WHO)
    lib.wait_for(seen, "a call of each thread with a checkpoint in it", 120)
    for who in WHO:
        assert all(end < t + 4 for t, end in within(who)), (who, checkpoints, calls(job, who))
    finish(job)


@pytest.mark.parametrize("kind", RESTART_BLOCK)
def test_a_call_that_was_interrupted_before(pods, base, kind):
    """The second interruption shows only restart_syscall(2). The restored job makes the right call nevertheless."""
    def thrice_in_the_same_call(job):
        before = count(job)
        for _ in range(3):
            job.checkpoint()
        return count(job) == before
    for length in (6, 20, 60):      # seconds: three checkpoints take that long on a busy machine
        job = Job(pods, base, "calls", kind, 1000 * length)
        within = any(thrice_in_the_same_call(job) for _ in range(4))
        job.fsched("kill", job.state)
        if within:
            break
    assert within, f"no three checkpoints within one call of {length} s"
    job.restore()
    finish(job)
