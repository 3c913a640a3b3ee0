"""fsched verify --restore: a real restore, apart from the node, that leaves the job, its files and the node as they are."""
import ctypes
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import leftovers
import lib
import pytest

from test_memory import Job
from test_pod import base, lines, pods  # noqa: F401  (fixtures)

# Appends to a log, rewrites a file in place, makes and renames files, has a child, and counts in memory and in /tmp.
PROGRAM = r"""
import os, socket, sys, time
held = open("held", "w+b", buffering=0); log = open("log", "a", buffering=1)
server = socket.socket(); server.bind(("127.0.0.1", 0)); server.listen()
client = socket.create_connection(server.getsockname()); peer = server.accept()[0]
if not os.fork():
    while True: time.sleep(0.05); os.getppid() == 1 and sys.exit()
n = 0; print("ready", flush=True)
while not os.path.exists("stop"):
    n += 1
    print(n, file=log); held.seek(0); held.write(b"%09d" % n)
    open("tmp", "w").write(str(n)); os.rename("tmp", "final-%d" % (n % 3)); open("/tmp/n", "w").write(str(n))
    client.send(b"x"); assert peer.recv(1) == b"x"
    if os.path.exists("die"): sys.exit(3)
    if os.path.exists("out-of-it"):
        try: socket.create_connection(("192.0.2.1", 6817), 5); said = "connected"
        except OSError as e: said = e.strerror
        open("said", "w").write(said)
    time.sleep(0.02)
"""

CHANGES = 0x2 | 0x4 | 0x8 | 0x40 | 0x80 | 0x100 | 0x200 | 0x400 | 0x800      # of inotify(7): all but opening and reading


@pytest.fixture
def job(pods, base):
    j = Job(pods, base, sys.executable, "-c", PROGRAM)
    lib.wait_for(lambda: lines(j.work / "log") > 5, "output")
    j.checkpoint()
    return j


def verify(base, job, *more, background=False):
    argv = [base / "stage/usr/bin/fsched", "verify", "--conf", base / "fsched.conf", "--restore", *map(str, more), "--json", job.state]
    if background:
        return subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, stdin=subprocess.DEVNULL)
    return subprocess.run(argv, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=120, check=False)


def said_of(p):
    o = json.loads(p.stdout)["epochs"][0]
    return o, o["proof"]["outcome"]


def proof(job):
    return json.loads((job.state / "proofs.json").read_text())["proofs"][-1]


def proof_processes(job):
    """Processes of the program that are not the job's."""
    own = set(lib.descendants(job.p.pid))
    return [p for p in leftovers.pids() if p not in own and (lib.program(p) or "") == os.path.realpath(sys.executable) and
            b"final-%d" in Path(f"/proc/{p}/cmdline").read_bytes()] if own else []


def left(base):
    """What a proof could leave on the node."""
    found = [str(d) for d in (base / "pod").glob("prove-*")] if (base / "pod").exists() else []
    found += [str(d) for h in Path("/sys/fs/cgroup").glob("*") for d in h.glob("prove-*")] + [str(d) for d in Path("/sys/fs/cgroup").glob("prove-*")]
    found += [line for line in subprocess.run(["losetup", "-a"], capture_output=True, text=True, check=True).stdout.splitlines()
              if f"{base}/pod/prove-" in line]
    found += [line for line in Path("/proc/mounts").read_text().splitlines() if line.startswith("apart ")]
    return found


def nothing_left(base, job):
    lib.wait_for(lambda: not left(base), "the end of the proof's directory")
    assert not proof_processes(job) and not (job.state / "epochs/prove.partial").exists()


def test_a_good_epoch_is_proved(job, base):
    before = lines(job.work / "log")
    p = verify(base, job)
    o, outcome = said_of(p)
    assert p.returncode == 0 and outcome == "proved" and o["epoch"] == 1 and o["intact"], p.stderr + p.stdout
    assert o["proof"]["processes"] == 2 and o["proof"]["ran_us"] == 0
    assert proof(job)["ok"] and proof(job)["epoch_time"] == job.record()["epochs"][0]["time"]
    nothing_left(base, job)
    # The epoch holds no file that does not belong to it, and the job computes on.
    subprocess.run([base / "stage/usr/bin/fsched", "verify", "--conf", base / "fsched.conf", job.state], check=True)
    lib.wait_for(lambda: lines(job.work / "log") > before + 5, "more output")
    job.stop()


def test_the_job_is_not_touched(job, base):
    """Its files are watched while it stands still; what it has changed since the epoch would be put back by a restore."""
    lib.wait_for(lambda: lines(job.work / "log") > 30, "changes after the epoch")
    script = [p for p in lib.descendants(job.p.pid) if b"final-%d" in Path(f"/proc/{p}/cmdline").read_bytes()]
    for p in script:
        os.kill(p, signal.SIGSTOP)
    libc = ctypes.CDLL(None, use_errno=True)
    fd = libc.inotify_init1(os.O_NONBLOCK)
    assert fd >= 0 and libc.inotify_add_watch(fd, os.fsencode(job.work), CHANGES) >= 0

    def look():
        return {f.name: f.read_bytes() for f in job.work.iterdir()}

    def times():
        return {f.name: (f.stat().st_mtime_ns, f.stat().st_ctime_ns, f.stat().st_atime_ns, f.stat().st_ino) for f in job.work.iterdir()}
    was = look()
    stamps = times()
    p = verify(base, job, "--run", 2)
    assert p.returncode == 0, p.stderr + p.stdout
    with pytest.raises(BlockingIOError):
        os.read(fd, 4096)
    os.close(fd)
    assert times() == stamps and look() == was
    for p in script:
        os.kill(p, signal.SIGCONT)
    n = lines(job.work / "log")
    lib.wait_for(lambda: lines(job.work / "log") > n, "the job")
    nothing_left(base, job)
    job.stop()


def test_the_proof_computes_and_cannot_get_out(job, base):
    """While it runs its files are seen through /proc. Its files go on from the epoch; those of the job do not."""
    lib.wait_for(lambda: lines(job.work / "log") > 40, "changes after the epoch")
    p = verify(base, job, "--run", 60, background=True)
    lib.wait_for(lambda: proof_processes(job) or p.poll() is not None, "the proof", 60)
    assert p.poll() is None, p.communicate()
    pid = min(proof_processes(job))
    seen = Path(f"/proc/{pid}/root{job.work}")
    first = lines(seen / "log")
    lib.wait_for(lambda: lines(seen / "log") > first + 10, "work of the restored job")
    assert (seen / "held").read_bytes() != (job.work / "held").read_bytes()
    text = (seen / "log").read_text().split()
    assert text[:30] == [str(n) for n in range(1, 31)], text        # continued from the epoch, not from the job's log
    assert os.stat(f"/proc/{pid}").st_uid != 0
    assert os.readlink(f"/proc/{pid}/ns/net") != os.readlink("/proc/self/ns/net")
    (seen / "out-of-it").touch()
    lib.wait_for((seen / "said").exists, "its answer")
    lib.wait_for(lambda: (seen / "said").read_text(), "its answer")
    assert (seen / "said").read_text() == "Connection refused"
    assert not (job.work / "said").exists() and not (job.work / "out-of-it").exists()
    p.send_signal(signal.SIGINT)
    out, err = p.communicate(timeout=60)
    assert p.returncode == 1 and "interrupted" in err, out + err
    nothing_left(base, job)
    assert not (job.state / "proofs.json").exists()
    job.stop()


def test_a_damaged_epoch_is_not_proved(job, base):
    chunks = next((job.state / "epochs/000001/memory").glob("chunks-*"))
    data = bytearray(chunks.read_bytes())
    data[len(data) // 2] ^= 0xff
    chunks.write_bytes(data)
    p = verify(base, job)
    o, outcome = said_of(p)
    assert p.returncode == 1 and outcome == "failed", p.stderr + p.stdout
    assert not proof(job)["ok"] and proof(job)["error"] == o["error"]
    assert (job.state / "full").exists()
    nothing_left(base, job)
    p = subprocess.run([base / "stage/usr/bin/fsched", "verify", "--conf", base / "fsched.conf", "--restore", job.state], capture_output=True, text=True,
                       check=False)
    assert p.returncode == 1 and "epoch 1: restore failed: " in p.stdout
    job.stop()


def test_a_file_without_its_copy(job, base):
    """Nothing but a restore shows it: another user's file is in the way."""
    (job.work / "log").rename(job.work / "log.old")
    (job.work / "log").mkdir()
    p = verify(base, job)
    assert p.returncode == 1 and said_of(p)[1] == "failed" and "log" in proof(job)["error"], p.stderr + p.stdout
    assert (job.work / "log").is_dir() and (job.work / "log.old").exists()
    nothing_left(base, job)
    job.stop()


def test_a_restored_job_that_fails(job, base):
    (job.work / "die").touch()        # the job itself ends, too
    job.p.wait(60)
    p = verify(base, job, "--run", 30)
    assert p.returncode == 1 and said_of(p)[1] == "failed" and "exit status 3" in proof(job)["error"], p.stderr + p.stdout
    nothing_left(base, job)


def test_bad_requests(job, base):
    fsched = [base / "stage/usr/bin/fsched", "verify", "--conf", base / "fsched.conf"]
    for argv, status, words in ((["--run", "5", job.state], 2, "--run needs --restore"), (["--restore", "--run", "0", job.state], 2, "no number of seconds"),
                                (["--restore", f"{job.state}:7"], 1, "cannot open")):
        p = subprocess.run([*fsched, *argv], capture_output=True, text=True, check=False)
        assert p.returncode == status and words in p.stderr, p.stderr
    # Two at a time would take twice the room.
    p = verify(base, job, "--run", 30, background=True)
    lib.wait_for(lambda: (base / "pod").exists() and list((base / "pod").glob("prove-*")), "the proof")
    q = verify(base, job)
    assert q.returncode == 1 and "another proof" in q.stderr, q.stderr
    p.send_signal(signal.SIGTERM)
    p.communicate(timeout=60)
    nothing_left(base, job)
    job.stop()
