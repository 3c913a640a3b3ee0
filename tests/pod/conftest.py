"""Pods need root, and must not leave anything on the machine."""
import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "cluster"))
import lib  # noqa: E402
import leftovers  # noqa: E402  (lib puts lab/ into the path)

BASE = "/var/tmp/fscheck-pod."


def of_pods():
    found = {leftovers.describe(p) for p in leftovers.pids() if lib.program(p).startswith(BASE)}
    return found | {line for line in leftovers.mounts_below("/var/tmp") if line.startswith(BASE)}


@pytest.fixture(scope="session", autouse=True)
def nothing_left_of_pods():
    if os.geteuid() != 0:
        pytest.exit("pods are namespaces: run these tests as root", returncode=1)
    before = of_pods()
    yield
    try:
        lib.wait_for(lambda: not of_pods() - before, "all pods to be gone", 15)
    except lib.Timeout:
        raise AssertionError(f"left behind: {sorted(of_pods() - before)}") from None
