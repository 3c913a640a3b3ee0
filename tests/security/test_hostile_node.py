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


def test_a_tmp_whose_blocks_are_scattered(cluster, jobdir):
    """One file of many small pieces, in the image too. A disk can take minutes to free them: the step ends without waiting for that."""
    d = jobdir()
    job = submit(cluster, d, """exec /usr/bin/python3 -c '
import os, time
fd = os.open("/tmp/f", os.O_RDWR | os.O_CREAT)
for i in range(0, 128 << 20, 8192):
    os.pwrite(fd, b"x" * 4096, i)
os.fsync(fd)
print("ready", flush=True)
time.sleep(1000)'""")
    cluster.run("scancel", job, user="root")
    assert cluster.wait_end(job, 15)[0] == "CANCELLED"
    pods = cluster.dir / "pod"
    lib.wait_for(lambda: not [*pods.glob(f"{job}.*"), *pods.glob(f".removed-{job}.*")], f"{pods} to be as it was", 300)


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


# As the job's user, but outside of the job: keeps a file of the job's private /tmp open.
KEEPER = """
import os, sys, time
os.open(f"/proc/{sys.argv[1]}/root/tmp/f", os.O_RDWR)
print("has it", flush=True)
time.sleep(1000)
"""


@pytest.fixture
def keep(cluster):
    """Keeps the /tmp of jobs in use after their end."""
    started = []

    def begin(job):
        user = pwd.getpwnam(lib.USER)
        leader = next(p for p in cluster.pod_pids(job) if lib.comm(p) == "fsched-leader")
        p = subprocess.Popen([sys.executable, "-c", KEEPER, str(leader)], user=user.pw_uid, group=user.pw_gid, extra_groups=[], cwd="/",
                             stdout=subprocess.PIPE, text=True)
        started.append(p)
        assert p.stdout.readline() == "has it\n"
        return p
    yield begin
    for p in started:
        p.kill()
        p.wait()
        p.stdout.close()


def test_a_tmp_that_somebody_keeps_in_use(cluster, jobdir, keep):
    """It takes no more space, and holds up the removal of no other pod."""
    pods = cluster.dir / "pod"

    def left(job):
        return [*pods.glob(f"{job}.*"), *pods.glob(f".removed-{job}.*")]

    def end(job):
        cluster.run("scancel", job, user="root")
        assert cluster.wait_end(job)[0] == "CANCELLED"
        lib.wait_for(lambda: all(p.name.startswith(".removed-") for p in left(job)), f"job {job} to be set aside")
        assert left(job), "nothing keeps it"
    jobs = [submit(cluster, jobdir(), "head -c 10M /dev/urandom > /tmp/f; sync /tmp/f; echo ready; exec sleep 1000") for _ in range(2)]
    keepers = [keep(job) for job in jobs]
    for job in jobs:
        end(job)
    keepers[1].kill()
    lib.wait_for(lambda: not left(jobs[1]), f"{left(jobs[1])} to be removed", 20)
    image, = (p / "tmp.img" for p in left(jobs[0]))
    lib.wait_for(lambda: image.stat().st_blocks == 0, f"{image} to be empty")
    keepers[0].kill()
    lib.wait_for(lambda: not left(jobs[0]), f"{left(jobs[0])} to be removed", 20)
