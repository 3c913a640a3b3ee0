"""sbatch --checkpoint: accepted and refused values, and that the option does not reach steps and nested jobs."""
import pytest

FORMATS = {"2": "00:02:00", "1:30": "00:01:30", "2:30:00": "02:30:00", "1-0": "1-00:00:00", "1-0:30": "1-00:30:00",
           "1-2:30:00": "1-02:30:00", "UNLIMITED": "UNLIMITED", "infinite": "UNLIMITED"}
GARBAGE = ["0", "0:00", "-5", "5m", "", "1:2:3:4", "99999999999999999999", "1-", "12:", ":30", "1:99", "1-25", "30 ", "nan", "0x10"]


@pytest.mark.parametrize("text,shown", FORMATS.items())
def test_formats_are_taken_to_the_second(cluster, jobdir, text, shown):
    job = cluster.sbatch("true", "--hold", f"--checkpoint={text}", cwd=jobdir())
    entry = cluster.entry(job)
    assert entry["interval"] == shown and entry["state"] == "enabled"
    assert len(entry["uuid"]) == 36


def test_script_directive(cluster, jobdir):
    job = cluster.sbatch("#!/bin/bash\n#SBATCH --checkpoint=45\ntrue", "--hold", cwd=jobdir())
    assert cluster.entry(job)["interval"] == "00:45:00"


@pytest.mark.parametrize("text", GARBAGE)
def test_garbage_is_refused_with_the_formats(cluster, jobdir, text):
    d = jobdir()
    (d / "job.sh").write_text("#!/bin/bash\ntrue\n")
    said = cluster.fails("sbatch", f"--checkpoint={text}", d / "job.sh", cwd=d)
    assert "days-hours:minutes:seconds" in said and "UNLIMITED" in said
    assert "Submitted" not in said


def test_more_than_one_node_is_refused(cluster, jobdir):
    d = jobdir()
    (d / "job.sh").write_text("#!/bin/bash\ntrue\n")
    said = cluster.fails("sbatch", "-N2", "--checkpoint=30", d / "job.sh", cwd=d)
    assert "node" in said and "checkpoint" in said


@pytest.mark.parametrize("command", ["srun", "salloc"])
def test_only_batch_jobs(cluster, jobdir, command):
    said = cluster.fails(command, "--checkpoint=30", "true", cwd=jobdir())
    assert "sbatch" in said


def test_heterogeneous_jobs_are_refused(cluster, jobdir):
    d = jobdir()
    (d / "job.sh").write_text("#!/bin/bash\ntrue\n")
    said = cluster.fails("sbatch", "--checkpoint=30", "-n1", ":", "-n1", d / "job.sh", cwd=d)
    assert "heterogeneous" in said


def test_array_tasks_are_jobs_of_their_own(cluster, jobdir):
    d = jobdir()
    job = cluster.sbatch('echo "task $SLURM_ARRAY_TASK_ID"; while [ ! -e go ]; do sleep 0.1; done; echo end', "--array=1-2",
                         "--checkpoint=UNLIMITED", "-o", "out.%a", cwd=d)
    ids = {}
    for task in (1, 2):
        cluster.wait_running(f"{job}_{task}")
        ids[task] = cluster.entry(f"{job}_{task}")["uuid"]
    assert ids[1] != ids[2]
    said = cluster.checkpoint("create", f"{job}_2")
    assert "epoch 1" in said
    assert cluster.entry(f"{job}_1")["epoch"] == "0"
    (d / "go").touch()
    for task in (1, 2):
        assert cluster.wait_end(f"{job}_{task}") == ("COMPLETED", "0:0")
        assert (d / f"out.{task}").read_text() == f"task {task}\nend\n"


def test_switched_off(new_cluster, jobdir):
    c = new_cluster(conf=["CheckpointType = checkpoint/none"])
    d = jobdir()
    (d / "job.sh").write_text("#!/bin/bash\ntrue\n")
    said = c.fails("sbatch", "--checkpoint=30", d / "job.sh", cwd=d)
    assert "CheckpointType" in said
    job = c.sbatch("echo plain", "-o", "out", cwd=d)
    assert c.wait_end(job) == ("COMPLETED", "0:0")


def test_option_does_not_leak_into_steps_and_nested_jobs(cluster, jobdir):
    d = jobdir()
    (d / "inner.sh").write_text("#!/bin/bash\nenv | grep SPANK > inner.env; true\n")
    job = cluster.sbatch("env | grep SPANK > outer.env\nFSCHED_SRUN=real srun -n1 sh -c 'env | grep SPANK > step.env; readlink /proc/self/ns/pid > step.ns'\n"
                         "readlink /proc/self/ns/pid > outer.ns; sbatch --wait inner.sh > nested", "--checkpoint=30", cwd=d)
    assert cluster.wait_end(job) == ("COMPLETED", "0:0")
    for name in ("outer.env", "step.env", "inner.env"):
        assert (d / name).read_text() == "", name
    assert (d / "step.ns").read_text() != (d / "outer.ns").read_text()
    inner = int((d / "nested").read_text().split()[-1])
    assert cluster.job(inner)["Checkpoint"] is None


def test_forged_environment_is_validated(cluster, jobdir):
    d = jobdir()
    (d / "job.sh").write_text("#!/bin/bash\ntrue\n")
    name = "SLURM_SPANK__SLURM_SPANK_OPTION_fsched_checkpoint"
    said = cluster.fails("sbatch", "--export=ALL", d / "job.sh", cwd=d, env={name: "5m; rm -rf /"})
    assert "days-hours" in said
    # the form that job_submit itself writes, with an identity of the forger's choice
    assert "days-hours" in cluster.fails("sbatch", d / "job.sh", cwd=d, env={name: "30/11111111-1111-1111-1111-111111111111/t"})
    job = cluster.sbatch("true", "--hold", cwd=d, env={name: "30"})
    assert cluster.entry(job)["interval"] == "00:30:00"


def test_help_names_the_option(cluster):
    out = cluster.ok("sbatch", "--help")
    assert "--checkpoint=" in out


def test_admin_comment_of_an_administrator_is_kept(cluster, jobdir):
    job = cluster.sbatch("sleep 0.1; while [ ! -e go ]; do sleep 0.1; done", "--checkpoint=30", cwd=(d := jobdir()))
    cluster.wait_running(job)
    text = cluster.job(job)["line"]
    comment = text.split("AdminComment=", 1)[1].split("}", 1)[0] + "}"
    cluster.ok("scontrol", "update", f"JobId={job}", f"AdminComment=project-x {comment}", user="root")
    cluster.checkpoint("create", job)
    entry = cluster.wait_entry(job, lambda e: e["epoch"] == "1", "epoch 1")
    assert entry["state"] == "running"
    assert "AdminComment=project-x Checkpoint={" in cluster.job(job)["line"]
    (d / "go").touch()
    cluster.wait_end(job)
