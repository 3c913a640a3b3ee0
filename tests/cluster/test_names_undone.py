"""Names: after a restore from an older epoch, what the job did to directories, links, renames and deletions since is undone."""
import os

import lib
import pytest
import test_damage as damage
from test_written import progress

SCRIPT = """
mkdir work; cd work
for i in $(seq 1 {steps}); do
	[ -e ../stop ] && exit 1
	said="line $i"
	if [ $((i % 4)) = 0 ]; then mkdir lock || said+=" locked"; fi
	if [ $((i % 4)) = 2 ]; then rmdir lock || said+=" unlocked"; fi
	[ $((i % 5)) = 0 ] && {{ echo "result of $i" > result.$i; ln -sfn result.$i latest; ln result.$i also.$i; }}
	[ $((i % 15)) = 0 ] && rm result.$((i - 5))
	[ -e latest ] && said+=" $(cat latest)"
	if [ $((i % 6)) = 0 ]; then
		n=1; while [ -e "#state.$n#" ]; do n=$((n + 1)); done
		[ -e state ] && mv state "#state.$n#" && said+=" backup $n"
		echo "state of $i" > state
	fi
	[ $((i % 7)) = 0 ] && {{ mkdir -p deep.$i/er && echo $i > deep.$i/er/file && mv deep.$i/er deep.$i/est || said+=" no deep"; }}
	[ $((i % 21)) = 0 ] && {{ rm -r deep.$((i - 14)) || said+=" no $((i - 14))"; }}
	[ $((i % 9)) = 0 ] && {{ mkfifo fifo.$i || said+=" no fifo"; }}
	[ $((i % 8)) = 0 ] && {{ mv fifo.* last-fifo 2> ../mv.err; ln -sT "$i" only-once.$i || said+=" no link"; }}
	echo "$said" >> ../log
	[ -e ../hurry ] || sleep 0.1
done
exit 7
"""


def tree(d):
    """All names below d with their kind and mode, content or target, without the files of Slurm and of the test."""
    found = {}
    for top, dirs, names in os.walk(d):
        for n in dirs + names:
            p = os.path.join(top, n)
            st = os.lstat(p)
            what = os.readlink(p) if os.path.islink(p) else open(p, "rb").read() if os.path.isfile(p) else ""
            if n not in ("job.sh", "out"):
                found[os.path.relpath(p, d)] = (oct(st.st_mode), st.st_nlink if os.path.isfile(p) else 0, what)
    return found


@pytest.mark.parametrize("way", ["vacate", "failure"])
def test_names_follow_the_epoch(new_cluster, jobdir, way):
    c = new_cluster(conf=["CRIU_MaxEpochs = 3"])
    script = SCRIPT.format(steps=120)
    ref, got = jobdir("reference"), jobdir("checkpointed")
    lib.hurry(ref)
    c.wait_end(c.sbatch(script, "-o", "out", cwd=ref))  # Slurm requeues it, too, if it still runs when the node fails
    job = c.sbatch(script, "--checkpoint=UNLIMITED", "-o", "out", cwd=got)
    c.wait_running(job)
    progress(got, 17)
    c.checkpoint("create", job)
    progress(got, 45)
    if way == "vacate":
        c.checkpoint("vacate", job)
        c.checkpoint("restart", job, "--epoch", "1")
    else:
        damage.requeue_by_failure(c, job)
        c.wait_entry(job, lambda e: e["state"] == "running" and e.get("restored"), "the job to be restored", lib.DEADLINE * 3)
    assert "that the job changed after epoch 1" in c.log(job)
    lib.hurry(got)
    assert c.wait_end(job)[1] == "7:0", c.logs(job)
    assert tree(got) == tree(ref), c.log(job)


def test_what_is_not_the_jobs_stays(new_cluster, jobdir):
    """Others work in the job's directory too. A deleted file that was there before the job is told of."""
    c, d = new_cluster(conf=["CRIU_MaxEpochs = 3"]), jobdir()
    (d / "input").write_text("not the job's\n")
    job = c.sbatch("mkdir made; touch up; while [ ! -e go ]; do sleep 0.1; done; rm input; mkdir later later/mine; touch done; until [ -e end ]; do sleep 0.1; done",
                   "--checkpoint=UNLIMITED", "-o", "out", cwd=d)
    lib.wait_for(lambda: (d / "up").exists(), "the script")
    c.checkpoint("create", job)
    (d / "go").touch()
    lib.wait_for(lambda: (d / "done").exists(), "the script to go on")
    (d / "later" / "theirs").write_text("another's\n")
    c.checkpoint("vacate", job)
    (d / "go").unlink()
    c.checkpoint("restart", job, "--epoch", "1")
    said = c.log(job)
    assert (d / "later" / "theirs").read_text() == "another's\n" and not (d / "later" / "mine").exists() and (d / "made").is_dir(), said
    assert not (d / "done").exists()
    assert 'input" was deleted after the checkpoint, and no copy of it was made' in said
    assert 'later" was made or moved after the checkpoint and cannot be removed' in said
    c.run("scancel", job)
