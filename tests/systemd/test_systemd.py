"""A Debian 13 with systemd, cgroup v2 and Slurm's cgroup plugins in a QEMU guest: installed and configured as README.md says, and used."""
import os
import platform
import shutil
import subprocess
import tempfile
from pathlib import Path

import guest
import pytest

BUILD = Path(os.environ.get("FSCHED_BUILD", guest.ROOT / "build"))
SLOWNESS = float(os.environ.get("FSCHED_TEST_SLOWNESS", "1"))
STEPS = ["install", "doctor", "life", "limits", "cancel", "memory", "slurmd", "reboot", "rebooted"]
DEADLINE = 3600     # s: nothing is virtualized by hardware


def test_systemd():
    if platform.machine() != "x86_64":
        pytest.skip("the emulated machine is an x86_64")
    subprocess.run([guest.ROOT / "scripts/get-qemu.sh", BUILD / "qemu"], check=True)
    directory = Path(tempfile.mkdtemp(prefix="fscheck-systemd.", dir="/var/tmp"))
    try:
        subprocess.run([guest.ROOT / "scripts/systemd-guest.sh", directory], check=True)
        got = guest.emulate(directory, BUILD / "qemu", DEADLINE * SLOWNESS,
                            ["-smp", "2", "-m", "1536", "-kernel", directory / "vmlinuz",
                             "-append", "root=/dev/vda rw console=ttyS0 loglevel=4 no_timer_check panic=1"])
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    assert got.done and list(got.ok) == STEPS, str(got)
    print(got)
    for finding in ("kernel", "namespaces", "capabilities", "criu", "criu check", "memory engine", "cgroup"):
        assert got.doctor[finding][0] == "ok", (finding, got.doctor)
