"""A program gives itself unusual state of every kind (workloads/state.py): what it can find out about it is the same after a restore, but for
what docs/compatibility.md calls a limit."""
import json
import subprocess

import lib

from test_pod import USER, base, pods  # noqa: F401  (fixtures)

# What differs, and nothing else does: (kind, path in what the program tells).
LIMITS = {
    ("denied_executable_memory",),              # PR_SET_MDWE
    ("keys",),                                  # the session keyring
    ("descriptors", "nameless", "flags"),       # O_TMPFILE
    ("descriptors", "directory", "flags"),      # O_DIRECTORY, which says nothing of an open descriptor
}


def told(work):
    return {f.name.split(".")[1]: [json.loads(line) for line in f.read_text().splitlines()] for f in work.glob("state.*")}


def differences(before, after, path):
    if isinstance(before, dict) and isinstance(after, dict):
        for key in sorted({*before, *after}):
            yield from differences(before.get(key), after.get(key), (*path, key))
    elif before != after:
        yield path, before, after


def run(pods, base, *kinds):
    """kind -> [before, after], and what the restore said."""
    d = pods.place("state")
    work, state = d / "work", d / "state"
    pods.start(work, "run", "--dir", state, "--user", USER, "--", "/usr/bin/python3", lib.ROOT / "tests/workloads/state.py", "go", *kinds, out=work / "out")
    count = len(kinds) or (lib.ROOT / "tests/workloads/state.py").read_text().count("@kind\n")
    lib.wait_for(lambda: len(told(work)) == count and all(told(work).values()), lambda: "the program: " + (work / "out").read_text())
    for _ in range(2):
        done = pods.fsched("checkpoint", state)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "warning" not in done.stderr, done.stderr
    assert pods.fsched("kill", state).returncode == 0
    (work / "go").touch()
    p = subprocess.run([base / "stage/usr/bin/fsched", "pod", "restore", state], env=pods.env(), cwd=work, text=True, stdin=subprocess.DEVNULL,
                       stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=120)
    assert p.returncode == 0, p.stdout + (work / "out").read_text()
    return told(work), p.stdout


def test_everything_comes_back(pods, base):
    found, said = run(pods, base)
    differ = {path: (before, after) for name, (before, after) in found.items() for path, before, after in differences(before, after, (name,))}
    assert not {p: d for p, d in differ.items() if p not in LIMITS}, "\n".join(f"{p}: {d}" for p, d in differ.items()) + said
    assert "warning" not in said, said


SPLIT = """
import ctypes, mmap, os, time
NR = {"x86_64": 237, "aarch64": 235}[os.uname().machine]
memory = mmap.mmap(-1, 10000 * 4096, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
place, node = ctypes.addressof(ctypes.c_char.from_buffer(memory)), ctypes.c_ulong(1)
for i in range(5000):
    assert not ctypes.CDLL(None).syscall(NR, ctypes.c_long(place + 8192 * i), ctypes.c_long(4096), 2, ctypes.byref(node), ctypes.c_long(64), 0)
print("ready", flush=True)
time.sleep(1000)
"""


def test_more_than_is_restored_is_said(pods, base):
    d = pods.place("split")
    work, state = d / "work", d / "state"
    pods.start(work, "run", "--dir", state, "--user", USER, "--", "/usr/bin/python3", "-c", SPLIT, out=work / "out")
    lib.wait_for(lambda: "ready" in (work / "out").read_text(), lambda: "the program: " + (work / "out").read_text())
    done = pods.fsched("checkpoint", "--kill", state)
    assert done.returncode == 0 and "memory policies of process 3 (python3) are restored for the first 4096 mappings only" in done.stderr, done.stderr
    assert done.stderr.count("warning") == 1, done.stderr
