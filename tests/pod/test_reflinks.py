"""Where the checkpoint directory's file system has reflinks, copies of large files share their blocks with them."""
import os
import shutil
import subprocess
import sys

import lib
import pytest

from test_memory import Job
from test_pod import USER, base, pods  # noqa: F401  (fixtures)
from test_private_tmp import LARGE, change, next_line


@pytest.fixture
def place(pods):
    if not shutil.which("mkfs.xfs") or subprocess.run(["modprobe", "-q", "xfs"], check=False).returncode and \
            "\txfs\n" not in open("/proc/filesystems").read():
        pytest.skip("no xfs here")
    d = pods.place("xfs")
    (d / "fs").mkdir()
    with open(d / "image", "wb") as f:
        os.truncate(f.fileno(), 400 << 20)
    subprocess.run(["mkfs.xfs", "-q", "-m", "reflink=1", d / "image"], check=True)
    subprocess.run(["mount", "-o", "loop", d / "image", d / "fs"], check=True)
    (d / "fs/work").mkdir()
    shutil.chown(d / "fs/work", USER)
    yield d / "fs"
    subprocess.run(["umount", "-l", d / "fs"], check=True)


def shares_blocks(path):
    return "shared" in subprocess.run(["filefrag", "-v", path], capture_output=True, text=True, check=True).stdout


def test_a_file_is_cloned_again_in_the_freeze(pods, base, place):
    """Its blocks are shared, what changes between the copy and the freeze is in the epoch, and the job's file is its own."""
    j = Job(pods, base, sys.executable, "-c", LARGE.replace("SIZE", "3"), place=place)
    for n in range(2):
        p = j.begin("checkpoint", *(["--kill"] if n else []), j.state, fault="wait-before-freeze")
        lib.wait_for((j.state / "waiting").exists, "the worker")
        assert [f for f in j.state.glob("epochs/*/files/early-*") if shares_blocks(f)]
        change(j)
        (j.state / "waiting").unlink()
        said = p.communicate(timeout=120)[0]
        assert p.returncode == 0, said
        assert shares_blocks(j.work / "here") and shares_blocks(j.work / "here.mapped")
        if not n:
            next_line(j)
            change(j)
            next_line(j)
    for _ in range(2):
        assert "restored from epoch 2" in j.restore(), j.said.read_text()
        next_line(j)
        change(j)
        next_line(j)
        j.fsched("kill", j.state)
    assert "restored from epoch 2" in j.restore(), j.said.read_text()
    next_line(j)
    j.stop()
