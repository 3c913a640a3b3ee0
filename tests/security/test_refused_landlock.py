"""A process confined by Landlock would be unconfined after a restore, so it is refused. A process that is not confined goes on undisturbed."""
import pytest

from refused import Job, base, has_landlock, nothing_left_of_pods, pods  # noqa: F401  (fixtures)


@pytest.mark.skipif(not has_landlock(), reason="this kernel has no Landlock, or it is off")
@pytest.mark.parametrize("what", ["landlock", "landlock-thread"])
def test_a_confined_thread(pods, base, what):
    Job(pods, base / "odd", what).start().refused("process 3 (odd)", "has confined itself (Landlock", "without its sandbox")


@pytest.mark.skipif(not has_landlock(), reason="this kernel has no Landlock, or it is off")
def test_a_confined_child(pods, base):
    Job(pods, "/bin/sh", "-c", f"{base}/odd landlock & wait $!").start().refused("(odd)", "has confined itself (Landlock")


def test_one_that_is_not_confined(pods, base):
    """Its seccomp filter forbids the call of the check, and one of its threads waits in a system call. Neither is disturbed."""
    job = Job(pods, base / "odd", "no-new-privs").start()
    for _ in range(3):
        p = job.checkpoint()
        assert p.returncode == 0, p.stderr
    job.comes_back()
