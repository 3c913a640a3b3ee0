"""One short life of a job on clusters with several configurations."""
import os
import shutil
import tempfile
from pathlib import Path

import pytest

import lib

# steps that print what has to survive besides the count
SCRIPT = """trap 'echo got USR1' USR1
taskset -cp $$ | sed 's/.*: /affinity /'; id -G
for ((i = 0; i < 6000; i++)); do echo "step $i"; [ -e hurry ] || { sleep 0.1 & wait $!; }; done
taskset -cp $$ | sed 's/.*: /affinity /'; id -G
exit 4
"""
VARIANTS = {
    "cgroup and SlurmUser": dict(proctrack="cgroup", slurm_user="slurm", slurm_conf=["TaskPlugin=task/cgroup,task/affinity"]),
    "shared tmp": dict(conf=["PodPrivateTmp=NO"]),
}


def life(c, d, user=lib.USER, out="out", submit=()):
    """A periodic epoch, create, vacate, restart, a signal, the end. Returns the job's output."""
    job = c.sbatch(SCRIPT, "--checkpoint=0:02", "-o", out, *submit, cwd=d, user=user)
    c.wait_running(job)
    c.wait_entry(job, lambda e: int(e["epoch"]) >= 1, "a periodic epoch")
    assert "saved" in c.checkpoint("create", job, user=user)
    assert "vacated" in c.checkpoint("vacate", job, user=user)
    assert "restored" in c.checkpoint("restart", job, user=user)
    c.ok("scancel", "--signal=USR1", "--batch", job, user=user)
    lib.wait_for(lambda: "got USR1" in (d / out).read_text(), "the signal to be handled")
    lib.hurry(d)
    assert c.wait_end(job)[1] == "4:0", c.logs(job)
    return (d / out).read_text()


def expect(text):
    lines = text.splitlines()
    assert [l for l in lines if l.startswith("step")] == [f"step {i}" for i in range(6000)], text
    assert lines.count("got USR1") == 1
    surroundings = [l for l in lines if not l.startswith(("step", "got"))]   # affinity and groups, before and after
    assert len(surroundings) == 4 and surroundings[:2] == surroundings[2:], surroundings


@pytest.mark.parametrize("name", VARIANTS)
def test_variant(new_cluster, jobdir, name):
    c = new_cluster(**VARIANTS[name])
    expect(life(c, jobdir()))
    if VARIANTS[name].get("slurm_user"):
        d = jobdir()
        job = c.sbatch("while [ ! -e go ]; do sleep 0.1; done", "--checkpoint=UNLIMITED", cwd=d)
        c.wait_running(job)
        assert "saved" in c.checkpoint("create", job, user="slurm"), "SlurmUser may ask"
        (d / "go").touch()
        c.wait_end(job)


def test_job_of_root(cluster, jobdir):
    expect(life(cluster, jobdir(), user="root"))


def test_odd_names(cluster, jobdir):
    d = jobdir("with blank and ümläut 'quoted'")
    odd = d / "a b $x;ü"
    odd.mkdir()
    os.chown(odd, d.stat().st_uid, d.stat().st_gid)
    expect(life(cluster, odd, out="o u t'.txt"))


def test_below_tmp(cluster):
    """A job whose directory lies below /tmp keeps the node's /tmp."""
    d = Path(tempfile.mkdtemp(prefix="fscheck.", dir="/tmp"))
    try:
        shutil.chown(d, lib.USER)
        expect(life(cluster, d))
    finally:
        shutil.rmtree(d)
