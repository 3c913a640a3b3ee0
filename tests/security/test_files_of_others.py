"""A job writes to files of another user, in a directory of his. What he does to them meanwhile gives him nothing of the job's user, and the
restore of the job takes nothing from him."""
import os
import pwd
import re
import stat

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
def theirs(base_dir, request):
    """theirs(NAME, TEXT, MODE): a file of the other user, in a directory of his in which everybody may make files."""
    d = base_dir / re.sub(r"\W", "_", f"theirs_{request.node.name}")
    d.mkdir()
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
