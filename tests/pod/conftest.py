"""Pods need root and must leave nothing on the machine."""
import os
import shutil
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "cluster"))
import lib  # noqa: E402
import leftovers  # noqa: E402  (lib puts lab/ into the path)


def of_pods():
    """Left-overs of the pods of this process. Other processes test theirs at the same time."""
    ours = tuple(lib.POD_BASES)
    found = {leftovers.describe(p) for p in leftovers.pids() if lib.program(p).startswith(ours)}
    return found | {line for line in leftovers.mounts_below("/var/tmp") if line.startswith(ours)}


@pytest.fixture(scope="session", autouse=True)
def nothing_left_of_pods():
    if os.geteuid() != 0:
        pytest.exit("pods are namespaces: run these tests as root", returncode=1)
    yield
    try:
        lib.wait_for(lambda: not of_pods(), "all pods to be gone")
    except lib.Timeout:
        raise AssertionError(f"left behind: {sorted(of_pods())}") from None
    for d in lib.POD_BASES:
        shutil.rmtree(d, ignore_errors=True)
