"""The memory engine on Debian's stock kernels in QEMU guests: FSCHED_TEST_KERNELS="oldstable stable testing"; empty: a short test of the first one."""
import os
import platform
import shutil
import subprocess
import tempfile
from pathlib import Path

import guest
import pytest

STAGE = Path(os.environ.get("FSCHED_STAGE", guest.ROOT / "build/stage"))
BUILD = Path(os.environ.get("FSCHED_BUILD", guest.ROOT / "build"))
SLOWNESS = float(os.environ.get("FSCHED_TEST_SLOWNESS", "1"))
SUITES = os.environ.get("FSCHED_TEST_KERNELS", "").split()
MIB = 1 << 20

TRACKING = {"oldstable": "soft-dirty", "stable": "wp-async", "testing": "wp-async"}      # Linux 6.7 has the latter
SHORT = ["doctor", "short", "nfs", "nfs_squashed"]
ALL = [*SHORT, "pre_dump", "ways", "increments", "tracked", "processes", "seccomp", "identical", "criu", "limit"]


def boot(suite, steps, deadline):
    if platform.machine() != "x86_64":
        pytest.skip("the kernels are for x86_64, and so must fsched be")
    subprocess.run([guest.ROOT / "scripts/get-qemu.sh", BUILD / "qemu"], check=True)
    subprocess.run([guest.ROOT / "scripts/get-kernels.sh", BUILD / "kernels", suite], check=True)
    directory = Path(tempfile.mkdtemp(prefix="fscheck-kernel.", dir="/var/tmp"))
    try:
        got = guest.run(directory, STAGE, BUILD, BUILD / "kernels" / suite, steps, deadline * SLOWNESS)
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    assert got.done and list(got.ok) == steps, str(got)
    return got


def check_doctor(got, tracking):
    for finding in ("kernel", "namespaces", "capabilities", "kcmp", "memory tracking", "criu", "criu check", "memory engine"):
        assert got.doctor[finding][0] == "ok", (finding, got.doctor)
    assert got.doctor["memory tracking"][1].startswith(tracking)
    assert got.doctor["capabilities"][1] == "all that criu needs"
    assert got.doctor["memory engine"][1].startswith("fsched's own")


def check_way(memory, way):
    """Memory for the copy is reserved before the freeze; memory that the job has added since is written directly."""
    assert memory["method"] == way or way == "staged" and "grown" in memory["why"], memory


def check_increment(memory, reused):
    assert memory["increment"] and memory["reused"] >= reused, memory
    assert memory["raw"] + memory["reused"] + memory["zero"] == memory["pages"]


def check_pre_dump(memory, tracking, taken=None):
    assert memory["rounds"] >= 1 and memory["tracking"] == tracking, memory
    assert taken is None or memory["taken"] < taken, memory


def check_short(got, tracking):
    check_pre_dump(got.memory("short/fork"), tracking, 6 * MIB)
    check_way(got.memory("short/fork"), "fork")
    check_way(got.memory("short/increment"), "staged")
    check_way(got.memory("short/vacate"), "direct")
    check_increment(got.memory("short/increment"), 6 * MIB)


def check_all(got, tracking):
    check_pre_dump(got.memory("pre_dump/probed"), tracking, 12 * MIB)
    check_pre_dump(got.memory("pre_dump/soft-dirty"), "soft-dirty", 12 * MIB)
    check_pre_dump(got.memory("pre_dump/verified"), tracking)
    check_pre_dump(got.memory("pre_dump/verified-soft-dirty"), "soft-dirty")
    for way in ("fork", "staged", "direct"):
        check_way(got.memory(f"ways/{way}"), way)
    assert got.memory("ways/auto")["method"] in ("fork", "staged")
    for n in (1, 2):
        for way in ("fork", "staged"):
            check_way(got.memory(f"processes/{n}-{way}"), way)
    assert [got.memory(f"increments/{n}")["increment"] for n in range(1, 7)] == [False, True, False, True, True, False]
    for n in (2, 4, 5):
        check_increment(got.memory(f"increments/{n}"), 20 * MIB)
    noticed = "wp-async" if tracking == "wp-async" else "none"       # soft-dirty bits are the job's to clear, too
    assert [got.memory(f"tracked/{n}")["tracking"] for n in range(1, 6)] == ["none", noticed, "none", noticed, "none"]
    assert got.memory("seccomp/fork")["method"] == "fork"
    assert "memory" not in got.manifests["criu/taken"] and "memory" in got.manifests["criu/ours"]
    inside, outside = got.memory("limit/inside"), got.memory("limit/outside")
    assert inside["method"] == "direct" and inside["why"].partition(": ")[2].startswith("no memory for a copy"), inside
    assert outside["method"] == "staged" and "no memory for what the job would rewrite" in outside["why"], outside


@pytest.mark.parametrize("suite, whole", [(s, True) for s in SUITES] or [("oldstable", False)], ids=lambda v: v if isinstance(v, str) else None)
def test_kernel(suite, whole, record_property):
    got = boot(suite, ALL if whole else SHORT, 3600 if whole else 900)
    tracking = TRACKING[suite]
    check_doctor(got, tracking)
    check_short(got, tracking)
    if whole:
        check_all(got, tracking)
        record_property("say", f"{suite}: Linux {got.doctor['kernel'][1]}: {', '.join(got.ok)}; tracking: {got.doctor['memory tracking'][1]}")
