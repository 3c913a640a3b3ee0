"""A process confined by Landlock would be unconfined after a restore, so it is refused. A process that is not confined goes on undisturbed."""
import subprocess

import pytest

import lib
from refused import Job, base, has_landlock, installed, nothing_left_of_pods, pods, python  # noqa: F401  (fixtures)


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


# Confines itself when it is told to.
LATE = """
import struct
libc.prctl(38, 1, 0, 0, 0)   # PR_SET_NO_NEW_PRIVS
print("ready", flush=True)
while not os.path.exists("confine"):
    time.sleep(0.01)
rules = libc.syscall(444, struct.pack("=Q", 4), ctypes.c_size_t(8), 0)   # LANDLOCK_ACCESS_FS_READ_FILE
print("confined", libc.syscall(446, rules, 0), flush=True)
os.close(rules)
while not os.path.exists("go"):
    time.sleep(0.01)
"""


@pytest.mark.skipif(not has_landlock(), reason="this kernel has no Landlock, or it is off")
def test_one_that_confines_itself_right_before_the_freeze(pods):
    """After everything has been looked at: the freeze finds it out, and the program goes on."""
    job = python(pods, LATE).start()
    env = {**pods.env(), "FSCHED_FAULT": "wait-before-freeze"}
    p = subprocess.Popen([installed() / "stage/usr/bin/fsched", "pod", "checkpoint", job.place / "state"], env=env, text=True,
                         stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL)
    waiting = job.place / "state" / "waiting"
    lib.wait_for(waiting.exists, "the worker to wait")
    (job.work / "confine").touch()
    lib.wait_for(lambda: "confined 0" in job.output(), f"the program to confine itself: {job.output()}")
    waiting.unlink()
    said = p.communicate(timeout=120)[1]
    assert p.returncode != 0 and "has confined itself (Landlock" in said, said
    assert not (job.place / "state" / "epochs" / "1").exists()
    job.go()
    assert job.process.wait(60) == 0, job.output()
