"""Files that the job writes and closes: after a restore, also from an older epoch, their content is that of an undisturbed run."""
import os

import lib
import test_damage as damage

SCRIPT = """
n=$(cat state 2>/dev/null || echo 0)
for i in $(seq 1 {steps}); do
	[ -e stop ] && exit 1
	echo "line $i" >> log
	n=$(cat state 2>/dev/null || echo 0)
	echo $((n+1)) > state.new
	mv state.new state
	[ $((i % 10)) = 5 ] && echo "kept from step $i" > "kept.$i"
	[ $((i % 10)) = 0 ] && {{ mkdir -p step; echo "file of step $i" > step/$i; }}
	[ $i = 25 ] && rm step/20
	[ $i = 60 ] && rm -r step
	[ $i = 62 ] && mkdir step && echo new > step/60
	[ -e hurry ] || sleep 0.1
done
ls step > listing
echo "done $(cat state)"
exit 7
"""


def tree(d):
    """Content of all files below d by relative path, without the files of Slurm and of the test."""
    found = {}
    for top, _, names in os.walk(d):
        for n in names:
            p = os.path.join(top, n)
            if n != "job.sh":
                with open(p, "rb") as f:
                    found[os.path.relpath(p, d)] = f.read()
    return found


def lines(d):
    return (d / "log").read_text().count("\n") if (d / "log").exists() else 0


def progress(d, steps):
    want = lines(d) + steps
    lib.wait_for(lambda: lines(d) >= want, f"{want} lines in the log")


def test_closed_files_follow_the_epoch(new_cluster, jobdir):
    c = new_cluster(conf=["CRIU_MaxEpochs = 3"])
    script = SCRIPT.format(steps=400)
    ref, got = jobdir("reference"), jobdir("checkpointed")
    lib.hurry(ref)
    plain = c.sbatch(script, "-o", "out", cwd=ref)
    job = c.sbatch(script, "--checkpoint=UNLIMITED", "-o", "out", cwd=got)
    c.wait_running(job)
    progress(got, 8)
    for _ in range(3):
        c.checkpoint("create", job)
        progress(got, 14)
    c.checkpoint("vacate", job)
    at_vacate = lines(got)
    oldest = c.epochs(job)[0]
    assert c.epochs(job) == [2, 3, 4]
    c.checkpoint("restart", job, "--epoch", str(oldest))
    assert lines(got) < at_vacate
    assert f"that the job changed after epoch {oldest}" in c.log(job)
    lib.hurry(got)
    assert c.wait_end(job)[1] == "7:0", c.logs(job)
    c.wait_end(plain)
    assert tree(got) == tree(ref)


def test_again_and_again(new_cluster, jobdir):
    """Each restore uses the oldest epoch. The list of written files must survive that."""
    c = new_cluster(conf=["CRIU_MaxEpochs = 2"])
    script = SCRIPT.format(steps=400)
    ref, got = jobdir("reference"), jobdir("checkpointed")
    lib.hurry(ref)
    plain = c.sbatch(script, "-o", "out", cwd=ref)
    job = c.sbatch(script, "--checkpoint=UNLIMITED", "-o", "out", cwd=got)
    c.wait_running(job)
    for _ in range(3):
        progress(got, 12)
        c.checkpoint("create", job)
        progress(got, 12)
        c.checkpoint("vacate", job)
        c.checkpoint("restart", job, "--epoch", str(c.epochs(job)[0]))
    lib.hurry(got)
    assert c.wait_end(job)[1] == "7:0", c.logs(job)
    c.wait_end(plain)
    assert tree(got) == tree(ref)


def test_a_large_file_that_is_rewritten(new_cluster, jobdir):
    """A file that only grows is truncated, and a file that was seen to be rewritten is copied. Before that is known, the restore names the file."""
    c = new_cluster(conf=["CRIU_MaxEpochs = 3"])
    d = jobdir()
    # one rewrite per file that appears, none of them under way in a freeze: what it is like half-way is chance
    job = c.sbatch("for i in 1 2 3 4 5; do until [ -e step.$i ]; do sleep 0.1; done; yes $i | head -c 3000000 > big; echo $i; done; cat big > last",
                   "--checkpoint=UNLIMITED", "-o", "out", cwd=d)
    c.wait_running(job)

    def step(i):
        (d / f"step.{i}").touch()
        lib.wait_for(lambda: (d / "out").read_text().endswith(f"{i}\n"), f"step {i}")
    for epoch in (1, 2, 3):
        step(epoch)
        c.checkpoint("create", job)
    step(4)
    c.checkpoint("vacate", job)
    (d / "step.4").unlink()
    said = c.run("scontrol", "checkpoint", "restart", job, "--epoch", "3")
    assert "restored from epoch 3" in said.stdout, said.stdout + said.stderr
    assert (d / "big").read_bytes() == b"3\n" * 1500000
    step(4)
    step(5)
    assert c.wait_end(job)[1] == "0:0"
    assert (d / "out").read_text() == "1\n2\n3\n4\n5\n" and (d / "last").read_bytes() == b"5\n" * 1500000


def test_a_new_start_forgets(new_cluster, jobdir):
    """A requeue from the beginning empties the list."""
    c = new_cluster()
    d = jobdir()
    job = c.sbatch('echo x > "run.$SLURM_RESTART_COUNT"; while [ ! -e go ]; do sleep 0.1; done; echo y > late', "--checkpoint=UNLIMITED", "--checkpoint-on-requeue=restart", "-o", "out",
                   cwd=d)
    c.wait_running(job)
    journal = c.ckpt_dir(job) / "written"
    lib.wait_for(lambda: b"/run." in journal.read_bytes(), "the list to name the file")
    c.ok("scontrol", "requeue", job)
    lib.wait_for(lambda: c.job(job).get("Restarts") == "1", "the requeue")
    c.ok("scontrol", "update", f"JobId={job}", "StartTime=now+2", user="root")
    c.wait_running(job)
    lib.wait_for(lambda: b"/run.1\0" in journal.read_bytes(), "the list to name the new file")
    assert journal.read_bytes().count(b"\0") == 1
    c.checkpoint("create", job)
    (d / "go").touch()
    assert c.wait_end(job)[1] == "0:0"


def test_what_a_trap_writes_while_the_job_is_requeued(new_cluster, jobdir):
    """The file is removed: the job continues from an epoch at which it had not been written."""
    c, d = new_cluster(), jobdir()
    job = c.sbatch("trap 'echo term >> traps; exit 1' TERM; trap 'echo exit >> traps' EXIT\n"
                   "touch up; while [ ! -e go ]; do sleep 0.1; done; echo end >> traps", "--checkpoint=UNLIMITED", "-o", "out", cwd=d)
    c.wait_running(job)
    lib.wait_for(lambda: (d / "up").exists(), "the script")
    c.checkpoint("create", job)
    damage.requeue_by_failure(c, job)
    c.wait_entry(job, lambda e: e["state"] == "running" and e.get("restored"), "the job to be restored", lib.DEADLINE * 3)
    (d / "go").touch()
    assert c.wait_end(job) == ("COMPLETED", "0:0")
    assert (d / "traps").read_text() == "end\nexit\n", c.log(job)
