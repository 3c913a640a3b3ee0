"""Where the checkpoint directory's file system has reflinks, copies of large files share their blocks with them."""
import shutil
import subprocess
import sys

import pytest

from test_memory import Job
from test_names_random import mounted, needs
from test_pod import USER, base, pods  # noqa: F401  (fixtures)
from test_private_tmp import LARGE, change, comes_back, next_line, saves_what_changes


@pytest.fixture
def place(pods):
    needs("xfs")
    fs = pods.place("xfs") / "fs"
    fs.mkdir()
    mounted(fs, "xfs")
    (fs / "work").mkdir()
    shutil.chown(fs / "work", USER)
    yield fs
    subprocess.run(["umount", "-l", fs], check=True)


def shares_blocks(path):
    return "shared" in subprocess.run(["filefrag", "-v", path], capture_output=True, text=True, check=True).stdout


def has_clones(j):
    assert [f for f in j.state.glob("epochs/*/files/early-*") if shares_blocks(f)]


def test_a_file_is_cloned_again_in_the_freeze(pods, base, place):
    """Its blocks are shared, what changes between the copy and the freeze is in the epoch, and the job's file is its own."""
    j = Job(pods, base, sys.executable, "-c", LARGE.replace("SIZE", "3"), place=place)
    saves_what_changes(j, look=has_clones)
    assert shares_blocks(j.work / "here") and shares_blocks(j.work / "here.mapped")
    next_line(j)
    change(j)
    next_line(j)
    saves_what_changes(j, "--kill", look=has_clones)
    assert shares_blocks(j.work / "here") and shares_blocks(j.work / "here.mapped")
    comes_back(j)
