"""Timers that a checkpoint finds in special states (preload/due_timer.c)."""
from test_memory import Job
from test_pod import base, pods  # noqa: F401  (fixtures)


def test_periodic_timers(pods, base):
    """An expired timer that nobody has read goes on after a restore; a disarmed one stays disarmed."""
    job = Job(pods, base, "due")
    for _ in range(2):
        job.checkpoint("--kill")
        job.restore()
    (job.work / "go").touch()
    assert job.p.wait(60) == 0, job.out.read_text()
    assert job.out.read_text() == "ready\nexpired: 1\nexpires again: 1\narmed: 1\ndisarmed: 1\n"
