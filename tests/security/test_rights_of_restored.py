"""A restored job has the rights that it had before and no more: its objects were opened and made with its own rights."""
import glob
import json
import os
import pwd
import shutil
import subprocess

import pytest

import lib


def wait_for_text(path, word):
    lib.wait_for(lambda: path.exists() and word in path.read_text(), f"{word} in {path.name}: {path.read_text() if path.exists() else ''}")


def seen(d):
    return {line.split(" ", 1)[0]: json.loads(line.split(" ", 1)[1]) for line in (d / "out").read_text().splitlines()
            if line.startswith(("before {", "after {"))}


@pytest.fixture
def second_proc(base_dir):
    """A second mount of procfs, as in root's chroots and containers."""
    d = base_dir / "second_proc"
    d.mkdir()
    subprocess.run(["mount", "-t", "proc", "proc", d], check=True)
    yield d
    subprocess.run(["umount", "-l", d], check=True)


@pytest.fixture
def delegated():
    """A cgroup owned by the job's user: of version 2 if possible, else of a hierarchy without limits."""
    base = next((p for p in ("/sys/fs/cgroup", "/sys/fs/cgroup/unified", "/sys/fs/cgroup/pids", "/sys/fs/cgroup/freezer")
                 if os.path.exists(f"{p}/cgroup.procs")), None)
    if not base:
        pytest.skip("no cgroups here")
    d = f"{base}/fscheck-delegated.{os.getpid()}"
    os.mkdir(d)
    uid = pwd.getpwnam(lib.USER).pw_uid
    for f in (d, f"{d}/cgroup.procs"):
        os.chown(f, uid, -1)
    yield f"{d}/cgroup.procs"
    # what the job has left behind in there ends with it
    lib.wait_for(lambda: not open(f"{d}/cgroup.procs").read(), "the delegated cgroup to be empty")
    os.rmdir(d)


# For a job that counts what its user may have, and takes it all for a moment: no other test has jobs of this user.
ALONE = "games"


def restored(c, d, workloads, files):
    shutil.chown(d, ALONE)
    job = c.sbatch(f"exec python3 {workloads}/rights.py go {' '.join(map(str, files))}", "--checkpoint=UNLIMITED", "-o", "out", cwd=d, user=ALONE)
    c.wait_running(job)
    wait_for_text(d / "out", "ready")
    c.checkpoint("vacate", job, user=ALONE)
    c.wait_state(job, "PENDING")
    c.checkpoint("restart", job, user=ALONE)
    (d / "go").touch()
    assert c.wait_end(job) == ("COMPLETED", "0:0"), (d / "out").read_text()
    return seen(d)


def test_no_more_than_before(cluster, jobdir, workloads):
    """Compares what the job can learn from the kernel: ids, capabilities, owners of its objects, limits per user, refused calls."""
    names = ["/proc/kallsyms", "/proc/iomem", "/proc/ioports", "/proc/modules", *glob.glob("/sys/bus/pci/devices/*/config")[:1]]
    looks = restored(cluster, jobdir(), workloads, [n for n in names if os.path.exists(n)])
    uid = str(pwd.getpwnam(ALONE).pw_uid)
    before, after = looks["before"], looks["after"]
    assert after.pop("keyring") in (uid, "Function not implemented", "Operation not supported")
    before.pop("keyring")
    assert after == before
    assert after["status"]["CapPrm"] == ["0000000000000000"]
    assert set(map(tuple, after["peers"])) == {(int(uid), pwd.getpwnam(ALONE).pw_gid)}


def test_cgroup_file_moves_nobody(cluster, jobdir, workloads, delegated):
    """The kernel checks the rights of the process that opened the file."""
    d = jobdir()
    job = cluster.sbatch(f"exec python3 {workloads}/rights.py go {delegated}", "--checkpoint=UNLIMITED", "-o", "out", cwd=d)
    cluster.wait_running(job)
    wait_for_text(d / "out", "ready")
    # refused before the freeze, or restored without more rights
    if cluster.run("scontrol", "checkpoint", "vacate", job).returncode == 0:
        cluster.wait_state(job, "PENDING")
        cluster.checkpoint("restart", job)
    (d / "go").touch()
    assert cluster.wait_end(job) == ("COMPLETED", "0:0")
    looks = seen(d)
    assert looks["after"]["files"][delegated] == looks["before"]["files"][delegated] != "done"


def test_second_proc_shows_no_more(second_proc, new_cluster, jobdir, workloads):
    """The cluster is started after the mount, since it has mounts of its own and would not see a later one."""
    cluster, d = new_cluster(), jobdir()
    job = cluster.sbatch(f"exec python3 {workloads}/rights.py go {second_proc}/kallsyms {second_proc}/self/maps", "--checkpoint=UNLIMITED", "-o", "out", cwd=d)
    cluster.wait_running(job)
    wait_for_text(d / "out", "ready")
    if cluster.run("scontrol", "checkpoint", "vacate", job).returncode == 0:
        cluster.wait_state(job, "PENDING")
        if cluster.run("scontrol", "checkpoint", "restart", job).returncode:
            cluster.ok("scancel", job, user="root")
    (d / "go").touch()
    cluster.wait_end(job)
    looks = seen(d)
    if "after" in looks:
        assert looks["after"]["files"][f"{second_proc}/kallsyms"] == looks["before"]["files"][f"{second_proc}/kallsyms"]


def test_watch_of_a_directory_that_was_swapped(cluster, jobdir, base_dir):
    """criu restores a watch by name. It must not show names of files in a private directory of root."""
    c, d = cluster, jobdir()
    private = base_dir / "private"
    private.mkdir(mode=0o700)
    (d / "watcher.py").write_text("""
import ctypes, os, select, time
libc = ctypes.CDLL(None)
fd = libc.inotify_init()
os.mkdir("watched")
assert libc.inotify_add_watch(fd, b"watched", 0xfff) >= 0
print("ready", flush=True)
while not os.path.exists("go"):
    time.sleep(0.1)
while select.select([fd], [], [], 0)[0]:
    print(os.read(fd, 4096), flush=True)
""")
    job = c.sbatch(f"exec python3 {d}/watcher.py", "--checkpoint=UNLIMITED", "-o", "out", cwd=d)
    c.wait_running(job)
    wait_for_text(d / "out", "ready")
    c.checkpoint("vacate", job)
    c.wait_state(job, "PENDING")
    (d / "watched").rename(d / "mine")
    (d / "watched").symlink_to(private)
    said = c.fails("scontrol", "checkpoint", "restart", job)
    assert "ermission denied" in said or "may not" in said, said
    (private / "salary").touch()
    (d / "watched").unlink()
    (d / "mine").rename(d / "watched")
    c.wait_state(job, "PENDING")
    c.checkpoint("restart", job)
    (d / "go").touch()
    assert c.wait_end(job) == ("COMPLETED", "0:0")
    assert "salary" not in (d / "out").read_text()


def test_nobody_traces_a_task_that_is_being_restored(cluster, jobdir, base_dir):
    """While criu makes the job's processes, these belong to the job's user and have permitted capabilities. Another process of the user on the
    same node tries all the time to trace them, to read their memory and to open their descriptors."""
    c, d = cluster, jobdir()
    spy = base_dir / "spy.py"
    spy.write_text("""
import ctypes, os, sys
libc = ctypes.CDLL(None)
uid, own, got = os.getuid(), os.getpid(), set()
while not os.path.exists(sys.argv[1]):
    for p in os.listdir("/proc"):
        if not p.isdigit() or int(p) == own:
            continue
        try:
            status = open(f"/proc/{p}/status").read()
        except OSError:
            continue
        caps = [l.split()[1] for l in status.splitlines() if l.startswith("CapPrm")]
        if f"Uid:\\t{uid}" not in status or caps == ["0000000000000000"]:
            continue
        got.add("seen")
        for name in ("mem", "environ", "maps"):
            try:
                os.close(os.open(f"/proc/{p}/{name}", os.O_RDONLY))
                status = open(f"/proc/{p}/status").read()
                if f"CapPrm:\\t{caps[0]}" in status and "State:\\tZ" not in status:     # a zombie has no memory
                    got.add(name)
            except OSError:
                pass
        if libc.ptrace(0x4206, int(p), 0, 0) == 0:
            got.add("traced" if f"CapPrm:\\t{caps[0]}" in open(f"/proc/{p}/status").read() else "later")
print(*sorted(got - {"later"}))
""")
    job = c.sbatch("for i in {1..30}; do sleep 1000 & done; echo ready; while [ ! -e go ]; do sleep 0.1; done; kill $(jobs -p)", "--checkpoint=UNLIMITED", "-o", "out", cwd=d)
    c.wait_running(job)
    wait_for_text(d / "out", "ready")
    pw, found = pwd.getpwnam(lib.USER), set()
    for round_ in range(3):
        c.checkpoint("vacate", job)
        c.wait_state(job, "PENDING")
        p = subprocess.Popen([shutil.which("setpriv"), f"--reuid={pw.pw_uid}", f"--regid={pw.pw_gid}", "--init-groups", "/usr/bin/python3", spy,
                              d / f"stop{round_}"], stdout=subprocess.PIPE, text=True)
        try:
            c.checkpoint("restart", job)
        finally:
            (d / f"stop{round_}").touch()
            found |= set(p.communicate(timeout=lib.DEADLINE)[0].split())
    (d / "go").touch()
    assert c.wait_end(job) == ("COMPLETED", "0:0")
    assert found <= {"seen"}, found
