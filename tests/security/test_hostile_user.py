"""A hostile user replaces his files between a checkpoint and a restart. Files of root and of other users stay unread and unchanged.
docs/security.md lists the promises."""
import os
import pwd
import re
import shutil
import socket
import stat
import struct
import tempfile
import time
from pathlib import Path

import pytest

import lib

# Opens DIR/secret for reading, listens on DIR/socket, holds a deleted DIR/ghost, and says what it reads when told to go on.
HOLDER = """
import os, socket, sys, time
d, size, mode = sys.argv[1], int(sys.argv[2]), int(sys.argv[3], 8)
os.makedirs(d)
with open(d + "/secret", "wb") as f:
    f.write(b"x" * size)
os.chmod(d + "/secret", mode)
f = open(d + "/secret", "rb", buffering=0)
g = open(d + "/ghost", "w+")
g.write("ghost")
g.flush()
os.unlink(d + "/ghost")
s = socket.socket(socket.AF_UNIX)
s.bind(d + "/socket")
s.listen(1)
print("ready", flush=True)
while not os.path.exists("go"):
    time.sleep(0.1)
f.seek(0)
g.seek(0)
print(f.read()[:9].decode(), g.read(), flush=True)
"""
WAIT = "echo ready; while [ ! -e go ]; do sleep 0.1; done; echo end"


def submit(c, d, script, *args, **kw):
    job = c.sbatch(script, "--checkpoint=UNLIMITED", "-o", "out", *args, cwd=d, **kw)
    c.wait_running(job)
    lib.wait_for(lambda: (d / "out").exists() and "ready" in (d / "out").read_text(), "the job to be ready")
    return job


def vacate(c, job):
    c.checkpoint("vacate", job)
    c.wait_state(job, "PENDING")


def finish(c, d, job):
    (d / "go").touch()
    assert c.wait_end(job) == ("COMPLETED", "0:0")
    return (d / "out").read_text()


@pytest.fixture
def roots(base_dir, request):
    """A directory of root with a private file and a socket."""
    d = base_dir / f"roots_{request.node.name}"
    d.mkdir(mode=0o755)
    (d / "secret").write_text("forbidden" * 20)
    (d / "secret").chmod(0o600)
    (d / "public").write_text("as it was\n")
    with socket.socket(socket.AF_UNIX) as s:
        s.bind(str(d / "socket"))
    return d


def look(d):
    """The state of everything below the directory that an attack could change."""
    def one(p):
        st = p.lstat()
        return (st.st_ino, st.st_uid, st.st_gid, st.st_mode, st.st_size, st.st_mtime_ns)
    return {str(p): one(p) for p in [d, *sorted(d.rglob("*"))]}


@pytest.mark.parametrize("to_user", [False, True])
def test_directory_swapped_for_a_link(cluster, jobdir, roots, to_user):
    """criu finds files by name: it would read root's file, replace root's socket, and create a file in root's directory."""
    c, d = cluster, jobdir()
    if to_user:
        nobody = pwd.getpwnam("nobody")
        for p in [roots, *roots.iterdir()]:
            os.chown(p, nobody.pw_uid, nobody.pw_gid)
        roots.chmod(0o711)
    holder = d / "holder.py"
    holder.write_text(HOLDER)
    job = submit(c, d, f"exec python3 {holder} {d}/dir 180 600")
    vacate(c, job)
    before = look(roots)
    (d / "dir").rename(d / "mine")
    (d / "dir").symlink_to(roots)
    said = c.fails("scontrol", "checkpoint", "restart", job)
    assert "could not be restored" in said, said
    assert look(roots) == before
    (d / "dir").unlink()
    (d / "mine").rename(d / "dir")
    c.wait_state(job, "PENDING")
    c.checkpoint("restart", job)
    out = finish(c, d, job)
    assert "xxxxxxxxx ghost" in out and "forbidden" not in out, out
    assert look(roots) == before


@pytest.mark.parametrize("kind", ["file", "private"])
def test_output_swapped_for_a_link(cluster, jobdir, roots, kind):
    """Files of the job are rolled back with the user's rights, and only the recorded file."""
    c, d = cluster, jobdir()
    (d / "data").write_text("0123456789")
    os.chown(d / "data", *(lambda p: (p.pw_uid, p.pw_gid))(pwd.getpwnam(lib.USER)))
    job = submit(c, d, f"exec 5<> data; {WAIT}")
    vacate(c, job)
    before = look(roots)
    (d / "data").rename(d / "mine")
    (d / "data").symlink_to(roots / ("public" if kind == "file" else "secret"))
    said = c.fails("scontrol", "checkpoint", "restart", job)
    assert "data" in said and "symbolic link" in said, said
    assert look(roots) == before
    (d / "data").unlink()
    (d / "mine").rename(d / "data")
    c.wait_state(job, "PENDING")
    c.checkpoint("restart", job)
    assert "end" in finish(c, d, job)


def test_fifo_in_place_of_a_file(cluster, jobdir):
    c, d = cluster, jobdir()
    (d / "input").write_text("x")
    job = submit(c, d, f"exec 5>> log 6< input; {WAIT}")
    vacate(c, job)
    for name in ("log", "input"):
        (d / name).rename(d / "mine")
        os.mkfifo(d / name, 0o666)
        began = time.monotonic()
        c.fails("scontrol", "checkpoint", "restart", job)
        assert time.monotonic() - began < 45
        (d / name).unlink()
        (d / "mine").rename(d / name)
        c.wait_state(job, "PENDING")
    c.checkpoint("restart", job)
    assert "end" in finish(c, d, job)


# What its user could not open again by name, the job keeps: a library that an upgrade replaced, a log that is read-only by now, a
# working directory that may be entered but not read.
KEEPER = """
import mmap, os, sys, time
system, home = sys.argv[1], os.getcwd()
with open(system + "/library", "rb") as f:
    m = mmap.mmap(f.fileno(), 0, mmap.MAP_PRIVATE, mmap.PROT_READ)
log = open("log", "a")
os.chmod("log", 0o444)
os.chdir(system + "/unreadable")
print("ready", flush=True)
while not os.path.exists(home + "/go"):
    time.sleep(0.1)
log.write("end\\n")
log.close()
print(m[:3].decode(), os.getcwd(), flush=True)
"""


def test_files_that_could_not_be_opened_again(cluster, jobdir):
    c, d = cluster, jobdir()
    system = Path(tempfile.mkdtemp(prefix="fscheck.", dir="/opt"))
    try:
        system.chmod(0o755)
        (system / "library").write_text("old" * 5000)
        (system / "unreadable").mkdir()
        (system / "unreadable").chmod(0o711)
        (d / "keeper.py").write_text(KEEPER)
        job = submit(c, d, f"exec python3 {d}/keeper.py {system}")
        (system / "upgrade").write_text("new" * 5000)
        (system / "upgrade").rename(system / "library")
        vacate(c, job)
        c.checkpoint("restart", job)
        out = finish(c, d, job)
        assert f"old {system}/unreadable" in out, out
        assert (d / "log").read_text() == "end\n"
        assert sorted(p.name for p in system.iterdir()) == ["library", "unreadable"]
        assert (system / "library").read_text().startswith("new")
    finally:
        shutil.rmtree(system)


def test_deleted_files_count(new_cluster, jobdir):
    """Deleted files are saved whole, and CheckpointFileLimit applies to their sum."""
    c, d = new_cluster(conf=["CheckpointFileLimit = 8M"]), jobdir()
    job = submit(c, d, f"for fd in 5 6 7; do eval \"exec $fd<> big\"; head -c 4M /dev/urandom >&$fd; rm big; done; {WAIT}")
    said = c.fails("scontrol", "checkpoint", "vacate", job)
    assert "deleted files" in said and "CheckpointFileLimit" in said, said
    assert c.epochs(job) == []
    assert "end" in finish(c, d, job)


def test_peer_of_a_restored_socket(cluster, jobdir):
    """The peer credentials that the kernel reports for a listening socket and for a socketpair."""
    c, d = cluster, jobdir()
    (d / "server.py").write_text("""
import os, socket, struct, time
s = socket.socket(socket.AF_UNIX)
s.bind("socket")
s.listen(1)
a, b = socket.socketpair()
print("ready", flush=True)
while not os.path.exists("go"):
    time.sleep(0.1)
print("pair", struct.unpack("3i", a.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[1:], flush=True)
""")
    job = submit(c, d, f"exec python3 {d}/server.py")
    vacate(c, job)
    c.checkpoint("restart", job)
    pw = pwd.getpwnam(lib.USER)
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(str(d / "socket"))
        assert struct.unpack("3i", s.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[1:] == (pw.pw_uid, pw.pw_gid)
    assert f"pair ({pw.pw_uid}, {pw.pw_gid})" in finish(c, d, job)


def test_links_in_private_trees(cluster, jobdir, roots):
    """Root unpacks /tmp and /dev/shm: links are restored as links, and nothing is written through them."""
    c, d = cluster, jobdir()
    job = submit(c, d, f"""
for t in /tmp /dev/shm; do
	mkdir $t/real; echo data > $t/real/public; ln -s {roots} $t/link; ln -s {roots}/secret $t/secret
	mkfifo $t/fifo; echo odd > $t/$'new\\nline'; cp /bin/true $t/tool; chmod 4755 $t/tool
done
{WAIT}
for t in /tmp /dev/shm; do
	cat $t/real/public; readlink $t/link; cat $t/secret 2>&1 | grep -o forbidden; [ -p $t/fifo ] && echo fifo; stat -c %u $t/tool
done""")
    vacate(c, job)
    before = look(roots)
    c.checkpoint("restart", job)
    out = finish(c, d, job)
    uid = pwd.getpwnam(lib.USER).pw_uid
    assert out.splitlines()[-8:] == [w for _ in range(2) for w in ("data", str(roots), "fifo", str(uid))], out
    assert look(roots) == before


def test_file_that_may_only_be_written(cluster, jobdir, base_dir):
    """Root reads the files that it saves. A copy of a file that the user may not read must not be given to him."""
    c, d = cluster, jobdir()
    box = base_dir / "box"
    box.write_text("somebody's words, not to be read\n")
    box.chmod(0o622)
    inplace = submit(c, d, f"exec 5<> /dev/null 6> /dev/null 7>> {box}; python3 -c 'import os, time; "
                           f"f = os.open(\"{box}\", os.O_WRONLY); os.set_inheritable(f, True); os.execvp(\"bash\", [\"bash\", \"-c\", \"{WAIT}\"])'")
    # what changes it in place could not be restored without a copy
    for op in ("create", "vacate"):
        said = c.fails("scontrol", "checkpoint", op, inplace)
        assert "box" in said and "cannot be saved" in said, said
    assert "end" in finish(c, d, inplace)
    d = jobdir()
    job = submit(c, d, f"exec 7>> {box}; {WAIT}")
    vacate(c, job)
    for p in (c.ckpt_dir(job) / "epochs").rglob("*"):
        assert not p.is_file() or b"somebody's words" not in p.read_bytes(), p
    c.checkpoint("restart", job)
    assert "end" in finish(c, d, job)


def test_set_user_id_program(cluster, jobdir, base_dir):
    c, d = cluster, jobdir()
    tool = base_dir / "tool"
    tool.write_bytes(Path("/bin/sleep").read_bytes())
    tool.chmod(0o4755)
    job = submit(c, d, f"{tool} 1000 & {WAIT}; kill %1 || true")
    lib.wait_for(lambda: any(Path(f"/proc/{p}").stat().st_uid == 0 for p in c.pod_pids(job) if lib.comm(p) == "tool"), "the program")
    said = c.fails("scontrol", "checkpoint", "vacate", job)
    assert "another user" in said, said
    assert c.state(job) == "RUNNING"
    c.ok("scancel", job, user="root")
    c.wait_end(job)


# Says which of the paths on standard input it can open for reading; directories that can be listed count.
READER = """
import os, sys
for path in sys.stdin.read().split("\\0"):
    try:
        os.close(os.open(path, os.O_RDONLY))
        print(path)
    except PermissionError:
        pass
"""


def readable(c, base, *prefix, user="root"):
    """What a user (of lib.Cluster.run, or as whom prefix runs a command) can open of a job's directory, as paths below it."""
    paths = [base, *base.rglob("*")]
    out = c.ok(*prefix, "python3", "-c", READER, stdin="\0".join(map(str, paths)), user=user)
    return {str(Path(line).relative_to(base)) for line in out.splitlines()}


def mate():
    """The start of a command that runs it as another user with the same primary group and no other."""
    pw = pwd.getpwnam(lib.USER)
    uid = next(u for u in range(61000, 62000) if u not in {p.pw_uid for p in pwd.getpwall()})
    return ["setpriv", f"--reuid={uid}", f"--regid={pw.pw_gid}", "--clear-groups", "--"]


# copies that root makes for the owner, and a program that everybody can read where it is installed
OWNERS = {"owner/job.json", "owner/checkpoint.log", "owner/history.json", "leader"}


def test_what_the_user_may_see_and_change(cluster, jobdir):
    c, d = cluster, jobdir()
    job = submit(c, d, WAIT)
    c.checkpoint("create", job)
    base = c.ckpt_dir(job)
    copies = base / "owner"
    assert readable(c, base, user=lib.USER) == OWNERS
    assert (copies / "job.json").read_text() == (base / "job.json").read_text()
    assert (copies / "checkpoint.log").read_text() == (base / "checkpoint.log").read_text()
    for argv in (["touch", base / "new"], ["touch", copies / "new"], ["rm", "-f", base / "job.json"], ["rm", "-f", copies / "job.json"],
                 ["mv", base / "epochs", base / "e"], ["ln", "-s", "/", base.parent / "99"]):
        assert c.run(*argv).returncode, argv
    for p in [base, *base.rglob("*")]:
        root = p.parent != copies
        assert (p.lstat().st_uid == 0) == root and not p.lstat().st_mode & 0o022 and not stat.S_ISLNK(p.lstat().st_mode), p
    # what he makes of his copies is seen by him alone, and until the next checkpoint
    for name in ("job.json", "checkpoint.log"):
        c.ok("chmod", "600", copies / name)
        c.ok("truncate", "-s", "0", copies / name)
    assert "job.json is damaged" in c.ok("fsched", "show", job)
    assert c.record(job)["job_id"] == job and "epoch 1" in c.log(job)
    c.checkpoint("create", job)
    assert (copies / "job.json").read_text() == (base / "job.json").read_text()
    assert (copies / "checkpoint.log").read_text() == (base / "checkpoint.log").read_text()
    assert readable(c, base, user=lib.USER) == OWNERS
    assert "end" in finish(c, d, job)


def test_others_of_the_same_group(cluster, jobdir):
    """On many sites all users have the same primary group."""
    c, d = cluster, jobdir()
    job = submit(c, d, WAIT)
    other = mate()
    c.checkpoint("create", job)
    base = c.ckpt_dir(job)
    (base / "leader").read_bytes()
    assert readable(c, base, *other) == {"leader"}
    said = c.ok(*other, "fsched", "show", job, user="root")
    assert "only root and the job's owner may read" in said and "User:" not in said, said
    p = c.run(*other, "fsched", "list", user="root")
    assert p.returncode == 0 and str(job) not in p.stdout.split() and "cannot be read by you" in p.stderr, p
    vacate(c, job)
    c.checkpoint("restart", job)
    assert "end" in finish(c, d, job)
    assert readable(c, base, *other) == {"leader"}
    # all that the owner needs
    rows = c.ok("fsched", "list", job).splitlines()
    assert [r.split()[-1] for r in rows] == ["REASON", "vacate"], rows
    assert re.search(rf"^ *{job} +{lib.USER} +done ", c.ok("fsched", "list"), re.M)
    shown = c.ok("fsched", "show", job)
    assert re.search(rf"^User: +{lib.USER}$", shown, re.M), shown
    log = re.search(r"^Log: +(.*)$", shown, re.M).group(1)
    assert c.ok("cat", log) == c.log(job)
    assert "only root may read" in c.ok("fsched", "show", job, 2)
    assert "Checkpoint={" in c.ok("scontrol", "show", "job", job)
    c.ok("fsched", "prune", "--all", "--force", job, user="root")
    assert not base.exists()


def test_directory_of_an_older_version(cluster, jobdir):
    """Once, the job's group could read a job's directory. It can until the job starts again; doctor tells of those that do not."""
    c, d = cluster, jobdir()
    job = submit(c, d, WAIT)
    other, gid = mate(), pwd.getpwnam(lib.USER).pw_gid
    vacate(c, job)
    base = c.ckpt_dir(job)
    shutil.rmtree(base / "owner")
    for p, mode in ((base, 0o750), (base / "job.json", 0o640), (base / "checkpoint.log", 0o640)):
        os.chown(p, 0, gid)
        p.chmod(mode)
    assert readable(c, base, *other) >= {"job.json", "checkpoint.log"}
    assert "vacate" in c.ok("fsched", "list", job)
    assert re.search(r"^Log: +" + str(base / "checkpoint.log"), c.ok("fsched", "show", job), re.M)
    said = c.run("fsched", "doctor", user="root").stdout
    assert re.search(rf"warning +readers - .*older version.*{base}.* find {base.parent}", said), said
    c.checkpoint("restart", job)
    c.wait_running(job)
    assert readable(c, base, *other) == {"leader"}
    assert readable(c, base, user=lib.USER) == OWNERS
    assert (base / "owner/checkpoint.log").read_text() == c.log(job)
    assert not re.search(rf"older version.*{base}", c.run("fsched", "doctor", user="root").stdout)
    assert "end" in finish(c, d, job)


def environment(pid):
    return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")


def test_nothing_of_the_user_in_root_processes(cluster, jobdir):
    """No variable of the user (LD_PRELOAD) is in a process of root, and none of root in the job."""
    c, d = cluster, jobdir()
    job = submit(c, d, "echo ready; while [ ! -e go ]; do sleep 0.1; done; ls -l /proc/self/fd | grep -v /proc/ > fds; grep -E '^(Cap|NoNew|Uid|Gid|Groups)' /proc/self/status > status2",
                 "--export=ALL,LD_LIBRARY_PATH=/nonexistent,HOSTILE=1,SLURM_CONF2=/x", env={"HOSTILE": "1"})
    agent = c.agent_pid(job)
    roots = [agent] + [p for p in lib.descendants(agent) if lib.comm(p).startswith("fsched")]
    assert len(roots) >= 3
    for pid in roots:
        assert not [v for v in environment(pid) if v.startswith((b"HOSTILE", b"LD_", b"SLURM_JOB", b"SLURM_SPANK"))], lib.comm(pid)
        assert lib.comm(pid) == "fsched-leader" or Path(f"/proc/{pid}").stat().st_uid == 0
    before = [line for p in c.pod_pids(job) if lib.comm(p) == "sleep" or True
              for line in Path(f"/proc/{p}/status").read_text().splitlines() if line.startswith(("Cap", "NoNew", "Uid", "Gid", "Groups"))][:9]
    vacate(c, job)
    c.checkpoint("restart", job)
    (d / "go").touch()
    assert c.wait_end(job) == ("COMPLETED", "0:0")
    assert (d / "status2").read_text().split() == "\n".join(before).split()
    assert "CapEff:\t0000000000000000" in (d / "status2").read_text()
    names = [line.split()[-1] for line in (d / "fds").read_text().splitlines()[1:]]
    assert all(n.startswith(str(d)) or n in ("/dev/null",) or n.startswith("pipe:") or "slurm_script" in n for n in names), names


def test_forged_uuid(cluster, jobdir):
    """The uuid decides whose epochs a job finds. It comes from the controller, never from the user."""
    c, d, e = cluster, jobdir("victim"), jobdir("thief")
    victim = submit(c, d, WAIT)
    uuid = c.entry(victim)["uuid"]
    forged = {"SLURM_SPANK_SLURM_SPANK_OPTION_fsched_checkpoint": f"UNLIMITED/{uuid}/a",
              "SLURM_SPANK__SLURM_SPANK_OPTION_fsched_checkpoint": f"UNLIMITED/{uuid}/a"}
    # sbatch itself looks at the second one
    assert uuid in c.run("sbatch", "-o", "out", d / "job.sh", cwd=e, env=forged).stderr
    script = e / "forged.sh"
    script.write_text("#!/bin/bash\n" + WAIT)
    p = c.run("sbatch", "-o", "out", script, cwd=e, env={"SLURM_SPANK_SLURM_SPANK_OPTION_fsched_checkpoint": f"UNLIMITED/{uuid}/a"})
    if p.returncode == 0:
        thief = int(p.stdout.split()[-1])
        c.wait_state(thief, "RUNNING")
        assert c.entry(thief).get("uuid") != uuid
        finish(c, e, thief)
    finish(c, d, victim)


def test_garbage_at_the_agents_port(cluster, jobdir):
    c, d = cluster, jobdir()
    job = submit(c, d, WAIT)
    port = int(c.entry(job)["agent"])
    held = []
    for i in range(40):
        s = socket.create_connection(("127.0.0.1", port), timeout=5)
        if i % 4 == 1:
            s.sendall(os.urandom(20000) + b"\n")
        elif i % 4 == 2:
            s.sendall(b"MUNGE:" + b"A" * 200 + b":\n")
        elif i % 4 == 3:
            s.sendall(b"A" * 100000 if i % 8 == 3 else b"\0\n")
        held.append(s)
    began = time.monotonic()
    lib.wait_for(lambda: "saved" in c.run("scontrol", "checkpoint", "create", job).stdout, "a request between the garbage", 40)
    assert time.monotonic() - began < 40
    for s in held:
        s.close()
    said = c.fails("scontrol", "checkpoint", "vacate", job, user="nobody")
    assert "denied" in said or "only the owner" in said, said
    assert "end" in finish(c, d, job)
