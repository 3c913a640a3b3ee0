"""mpiexec on one node starts its ranks in the job's pod, and a job that cannot be saved gets a line in its error file."""
import re
import shutil

import pytest

import lib

NAMES = "HYDRA_LAUNCHER|I_MPI_HYDRA_BOOTSTRAP|FSCHED_MPI_LAUNCHER|OMPI_MCA"
OPENMPI = "OMPI_MCA_plm,OMPI_MCA_ras,OMPI_MCA_orte_set_default_slots"


def test_the_launcher_is_set_unless_the_user_did(cluster, jobdir):
    c, d = cluster, jobdir()
    script = f"env | grep -E '{NAMES}' | sort > $1\n[ $1 = inner ] || sbatch -W -o /dev/null inner.sh\n"
    inner = d / "inner.sh"
    inner.write_text(f"#!/bin/bash\nenv | grep -E '{NAMES}' | sort > inner\n")
    job = c.sbatch(script.replace("$1", "outer"), "--checkpoint=UNLIMITED", "-n", "3", "-o", "out", cwd=d)
    assert c.wait_end(job) == ("COMPLETED", "0:0"), (d / "out").read_text()
    assert set((d / "outer").read_text().split()) == {
        f"FSCHED_MPI_LAUNCHER=HYDRA_LAUNCHER,I_MPI_HYDRA_BOOTSTRAP,{OPENMPI}", "HYDRA_LAUNCHER=fork", "I_MPI_HYDRA_BOOTSTRAP=fork",
        "OMPI_MCA_plm=isolated", "OMPI_MCA_ras=^slurm", "OMPI_MCA_orte_set_default_slots=3"}
    # not for a job that is submitted from inside, which may be of several nodes
    assert (d / "inner").read_text() == ""
    job = c.sbatch(script.replace("$1", "outer"), "--checkpoint=UNLIMITED", "-o", "out", cwd=d, env={"HYDRA_LAUNCHER": "ssh", "OMPI_MCA_plm": "slurm"})
    assert c.wait_end(job) == ("COMPLETED", "0:0"), (d / "out").read_text()
    assert set((d / "outer").read_text().split()) == {"FSCHED_MPI_LAUNCHER=I_MPI_HYDRA_BOOTSTRAP", "HYDRA_LAUNCHER=ssh",
                                                      "I_MPI_HYDRA_BOOTSTRAP=fork", "OMPI_MCA_plm=slurm"}
    assert set((d / "inner").read_text().split()) == {"HYDRA_LAUNCHER=ssh", "OMPI_MCA_plm=slurm"}


@pytest.mark.parametrize("mpiexec, rank", [("mpiexec.mpich", "PMI_RANK"), ("mpirun.openmpi", "OMPI_COMM_WORLD_RANK")])
def test_ranks_can_be_saved(cluster, jobdir, mpiexec, rank):
    if not shutil.which(mpiexec):
        pytest.skip(f"needs {mpiexec}")
    c, d = cluster, jobdir()
    loop = f"for ((i = 0; i < 2000; i++)); do echo ${rank} $i >> rank.${rank}; [ -e hurry ] || sleep 0.1; done"
    job = c.sbatch(f"{mpiexec} -np 2 bash -c '{loop}'\n", "--checkpoint=UNLIMITED", "-n", "2", "-o", "out", cwd=d)
    c.wait_running(job)
    lib.wait_for(lambda: (d / "rank.1").exists(), "the ranks")
    c.checkpoint("create", job)
    c.checkpoint("vacate", job)
    c.ok("scontrol", "checkpoint", "restart", job, timeout=lib.DEADLINE * 4)
    lib.hurry(d)
    assert c.wait_end(job) == ("COMPLETED", "0:0"), (d / "out").read_text()
    for r in "01":
        assert (d / f"rank.{r}").read_text() == "".join(f"{r} {i}\n" for i in range(2000))


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
