"""Unix sockets under other names than those of bind() (preload/moved_sockets.c)."""
import shutil
import tempfile

import lib
import pytest

from test_memory import Job
from test_pod import USER, base, pods  # noqa: F401  (fixtures)

WANTED = """ready
True renamed DIR/renamed.new
True linked DIR/linked.first
True linked_and_removed DIR/linked_and_removed.first
True renamed_relative relative.new
True plain DIR/plain
names as before
"""


@pytest.mark.parametrize("place", ["work", "tmp"])
def test_clients_find_the_server(pods, base, place):
    """Twice, in the working directory and in /tmp: the second checkpoint sees the restored sockets."""
    d = pods.place("sockets")
    work, state = d / "work", d / "state"
    where = "/tmp"
    if place != "tmp":
        where = tempfile.mkdtemp(prefix="s", dir=base)   # short: the name of a socket has 107 bytes
        shutil.chown(where, USER)
    p = pods.start(work, "run", "--dir", state, "--user", USER, "--", "/usr/bin/python3", lib.ROOT / "tests/workloads/sockets.py", where,
                   out=work / "out")
    lib.wait_for(lambda: "ready" in (work / "out").read_text(), "the servers")
    for n in range(2):
        done = pods.fsched("checkpoint", state)
        assert done.returncode == 0, done.stdout + done.stderr
        done = pods.fsched("checkpoint", state, "--kill")
        assert done.returncode == 0, done.stdout + done.stderr
        p.wait(30)
        if n:
            (work / "go").touch()
        p = pods.start(work, "restore", state, out=work / "restore.out")
        lib.wait_for(lambda: "restored from" in (work / "restore.out").read_text() or p.poll() is not None, "the restore")
        if not n:
            (work / "restore.out").unlink()
    assert p.wait(60) == 0, (work / "restore.out").read_text() + (work / "out").read_text()
    assert (work / "out").read_text() == WANTED


def test_the_longest_name_of_a_deleted_socket(pods, base):
    job = Job(pods, base, lib.ROOT / "tests/workloads/long_socket.py", 106)
    job.checkpoint("--kill")
    assert "restored from epoch" in job.restore(), job.said.read_text()
    job.stop()


def test_no_epoch_with_a_deleted_socket_that_has_a_longer_name(pods, base):
    """criu could not restore it."""
    job = Job(pods, base, lib.ROOT / "tests/workloads/long_socket.py", 107)
    said = job.checkpoint(fails=True)
    assert "whose file was deleted, could not be restored (criu restores such names of up to 106 bytes)" in said, said
    assert not list(job.state.glob("epochs/0*"))
    job.stop()
