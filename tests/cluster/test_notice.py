"""Jobs that Slurm is about to end: preemption with a grace time, and the time limit with --checkpoint-at-limit."""
import re

import pytest

import lib

SCRIPT = "for ((i = 0; i < {n}; i++)); do echo \"step $i\"; [ -e hurry ] || sleep 0.1; done; echo end\n"
PREEMPT = ["PreemptType=preempt/partition_prio", "PreemptMode=REQUEUE",
           "PartitionName=low Nodes=ALL PriorityTier=1 GraceTime=20 MaxTime=INFINITE State=UP",
           "PartitionName=high Nodes=ALL PriorityTier=10 PreemptMode=OFF MaxTime=INFINITE State=UP"]


def steps(text):
    return [int(n) for n in re.findall(r"^step (\d+)$", text, re.M)]


def expect_whole(text, n):
    assert steps(text) == list(range(n)) and text.endswith("end\n"), text[-400:]


def test_a_preempted_job_continues_where_it_was(new_cluster, jobdir):
    c = new_cluster(slurm_conf=PREEMPT, cpus=2)
    d = jobdir("low")
    job = c.sbatch(SCRIPT.format(n=3000), "--checkpoint=UNLIMITED", "-p", "low", "-n2", "-o", "out", cwd=d)
    c.wait_running(job)
    lib.wait_for(lambda: len(steps((d / "out").read_text())) > 20, "some steps")
    urgent = c.sbatch("echo urgent; sleep 3\n", "-p", "high", "-n2", "-o", "out", cwd=jobdir("high"))
    c.wait_entry(job, lambda e: e["state"] == "preempted", "the job to be preempted")
    assert c.epochs(job) == [1]
    assert "preempted at epoch 1" in c.log(job)
    done = len(steps((d / "out").read_text()))
    assert c.wait_end(urgent) == ("COMPLETED", "0:0")
    lib.hurry(d)
    assert c.wait_end(job, lib.DEADLINE * 3) == ("COMPLETED", "0:0")
    assert "restored from epoch 1" in c.log(job)
    assert done > 20
    expect_whole((d / "out").read_text(), 3000)


@pytest.mark.parametrize("vacate", [False, True], ids=["preempted", "vacated"])
def test_a_job_that_is_to_leave_does_not_wait_for_a_pre_dump(new_cluster, jobdir, vacate):
    """It waits neither for the pre-dump of an earlier checkpoint nor, when Slurm wants the node, for its own."""
    c = new_cluster(conf=["CRIU_PreDump=YES", "CRIU_PreDumpDelay=3000", "CRIU_MaxEpochs=2"], slurm_conf=PREEMPT, cpus=2)
    d = jobdir("low")
    job = c.sbatch(SCRIPT.format(n=3000), "--checkpoint=UNLIMITED", "-p", "low", "-n2", "-o", "out", cwd=d)
    epochs = c.ckpt_dir(job) / "epochs"
    c.wait_running(job)
    lib.wait_for(lambda: len(steps((d / "out").read_text())) > 20, "some steps")
    c.ok("sh", "-c", f"scontrol checkpoint create {job} >/dev/null 2>&1 &")
    lib.wait_for((epochs / "000001.partial/pre-dump-1").exists, "the first round")
    if vacate:
        c.ok("sh", "-c", f"scontrol checkpoint vacate {job} >/dev/null 2>&1 &")
        lib.wait_for((epochs / "000002.partial/pre-dump-1").exists, "the first round of the vacate")
    urgent = c.sbatch("echo urgent; sleep 3\n", "-p", "high", "-n2", "-o", "out", cwd=jobdir("high"))
    c.wait_entry(job, lambda e: e["state"] == ("vacated" if vacate else "preempted"), "the job to leave")
    assert c.wait_end(urgent) == ("COMPLETED", "0:0")
    log = c.log(job)
    assert "the pre-dump of epoch 1 is cut short" in log and ("the pre-dump of epoch 2 is cut short" in log) == vacate
    assert c.epochs(job) == [1, 2]


def test_a_job_at_its_time_limit_is_vacated(cluster, jobdir):
    d = jobdir()
    # seen by Slurm as 1 minute: the limit comes after 40 s at the earliest
    job = cluster.sbatch(SCRIPT.format(n=4800), "--checkpoint=UNLIMITED", "--checkpoint-at-limit", "-t", "1", "-o", "out", cwd=d)
    cluster.wait_running(job)
    e = cluster.wait_entry(job, lambda e: e["state"] == "vacated", "the job to be vacated", 90)
    assert e["epoch"] == "1"
    assert "the time limit is near" in cluster.log(job) and "before its time limit" in cluster.log(job)
    cluster.wait_state(job, "PENDING")
    assert "restored from epoch 1" in cluster.checkpoint("restart", job)
    lib.hurry(d)
    assert cluster.wait_end(job, 90) == ("COMPLETED", "0:0")
    expect_whole((d / "out").read_text(), 4800)


def test_a_job_continues_at_its_time_limit_until_its_total_is_used_up(cluster, jobdir):
    d = jobdir()
    job = cluster.sbatch(SCRIPT.format(n=4800), "--checkpoint=UNLIMITED", "--checkpoint-at-limit=continue:1:10", "-t", "1", "-o", "out", cwd=d)
    cluster.wait_running(job)
    # The first leg ends 20 s before the limit of 60 s, and the total of 70 s in the next one.
    e = cluster.wait_entry(job, lambda e: e.get("restored") == "1" and e["state"] == "running", "the next leg", lib.DEADLINE * 3)
    log = cluster.log(job)
    assert "is saved and goes back into the queue" in log and "saved before its time limit at epoch 1; the job waits" in log
    assert re.match("00:00:[34]", e["used"]), e
    e = cluster.wait_entry(job, lambda e: e["state"] == "vacated", "the job to be held", lib.DEADLINE * 2)
    assert "total running time" in e["error"] and "is used up" in e["error"] and e["epoch"] == "2"
    assert "used" not in e
    cluster.wait_state(job, "PENDING")
    assert "restored from epoch 2" in cluster.checkpoint("restart", job)    # and has the total again
    lib.hurry(d)
    assert cluster.wait_end(job, 90) == ("COMPLETED", "0:0")
    expect_whole((d / "out").read_text(), 4800)


def test_at_limit_needs_checkpoint(cluster, jobdir):
    (jobdir("x") / "x").touch()
    said = cluster.fails("sbatch", "--checkpoint-at-limit", "--wrap", "true", cwd=jobdir())
    assert "needs --checkpoint" in said
    assert cluster.run("srun", "--checkpoint-at-limit", "true").returncode != 0
    for wrong in ("stop", "continue:", "continue:0"):
        said = cluster.fails("sbatch", "--checkpoint=5", f"--checkpoint-at-limit={wrong}", "--wrap", "true", cwd=jobdir())
        assert "--checkpoint-at-limit: " in said, said


def test_the_option_stays_with_its_job(cluster, jobdir):
    d = jobdir()
    job = cluster.sbatch("env | grep -c checkpoint_at_limit\nsbatch --wrap true -o inner --parsable\n", "--checkpoint=UNLIMITED",
                         "--checkpoint-at-limit", "-o", "out", cwd=d)
    assert cluster.wait_end(job)[0] == "COMPLETED"
    count, inner = (d / "out").read_text().split()
    assert count == "0"
    assert cluster.wait_end(int(inner)) == ("COMPLETED", "0:0")
    assert not cluster.entry(int(inner))
