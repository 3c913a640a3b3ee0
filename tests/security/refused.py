"""Programs that no restore could bring back, and the answers of a checkpoint of their pod. Used by test_refused_*.py."""
import ctypes
import errno
import importlib.util
import subprocess
import sys
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTS / "pod"), str(TESTS / "cluster")]
import lib  # noqa: E402
from test_pod import USER, base, installed, pods  # noqa: E402,F401  (fixtures)

_spec = importlib.util.spec_from_file_location("pod_conftest", TESTS / "pod" / "conftest.py")
_module = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_module)
nothing_left_of_pods = _module.nothing_left_of_pods

PYTHON = ["/usr/bin/python3", "-c"]
HEAD = """
import ctypes, os, sys, threading, time
libc = ctypes.CDLL(None, use_errno=True)
def ready():
    print("ready", flush=True)
    while not os.path.exists("go"):
        time.sleep(0.02)
"""


def has_landlock():
    libc = ctypes.CDLL(None, use_errno=True)
    create_ruleset = 444
    return libc.syscall(create_ruleset, None, ctypes.c_size_t(0), 1) >= 0 or ctypes.get_errno() not in (errno.ENOSYS, errno.EOPNOTSUPP)


class Job:
    """A program in a pod that has printed "ready"."""

    def __init__(self, pods, *command):
        self.pods = pods
        self.place = pods.place("job")
        self.work = self.place / "work"
        self.command = command

    def start(self):
        self.process = self.pods.start(self.work, "run", "--dir", self.place / "state", "--user", USER, "--", *self.command,
                                       out=self.work / "out")
        lib.wait_for(lambda: "ready" in self.output(), f"the program to be ready: {self.output()}")
        return self

    def output(self):
        f = self.work / "out"
        return f.read_text() if f.exists() else ""

    def checkpoint(self, *options, fault=""):
        env = {**self.pods.env(), "FSCHED_FAULT": fault}
        return subprocess.run([installed() / "stage/usr/bin/fsched", "pod", "checkpoint", self.place / "state", *options], env=env, text=True,
                              capture_output=True, stdin=subprocess.DEVNULL, timeout=120)

    def restore(self, fails=False):
        """Restores the pod and returns the output of fsched."""
        self.go()
        self.process = self.pods.start(self.work, "restore", self.place / "state", out=self.work / "restore.out")
        assert (self.process.wait(60) != 0) == fails, (self.work / "restore.out").read_text() + self.output()
        return (self.work / "restore.out").read_text()

    def refused(self, *words, fault="", options=()):
        """Checks that the checkpoint is refused with these words and that the program goes on to its end."""
        p = self.checkpoint(*options, fault=fault)
        assert p.returncode != 0, p.stdout
        for w in words:
            assert w in p.stderr, p.stderr
        assert not (self.place / "state" / "epochs" / "1").exists()
        self.go()
        assert self.process.wait(60) == 0, self.output()
        return p.stderr

    def comes_back(self, fault=""):
        p = self.checkpoint("--kill", fault=fault)
        assert p.returncode == 0, p.stdout + p.stderr
        self.process.wait(30)
        self.restore()

    def go(self):
        (self.work / "go").touch()


def python(pods, text):
    return Job(pods, *PYTHON, HEAD + text)
