"""PodScratch: the directory that TMPDIR names is saved with the epoch and comes back, whatever is there then."""
import os
import shutil
import sys

import lib
import pytest

from test_memory import Job
from test_pod import USER, base, lines, pods  # noqa: F401  (fixtures)
from test_private_tmp import LARGE, change, next_line

# Prints what the directory looks like; a file of another user and what is made after the epoch do not count.
PROGRAM = r"""
import hashlib, os, sqlite3, time
top = os.environ["TMPDIR"]; here = os.getcwd()
os.chdir(top)
os.makedirs("d/e"); open("d/f", "w").write("f"); os.link("d/f", "d/e/link"); os.symlink("nowhere", "symlink"); os.mkfifo("fifo", 0o640); os.chmod("d/e", 0o2750)
with open("sparse", "w") as f:
    f.truncate(1 << 30); f.seek(1 << 29); f.write("middle")
with open("big", "wb") as f:
    f.write(os.urandom(3 << 20))
os.setxattr("big", "user.color", b"blue"); os.utime("big", ns=(123456789, 987654321)); os.chmod("big", 0o604)
held = open("held", "r+b" if os.path.exists("held") else "w+b", buffering=0); held.write(b"x" * 100000)
def look():
    found = []
    for dir, dirs, files in os.walk("."):
        for name in [dir] + [os.path.join(dir, f) for f in files]:
            s = os.lstat(name)
            if not name.startswith("./other") and not name.startswith("./db"):
                content = hashlib.md5(open(name, "rb").read()).hexdigest() if name in ("./big", "./d/f", "./held") else ""
                found.append((name, oct(s.st_mode), s.st_uid, s.st_size, 0 if dir == name else s.st_nlink, s.st_blocks < 4096 or s.st_size, content, s.st_mtime_ns if name != "." else 0,
                              [(a, os.getxattr(name, a)) for a in os.listxattr(name, follow_symlinks=False)]))
    return {str(f) for f in found}
first = look(); n = 0
out = open(here + "/numbers", "w", buffering=1)
print("ready", flush=True)
while not os.path.exists(here + "/stop"):
    n += 1; now = look(); held.seek(0)
    print(n, "same" if now == first and held.read(5) == b"xxxxx" else "changed: %s" % sorted(first ^ now), file=out)
    if os.path.exists(here + "/mess"):
        os.unlink("big"); open("d/f", "w").write("other"); held.truncate(3); open("new", "w"); os.unlink(here + "/mess"); time.sleep(3600)
    time.sleep(0.02)
"""


@pytest.fixture
def job(pods, base, monkeypatch):
    def make(text, name="job"):
        place = pods.place("scratch")
        os.chmod(place, 0o1777)
        tmp = place / name
        tmp.mkdir()
        shutil.chown(tmp, USER)
        f = base / "scratch.conf"
        f.write_text((base / "fsched.conf").read_text() + f"PodScratch = {place}\n")
        pods.env = lambda: {**os.environ, "FSCHED_CONF": str(f), "TMPDIR": str(tmp)}
        j = Job(pods, base, sys.executable, "-c", text)
        j.scratch = tmp
        return j
    return make


def same(job, least):
    lib.wait_for(lambda: lines(job.work / "numbers") > least, "output")
    text = (job.work / "numbers").read_text()
    assert "changed" not in text, text[-3000:]
    return lines(job.work / "numbers")


def test_a_directory_of_the_job_comes_back(job):
    j = job(PROGRAM)
    n = same(j, 3)
    said = j.checkpoint()
    assert "other users" not in said and str(j.scratch) == j.manifest()["scratch"][0]["path"]
    (j.work / "mess").touch()
    lib.wait_for(lambda: not (j.work / "mess").exists(), "the mess")
    j.fsched("kill", j.state)
    assert "other inode numbers" in j.restore()
    n = same(j, lines(j.work / "numbers") + 3)
    assert not (j.scratch / "new").exists() and j.scratch.stat().st_mode & 0o777 == 0o755
    # As on another node: it is not there.
    j.checkpoint("--kill")
    shutil.rmtree(j.scratch)
    j.restore()
    same(j, n + 3)
    assert j.scratch.owner() == USER
    j.checkpoint("--kill")
    # Somebody else has one of this name.
    j.scratch.rename(j.scratch.with_name("kept"))
    j.scratch.mkdir()
    said = j.fsched("restore", j.state, fails=True)
    assert "belongs to uid 0" in said and j.scratch.exists(), said
    j.scratch.rmdir()
    j.scratch.symlink_to("/etc")
    said = j.fsched("restore", j.state, fails=True)
    assert "cannot open the job's scratch directory" in said, said
    j.scratch.unlink()
    j.restore()
    same(j, 1)
    j.stop()


def test_what_is_of_others_is_left_out(job):
    j = job(PROGRAM)
    same(j, 3)
    (j.scratch / "other").write_text("root's")
    os.chmod(j.scratch / "other", 0o600)
    assert "other users" in j.checkpoint("--kill")
    (j.scratch / "other").unlink()
    j.restore()
    same(j, lines(j.work / "numbers") + 2)
    assert not (j.scratch / "other").exists()
    j.stop()


def test_only_what_has_changed_is_written_in_the_freeze(job):
    j = job(LARGE.replace("SIZE", "3").replace('"/tmp/', 'os.environ["TMPDIR"] + "/'))
    p = j.begin("checkpoint", "--kill", j.state, fault="wait-before-freeze")
    lib.wait_for((j.state / "waiting").exists, "the worker")
    change(j)
    (j.state / "waiting").unlink()
    said = p.communicate(timeout=120)[0]
    assert p.returncode == 0, said
    assert list(j.state.glob("epochs/*/files/scratch-0-*.data"))
    shutil.rmtree(j.scratch)
    j.restore()
    lib.wait_for(lambda: lines(j.work / "numbers") > 3, "output")
    assert all(line.startswith("same") for line in (j.work / "numbers").read_text().splitlines())
    j.stop()
