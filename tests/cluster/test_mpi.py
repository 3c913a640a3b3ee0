"""mpiexec on one node starts its ranks in the job's pod, and a job that cannot be saved gets a line in its error file."""
import re
import shutil
from pathlib import Path

import pytest

import lib

NAMES = "HYDRA_LAUNCHER|I_MPI_HYDRA_BOOTSTRAP|FSCHED_MPI_LAUNCHER|OMPI_MCA|PRTE_MCA"
OPENMPI = {"OMPI_MCA_plm": "isolated", "OMPI_MCA_ras": "^slurm", "OMPI_MCA_orte_set_default_slots": "3",
           "PRTE_MCA_plm": "^slurm", "PRTE_MCA_ras": "^slurm", "PRTE_MCA_prte_set_default_slots": "3"}


def _set(file):
    """What is set in a job, without what sbatch sets in every job since Slurm 23.11."""
    slurms = {"OMPI_MCA_plm_slurm_args=--external-launcher", "PRTE_MCA_plm_slurm_args=--external-launcher", "HYDRA_LAUNCHER_EXTRA_ARGS=--external-launcher"}
    return set(file.read_text().split()) - slurms


def test_the_launcher_is_set_unless_the_user_did(cluster, jobdir):
    c, d = cluster, jobdir()
    script = f"env | grep -E '{NAMES}' | sort > $1\n[ $1 = inner ] || sbatch -W -o /dev/null inner.sh\n"
    inner = d / "inner.sh"
    inner.write_text(f"#!/bin/bash\nenv | grep -E '{NAMES}' | sort > inner\n")
    job = c.sbatch(script.replace("$1", "outer"), "--checkpoint=UNLIMITED", "-n", "3", "-o", "out", cwd=d)
    assert c.wait_end(job) == ("COMPLETED", "0:0"), (d / "out").read_text()
    assert _set(d / "outer") == {
        f"FSCHED_MPI_LAUNCHER=HYDRA_LAUNCHER,I_MPI_HYDRA_BOOTSTRAP,{','.join(OPENMPI)}", "HYDRA_LAUNCHER=fork", "I_MPI_HYDRA_BOOTSTRAP=fork",
        *(f"{name}={value}" for name, value in OPENMPI.items())}
    # not for a job that is submitted from inside, which may be of several nodes
    assert not _set(d / "inner")
    job = c.sbatch(script.replace("$1", "outer"), "--checkpoint=UNLIMITED", "-o", "out", cwd=d, env={"HYDRA_LAUNCHER": "ssh", "OMPI_MCA_plm": "slurm"})
    assert c.wait_end(job) == ("COMPLETED", "0:0"), (d / "out").read_text()
    assert _set(d / "outer") == {"FSCHED_MPI_LAUNCHER=I_MPI_HYDRA_BOOTSTRAP", "HYDRA_LAUNCHER=ssh",
                                 "I_MPI_HYDRA_BOOTSTRAP=fork", "OMPI_MCA_plm=slurm"}
    assert _set(d / "inner") == {"HYDRA_LAUNCHER=ssh", "OMPI_MCA_plm=slurm"}


@pytest.mark.parametrize("mpiexec, rank", [("mpiexec.mpich", "PMI_RANK"), ("mpirun.openmpi", "OMPI_COMM_WORLD_RANK")])
def test_ranks_can_be_saved(cluster, jobdir, mpiexec, rank):
    if not shutil.which(mpiexec):
        pytest.skip(f"needs {mpiexec}")
    c, d = cluster, jobdir()
    loop = f"for ((i = 0; i < 2000; i++)); do echo ${rank} $i >> rank.${rank}; [ -e hurry ] || sleep 0.1; done"
    job = c.sbatch(f"{mpiexec} -np 2 bash -c '{loop}'\n", "--checkpoint=UNLIMITED", "-n", "2", "-o", "out", cwd=d)
    c.wait_running(job)
    lib.wait_for(lambda: (d / "rank.1").exists(), "the ranks")
    # by itself, without srun and daemons
    assert not {Path(word).name for p in c.pod_pids(job) for word in lib.command(p)[:2]} & {"srun", "orted", "prted"}
    c.checkpoint("create", job)
    c.checkpoint("vacate", job)
    c.ok("scontrol", "checkpoint", "restart", job, timeout=lib.DEADLINE * 4)
    lib.hurry(d)
    assert c.wait_end(job) == ("COMPLETED", "0:0"), (d / "out").read_text()
    for r in "01":
        assert (d / f"rank.{r}").read_text() == "".join(f"{r} {i}\n" for i in range(2000))


def test_mpirun_starts_a_rank_for_each_task(cluster, jobdir):
    """As it does where it asks Slurm: not one for each processor."""
    if not shutil.which("mpirun.openmpi"):
        pytest.skip("needs mpirun.openmpi")
    d = jobdir()
    job = cluster.sbatch("mpirun.openmpi bash -c 'echo rank $OMPI_COMM_WORLD_RANK'\n", "--checkpoint=UNLIMITED", "-n", "1", "-o", "out", cwd=d)
    assert cluster.wait_end(job) == ("COMPLETED", "0:0"), (d / "out").read_text()
    assert (d / "out").read_text() == "rank 0\n"


def test_a_job_that_cannot_be_saved_says_so_once(cluster, jobdir):
    """The script runs Slurm's own srun all the time."""
    c, d = cluster, jobdir()
    job = c.sbatch("export FSCHED_SRUN=real\nsrun sh -c 'until [ -e go ]; do sleep 0.1; done'\necho end\n", "--checkpoint=0:02", "-o", "out", "-e", "err", cwd=d)
    c.wait_running(job)
    failed = "checkpoint (periodic) not made"
    e = c.wait_entry(job, lambda e: failed in e.get("error", "") and int(e.get("failed", 0)) >= 3, "the reason and the count in the entry")
    assert "srun" in e["error"]
    text = (d / "err").read_text()
    assert re.fullmatch(r"fsched: job \d+: periodic checkpoints fail: .*srun.* and is not saved.*\n", text), text
    (d / "go").touch()
    assert c.wait_end(job) == ("COMPLETED", "0:0")
    assert (d / "out").read_text() == "end\n"
