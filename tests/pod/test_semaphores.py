"""System V semaphores: what the kernel gives back when a process ends (SEM_UNDO), also after checkpoints and restores. No program can read that."""
import json

import lib
import pytest

from test_pod import USER, base, pods  # noqa: F401  (fixtures)

# number of the semaphore: (its value, what the child adds with SEM_UNDO)
PLAN = {0: (5, [-2]), 1: (0, [3]), 2: (20000, [-7]), 3: (32000, [-32000]), 4: (0, [32767]), 5: (9, [-4, 4]), 6: (1, [-1]), 7: (7, [])}

PROGRAM = """
import ctypes, json, os, struct, sys, time
libc = ctypes.CDLL(None, use_errno=True)
plan = {int(n): v for n, v in json.loads(sys.argv[1]).items()}
GETVAL, SETVAL, UNDO = 12, 16, 0x1000
ids = [libc.semget(0, len(plan), 0o600 | 0o1000) for _ in range(2)]     # the second set is left alone
def op(n, by):
    if libc.semop(ids[0], struct.pack("HhH", n, by, UNDO), 1):
        sys.exit(f"semop: {ctypes.get_errno()}")
def values():
    print(json.dumps([libc.semctl(ids[0], n, GETVAL) for n in plan]), flush=True)
def go(name):
    while not os.path.exists(name):
        time.sleep(0.02)
for n, (value, _) in plan.items():
    libc.semctl(ids[0], n, SETVAL, value)
child = os.fork()
for n, (_, by) in plan.items() if child == 0 else ():
    for b in by:
        op(n, b)
if child == 0:
    values()
    go("end")
    os._exit(0)
go("go")
values()
open("end", "w").close()
os.waitpid(child, 0)
values()
"""


@pytest.mark.parametrize("cycles", [0, 3])
def test_undo_after_a_restore(pods, base, cycles):
    """cycles: restores; 0: the program runs on after two checkpoints."""
    d = pods.place("semaphores")
    work, state = d / "work", d / "state"
    p = pods.start(work, "run", "--dir", state, "--user", USER, "--", "/usr/bin/python3", "-c", PROGRAM, json.dumps(PLAN), out=work / "out")
    lib.wait_for(lambda: (work / "out").read_text().count("]") == 1, lambda: (work / "out").read_text())
    for n in range(cycles or 2):
        done = pods.fsched("checkpoint", *(["--kill"] if cycles else []), state)
        assert done.returncode == 0 and "warning" not in done.stderr, done.stderr
        if cycles:
            p.wait(30)
            p = pods.start(work, "restore", state, out=work / "out")
            lib.wait_for(lambda n=n: (work / "out").read_text().count("restored from") == n + 1, lambda: (work / "out").read_text())
    assert "warning" not in (work / "out").read_text().replace("warning: the command uses the network", "")
    (work / "go").touch()
    assert p.wait(60) == 0, (work / "out").read_text()
    taken = [value + sum(by) for value, by in PLAN.values()]
    told = [json.loads(line) for line in (work / "out").read_text().splitlines() if line.startswith("[")]
    assert told == [taken, taken, [value for value, _ in PLAN.values()]]


def test_what_is_not_known_is_told(pods, base):
    """With criu's own memory engine nobody can ask the process."""
    f = base / "semaphores.conf"
    f.write_text((base / "fsched.conf").read_text() + "MemoryEngine = criu\n")
    d = pods.place("semaphores")
    work, state = d / "work", d / "state"
    pods.start(work, "run", "--dir", state, "--user", USER, "--", "/usr/bin/python3", "-c", PROGRAM, json.dumps(PLAN), out=work / "out")
    lib.wait_for(lambda: (work / "out").read_text().count("]") == 1, lambda: (work / "out").read_text())
    done = pods.fsched("checkpoint", "--conf", f, state)
    assert done.returncode == 0 and done.stderr.count("may have taken System V semaphores with SEM_UNDO") == 1, done.stderr
