"""System V semaphores: what the kernel does not show of them is told."""
import lib
import pytest

from test_pod import USER, base, pods  # noqa: F401  (fixtures)

PROGRAM = """
import ctypes, os, time
libc = ctypes.CDLL(None)
if {semaphores}:
    assert libc.semget(0, 2, 0o600 | 0o1000) >= 0
print('ready', flush=True)
while not os.path.exists('go'):
    time.sleep(0.05)
"""


@pytest.mark.parametrize("semaphores", [True, False])
def test_undo_is_told(pods, base, semaphores):
    d = pods.place("semaphores")
    pods.start(d / "work", "run", "--dir", d / "state", "--user", USER, "--", "/usr/bin/python3", "-c", PROGRAM.format(semaphores=semaphores),
               out=d / "work/out")
    lib.wait_for(lambda: "ready" in (d / "work/out").read_text(), "the program")
    done = pods.fsched("checkpoint", d / "state")
    assert done.returncode == 0, done.stderr
    assert ("SEM_UNDO" in done.stdout + done.stderr) == semaphores, done.stdout + done.stderr
