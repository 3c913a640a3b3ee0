"""Nodes that die, lose their link, or cannot restore a job, on simulated hosts. `make test-recovery` runs this suite alone."""
import os
import random
import signal
import subprocess
import time

import pytest

import lib
from failures import (all_well, ENDS, FAST, FSCHED, LONG, SCRIPT, SOAK, counters, expect_whole, pass_time, resume, steps, submit, wait_host,
                      wait_restored)


def test_power_failure_with_the_timeouts_of_the_specification(new_cluster, jobdir, record_property):
    c = new_cluster(conf=["CRIU_MaxEpochs=2"], hosts=3, slurm_conf=[
        "SlurmdTimeout=15", "BatchStartTimeout=10",
        "AuthInfo=socket=/run/munge/munge.socket.2,cred_expire=180,ttl=180,requeue_timeout=30"])
    d = jobdir()
    job = submit(c, d, 600)
    c.checkpoint("create", job)
    lib.wait_for(lambda: steps(d) > 20, "some steps")
    off = time.time()
    c.kill_node("n1")
    done = steps(d)
    down = lib.wait_for(lambda: "down" in c.ok("sinfo", "-h", "-n", "n1", "-o", "%T") and time.time(), "n1 to be down", LONG)
    started = lib.wait_for(lambda: c.job(job).get("BatchHost") in ("n2", "n3") and time.time(), "the job to start again", LONG)
    lib.wait_for(lambda: steps(d) < done or c.entry(job).get("restored"), "the job to be restored", LONG)
    before = steps(d)
    again = lib.wait_for(lambda: steps(d) > before and time.time(), "the job to compute", LONG)
    record_property("say", f"recovery: computing again {again - off:.1f} s after power-off "
                    f"(node down after {down - off:.1f} s, job started after {started - off:.1f} s)")
    assert c.job(job)["Restarts"] == "1"
    assert c.wait_end(job, LONG) == ("COMPLETED", "0:0")
    expect_whole(d, 600)


@pytest.mark.parametrize("moment", ["checkpoint", "rename", "vacate", "restore"])
def test_power_failure_in_the_middle(hosts, jobdir, moment):
    c, d = hosts, jobdir()
    job = submit(c, d, 250)
    c.checkpoint("create", job)
    epochs = c.ckpt_dir(job) / "epochs"
    if moment == "restore":
        c.kill_node("n1")
        lib.wait_for(lambda: "restoring" == c.entry(job).get("state") and c.job(job).get("BatchHost") in ("n2", "n3"), "a restore", LONG,
                     0.01)
        c.kill_node(c.job(job)["BatchHost"])
    else:
        c.run("scontrol", "checkpoint", "vacate" if moment == "vacate" else "create", job, "--no-wait", timeout=LONG) \
            if moment == "vacate" else c.ok("sh", "-c", f"scontrol checkpoint create {job} >/dev/null 2>&1 &")
        if moment == "checkpoint":
            lib.wait_for((epochs / "000002.partial").exists, "the next epoch to be begun", poll=0.002)
        elif moment == "rename":
            lib.wait_for((epochs / "000002").exists, "the next epoch to be complete", poll=0.001)
        c.kill_node("n1")
    if moment == "vacate":
        # Slurm lets go of a job that was completing on a node only when that node is back
        c.up("n1")
        lib.wait_for(lambda: c.state(job) == "PENDING" and "COMPLETING" not in c.job(job)["line"] or c.entry(job).get("restored"),
                     "slurmctld to let go of the job", LONG)
        if c.job(job)["Priority"] == "0":
            c.checkpoint("restart", job)
    e = wait_restored(c, job)
    assert e["restored"] in ("1", "2")
    assert not list(epochs.glob("*.partial"))
    assert c.wait_end(job, LONG) == ("COMPLETED", "0:0")
    expect_whole(d, 250)


def test_reboot(hosts, jobdir):
    """The node is up again before Slurm has noticed its failure."""
    c, d = hosts, jobdir()
    begun = time.monotonic()
    job = submit(c, d, 230)
    # BatchStartTimeout and MessageTimeout: that a younger job is not there Slurm notices at the next registration but one
    pass_time(18, "Slurm to take the start for complete", begun)
    c.checkpoint("create", job)
    c.kill_node("n1")
    c.up("n1")
    wait_restored(c, job)
    # what an agent of the run before still has to tell is no news, if it comes from behind a link that was cut
    slurm = next(c.dir.glob("stage/usr/libexec/fsched/fsched-slurm"))
    for run, shown in (0, None), (1, "n9"):
        c.ok("env", f"FSCHED_RESTART_COUNT={run}", slurm, "publish", job, '{"tried":"n9"}', user="root")
        assert c.entry(job).get("tried") == shown
    assert c.wait_end(job, LONG) == ("COMPLETED", "0:0")
    expect_whole(d, 230)


def test_a_node_that_is_shut_down(hosts, jobdir):
    """As systemd does it: every process gets SIGTERM, the job's and slurmstepd too, which reports that the job has failed unless it is kept from
    that, or munged ends before."""
    c, d = hosts, jobdir()
    job = submit(c, d, 250)
    c.checkpoint("create", job)
    p = c.exec("n1", "sh", "-c", "mkdir -p /run/systemd/system && printf '#!/bin/sh\\necho stopping\\nexit 1\\n' >/run/systemctl && "
               "chmod 755 /run/systemctl && mount --bind /run/systemctl /usr/bin/systemctl && "
               "for p in $(pgrep -v 'munged|^sh$'); do [ $p = 1 ] || kill -TERM $p; done; true")
    try:
        assert p.returncode == 0, p.stdout + p.stderr
        lib.wait_for(lambda: c.exec("n1", "pgrep", "slurmstepd|fsched").returncode == 1, "the end of the job there", LONG)
    finally:
        c.kill_node("n1")
        c.up("n1")
    assert c.state(job) in ("RUNNING", "PENDING") and c.entry(job)["state"] != "ended", c.job(job)["line"]
    assert "the node is being shut down" in c.log(job), c.log(job)
    wait_restored(c, job)
    assert c.wait_end(job, LONG) == ("COMPLETED", "0:0")
    expect_whole(d, 250)


@pytest.mark.parametrize("late", ["a young job", "a new slurmctld"])
def test_a_boot_after_which_slurm_misses_the_job_late(new_cluster, jobdir, late):
    """slurmctld does not look for a job that is younger than BatchStartTimeout and MessageTimeout when the node registers, counted from its own
    start if that is later. With its default SlurmdTimeout the node registers again after half an hour."""
    c = new_cluster(conf=FSCHED, hosts=1, slurm_conf=["SlurmdTimeout=300", f"BatchStartTimeout={60 if late == 'a young job' else 10}",
                                                      *(s for s in FAST if not s.startswith(("SlurmdTimeout", "BatchStart")))])
    d = jobdir()
    begun = time.monotonic()
    job = c.sbatch(SCRIPT.format(n=400), "--checkpoint=UNLIMITED", "-o", "out", cwd=d)
    c.wait_running(job)
    if late == "a new slurmctld":
        pass_time(18, "Slurm to take the start for complete", begun)
        c.lab.stop_daemon("slurmctld")
        c.lab.start_daemon("slurmctld")
    c.checkpoint("create", job)
    c.kill_node("n1")
    c.up("n1")
    wait_restored(c, job)
    assert c.job(job)["Restarts"] == "1"
    assert c.wait_end(job, LONG) == ("COMPLETED", "0:0")
    expect_whole(d, 400)


def test_a_node_that_reboots_again_and_again(new_cluster, jobdir):
    """Slurm holds a job that was missing on its node for the sixth time. A job with a new epoch is released all the same."""
    c = new_cluster(conf=FSCHED, hosts=1, slurm_conf=[s.replace("Timeout=10", "Timeout=1") for s in FAST])
    d = jobdir()
    job = c.sbatch(SOAK, "--checkpoint=UNLIMITED", "-o", "out", cwd=d)
    c.wait_running(job)
    for i in range(6):
        c.checkpoint("create", job)
        pass_time(5, "Slurm to take the start for complete")
        c.kill_node("n1")
        c.up("n1")
        # each run is restored from an epoch of its own, so the entry is not that of the one before
        c.wait_entry(job, lambda e: e["state"] == "running" and e.get("restored") == str(i + 1), f"restart {i + 1}", LONG)
    assert "Holding JobId" in (c.dir / "log" / "slurmctld.log").read_text(), "Slurm did not hold it: what is this test for?"
    assert c.job(job)["Restarts"] == "6"
    (d / "stop").touch()
    assert c.wait_end(job, LONG) == ("COMPLETED", "0:0")
    got = counters(d)
    assert got == list(range(len(got)))


def test_node_set_down_while_it_lives(hosts, jobdir):
    c, d = hosts, jobdir()
    job = submit(c, d, 200)
    c.checkpoint("create", job)
    c.ok("scontrol", "update", "nodename=n1", "state=down", "reason=test", user="root")
    wait_restored(c, job)
    assert c.wait_end(job, LONG) == ("COMPLETED", "0:0")
    expect_whole(d, 200)


def test_what_leaves_a_job_alone(hosts, jobdir):
    """Drain, restart of slurmd, restart of slurmctld."""
    c, d = hosts, jobdir()
    job = submit(c, d, 250)
    c.checkpoint("create", job)
    c.ok("scontrol", "update", "nodename=n1", "state=drain", "reason=test", user="root")
    for daemon in ("slurmd.n1", "slurmctld"):
        c.lab.stop_daemon(daemon)
        c.lab.start_daemon(daemon)
    c.checkpoint("create", job)
    assert c.job(job)["Restarts"] == "0"
    assert c.wait_end(job, LONG) == ("COMPLETED", "0:0")
    expect_whole(d, 250)


def test_a_requeue_by_a_person_continues_on_another_node(hosts, jobdir):
    """As an administrator does who drains a node and cannot wait."""
    c, d = hosts, jobdir()
    job = submit(c, d, 100)
    c.checkpoint("create", job)
    lib.wait_for(lambda: steps(d) > 20, "some steps")
    c.ok("scontrol", "update", "nodename=n1", "state=drain", "reason=test", user="root")
    c.ok("scontrol", "requeue", job, user="root")
    wait_restored(c, job)
    assert c.job(job)["BatchHost"] != "n1"
    assert c.wait_end(job, LONG) == ("COMPLETED", "0:0")
    expect_whole(d, 100)


@pytest.mark.parametrize("how", ["asap", "later"])
def test_a_reboot_waits_for_the_job(new_cluster, base_dir, jobdir, how):
    """scontrol reboot lets jobs run on, with asap on a node that takes no others. The job is moved away by a requeue, and the node reboots."""
    rebooted = base_dir / f"rebooted.{how}"
    program = base_dir / f"reboot.{how}"
    program.write_text(f"#!/bin/sh\ntouch {rebooted}\n")
    program.chmod(0o755)
    c = new_cluster(conf=FSCHED, hosts=2, slurm_conf=[*FAST, f"RebootProgram={program}"])
    d = jobdir()
    job = submit(c, d, 250)
    c.checkpoint("create", job)
    c.ok("scontrol", "reboot", *(["asap"] if how == "asap" else []), "nextstate=resume", "reason=test", "n1", user="root")
    before = steps(d)
    lib.wait_for(lambda: steps(d) > before + 10, "the job to go on")
    assert not rebooted.exists() and c.job(job)["Restarts"] == "0"
    if how == "later":      # Slurm may start other jobs there, and so this one
        c.ok("scontrol", "update", "nodename=n1", "state=drain", "reason=test", user="root")
    c.ok("scontrol", "requeue", job, user="root")
    wait_restored(c, job)
    assert c.job(job)["BatchHost"] == "n2"
    lib.wait_for(rebooted.exists, "the reboot", LONG)
    assert c.wait_end(job, LONG) == ("COMPLETED", "0:0")
    expect_whole(d, 250)


def wait_done(c, job):
    lib.wait_for(lambda: c.record(job)["intent"] == "done", "the script's end to be recorded")


def expect_not_run_again(c, d, job, how):
    assert (d / "log").read_text() == "begun\n", "it has run again"
    assert "restored from" not in c.log(job)
    assert f"not run again: the script {how} on node n1" in c.log(job)
    assert f"not run again: the script {how} on node n1" in c.entry(job)["error"]
    assert "fsched" not in (d / "out").read_text()


@pytest.mark.parametrize("last, end, how, epoch", [
    ("exit 0", ("COMPLETED", "0:0"), "ended with exit status 0", True),
    ("exit 7", ("FAILED", "7:0"), "ended with exit status 7", False),
    ("kill -SEGV $$", ("FAILED", "0:11"), "was killed by signal 11", False),
])
def test_a_script_that_ends_on_a_cut_node_does_not_run_again(hosts, jobdir, last, end, how, epoch):
    """Slurm requeues the job because it has not received its end."""
    c, d = hosts, jobdir()
    job = submit(c, d, script=ENDS + last)
    if epoch:
        c.checkpoint("create", job)
    c.cut("n1")
    (d / "go").touch()
    wait_done(c, job)
    assert c.wait_end(job, LONG) == end
    assert c.job(job)["Restarts"] == "1"
    expect_not_run_again(c, d, job, how)
    assert c.entry(job)["state"] == "ended"
    if not epoch:
        return
    # now it is a person who wants it
    c.ok("scontrol", "requeue", job)
    lib.wait_for(lambda: (d / "log").read_text() == "begun\nbegun\n", "the job to run again", LONG)
    assert c.wait_end(job, LONG) == end


def test_a_task_that_ends_before_a_power_failure_does_not_run_again(hosts, jobdir):
    """A task of an array. The power fails before the node has reported the end to Slurm."""
    c, d = hosts, jobdir()
    job = submit(c, d, 0, "--array=3", script=ENDS)
    c.cut("n1")
    (d / "go").touch()
    wait_done(c, job)
    c.kill_node("n1")
    assert c.wait_end(job, LONG) == ("COMPLETED", "0:0")
    expect_not_run_again(c, d, job, "ended with exit status 0")


def test_a_restored_script_that_ends_on_a_cut_node_does_not_run_again(hosts, jobdir):
    """It starts neither from the beginning nor from the epoch of its vacate."""
    c, d = hosts, jobdir()
    job = submit(c, d, script=ENDS)
    c.checkpoint("vacate", job)
    c.ok("scontrol", "update", "nodename=n2,n3", "state=drain", "reason=test", user="root")
    c.checkpoint("restart", job)
    c.ok("scontrol", "update", "nodename=n2,n3", "state=resume", user="root")
    restored = c.log(job).count("restored from")
    c.cut("n1")
    (d / "go").touch()
    wait_done(c, job)
    assert c.wait_end(job, LONG) == ("COMPLETED", "0:0")
    assert c.log(job).count("restored from") == restored == 1
    assert (d / "log").read_text() == "begun\n"


def test_a_cancelled_job_that_is_requeued_starts_over(hosts, jobdir):
    """The script ends with status 0, and Slurm accepts no update of a cancelled job's entry."""
    c, d = hosts, jobdir()
    job = submit(c, d, script="trap 'exit 0' TERM\n" + ENDS)
    c.ok("scancel", job)
    lib.wait_for(lambda: c.state(job) == "CANCELLED" and "COMPLETING" not in c.job(job)["line"], "the job's end", LONG)
    (d / "go").touch()
    c.ok("scontrol", "requeue", job)
    assert c.wait_end(job, LONG) == ("COMPLETED", "0:0")
    assert (d / "log").read_text() == "begun\nbegun\n"


def test_a_cut_node_stops_the_job(hosts, jobdir):
    c, d = hosts, jobdir()
    job = submit(c, d, 300)
    c.checkpoint("create", job)
    agent = c.agent_pid(job)
    pod = c.pod_pids(job)
    assert pod
    c.cut("n1")
    host = wait_host(c, job, "n1")
    wait_restored(c, job)
    assert "claim" not in (c.entry(job).get("error") or "")
    lib.wait_for(lambda: not any(lib.alive(p) for p in pod), "the old copy to be dead")
    assert "stopped on node n1" in c.log(job)
    c.heal("n1")
    lib.wait_for(lambda: not lib.alive(agent), "the old agent to be gone", LONG)
    assert c.job(job)["BatchHost"] == host
    assert c.wait_end(job, LONG) == ("COMPLETED", "0:0")
    expect_whole(d, 300)


def test_a_job_whose_lease_is_not_renewed_is_stopped(hosts, jobdir):
    """The process that renews the lease hangs, as in a file system that does not answer. Slurm does not notice."""
    c, d = hosts, jobdir()
    job = submit(c, d, 300)
    c.checkpoint("create", job)
    pod = c.pod_pids(job)
    keepers = [p for p in lib.children(c.agent_pid(job)) if lib.comm(p) == "fsched-agent"]
    assert keepers and pod
    for p in keepers:
        os.kill(p, signal.SIGSTOP)
    lib.wait_for(lambda: not any(lib.alive(p) for p in pod), "the job to be stopped", 30)
    wait_restored(c, job)
    assert c.wait_end(job, LONG) == ("COMPLETED", "0:0")
    expect_whole(d, 300)


def test_a_node_that_cannot_restore_is_excluded(hosts, jobdir):
    c, d = hosts, jobdir()
    job = submit(c, d, 250)
    c.checkpoint("create", job)
    # n2 is another processor: it lacks an instruction set
    c.exec("n2", "sh", "-c", "sed 's/ sse2 / /' /proc/cpuinfo > /run/cpuinfo && mount --bind /run/cpuinfo /proc/cpuinfo")
    try:
        c.kill_node("n1")      # Slurm takes n2 before n3
        e = wait_restored(c, job)
    finally:
        c.exec("n2", "umount", "/proc/cpuinfo")
    assert c.job(job)["BatchHost"] == "n3"
    assert e["tried"] == "n2"
    assert "lacks" in c.log(job) and "sse2" in c.log(job)
    assert c.wait_end(job, LONG) == ("COMPLETED", "0:0")
    expect_whole(d, 250)


def test_a_node_without_the_directory_is_excluded(hosts, jobdir):
    c, d = hosts, jobdir()
    job = submit(c, d, 250)
    c.checkpoint("create", job)
    place = c.ckpt_dir(job).parent
    c.exec("n2", "sh", "-c", f"mkdir -p /run/empty && mount --bind /run/empty {place}")
    try:
        c.ok("scontrol", "update", "nodename=n1,n3", "state=drain", "reason=test", user="root")
        c.checkpoint("vacate", job)
        said = c.run("scontrol", "checkpoint", "restart", job, "--no-wait")
        assert said.returncode == 3, said
        lib.wait_for(lambda: c.job(job).get("BatchHost") == "n2" or c.entry(job)["state"] == "held", "n2 to try", LONG)
        # n1 and n3 are drained: nobody else can have it
        e = c.wait_entry(job, lambda e: e["state"] == "held", "the job to be held", LONG)
        assert "JobCheckpointDir" in e["error"]
        c.ok("scontrol", "update", "nodename=n3", "state=resume", user="root")
        lib.wait_for(lambda: c.state(job) == "PENDING" and "COMPLETING" not in c.job(job)["line"], "the job to wait", LONG)
        assert c.run("scontrol", "checkpoint", "restart", job, "--no-wait").returncode == 3
        wait_restored(c, job)
    finally:
        c.exec("n2", "umount", str(place))
    assert c.job(job)["BatchHost"] == "n3"
    assert c.wait_end(job, LONG) == ("COMPLETED", "0:0")
    expect_whole(d, 250)


def test_fail_over_to_a_backup_controller(new_cluster, jobdir):
    """The job goes on, requests work, and the backup's fsched-requeue handles the next failure."""
    c = new_cluster(conf=FSCHED, hosts=3, backup="n3", slurm_conf=[*FAST, "SlurmctldTimeout=10"])
    d = jobdir()
    job = submit(c, d, 900)
    c.checkpoint("create", job)
    # slurmctld writes its state some seconds after a change; what it had not written its backup does not know
    saved, since = c.dir / "state" / "job_state", time.time()
    lib.wait_for(lambda: saved.exists() and saved.stat().st_mtime > since, "slurmctld to save its state", LONG)
    c.kill_node("ctl")
    lib.wait_for(lambda: c.run("scontrol", "checkpoint", "create", job, host="n3", timeout=LONG).returncode == 0,
                 "the backup to serve", LONG, 1)
    last = max(c.epochs(job))
    assert last >= 2
    c.kill_node("n1")

    def restored():
        p = c.run("scontrol", "show", "job", job, "-o", host="n3", user="root", timeout=LONG)
        e = lib.parse_checkpoint(p.stdout)
        return p.returncode == 0 and e and e["state"] == "running" and e.get("restored") == str(last)
    lib.wait_for(restored, "the job to be restored", LONG, 0.5)
    lib.wait_for(lambda: (d / "out").read_text().endswith("end\n"), "the job's end", LONG)
    expect_whole(d, 900)
    c.up("ctl")


def test_a_job_that_was_suspended_for_longer_than_its_lease_goes_on(hosts, jobdir):
    """Slurm stops the agent with the job, so the lease is not renewed. The agent still has the lease when both continue."""
    c, d = hosts, jobdir()
    job = submit(c, d, 100)
    lease = c.ckpt_dir(job) / "lease"
    lib.wait_for(lambda: lease.exists() and steps(d) > 5, "the job and its lease")
    c.ok("scontrol", "suspend", job, user="root")
    lib.wait_for(lambda: time.time() - lease.stat().st_mtime > 8, "the lease to run out")
    c.ok("scontrol", "resume", job, user="root")
    assert c.wait_end(job, LONG) == ("COMPLETED", "0:0")
    assert c.job(job)["Restarts"] == "0"
    assert "stopped on node" not in c.log(job)
    expect_whole(d, 100)


def test_slurm_forgets_where_a_job_runs(new_cluster, base_dir, jobdir):
    """A node comes back while the job waits, and ends what it still has of the job. The message with the end of its epilog arrives after the
    job's next start on the same node. slurmctld before 25.05 takes it for the end of the new run there, has the node kill it at the next
    registration, and calls it RUNNING for ever."""
    hold, epilog = base_dir / "epilog.hold", base_dir / "epilog"
    port = 6817     # of slurmctld on simulated hosts
    epilog.write_text(f"""#!/bin/sh
[ -e {hold} ] || exit 0
/usr/sbin/nft -f - <<END
table inet hold {{
	chain output {{
		type filter hook output priority 0
		tcp dport {port} tcp flags & (syn | ack) == syn drop
	}}
}}
END
""")
    epilog.chmod(0o755)
    version = subprocess.run(["slurmctld", "-V"], capture_output=True, text=True, check=True).stdout.split()[-1]
    if tuple(int(n) for n in version.split(".")[:2]) >= (25, 5):
        pytest.skip(f"Slurm {version} ignores such messages")
    c = new_cluster(conf=FSCHED, hosts=1, slurm_conf=[*[s for s in FAST if "MessageTimeout" not in s], "MessageTimeout=100", f"Epilog={epilog}"])
    d = jobdir()
    job = c.sbatch(SOAK, "--checkpoint=0:03", "-o", "out", cwd=d)
    c.wait_entry(job, lambda e: e["epoch"] != "0", "a first epoch", LONG)
    hold.touch()
    c.cut("n1")
    c.ok("scontrol", "update", "nodename=n1", "state=down", "reason=test", user="root")
    c.wait_state(job, "PENDING")
    # The next run must not reach the node before that has ended the first, which is what holds the message back.
    c.ok("scontrol", "update", "partition=batch", "state=down", user="root")
    all_well(c)
    lib.wait_for(lambda: c.exec("n1", "nft", "list", "table", "inet", "hold").returncode == 0, "the end of the first run on its node", LONG)
    lib.wait_for(lambda: c.exec("n1", "pgrep", "slurmstepd").returncode == 1, "the end of its step", LONG)
    c.ok("scontrol", "update", "partition=batch", "state=up", user="root")
    lib.wait_for(lambda: resume(c) and c.state(job) == "RUNNING", "the next run", LONG)
    hold.unlink()
    c.exec("n1", "nft", "delete", "table", "inet", "hold")
    lib.wait_for(lambda: resume(c) and int(c.job(job)["Restarts"]) > 1 and c.state(job) == "RUNNING", "another run", LONG)
    wait_restored(c, job)
    assert f"JobId={job} StepId={job}.batch on wrong node" in (c.dir / "log" / "slurmctld.log").read_text(), "Slurm did not forget it"
    (d / "stop").touch()
    assert c.wait_end(job, LONG) == ("COMPLETED", "0:0")
    got = counters(d)
    assert got == list(range(len(got)))


def test_the_history_tells_what_a_power_failure_cost(hosts, jobdir):
    """The lease says when the job was last alive; the time without its node is no lost work."""
    c, d = hosts, jobdir()
    job = submit(c, d, 400)
    lib.wait_for(lambda: steps(d) > 20, "some steps")
    c.checkpoint("create", job)
    pass_time(6, "some work that will be lost")
    off = time.time()
    c.kill_node("n1")
    wait_restored(c, job)
    h = c.history(job)
    [epoch] = [e for e in h["events"] if e["kind"] == "epoch"]
    [restored] = [e for e in h["events"] if e["kind"] == "restored"]
    lease = 4   # s, FSCHED: a job whose lease is older is stopped; times are cut to seconds
    assert off - lease - 1 <= restored["seen"] <= off + 2, (restored, off)
    assert restored["lost"] == restored["seen"] - epoch["time"] > 0
    assert h["tally"]["restores"] == {"ok": 1} and h["tally"]["lost"] == restored["lost"] and h["tally"]["saved"] > 0
    page = c.ok("fsched", "report", job, "-o", "-", user="root")
    assert ", then lost</title>" in page and f">{c.job(job)['BatchHost']}</span>" in page
    c.ok("scancel", job)
