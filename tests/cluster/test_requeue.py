"""Requeues of jobs that run: by a person, by the job itself, by a preemption without grace time. What the next start does, and whether the
job is saved in the time that Slurm leaves it (KillWait)."""
import pytest

import lib
from failures import LONG, expect_whole, steps
from test_notice import PREEMPT

SCRIPT = "for ((i = 0; i < {n}; i++)); do echo \"step $i\"; [ -e hurry ] || sleep 0.1; done; echo end\n"
TRAPS = "trap 'echo TERM >> signals' TERM\n" + SCRIPT
NO_GRACE = [line.replace(" GraceTime=20", "") for line in PREEMPT]
N = 3000


def submit(c, d, *more, script=SCRIPT):
    job = c.sbatch(script.format(n=N), "--checkpoint=UNLIMITED", "-o", "out", *more, cwd=d)
    c.wait_running(job)
    lib.wait_for(lambda: steps(d) > 10, "some steps")
    return job


def requeued(c, job, *words):
    """After the requeue: the job waits, and its last run is over."""
    lib.wait_for(lambda: c.state(job) == "PENDING" and "COMPLETING" not in c.job(job)["line"], "the job to wait", LONG)
    for w in words:
        assert w in c.log(job), c.log(job)


def without_slurms_line(d):
    """slurmstepd says in the job's output that the job is requeued, which is before the epoch."""
    out = d / "out"
    lines = out.read_text().splitlines(keepends=True)
    out.write_text("".join(line for line in lines if "slurmstepd" not in line))
    return [line for line in lines if "slurmstepd" in line]


def start_now(c, job):
    # in the same second slurmd takes it for the old run: "credential revoked"
    c.ok("scontrol", "update", f"jobid={job}", "starttime=now+2", user="root")


def end(c, d, job, saved_late=False):
    lib.hurry(d)
    assert c.wait_end(job, LONG) == ("COMPLETED", "0:0")
    assert len(without_slurms_line(d)) == saved_late
    expect_whole(d, N)


@pytest.mark.parametrize("who", [lib.USER, "root"])
def test_a_requeue_from_outside_continues(cluster, jobdir, who):
    """Nobody has to start it: fsched-requeue spares it the pause of cred_expire."""
    d = jobdir()
    job = submit(cluster, d)
    cluster.checkpoint("create", job)
    cluster.ok("scontrol", "requeue", job, user=who)
    e = cluster.wait_entry(job, lambda e: e["state"] == "running" and e.get("restored"), "the job to continue", LONG)
    assert e["restored"] == "1"
    assert "requeued; the next start is from the newest epoch" in cluster.log(job)
    end(cluster, d, job)


def test_a_requeue_with_hold_continues_when_it_is_released(cluster, jobdir):
    d = jobdir()
    job = submit(cluster, d)
    cluster.checkpoint("create", job)
    cluster.ok("scontrol", "requeuehold", job, user="root")
    requeued(cluster, job, "from the newest epoch")
    assert cluster.job(job)["Priority"] == "0"
    cluster.ok("scontrol", "release", job, user="root")
    start_now(cluster, job)
    cluster.wait_entry(job, lambda e: e["state"] == "running" and e.get("restored"), "the job to continue", LONG)
    end(cluster, d, job)


def test_a_suspended_job_that_is_requeued_continues(cluster, jobdir):
    """It cannot be checkpointed meanwhile, and Slurm kills it at once. It stays held because Slurm has taken its priority when it was suspended."""
    d = jobdir()
    job = submit(cluster, d)
    cluster.checkpoint("create", job)
    cluster.ok("scontrol", "suspend", job, user="root")
    cluster.wait_state(job, "SUSPENDED")
    assert "is suspended" in cluster.fails("scontrol", "checkpoint", "vacate", job)
    cluster.ok("scontrol", "requeue", job, user="root")
    requeued(cluster, job)
    assert cluster.job(job)["Priority"] == "0"
    cluster.ok("scontrol", "release", job, user="root")
    start_now(cluster, job)
    cluster.wait_entry(job, lambda e: e["state"] == "running" and e.get("restored") == "1", "the job to continue", LONG)
    end(cluster, d, job)


def test_a_hold_of_a_running_job_holds_it_after_a_requeue(cluster, jobdir):
    d = jobdir()
    job = submit(cluster, d)
    cluster.checkpoint("create", job)
    cluster.ok("scontrol", "hold", job)
    assert cluster.state(job) == "RUNNING"
    cluster.ok("scontrol", "requeue", job)
    requeued(cluster, job, "from the newest epoch")
    assert cluster.job(job)["Priority"] == "0"
    assert "restored from epoch 1" in cluster.checkpoint("restart", job)
    end(cluster, d, job)


@pytest.mark.parametrize("by", ["job", "cluster"])
def test_a_requeue_starts_over_where_that_is_wanted(new_cluster, jobdir, by):
    """As it does in plain Slurm, by the administrator's choice or the user's; the user's comes first."""
    c = new_cluster(conf=["CheckpointOnRequeue=restart"] if by == "cluster" else [])
    d, other = jobdir(), jobdir("other")
    job = submit(c, d, *([] if by == "cluster" else ["--checkpoint-on-requeue=restart"]))
    last = submit(c, other, "--checkpoint-on-requeue=resume")
    for j in job, last:
        c.checkpoint("create", j)
        c.ok("scontrol", "requeue", j)
    requeued(c, job, "next start is from the beginning")
    start_now(c, job)
    c.wait_running(job, LONG)
    assert "restored" not in c.entry(job)
    end(c, d, job)
    c.wait_entry(last, lambda e: e["state"] == "running" and e.get("restored"), "the other job to continue", LONG)
    end(c, other, last)


@pytest.mark.parametrize("task", [False, True], ids=["job", "task"])
def test_a_job_that_requeues_itself_starts_over(cluster, jobdir, task):
    d = jobdir()
    own = "${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID" if task else "$SLURM_JOB_ID"
    script = f"echo begun >> log\nif [ -e again ]; then echo end; exit 0; fi\nuntil [ -e go ]; do sleep 0.1; done\n" \
             f"touch again; scontrol requeue {own}; sleep 100\n"
    job = cluster.sbatch(script, "--checkpoint=UNLIMITED", "-o", "out", "--comment=mine", *(["--array=3"] if task else []), cwd=d)
    cluster.wait_running(job)
    cluster.checkpoint("create", job)
    (d / "go").touch()
    requeued(cluster, job, "next start is from the beginning")
    start_now(cluster, job)
    assert cluster.wait_end(job, LONG) == ("COMPLETED", "0:0")
    assert (d / "log").read_text() == "begun\nbegun\n"
    assert "Comment=mine" in cluster.job(job)["line"] and "fsched-restart" not in cluster.job(job)["line"]


def test_a_job_that_cannot_requeue_itself_does_not_start_over_later(cluster, jobdir):
    """The note that it wants to start over goes when Slurm refuses the requeue."""
    d = jobdir()
    script = "until [ -e go ]; do sleep 0.1; done\nscontrol requeue $SLURM_JOB_ID 2> error && echo requeued > said || echo refused > said\n" + SCRIPT
    job = cluster.sbatch(script.format(n=N), "--checkpoint=UNLIMITED", "-o", "out", cwd=d)
    cluster.wait_running(job)
    cluster.ok("scontrol", "update", f"jobid={job}", "requeue=0", user="root")
    (d / "go").touch()
    lib.wait_for(lambda: (d / "said").exists() and (d / "said").read_text(), "the job's requeue")
    assert (d / "said").read_text() == "refused\n"
    assert "fsched-restart" not in cluster.job(job)["line"]
    end(cluster, d, job)


@pytest.fixture(scope="module")
def alone(base_dir):
    """A cluster where Slurm's SIGTERM comes to the agent alone."""
    with lib.Cluster(base_dir / "alone", proctrack="cgroup", cpus=2, slurm_conf=["KillWait=30", "TaskPlugin=task/cgroup", *NO_GRACE]) as c:
        yield c


def test_a_requeued_job_is_saved_in_the_time_that_is_left(alone, jobdir):
    """It has no epoch before. The script sees no signal."""
    d = jobdir()
    job = submit(alone, d, script=TRAPS)
    alone.ok("scontrol", "requeue", job)
    alone.wait_entry(job, lambda e: e["state"] == "requeued" or e.get("restored"), "the job to be saved")
    assert "is saved in that time" in alone.log(job) and "saved in the time that Slurm left it at epoch 1" in alone.log(job)
    alone.wait_entry(job, lambda e: e["state"] == "running" and e.get("restored") == "1", "the job to continue", LONG)
    end(alone, d, job, saved_late=True)
    assert not (d / "signals").exists()


def test_a_job_that_is_preempted_at_once_is_saved(alone, jobdir):
    d = jobdir()
    job = submit(alone, d, "-p", "low", "-n2", script=TRAPS)
    urgent = alone.sbatch("sleep 3\n", "-p", "high", "-n2", "-o", "out", cwd=jobdir("high"))
    alone.wait_entry(job, lambda e: e["state"] == "preempted", "the job to be saved")
    assert alone.epochs(job) == [1]
    assert alone.wait_end(urgent) == ("COMPLETED", "0:0")
    start_now(alone, job)
    alone.wait_entry(job, lambda e: e["state"] == "running" and e.get("restored") == "1", "the job to continue", LONG)
    end(alone, d, job, saved_late=True)
    assert not (d / "signals").exists()


def test_a_requeued_job_that_cannot_be_saved_gets_its_signal(alone, jobdir):
    """And continues from the epoch before."""
    d = jobdir()
    bad = "import os, time; p = os.pipe2(os.O_DIRECT); open('up', 'w'); time.sleep(1000)"
    script = f"trap 'echo TERM >> signals; exit 1' TERM\nuntil [ -e bad ]; do sleep 0.1; done\n" \
             f"if [ ! -e over ]; then python3 -c \"{bad}\" & wait; fi\n" + SCRIPT
    job = alone.sbatch(script.format(n=N), "--checkpoint=UNLIMITED", "-o", "out", cwd=d)
    alone.wait_running(job)
    alone.checkpoint("create", job)
    (d / "bad").touch()
    lib.wait_for((d / "up").exists, "what cannot be checkpointed")
    assert alone.run("scontrol", "checkpoint", "create", job).returncode == 1, alone.log(job)
    alone.ok("scontrol", "requeue", job)
    lib.wait_for((d / "signals").exists, "the signal")
    assert (d / "signals").read_text() == "TERM\n"
    (d / "over").touch()
    lib.wait_for(lambda: "checkpoint (requeue) not made" in alone.log(job), "the reason")
    alone.wait_entry(job, lambda e: e["state"] == "running" and e.get("restored") == "1", "the job to continue", LONG)
    end(alone, d, job)


def test_a_cancelled_job_gets_its_signal_and_is_not_saved(alone, jobdir):
    d = jobdir()
    job = submit(alone, d, script="trap 'echo TERM >> signals; exit 3' TERM\n" + SCRIPT)
    alone.ok("scancel", job)
    assert alone.wait_end(job)[0] == "CANCELLED"
    lib.wait_for((d / "signals").exists, "the signal")
    assert alone.epochs(job) == [] and (d / "signals").read_text() == "TERM\n"


def test_the_option_is_checked(cluster, jobdir):
    assert "needs --checkpoint" in cluster.fails("sbatch", "--checkpoint-on-requeue=resume", "--wrap", "true", cwd=jobdir())
    said = cluster.fails("sbatch", "--checkpoint=5", "--checkpoint-on-requeue=maybe", "--wrap", "true", cwd=jobdir())
    assert "allowed: resume or restart" in said
    assert cluster.run("srun", "--checkpoint-on-requeue=resume", "true").returncode != 0
