"""A hostile user and the node: what he leaves, serves or floods holds up none of root's programs, nor another user's job."""
import os
import pwd
import subprocess
import sys

import pytest

import lib

WAIT = "echo ready; while [ ! -e go ]; do sleep 0.1; done; echo end"

# Mounts a FUSE file system as fusermount does for user UID, answers INIT, and then nothing any more. Says what it was asked.
SILENT = """
import ctypes, os, struct, sys
at, uid, log = sys.argv[1], int(sys.argv[2]), sys.argv[3]
libc = ctypes.CDLL(None, use_errno=True)
fd = os.open("/dev/fuse", os.O_RDWR)
options = f"fd={fd},rootmode=40000,user_id={uid},group_id={uid},allow_other,default_permissions"
if libc.mount(b"silent", at.encode(), b"fuse", 6, options.encode()):
    sys.exit(os.strerror(ctypes.get_errno()))
os.setgroups([])
os.setgid(uid)
os.setuid(uid)
said = open(log, "w")
while True:
    request = os.read(fd, 1 << 18)
    code, unique = struct.unpack_from("=IQ", request, 4)
    print(code, file=said, flush=True)
    if code == 26:
        os.write(fd, struct.pack("=IiQ", 80, 0, unique) + struct.pack("=IIIIHHIII", 7, 31, 0, 0, 0, 0, 4096, 1, 0) + bytes(32))
        print("mounted", flush=True)
"""


def submit(c, d, script, *args):
    job = c.sbatch(script, "--checkpoint=UNLIMITED", "-o", d / "out", *args, cwd=d)
    c.wait_running(job)
    lib.wait_for(lambda: (d / "out").exists() and "ready" in (d / "out").read_text(), "the job to be ready")
    return job


@pytest.fixture
def silent(cluster, base_dir, request):
    """A file system of another user's that the pods of the node see, and that does not answer."""
    if not os.path.exists("/dev/fuse"):
        pytest.skip("no FUSE here")
    d = base_dir / f"silent_{request.node.name}"
    d.mkdir()
    (d / "m").mkdir()
    log = d / "log"
    log.touch()
    log.chmod(0o666)
    argv, cwd = cluster.lab.enter([sys.executable, "-c", SILENT, str(d / "m"), str(pwd.getpwnam("nobody").pw_uid), str(log)])
    p = subprocess.Popen(argv, cwd=cwd, stdout=subprocess.PIPE, text=True)
    try:
        assert p.stdout.readline() == "mounted\n"
        yield d
    finally:
        argv, cwd = cluster.lab.enter(["umount", "-l", str(d / "m")])
        subprocess.run(argv, cwd=cwd, check=False)
        p.kill()
        p.wait()


def test_a_file_system_of_a_user_that_does_not_answer(cluster, jobdir, silent):
    """Neither an agent nor criu asks it anything: another user's job starts, is saved, and comes back."""
    d = jobdir()
    job = submit(cluster, d, f"grep -c {silent}/m /proc/self/mounts; {WAIT}")
    assert (d / "out").read_text().startswith("1\n"), "the pod does not see it"
    cluster.checkpoint("create", job)
    cluster.checkpoint("vacate", job)
    cluster.wait_state(job, "PENDING")
    cluster.checkpoint("restart", job)
    (d / "go").touch()
    assert cluster.wait_end(job) == ("COMPLETED", "0:0")
    assert (silent / "log").read_text().split() == ["26"]


def test_a_tree_that_takes_long_to_remove(cluster, jobdir):
    """A private /tmp with many directories, each in the one before: the step ends without waiting for its removal."""
    d = jobdir()
    job = submit(cluster, d, """exec /usr/bin/python3 -c '
import os, time
os.chdir("/tmp")
for i in range(10000):
    os.mkdir("d")
    os.chdir("d")
print("ready", flush=True)
time.sleep(1000)'""")
    cluster.run("scancel", job, user="root")
    assert cluster.wait_end(job, 15)[0] == "CANCELLED"
    pods = cluster.dir / "pod"
    lib.wait_for(lambda: not any(pods.glob(f"*{job}.*")), f"{pods} to be as it was", 300)


def test_a_flood_of_written_files(cluster, jobdir):
    """More files than the agent can look at: it sees to the lease and to requests all the same."""
    d = jobdir()
    job = submit(cluster, d, """exec /usr/bin/python3 -c '
import os
for k in range(3):
    if os.fork() == 0:
        break
for i in range(20000):
    os.close(os.open(f"f{k}_{i}", os.O_CREAT | os.O_WRONLY))
print("ready", flush=True)
while not os.path.exists("go"):
    for i in range(20000):
        os.close(os.open(f"f{k}_{i}", os.O_WRONLY))'""")
    for _ in range(20):
        assert "Yes" in cluster.checkpoint("able", job)
    assert cluster.job(job)["Restarts"] == "0", "its lease was lost"
    (d / "go").touch()
    assert cluster.wait_end(job) == ("COMPLETED", "0:0")
