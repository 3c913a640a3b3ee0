"""Fixtures: one shared cluster per session, clusters with other settings, a directory per job, and a check for left-overs at the end."""
import os
import pwd
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

import lib
import leftovers  # noqa: E402  (lib puts lab/ into the path)


def _leftovers(base):
    """Processes that run a program of the clusters below base, their keepers, and their mounts and cgroups in any namespace."""
    found = {leftovers.describe(p) for p in leftovers.pids() if lib.program(p).startswith(f"{base}/")
             or (lambda words: any(w.endswith("/keeper.py") for w in words) and words[-2].startswith(f"{base}/"))(lib.command(p))}
    return found | {f"mount {m}" for m in leftovers.mounts_below(str(base))} | {f"cgroup {c}" for c in leftovers.cgroups(sorted(lib.CGROUP_NODES))}


@pytest.fixture(scope="session")
def base_dir():
    """A directory that the ordinary user can reach, not below /tmp, which is private in a pod. At the end nothing may be left of it."""
    if os.geteuid() != 0:
        pytest.exit("these tests make namespaces and start slurmd: run them as root", returncode=1)
    d = Path(tempfile.mkdtemp(prefix="fscheck.", dir="/var/tmp"))
    d.chmod(0o755)
    yield d
    # processes end a moment after the last job does
    try:
        lib.wait_for(lambda: not _leftovers(d), "the machine to be as it was found", 15)
    except lib.Timeout:
        raise AssertionError(f"left behind: {sorted(_leftovers(d))}") from None
    shutil.rmtree(d, ignore_errors=True)


@pytest.fixture(scope="session")
def shared_cluster(base_dir):
    with lib.Cluster(base_dir / "shared") as c:
        yield c


@pytest.fixture
def cluster(shared_cluster):
    """The shared cluster. Jobs that a test leaves are cancelled."""
    yield shared_cluster
    shared_cluster.run("scancel", "--user", lib.USER, user="root")
    lib.wait_for(lambda: not shared_cluster.run("squeue", "-h", user="root").stdout.strip(), "an empty queue", 30)


@pytest.fixture
def new_cluster(base_dir, request):
    """new_cluster(conf=[…], option=value): starts a cluster with other settings."""
    made = []

    def make(conf=(), **more):
        d = base_dir / re.sub(r"\W", "_", f"{request.node.name}_{len(made)}")[-24:]
        made.append(lib.Cluster(d, conf, **more))
        return made[-1]
    yield make
    for c in made:
        c.run("scancel", "--user", lib.USER, user="root")
        amiss = c.down()
        assert not amiss, amiss


@pytest.fixture(scope="session")
def workloads(base_dir):
    """Directory with the compiled test workloads and scripts, readable by the user."""
    src, out = lib.ROOT / "tests" / "workloads", base_dir / "workloads"
    out.mkdir(mode=0o755)
    for c in src.glob("*.c"):
        subprocess.run(["gcc", "-O1", "-o", out / c.stem, c, "-pthread"], check=True)
    for s in [*src.glob("*.sh"), *src.glob("*.py")]:
        shutil.copy(s, out / s.name)
        (out / s.name).chmod(0o755)
    return out


@pytest.fixture
def jobdir(base_dir, request):
    """Factory of empty directories owned by the ordinary user (who exists once a cluster runs)."""
    n = 0

    def make(name="job"):
        nonlocal n
        (base_dir / "jobs").mkdir(exist_ok=True)
        while True:     # a test that is run again gets new ones
            n += 1
            d = base_dir / "jobs" / (re.sub(r"\W", "_", request.node.name)[-60:] + f"_{name}_{n}")
            if not d.exists():
                break
        d.mkdir()
        pw = pwd.getpwnam(lib.USER)
        os.chown(d, pw.pw_uid, pw.pw_gid)
        return d
    return make
