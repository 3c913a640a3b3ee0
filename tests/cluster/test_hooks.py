"""--checkpoint-signal, --checkpoint-before, --checkpoint-after: what a job does around its checkpoints."""
import lib
from failures import LONG

WAIT = "until [ -e go ]; do sleep 0.1; done\n"


def test_commands_run_in_the_job_before_and_after(cluster, jobdir):
    """As the user, in the job's directory, environment and namespaces. They are no part of the epoch, nor is what they leave running."""
    d = jobdir()
    before = 'echo "before $FSCHED_EPOCH on $FSCHED_NODE as $(id -un) in $(pwd) with $MINE of $(cat /proc/1/comm)" >> said; echo out; echo err >&2; ' \
             'sleep 1000 & setsid sleep 1001 & echo $$ > pid'
    after = 'echo "after $FSCHED_EPOCH" >> said'
    job = cluster.sbatch(f"export IGNORED=1\n{WAIT}echo end\n", "--checkpoint=UNLIMITED", f"--checkpoint-before={before}", f"--checkpoint-after={after}",
                         "--export=ALL,MINE=my value", "-o", "out", "-e", "err", cwd=d)
    cluster.wait_running(job)
    cluster.checkpoint("create", job)
    assert (d / "said").read_text() == f"before 1 on t1 as {lib.USER} in {d} with my value of fsched-init\n"
    assert (d / "out").read_text() == "out\n" and "err\n" in (d / "err").read_text()
    assert not [p for p in cluster.pod_pids(job) if lib.command(p)[:1] == ["sleep"] and lib.command(p)[1] in ("1000", "1001")]
    cluster.checkpoint("vacate", job)
    assert "restored from epoch 2" in cluster.checkpoint("restart", job)
    lib.wait_for(lambda: "after 2\n" in (d / "said").read_text(), "the command after the restore")
    assert "warning" not in cluster.log(job).replace("is a directory of", "")
    (d / "go").touch()
    assert cluster.wait_end(job) == ("COMPLETED", "0:0")
    assert (d / "out").read_text() == "out\nout\nend\n"


def test_a_command_has_the_limits_of_the_script(cluster, jobdir):
    """Not those of the agent, which is root: resource limits, umask, oom_score_adj, CPUs, no_new_privs and bounding set."""
    d = jobdir()
    tell = "{ umask; ulimit -Sn; ulimit -Hn; ulimit -Sc; cat /proc/self/oom_score_adj; grep -E '^(Cpus_allowed|NoNewPrivs|CapBnd):' /proc/self/status; } 2>&1"
    script = f"[ \"$1\" ] || exec setpriv --no-new-privs bash $0 again\numask 077\nulimit -Sn 300\nulimit -Hn 700\nulimit -c 0\necho 7 > /proc/self/oom_score_adj\n{tell} > of_script\n{WAIT}"
    job = cluster.sbatch(script, "--checkpoint=UNLIMITED", f"--checkpoint-before={tell} > of_command; ls -l /proc/self/fd > descriptors", cwd=d)
    cluster.wait_running(job)
    lib.wait_for(lambda: (d / "of_script").exists() and (d / "of_script").read_text().count("\n") == 8, "the script")
    cluster.checkpoint("create", job)
    assert (d / "of_command").read_text() == (d / "of_script").read_text()
    assert (d / "of_command").stat().st_mode & 0o777 == 0o600
    opened = [line.split()[8] for line in (d / "descriptors").read_text().splitlines()[1:]]
    assert opened == ["0", "1", "2", "3"]       # 3: the directory that ls reads
    (d / "go").touch()
    assert cluster.wait_end(job) == ("COMPLETED", "0:0")


def test_a_command_that_fails_or_hangs_costs_no_checkpoint(new_cluster, jobdir):
    c = new_cluster(conf=["CheckpointHookTime=2", "CRIU_MaxEpochs=3"])
    d = jobdir()
    job = c.sbatch(WAIT, "--checkpoint=UNLIMITED", "--checkpoint-before=[ -e hang ] && sleep 1000; exit 3", "--checkpoint-after=kill -9 $$", cwd=d)
    c.wait_running(job)
    c.checkpoint("create", job)
    assert "warning: the job's command before epoch 1 (--checkpoint-before) ended with exit status 3" in c.log(job)
    (d / "hang").touch()
    c.checkpoint("vacate", job)
    assert "before epoch 2 (--checkpoint-before) was killed after 2 s (CheckpointHookTime)" in c.log(job)
    c.checkpoint("restart", job)
    lib.wait_for(lambda: "after the restore of epoch 2 (--checkpoint-after) was killed by signal 9" in c.log(job), "the warning")
    assert c.epochs(job) == [1, 2]
    (d / "go").touch()
    assert c.wait_end(job, LONG) == ("COMPLETED", "0:0")


def test_a_signal_comes_before_each_checkpoint(cluster, jobdir):
    """A process that does not handle it goes on."""
    d = jobdir()
    script = "trap 'date +%s.%N >> got' USR1\nbash -c 'trap \"echo child >> got\" USR1; until [ -e go ]; do sleep 0.1; done' &\nsleep 1000 & s=$!\n" \
             f"touch up\n{WAIT}kill $s && echo alive\nwait\n"
    both = cluster.sbatch(script, "--checkpoint=UNLIMITED", "--checkpoint-signal=USR1@2", "-o", "out", cwd=d)
    alone_d = jobdir("alone")
    alone = cluster.sbatch(script, "--checkpoint=UNLIMITED", "--checkpoint-signal=B:SIGUSR1@1", "-o", "out", cwd=alone_d)
    for job, where in (both, d), (alone, alone_d):
        cluster.wait_running(job)
        lib.wait_for((where / "up").exists, "the script")
        lib.wait_for(lambda: "epoch 1 saved" in cluster.checkpoint("create", job), "an epoch")
        made = cluster.record(job)["epochs"][0]["time"]
        lines = (where / "got").read_text().split()
        assert lines.count("child") == (job == both)
        assert made - float([line for line in lines if line != "child"][0]) > (0 if job == alone else 0.8)
        (where / "go").touch()
        assert cluster.wait_end(job) == ("COMPLETED", "0:0")
        assert (where / "out").read_text().endswith("alive\n")


def test_a_vacate_does_not_wait_for_the_hooks_of_another_checkpoint(new_cluster, jobdir):
    c = new_cluster(conf=["CheckpointHookTime=1000"])
    d = jobdir()
    job = c.sbatch(WAIT, "--checkpoint=UNLIMITED", "--checkpoint-before=[ -e begun ] || { touch begun; sleep 1000; }", cwd=d)
    c.wait_running(job)
    c.ok("sh", "-c", f"scontrol checkpoint create {job} >/dev/null 2>&1 &")
    lib.wait_for((d / "begun").exists, "the command")
    c.checkpoint("vacate", job)
    assert "before epoch 1 (--checkpoint-before) was cut short" in c.log(job)
    assert c.epochs(job) == [2]
    assert "restored from epoch 2" in c.checkpoint("restart", job)
    (d / "go").touch()
    assert c.wait_end(job) == ("COMPLETED", "0:0")


def test_the_options_are_checked_and_stay_with_their_job(cluster, jobdir):
    for o in "signal=USR1@5", "before=true", "after=true":
        said = cluster.fails("sbatch", f"--checkpoint-{o}", "--wrap", "true", cwd=jobdir())
        assert f"--checkpoint-{o.split('=')[0]} needs --checkpoint too" in said
    for wrong in "USR1", "KILL@5", "USR1@0":
        assert "allowed: [B:]SIGNAL@SECONDS" in cluster.fails("sbatch", "--checkpoint=5", f"--checkpoint-signal={wrong}", "--wrap", "true", cwd=jobdir())
    assert "longer than 4095" in cluster.fails("sbatch", "--checkpoint=5", f"--checkpoint-before={'x' * 5000}", "--wrap", "true", cwd=jobdir())
    d = jobdir()
    job = cluster.sbatch("env | grep -c checkpoint_\n", "--checkpoint=UNLIMITED", "--checkpoint-before=true", "--checkpoint-signal=USR1@5", "-o", "out", cwd=d)
    assert cluster.wait_end(job)[0] in ("COMPLETED", "FAILED")
    assert (d / "out").read_text() == "0\n"
