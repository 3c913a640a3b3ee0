"""fsched pod: checkpoint and restore on one machine without Slurm."""
import functools
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "cluster"))
import lib  # noqa: E402

FSCHED = lib.STAGE / "usr" / "bin" / "fsched"
USER = "nobody"
CONF = """CheckpointType = checkpoint/criu
CriuPath = {criu}
PodDir = {base}/pod
PodNetwork = host
"""


@functools.lru_cache
def installed():
    """A directory with the programs and workloads, for all tests of this process; conftest.py removes it."""
    d = Path(tempfile.mkdtemp(prefix="fscheck-pod.", dir="/var/tmp"))
    lib.POD_BASES.append(f"{d}/")
    d.chmod(0o755)
    # what an ordinary user's process maps has to be reachable for him
    shutil.copytree(lib.STAGE, d / "stage", symlinks=True)
    if (lib.ROOT / "build" / "criu").exists():
        shutil.copytree(lib.ROOT / "build" / "criu", d / "criu", symlinks=True)
    (d / "fsched.conf").write_text(CONF.format(base=d, criu=d / "criu"))
    for c in (lib.ROOT / "tests" / "workloads").glob("*.c"):
        subprocess.run(["gcc", "-O1", "-o", d / c.stem, c, "-pthread"], check=True)
    return d


@pytest.fixture(scope="module")
def base():
    return installed()


@pytest.fixture
def pods(base, request):
    """Starts pods and ends them in any case."""
    class Pods:
        running, places = [], []

        def env(self):
            return {**os.environ, "FSCHED_CONF": str(base / "fsched.conf")}

        def fsched(self, *argv, timeout=120):
            return subprocess.run([base / "stage/usr/bin/fsched", "pod", *map(str, argv)], env=self.env(), text=True,
                                  capture_output=True, stdin=subprocess.DEVNULL, timeout=timeout)

        def checkpoint(self, *argv):
            """Tries again for 15 s what passes by itself, as the agent does under Slurm: a connection of `screen -X` or `screen -ls` that has
            ended before screen has accepted it cannot be saved."""
            end = time.monotonic() + 15
            while True:
                done = self.fsched("checkpoint", *argv)
                if "try again" not in done.stdout + done.stderr or time.monotonic() > end:
                    return done

        def start(self, directory, *argv, out=None):
            with open(out or os.devnull, "ab") as f:
                if out:
                    shutil.chown(out, USER)   # it is the command's file, as far as a restore is concerned
                p = subprocess.Popen([base / "stage/usr/bin/fsched", "pod", *map(str, argv)], env=self.env(), stdout=f,
                                     stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, cwd=directory)
            self.running.append(p)
            return p

        def place(self, name):
            d = Path(tempfile.mkdtemp(prefix=re.sub(r"\W", "_", request.node.name)[-40:] + f"_{name}.", dir=base))
            d.chmod(0o755)
            self.places.append(d)
            (d / "work").mkdir()
            shutil.chown(d / "work", USER)
            return d
    pods = Pods()
    yield pods
    for p in pods.running:
        if p.poll() is None:
            p.kill()
        p.wait()
    for d in pods.places:
        shutil.rmtree(d, ignore_errors=True)


def lines(path):
    return path.read_text().count("\n") if path.exists() else 0


def cycle(pods, base, name, command, steps, code):
    """Runs, checkpoints with --kill and restores a command; returns its directory after the end."""
    d = pods.place(name)
    p = pods.start(d / "work", "run", "--dir", d / "state", "--user", USER, "--", *command, out=d / "work/out")
    lib.wait_for(lambda: lines(d / "work/out") > steps, "output")
    done = pods.fsched("checkpoint", d / "state", "--kill")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "epoch 1" in done.stdout
    p.wait(30)
    lib.hurry(d / "work")
    p = pods.start(d / "work", "restore", d / "state", out=d / "work/restore.out")
    assert p.wait(60) == code, (d / "work/restore.out").read_text()
    return d


@pytest.mark.parametrize("name,code", [("threads", 5), ("family", 3), ("files", 0)])
def test_cycle(pods, base, name, code):
    args = {"threads": ["1200", "64"], "family": ["1200", "."], "files": ["1200", "."]}[name]
    ref = pods.place("ref")
    lib.hurry(ref / "work")
    with open(ref / "work/out", "w") as f:
        plain = subprocess.Popen([base / name, *args], cwd=ref / "work", stdout=f, user=USER)
    d = cycle(pods, base, "got", [base / name, *args], 5, code)
    plain.wait(60)
    for f in sorted((ref / "work").iterdir()):
        assert f.read_bytes() == (d / "work" / f.name).read_bytes(), f.name


def test_two_pods_with_equal_pids_at_once(pods, base):
    """Two pods have the same pids inside. Both are saved and restored at the same time."""
    script = "echo pid $$; for i in $(seq 1200); do echo $i; [ -e hurry ] || sleep 0.05; done; exit 4"
    dirs = [pods.place("a"), pods.place("b")]
    started = [pods.start(d / "work", "run", "--dir", d / "state", "--user", USER, "--", "/bin/bash", "-c", script, out=d / "work/out") for d in dirs]
    for d in dirs:
        lib.wait_for(lambda: lines(d / "work/out") > 5, "output")
        done = pods.fsched("checkpoint", d / "state", "--kill")
        assert done.returncode == 0, done.stdout + done.stderr
    for p in started:
        p.wait(30)
    for d in dirs:
        lib.hurry(d / "work")
    back = [pods.start(d / "work", "restore", d / "state", out=d / "work/restore.out") for d in dirs]
    for p in back:
        assert p.wait(60) == 4
    texts = [(d / "work/out").read_text() for d in dirs]
    assert texts[0] == texts[1]
    assert texts[0].splitlines()[1:] == [str(i) for i in range(1, 1201)]


def test_exit_status_and_kill(pods, base):
    d = pods.place("x")
    p = pods.start(d / "work", "run", "--dir", d / "state", "--user", USER, "--", "/bin/sh", "-c", "exit 42")
    assert p.wait(30) == 42
    d = pods.place("y")
    p = pods.start(d / "work", "run", "--dir", d / "state", "--user", USER, "--", "/bin/sh", "-c", "echo up; sleep 600", out=d / "work/out")
    lib.wait_for(lambda: lines(d / "work/out"), "output")
    assert pods.fsched("kill", d / "state").returncode == 0
    assert p.wait(30) != 0


def test_a_killed_supervisor_takes_its_pod_along(pods, base):
    d = pods.place("x")
    p = pods.start(d / "work", "run", "--dir", d / "state", "--user", USER, "--", "/bin/sh", "-c", "echo up; exec sleep 600", out=d / "work/out")
    lib.wait_for(lambda: lines(d / "work/out"), "output")
    below = lib.descendants(p.pid)
    assert below
    p.kill()
    p.wait()
    lib.wait_for(lambda: not any(lib.alive(q) for q in below), "the pod to die", 10)


def test_checkpoint_while_running_and_again(pods, base):
    d = pods.place("x")
    p = pods.start(d / "work", "run", "--dir", d / "state", "--user", USER, "--", base / "threads", "6000", "16", out=d / "work/out")
    lib.wait_for(lambda: lines(d / "work/out") > 3, "output")
    for n in (1, 2, 3):
        done = pods.fsched("checkpoint", d / "state")
        assert done.returncode == 0 and f"epoch {n}" in done.stdout, done.stdout + done.stderr
    lib.hurry(d / "work")
    assert p.wait(60) == 5
    listed = pods.fsched("list", d / "state")
    assert "3" in listed.stdout


def test_bad_words(pods, base):
    d = pods.place("x")
    for argv, words in [(["run"], "--dir"), (["restore", d / "nothing"], "nothing"), (["checkpoint", d / "nothing"], "nothing"),
                        (["run", "--dir", d / "state", "--user", "no-such-user", "--", "true"], "no-such-user"), (["explode"], "run")]:
        p = pods.fsched(*argv)
        assert p.returncode != 0 and words in p.stdout + p.stderr, (argv, p.stdout + p.stderr)


@pytest.mark.parametrize("command,status,said", [("/nonexistent", 127, "/nonexistent: No such file or directory"),
                                                 ("{d}/plain", 126, "/plain: Permission denied")])
def test_a_command_that_cannot_be_run(pods, command, status, said):
    d = pods.place("")
    (d / "plain").touch(mode=0o644)
    command = command.format(d=d)
    for user in ([], ["--user", USER]):
        p = pods.fsched("run", "--dir", d / f"pod{len(user)}", *user, "--", command)
        assert p.returncode == status and said in p.stderr, (p.returncode, p.stderr)
