"""The job's own /tmp comes back with the same inodes, and nothing of it is left on the node."""
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import lib
import pytest

from test_memory import Job
from test_pod import USER, base, lines, pods  # noqa: F401  (fixtures)

# Makes what a scratch directory has, prints how it looks each time "look" is there, and works on a database meanwhile.
PROGRAM = r"""
import os, socket, sqlite3, time
here = os.getcwd()
os.chdir("/tmp")
os.mkdir("d"); os.mkdir("d/e", 0o2750)
for n in range(300):
    open(f"d/f{n}", "w").write("x" * n)
for n in range(0, 300, 3):
    os.unlink(f"d/f{n}")
os.rename("d/f1", "moved"); os.link("moved", "d/e/link"); os.symlink("nowhere", "d/symlink"); os.mkfifo("fifo", 0o640)
with open("sparse", "w") as f:
    f.truncate(1 << 30); f.seek(1 << 29); f.write("middle")
with open("big", "wb") as f:
    f.write(os.urandom(3 << 20))
os.setxattr("big", "user.color", b"blue"); os.utime("big", ns=(123456789, 987654321)); os.chmod("big", 0o604)
server = socket.socket(socket.AF_UNIX); server.bind("/tmp/d/socket"); server.listen()
def look():
    found = []
    for top, dirs, files in os.walk("/tmp"):
        for name in [top] + [os.path.join(top, f) for f in files]:
            s = os.lstat(name)
            if name.startswith("/tmp/db"):
                continue
            # criu binds a socket again, which also changes the time of its directory
            found.append((name, 0 if name.endswith("socket") else s.st_ino, s.st_dev, s.st_mode, 0 if name == "/tmp" else s.st_nlink, s.st_uid, s.st_size, s.st_blocks < 4096 or s.st_size,
                          0 if name in ("/tmp", "/tmp/d", "/tmp/d/socket") else s.st_mtime_ns, sorted((a, os.getxattr(name, a)) for a in os.listxattr(name, follow_symlinks=False))))
    return {str(f) for f in found}
db = sqlite3.connect("/tmp/db", isolation_level=None); db.execute("create table t(n)")
first = look(); n = 0
out = open(here + "/numbers", "w", buffering=1)
print("ready", flush=True)
while not os.path.exists(here + "/stop"):
    n += 1
    try:
        db.execute("insert into t values(?)", (n,))
        now = look()
        if now != first:
            print("changed:", *sorted(first ^ now), file=out)
        print(n, db.execute("select count(*) from t").fetchone()[0], file=out)
    except sqlite3.Error as e:
        print(n, e, file=out)
    time.sleep(0.02)
"""


@pytest.fixture
def job(pods, base):
    def make(conf="", text=PROGRAM):
        if conf:
            f = base / "tmp.conf"
            f.write_text((base / "fsched.conf").read_text() + conf)
            pods.env = lambda: {**os.environ, "FSCHED_CONF": str(f)}
        return Job(pods, base, sys.executable, "-c", text)
    return make


def loop_file(loop):
    """The file behind the device; "" if nothing is attached, None if there is no such device."""
    try:
        return (Path("/sys/block") / loop / "loop/backing_file").read_text().strip()
    except OSError:
        return "" if (Path("/sys/block") / loop).exists() else None


def loops(job):
    """Devices of the job's pod: others come and go with the pods of other tests."""
    return [p.name for p in Path("/sys/block").glob("loop*") if (loop_file(p.name) or "").startswith(f"{job.state}/")]


def wait_gone(job, devices):
    """Each is gone, or belongs to another pod meanwhile, which got the number."""
    lib.wait_for(lambda: not loops(job) and not [d for d in devices if loop_file(d) == ""], "the loop devices to be gone")


def check(job, least):
    lib.wait_for(lambda: lines(job.work / "numbers") > least, "output")
    text = (job.work / "numbers").read_text()
    assert "changed" not in text, text[-6000:]
    assert all(a == b for a, b in (line.split() for line in text.splitlines())), text
    return lines(job.work / "numbers")


def test_everything_in_tmp_is_as_it_was(job):
    j = job()
    devices = loops(j)
    assert devices
    n = check(j, 5)
    assert "tmp" in (j.checkpoint(), j.manifest())[1]
    n = check(j, n + 3)
    j.checkpoint("--kill")
    for _ in range(3):
        said = j.restore()
        assert "restored from epoch" in said and "inode" not in said, said
        n = check(j, n + 3)
        j.checkpoint("--kill")
    j.restore()
    assert loops(j) == devices
    j.stop()
    wait_gone(j, devices)
    assert not (j.state / "pod").exists()


def test_a_supervisor_that_is_killed_leaves_no_loop_device(job):
    j = job()
    devices = loops(j)
    assert devices
    j.p.kill()
    j.p.wait()
    lib.wait_for(lambda: not loops(j), "the image to be detached")
    j.restore()     # no epoch: it removes what is left of the pod
    wait_gone(j, devices)


def test_a_directory_instead(job):
    j = job(conf="PodTmp = directory\n")
    check(j, 3)
    assert "tmp" not in (j.checkpoint("--kill"), j.manifest())[1]
    assert "restored from epoch" in j.restore()
    lib.wait_for(lambda: lines(j.work / "numbers") > 10, "output")
    j.stop()


def test_no_image_is_possible(job):
    j = job(conf="PodTmpSize = 1M\n")
    assert "no image" in j.out.read_text() and "PodTmpSize" in j.out.read_text()
    check(j, 3)
    j.checkpoint("--kill")
    assert "restored from epoch" in j.restore()
    j.stop()


FILL = r"""
import errno, os, time
n = 0
print("ready", flush=True)
while not os.path.exists("go"):
    time.sleep(0.05)
while True:
    try:
        with open(f"/tmp/{n}", "wb") as f:
            f.write(os.urandom(1 << 20)); f.flush(); os.fsync(f.fileno())
        n += 1
    except OSError as e:
        print(errno.errorcode[e.errno], n, flush=True)
        break
    time.sleep(0.02)
while not os.path.exists("stop"):
    time.sleep(0.05)
"""


def test_the_disk_becomes_full(pods, base, monkeypatch):
    """The job gets ENOSPC before the image, which is sparse, gets no blocks."""
    d = pods.place("disk")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256M", "small", d], check=True)
    try:
        (d / "work").mkdir()
        shutil.chown(d / "work", USER)
        monkeypatch.setattr(pods, "place", lambda name: d)
        j = Job(pods, base, sys.executable, "-c", FILL)
        (d / "other").write_bytes(os.urandom(160 << 20))
        (d / "work/go").touch()
        lib.wait_for(lambda: "ENO" in j.out.read_text() or "EIO" in j.out.read_text(), "an error")
        error, n = j.out.read_text().split()[1:]
        free = os.statvfs(d)
        assert error == "ENOSPC" and 40 < int(n) < 96 and free.f_bavail * free.f_bsize > 1 << 20, (error, n, free)
        j.stop()
    finally:
        subprocess.run(["umount", "-l", d], check=True)


# Large files in /tmp and in the working directory: unchanged, changed by write(), by a mapping, longer, shorter, a hole, gone, new.
LARGE = r"""
import hashlib, mmap, os, sys, time
size = SIZE << 20; block = os.urandom(1 << 20)
def make(path):
    fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    for n in range(size >> 20):
        os.pwrite(fd, n.to_bytes(8, "little") + block[8:], n << 20)
    return fd
names = ["/tmp/same", "/tmp/written", "/tmp/mapped", "/tmp/longer", "/tmp/shorter", "/tmp/hole", "here", "here.mapped"] if size < 99 << 20 else ["/tmp/same", "/tmp/written", "here"]
fds = {n: make(n) for n in names}
maps = {n: mmap.mmap(fds[n], size) for n in names if n.endswith("mapped")}
for m in maps.values():
    m[100000] = 1
expected = {n: None for n in names}
def change(k):
    for n in names:
        fd = fds[n]
        if n.endswith("written") or n == "here":
            os.pwrite(fd, b"w%d" % k, (k * 7919 << 10) % size)
        elif n in maps:
            m = maps[n]; m[100000] = k + 1; m[(k * 104729 if n in ('/tmp/mapped', 'here.mapped') else 100001) % size] = k % 256
        elif n.endswith("longer"):
            os.pwrite(fd, b"l%d" % k, size + 1000 * k)
        elif n.endswith("shorter"):
            os.ftruncate(fd, size - 1000 * k - 1)
        elif n.endswith("hole"):
            import ctypes
            ctypes.CDLL(None).fallocate(fd, 3, ctypes.c_long(k * 65536), ctypes.c_long(131072))
def sums():
    return [hashlib.md5(open(n, "rb").read()).hexdigest() for n in names]
k = 0; was = sums()
print("ready", flush=True)
out = open("numbers", "w", buffering=1)
while not os.path.exists("stop"):
    if os.path.exists("change"):
        k += 1; change(k); was = sums()
        os.unlink("change")
    now = sums() if size < 99 << 20 else was
    print("same" if now == was else "changed %s" % [n for n, a, b in zip(names, now, was) if a != b], [os.stat(n).st_ino for n in names[:3]], file=out)
    time.sleep(0.05)
"""


def next_line(job):
    n = lines(job.work / "numbers")
    lib.wait_for(lambda: lines(job.work / "numbers") > n + 1, "output")
    text = (job.work / "numbers").read_text().splitlines()
    assert all(line == text[0] and line.startswith("same") for line in text), [line for line in text if line != text[0]][:3]


def change(job):
    (job.work / "change").touch()
    lib.wait_for(lambda: not (job.work / "change").exists(), "the change")


def saves_what_changes(j, *options, look=None):
    """A checkpoint between whose copies and freeze the job changes its files. look: called before they change."""
    p = j.begin("checkpoint", *options, j.state, fault="wait-before-freeze")
    lib.wait_for((j.state / "waiting").exists, "the worker")
    if look:
        look(j)
    change(j)
    (j.state / "waiting").unlink()
    said = p.communicate(timeout=120)[0]
    assert p.returncode == 0, said


def comes_back(j):
    """Three times from epoch 2, whatever it changes between, and goes on."""
    for _ in range(2):
        assert "restored from epoch 2" in j.restore(), j.said.read_text()
        next_line(j)
        change(j)
        next_line(j)
        j.fsched("kill", j.state)
    assert "restored from epoch 2" in j.restore(), j.said.read_text()
    next_line(j)
    j.stop()


@pytest.fixture
def memory(pods):
    """A tmpfs: writes through mappings do not show in the times of its files."""
    d = pods.place("memory")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=1777", "memory", d], check=True)
    yield d
    subprocess.run(["umount", "-l", d], check=True)


def test_an_epoch_shares_what_has_not_changed_with_the_one_before(job):
    """Until one of them is removed, which takes nothing from the other."""
    j = job(conf="CRIU_MaxEpochs = 3\n", text=LARGE.replace("SIZE", "3"))
    j.checkpoint()
    change(j)       # all files but the first
    j.checkpoint()
    one, two = (sorted(j.state.glob(f"epochs/*{n}/files/*.data")) for n in (1, 2))
    assert len(one) == len(two) >= 8
    assert sum(f.stat().st_nlink == 2 for f in two) == 1 and sum(f.stat().st_nlink == 2 for f in one) == 1
    shutil.rmtree(one[0].parent.parent)
    j.checkpoint("--kill")
    assert "restored from epoch 3" in j.restore(), j.said.read_text()
    next_line(j)
    j.stop()


@pytest.mark.parametrize("pause", [0, 3])
def test_only_what_has_changed_is_read_in_the_freeze(job, memory, pause):
    """Changes between the copy and the freeze are in the epoch, whatever their kind."""
    j = job(text=LARGE.replace("SIZE", "3").replace('"here.mapped"]', f'"here.mapped", "{memory}/mapped"]'))
    time.sleep(pause)       # after it, files count as unchanged as long as their times are
    saves_what_changes(j)
    next_line(j)
    saves_what_changes(j, "--kill")
    assert not list(j.state.glob("epochs/*/files/early*"))
    assert list(j.state.glob("epochs/*2/files/tmp-*.data"))
    comes_back(j)
