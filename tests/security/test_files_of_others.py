"""A job writes to files of another user, in a directory of his. What he does to them meanwhile gives him nothing of the job's user, and the
restore of the job takes nothing from him."""
import os
import pwd
import stat
import struct
import tempfile
from pathlib import Path

import pytest

import lib

OTHER = pwd.getpwnam("nobody")
WAIT = "echo ready; while [ ! -e go ]; do sleep 0.1; done; echo end"


def submit(c, d, script):
    job = c.sbatch(script, "--checkpoint=UNLIMITED", "-o", d / "out", cwd=d)
    c.wait_running(job)
    lib.wait_for(lambda: (d / "out").exists() and "ready" in (d / "out").read_text(), "the job to be ready")
    return job


def vacate(c, job):
    c.checkpoint("vacate", job)
    c.wait_state(job, "PENDING")


def restart(c, d, job):
    c.checkpoint("restart", job)
    (d / "go").touch()
    assert c.wait_end(job) == ("COMPLETED", "0:0")


@pytest.fixture
def theirs(base_dir):
    """theirs(NAME, TEXT, MODE): a file of the other user, in a directory of his in which everybody may make files."""
    d = Path(tempfile.mkdtemp(prefix="theirs.", dir=base_dir))
    d.chmod(0o777)
    os.chown(d, OTHER.pw_uid, OTHER.pw_gid)

    def make(name, text, mode):
        f = d / name
        f.write_text(text)
        os.chown(f, OTHER.pw_uid, OTHER.pw_gid)
        f.chmod(mode)
        return f
    return make


@pytest.mark.parametrize("written", ["inplace", "closed"])
def test_a_program_in_place_of_a_log(cluster, jobdir, theirs, written):
    """A restore makes the file again, as one of the job's user, with the content and the mode that the other user gave it. As a set-user-ID
    program it would give him all rights of the job's user."""
    d, log = jobdir(), theirs("log", "#!/bin/sh\n", 0o666)
    job = submit(cluster, d, f"{'exec 5<>' if written == 'inplace' else 'echo x >>'}{log}; {WAIT}")
    log.chmod(0o6777)       # a write has removed the bits; the other user sets them when he likes
    vacate(cluster, job)
    log.unlink()
    if written == "inplace":
        said = cluster.fails("scontrol", "checkpoint", "restart", job)
        assert "set-user-ID" in said and not log.exists(), said
        return
    restart(cluster, d, job)
    made = log.stat()
    assert made.st_uid == pwd.getpwnam(lib.USER).pw_uid
    assert not made.st_mode & (stat.S_ISUID | stat.S_ISGID), f"{log} has mode {made.st_mode:o}"
    assert "set-user-ID" in cluster.log(job), cluster.log(job)


def test_what_others_append_stays(cluster, jobdir, theirs):
    """A log of another user's that several append to. The job's own file is set back."""
    d = jobdir()
    logs = [theirs(n, "theirs\n", 0o666) for n in ("open", "closed")]
    job = submit(cluster, d, f"exec 5>>{logs[0]} 6>>own; for f in 5 6; do echo job >&$f; done; echo job >>{logs[1]}; {WAIT}")
    vacate(cluster, job)
    for f in [*logs, d / "own"]:
        with f.open("a") as a:
            a.write("more\n")
    restart(cluster, d, job)
    assert (d / "own").read_text() == "job\n"
    for f in logs:
        assert f.read_text() == "theirs\njob\nmore\n"
        assert f"{f}\" belongs to uid {OTHER.pw_uid} and has grown" in cluster.log(job), cluster.log(job)


def test_what_others_change_is_not_undone_silently(cluster, jobdir, theirs):
    d, table = jobdir(), theirs("table", "theirs\n", 0o666)
    job = submit(cluster, d, f"exec 5<>{table}; {WAIT}")
    vacate(cluster, job)
    table.write_text("change\n")
    restart(cluster, d, job)
    assert table.read_text() == "theirs\n"
    assert f"{table}\" belongs to uid {OTHER.pw_uid}: what was written to it" in cluster.log(job), cluster.log(job)


@pytest.fixture
def swapped(base_dir, jobdir):
    """(D, swap): a directory of the job's user in one of the other user's, and a function by which he puts a link to another directory of the
    job's user there."""
    d = Path(tempfile.mkdtemp(prefix="above.", dir=base_dir))
    d.chmod(0o755)
    os.chown(d, OTHER.pw_uid, OTHER.pw_gid)
    user = pwd.getpwnam(lib.USER)
    (d / "shared").mkdir()
    os.chown(d / "shared", user.pw_uid, user.pw_gid)

    def swap(to):
        (d / "shared").rename(d / "away")
        (d / "shared").symlink_to(to)
        os.chown(d / "shared", OTHER.pw_uid, OTHER.pw_gid, follow_symlinks=False)
    return d / "shared", swap


def own(f, text):
    f.write_text(text)
    os.chown(f, *(lambda p: (p.pw_uid, p.pw_gid))(pwd.getpwnam(lib.USER)))


@pytest.mark.parametrize("there", ["another", "none"])
def test_a_restore_does_not_follow_a_link_of_another_user(cluster, jobdir, swapped, there):
    d, private, (shared, swap) = jobdir(), jobdir("private"), swapped
    job = submit(cluster, d, f"echo job >{shared}/log; {WAIT}")
    vacate(cluster, job)
    if there == "another":
        own(private / "log", "precious\n")
    swap(private)
    said = cluster.fails("scontrol", "checkpoint", "restart", job)
    assert "a symbolic link of another user" in said, said
    assert {f.name: f.read_text() for f in private.iterdir()} == ({"log": "precious\n"} if there == "another" else {})


def test_links_of_root_and_of_the_user_are_followed(cluster, jobdir):
    d, other = jobdir(), jobdir("other")
    (d / "a").mkdir(mode=0o777)
    (d / "a").chmod(0o777)
    job = submit(cluster, d, f"echo job >{d}/a/log; {WAIT}")
    vacate(cluster, job)
    (d / "a").rename(other / "b")
    (d / "a").symlink_to("link")                            # root's
    (d / "link").symlink_to(other / "x" / ".." / "b")       # the user's
    (other / "x").mkdir()
    os.chown(d / "link", pwd.getpwnam(lib.USER).pw_uid, -1, follow_symlinks=False)
    (other / "b" / "log").unlink()
    restart(cluster, d, job)
    assert (other / "b" / "log").read_text() == "job\n"


def test_nothing_is_removed_behind_a_link_of_another_user(new_cluster, jobdir, swapped):
    """A file that the job has written first after the epoch is removed, but not a file of that name elsewhere."""
    c = new_cluster(["CRIU_MaxEpochs=2"])
    d, private, (shared, swap) = jobdir(), jobdir("private"), swapped
    job = submit(c, d, f"echo ready; until [ -e more ]; do sleep 0.1; done; echo job >{shared}/new; touch written; {WAIT}")
    c.checkpoint("create", job)
    (d / "more").touch()
    lib.wait_for((d / "written").exists, "the job to write")
    vacate(c, job)
    own(private / "new", "precious\n")
    swap(private)
    (d / "more").unlink()
    c.checkpoint("restart", job, "--epoch", 1)
    assert (private / "new").read_text() == "precious\n"
    assert "a symbolic link of another user" in c.log(job), c.log(job)


def test_an_epoch_holds_nothing_from_behind_a_link_of_another_user(cluster, jobdir, swapped):
    """A restore would put it where he reads it."""
    d, private, (shared, swap) = jobdir(), jobdir("private"), swapped
    job = submit(cluster, d, f"echo job >{shared}/log; {WAIT}")
    written = cluster.ckpt_dir(job) / "written"
    lib.wait_for(lambda: f"{shared}/log".encode() in written.read_bytes(), "the file to be in the list")
    own(private / "log", "precious\n")
    swap(private)
    cluster.checkpoint("create", job)
    copies = [f.read_bytes() for f in (cluster.ckpt_dir(job) / "epochs" / "000001" / "files").iterdir()]
    assert b"precious\n" not in copies
    assert f"{shared}/log\" was written by the job and cannot be read (a symbolic link of another user" in cluster.log(job), cluster.log(job)


def shared_acl():
    """rw for the owner and for the other user, nothing for the group: the mode shows rw for the group, which is the mask."""
    entries = [(1, 6, 0xffffffff), (2, 6, OTHER.pw_uid), (4, 0, 0xffffffff), (16, 6, 0xffffffff), (32, 0, 0xffffffff)]
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *e) for e in entries)


@pytest.mark.parametrize("kind", ["group", "acl"])
def test_a_file_made_again_is_open_to_no_other_group(cluster, jobdir, kind):
    """In a directory with set-group-ID a new file belongs to the group of the directory, and it has no ACL."""
    d, user = jobdir(), pwd.getpwnam(lib.USER)
    (d / "team").mkdir()
    os.chown(d / "team", user.pw_uid, OTHER.pw_gid)
    (d / "team").chmod(0o2770)
    f = d / "team" / "f"
    job = submit(cluster, d, f"echo mine >{f}; chgrp {user.pw_gid} {f}; chmod 660 {f}; {WAIT}")
    assert f.stat().st_gid == user.pw_gid
    if kind == "acl":
        os.chown(f, -1, OTHER.pw_gid)
        os.setxattr(f, "system.posix_acl_access", shared_acl())
    vacate(cluster, job)
    f.unlink()
    restart(cluster, d, job)
    made = f.stat()
    assert f.read_text() == "mine\n"
    if kind == "group":
        assert (made.st_gid, made.st_mode & 0o777) == (user.pw_gid, 0o660)
    else:
        assert not made.st_mode & 0o070, f"{f} has mode {made.st_mode:o}"
        assert "its group no more rights than everybody" in cluster.log(job), cluster.log(job)


def test_a_line_for_the_user(cluster, jobdir, theirs):
    """The line that says that checkpoints fail goes to the job's stderr, not to a file of the job's user that the owner of the directory
    puts in its place."""
    d, theirs_err = jobdir(), theirs("err", "", 0o666)
    place, moved, mine = theirs_err.parent, theirs_err.parent.with_suffix(".moved"), jobdir()
    (mine / "err").write_text("mine\n")
    os.chown(mine / "err", pwd.getpwnam(lib.USER).pw_uid, -1)
    job = cluster.sbatch("until [ -e go ]; do sleep 0.1; done; exec 3</proc/self/mem; until [ -e end ]; do sleep 0.1; done",
                         "--checkpoint=0:02", "--open-mode=append", "-o", d / "out", "-e", theirs_err, cwd=d)
    cluster.wait_entry(job, lambda e: e["epoch"] != "0", "the first epoch")
    place.rename(moved)
    place.symlink_to(mine)
    os.lchown(place, OTHER.pw_uid, OTHER.pw_gid)
    (d / "go").touch()
    cluster.wait_entry(job, lambda e: int(e.get("failed", 0)) >= 4, "failures of which the user is told")
    (d / "end").touch()
    assert cluster.wait_end(job) == ("COMPLETED", "0:0")
    assert (mine / "err").read_text() == "mine\n"
