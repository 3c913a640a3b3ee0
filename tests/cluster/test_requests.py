"""Requests that must be refused: each gets its own message and a non-zero exit status, and changes nothing."""
import concurrent.futures
import json
import os
import re
import shutil
import signal
import socket
import subprocess
from pathlib import Path

import pytest

import lib

LATER = 3     # exit status: it has not happened yet and goes on by itself
WAIT = "touch up; while [ ! -e go ]; do sleep 0.1; done; echo end"


@pytest.fixture
def running(cluster, jobdir):
    d = jobdir()
    job = cluster.sbatch(WAIT, "--checkpoint=UNLIMITED", "-o", "out", cwd=d)
    cluster.wait_running(job)
    lib.wait_for(lambda: (d / "up").exists(), "the script")
    return job, d


def test_owner_root_and_nobody_else(cluster, running):
    job, _ = running
    assert "epoch 1" in cluster.checkpoint("create", job)
    assert "epoch 2" in cluster.checkpoint("create", job, user="root")
    said = cluster.fails("scontrol", "checkpoint", "create", job, user="nobody")
    assert "owner" in said
    assert cluster.entry(job)["epoch"] == "2"


@pytest.mark.parametrize("op", ["create", "vacate", "restart"])
def test_unknown_job(cluster, op):
    assert "999999" in cluster.fails("scontrol", "checkpoint", op, 999999)


def test_bad_words(cluster):
    assert "create" in cluster.fails("scontrol", "checkpoint", "explode", 1)
    assert "job" in cluster.fails("scontrol", "checkpoint", "create", "12x")
    assert "job" in cluster.fails("scontrol", "checkpoint", "create")


def test_job_without_checkpoint(cluster, jobdir):
    d = jobdir()
    job = cluster.sbatch(WAIT, cwd=d)
    cluster.wait_state(job, "RUNNING")
    said = cluster.fails("scontrol", "checkpoint", "create", job)
    assert "--checkpoint" in said
    (d / "go").touch()


def test_pending_suspended_finished(cluster, jobdir, running):
    d = jobdir("held")
    held = cluster.sbatch("true", "--hold", "--checkpoint=30", cwd=d)
    assert "pending" in cluster.fails("scontrol", "checkpoint", "create", held)
    assert cluster.fails("scontrol", "checkpoint", "restart", held)
    assert cluster.state(held) == "PENDING"
    job, d = running
    cluster.ok("scontrol", "suspend", job, user="root")
    assert "suspended" in cluster.fails("scontrol", "checkpoint", "create", job)
    cluster.ok("scontrol", "resume", job, user="root")
    cluster.wait_state(job, "RUNNING")
    assert "epoch 1" in cluster.checkpoint("create", job)
    (d / "go").touch()
    assert cluster.wait_end(job) == ("COMPLETED", "0:0")
    assert (d / "out").read_text() == "end\n"
    for op in ("create", "vacate", "restart"):
        said = cluster.fails("scontrol", "checkpoint", op, job)
        assert re.search("ended|finished|COMPLETED", said), said


def test_restart_of_a_running_and_vacate_of_a_vacated_job(cluster, running):
    job, _ = running
    assert "running" in cluster.fails("scontrol", "checkpoint", "restart", job)
    cluster.checkpoint("vacate", job)
    assert "vacated" in cluster.fails("scontrol", "checkpoint", "vacate", job)
    assert "vacated" in cluster.fails("scontrol", "checkpoint", "create", job)
    p = cluster.run("scontrol", "checkpoint", "restart", job, "--no-wait")
    assert p.returncode == LATER and "it will continue from epoch 1" in p.stdout, p
    cluster.wait_entry(job, lambda e: e.get("restored") == "1", "the restore")


def test_restart_at_once_after_a_vacate_takes_its_epoch(cluster, running):
    """The entry shows the previous epoch until the agent has published the new one."""
    job, d = running
    cluster.checkpoint("create", job)
    p = cluster.run("scontrol", "checkpoint", "vacate", job, "--no-wait")
    assert p.returncode == LATER and "epoch 2" in p.stdout, p
    assert "restored from epoch 2" in cluster.checkpoint("restart", job)
    (d / "go").touch()
    assert cluster.wait_end(job) == ("COMPLETED", "0:0")
    assert (d / "out").read_text() == "end\n"


def test_two_vacates_at_once(cluster, running):
    job, d = running
    with concurrent.futures.ThreadPoolExecutor() as pool:
        both = list(pool.map(lambda _: cluster.run("scontrol", "checkpoint", "vacate", job), range(2)))
    assert sorted(p.returncode for p in both) == [0, 1], both
    assert "vacated" in next(p.stderr for p in both if p.returncode)
    assert cluster.entry(job)["state"] == "vacated" and cluster.epochs(job) == [1]
    cluster.checkpoint("restart", job)
    (d / "go").touch()
    assert cluster.wait_end(job) == ("COMPLETED", "0:0")


def test_a_job_that_is_cancelled_while_it_is_vacated_stays_cancelled(cluster, running):
    """The cancel comes after the epoch is complete and before the requeue, which Slurm would accept."""
    job, d = running
    slurm = next(cluster.dir.glob("stage/usr/libexec/fsched/fsched-slurm"))
    real = slurm.with_suffix(".real")
    slurm.rename(real)
    try:
        slurm.write_text(f'#!/bin/sh\ncase "$*" in *requeue-hold*) scancel {job};; esac\nexec {real} "$@"\n')
        slurm.chmod(0o755)
        cluster.fails("scontrol", "checkpoint", "vacate", job)
    finally:
        real.rename(slurm)
    assert cluster.wait_end(job)[0] == "CANCELLED"
    assert cluster.epochs(job) == [1]


def test_a_job_that_is_completing_is_left_alone(cluster, jobdir):
    """slurmctld up to 26.05.3 can crash if such a job is requeued or released."""
    d = jobdir()
    job = cluster.sbatch("trap '' TERM; touch up; while :; do sleep 0.1; done", cwd=d)
    cluster.wait_state(job, "RUNNING")
    lib.wait_for(lambda: (d / "up").exists(), "the script")
    cluster.ok("scontrol", "requeue", job)
    cluster.wait_state(job, "COMPLETING")
    program = next(cluster.dir.glob("stage/usr/libexec/fsched/fsched-slurm"))
    for op in ("requeue", "requeue-hold", "requeue-soon", "release"):
        assert "still completing" in cluster.fails(program, op, job, user="root")


@pytest.mark.parametrize("how", ["restart", "release"])
def test_a_vacated_job_whose_epochs_cannot_be_seen_is_held(cluster, running, how):
    """JobCheckpointDir is another file system, as on a misconfigured node. The job must not start over."""
    job, d = running
    cluster.checkpoint("vacate", job)
    place = cluster.ckpt_dir(job)
    aside = place.with_name(f"aside-{job}")
    place.rename(aside)
    if how == "restart":
        said = cluster.fails("scontrol", "checkpoint", "restart", job)
        assert "JobCheckpointDir" in said and "held" in said
    else:
        cluster.ok("scontrol", "release", job)
    e = cluster.wait_entry(job, lambda e: e["state"] == "held", "the job to be held again")
    assert "JobCheckpointDir" in e["error"] and e["epoch"] == "1"
    lib.wait_for(lambda: "COMPLETING" not in cluster.job(job)["line"], "the node to be free")
    shutil.rmtree(place)
    aside.rename(place)
    assert "restored from epoch 1" in cluster.checkpoint("restart", job)
    (d / "go").touch()
    assert cluster.wait_end(job) == ("COMPLETED", "0:0")
    assert (d / "out").read_text() == "end\n"


def test_the_reason_is_waited_for(cluster, running):
    """Slurm shows the job as held some time before its agent has published the reason."""
    job, d = running
    cluster.checkpoint("vacate", job)
    place = cluster.ckpt_dir(job)
    aside = place.with_name(f"aside-{job}")
    slurm = next(cluster.dir.glob("stage/usr/libexec/fsched/fsched-slurm"))
    real = slurm.with_suffix(".real")
    place.rename(aside)
    slurm.rename(real)
    try:
        slurm.write_text(f'#!/bin/sh\ncase "$*" in *publish*held*) sleep 4;; esac\nexec {real} "$@"\n')
        slurm.chmod(0o755)
        said = cluster.fails("scontrol", "checkpoint", "restart", job)
    finally:
        real.rename(slurm)
        shutil.rmtree(place)
        aside.rename(place)
    assert "JobCheckpointDir" in said and "another epoch" not in said, said
    assert f"scontrol checkpoint restart {job}" in said
    assert "restored from epoch 1" in cluster.checkpoint("restart", job)
    (d / "go").touch()
    assert cluster.wait_end(job) == ("COMPLETED", "0:0")


def test_a_fresh_run_offers_no_epoch_of_the_one_before(cluster, running):
    job, d = running
    cluster.checkpoint("create", job)
    (d / "up").unlink()
    cluster.ok(next(cluster.dir.glob("stage/usr/libexec/fsched/fsched-slurm")), "start-over", job)    # as a job that requeues itself
    cluster.ok("scontrol", "requeue", job)
    lib.wait_for(lambda: cluster.state(job) == "PENDING" and "COMPLETING" not in cluster.job(job)["line"], "the job to wait")
    # slurmd takes no credential of the second in which the last one was revoked
    cluster.ok("scontrol", "update", f"JobId={job}", "StartTime=now+2", user="root")
    cluster.wait_running(job)
    e = cluster.wait_entry(job, lambda e: e["epoch"] == "0", "an entry without the epoch")
    assert "kept" not in e and "time" not in e
    assert re.search(r"^\s*1\s.*before it was started over", cluster.ok("fsched", "list", job, user="root"), re.M)
    lib.wait_for((d / "up").exists, "the script")
    cluster.ok("scontrol", "requeuehold", job)
    lib.wait_for(lambda: cluster.state(job) == "PENDING" and "COMPLETING" not in cluster.job(job)["line"], "the job to wait")
    restarts = cluster.job(job)["Restarts"]
    said = cluster.fails("scontrol", "checkpoint", "restart", job)
    assert f"has no epoch of its present run; `scontrol release {job}' starts it from the beginning" in said
    assert cluster.job(job)["Restarts"] == restarts and cluster.job(job)["Priority"] == "0"
    cluster.ok("scontrol", "update", f"JobId={job}", "StartTime=now+1hour", user="root")
    cluster.ok("scontrol", "release", job)
    assert "will start from the beginning" in cluster.fails("scontrol", "checkpoint", "restart", job)
    assert cluster.epochs(job) == [1]


def updates(cluster, job):
    text = (cluster.dir / "log" / "slurmctld.log").read_text(errors="replace")
    return len(re.findall(rf"setting admin_comment to .*JobId={job}\b", text))


def test_one_update_of_the_entry_for_each_event(cluster, running):
    job, d = running
    for op, most in (("create", 1), ("vacate", 1), ("restart", 2)):     # a restart is two: restoring, running
        before = updates(cluster, job)
        cluster.checkpoint(op, job)
        state = "vacated" if op == "vacate" else "running"
        cluster.wait_entry(job, lambda e: e["state"] == state and e["epoch"] == ("1" if op == "create" else "2"), "the entry")
        assert 1 <= updates(cluster, job) - before <= most, op
    before = updates(cluster, job)
    cluster.checkpoint("able", job)
    cluster.fails("scontrol", "checkpoint", "create", job, user="nobody")
    assert updates(cluster, job) == before


def test_requests_from_another_host(new_cluster, jobdir):
    c = new_cluster(hosts=2)
    d = jobdir()
    job = c.sbatch(WAIT, "--checkpoint=UNLIMITED", "-o", "out", "-w", "n1", cwd=d)
    c.wait_running(job)
    lib.wait_for((d / "up").exists, "the script")
    assert c.ok("scontrol", "checkpoint", "able", job, host="n2") == "Yes\n"
    assert "epoch 1" in c.ok("scontrol", "checkpoint", "create", job, host="n2")
    assert "owner" in c.fails("scontrol", "checkpoint", "create", job, host="n2", user="nobody")
    assert "epoch 2" in c.ok("scontrol", "checkpoint", "vacate", job, host="n2")
    assert "restored from epoch 2" in c.ok("scontrol", "checkpoint", "restart", job, host="n2")
    (d / "go").touch()
    assert c.wait_end(job) == ("COMPLETED", "0:0")


def catches(pid, sig):
    """True if the process has a handler for the signal."""
    mask = re.search(r"SigCgt:\s*(\w+)", Path(f"/proc/{pid}/status").read_text()).group(1)
    return int(mask, 16) & 1 << (sig - 1)


def test_a_person_who_interrupts_is_told_that_it_goes_on(cluster, running):
    job, d = running
    env = {"PATH": cluster.path, "SLURM_CONF": cluster.slurm_conf}
    agent = cluster.agent_pid(job)
    os.kill(agent, signal.SIGSTOP)  # so that the answer waits for us
    try:
        p = subprocess.Popen(["scontrol", "checkpoint", "create", str(job)], env=env, stderr=subprocess.PIPE, text=True)
        lib.wait_for(lambda: catches(p.pid, signal.SIGINT), "the client to have asked")
        p.send_signal(signal.SIGINT)
        said = p.communicate(timeout=lib.DEADLINE)[1]
    finally:
        os.kill(agent, signal.SIGCONT)
    assert p.returncode == -signal.SIGINT
    assert "goes on" in said and f"scontrol show job {job}" in said


def waiting(cluster, job, op):
    """Starts a client that has sent its request."""
    env = {"PATH": cluster.path, "SLURM_CONF": cluster.slurm_conf}
    p = subprocess.Popen(["scontrol", "checkpoint", op, str(job)], env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    lib.wait_for(lambda: catches(p.pid, signal.SIGINT) or p.poll() is not None, "the client to have asked")
    return p


def worker_of(cluster, job):
    return next((p for p in lib.children(cluster.agent_pid(job)) if lib.comm(p) == "fsched-worker"), None)


@pytest.mark.parametrize("how", ["timeout", "interrupt"])
def test_what_waits_is_done_though_its_client_is_gone(cluster, running, how):
    job, d = running
    first = waiting(cluster, job, "create")
    worker = lib.wait_for(lambda: worker_of(cluster, job), "the first operation", poll=0.002)
    os.kill(worker, signal.SIGSTOP)
    try:
        if how == "timeout":
            said = cluster.fails("scontrol", "checkpoint", "create", job, "--timeout", "2")
            said += cluster.fails("scontrol", "checkpoint", "vacate", job, "--timeout", "2")
        else:
            clients = [waiting(cluster, job, op) for op in ("create", "vacate")]
            # an answer has come: the agent has the request
            lib.wait_for(lambda: cluster.run("scontrol", "checkpoint", "able", job).stdout.startswith("Began"), "the agent to be busy")
            for p in clients:
                p.send_signal(signal.SIGINT)
            said = "".join(p.communicate(timeout=lib.DEADLINE)[0] for p in clients)
    finally:
        os.kill(worker, signal.SIGCONT)
    assert said.count("goes on") == 2, said
    assert "epoch 1" in first.communicate(timeout=lib.DEADLINE)[0]
    cluster.wait_state(job, "PENDING")
    e = cluster.wait_entry(job, lambda e: e["state"] == "vacated", "the vacate to be done")
    # the create that waited is left out: the vacate does the same
    assert e["epoch"] == "2"
    assert "restored from epoch 2" in cluster.checkpoint("restart", job)
    (d / "go").touch()
    assert cluster.wait_end(job) == ("COMPLETED", "0:0")
    assert (d / "out").read_text() == "end\n"


def test_an_ended_job_can_be_brought_back(cluster, running):
    job, d = running
    cluster.checkpoint("create", job)
    cluster.wait_entry(job, lambda e: e["epoch"] == "1", "the epoch in the entry")
    cluster.ok("scancel", job)
    cluster.wait_end(job)
    assert f"scontrol requeuehold {job}" in cluster.fails("scontrol", "checkpoint", "restart", job)
    cluster.ok("scontrol", "requeuehold", job)
    assert "restored from epoch 1" in cluster.checkpoint("restart", job)
    (d / "go").touch()
    assert cluster.wait_end(job) == ("COMPLETED", "0:0")


def test_upgrade_between_vacate_and_restart(cluster, running):
    """The epoch holds processes of the old programs."""
    job, d = running
    cluster.checkpoint("vacate", job)
    for name in ("fsched-leader", "fsched-init"):
        program = next(cluster.dir.glob(f"stage/usr/libexec/fsched/{name}"))
        new = program.with_suffix(".new")
        new.write_bytes(program.read_bytes() + b"upgraded")
        new.chmod(0o755)
        new.rename(program)
    cluster.checkpoint("restart", job)
    cluster.checkpoint("vacate", job)
    cluster.checkpoint("restart", job)
    (d / "go").touch()
    assert cluster.wait_end(job) == ("COMPLETED", "0:0")
    assert (d / "out").read_text() == "end\n"


def test_lists_do_all_they_can(cluster, running):
    job, _ = running
    p = cluster.run("scontrol", "checkpoint", "create", f"999998,{job}")
    assert p.returncode != 0
    assert "epoch 1" in p.stdout and "999998" in p.stdout + p.stderr


def test_a_job_cannot_checkpoint_itself(cluster, jobdir):
    d = jobdir()
    job = cluster.sbatch("while [ ! -e go ]; do sleep 0.1; done; scontrol checkpoint create $SLURM_JOB_ID > said 2>&1; echo $? > code\n"
                         "env -u SLURM_JOB_ID scontrol checkpoint create $SLURM_JOB_ID > said2 2>&1; echo $? > code2", "--checkpoint=30", cwd=d)
    cluster.wait_running(job)
    (d / "go").touch()
    assert cluster.wait_end(job) == ("COMPLETED", "0:0")
    assert (d / "code").read_text().strip() != "0" and (d / "code2").read_text().strip() != "0"
    assert "itself" in (d / "said").read_text()
    assert cluster.entry(job)["epoch"] == "0"


def no(cluster, job):
    """`able` says no; returns why."""
    p = cluster.run("scontrol", "checkpoint", "able", job)
    assert (p.returncode, p.stdout) == (0, "No\n"), p
    return p.stderr


def test_able_looks_at_the_job(cluster, jobdir):
    d = jobdir()
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        job = cluster.sbatch("srun true\ntouch up; while [ ! -e one ]; do sleep 0.1; done\n"
                             f"exec 5<>/dev/tcp/127.0.0.1/{port}; touch two; while [ ! -e three ]; do sleep 0.1; done; exec 5>&-\n"
                             "touch four; while [ ! -e go ]; do sleep 0.1; done\n", "--checkpoint=UNLIMITED", cwd=d)
        cluster.wait_running(job)
        lib.wait_for((d / "up").exists, "the script")
        assert cluster.checkpoint("able", job) == "Yes\n"
        (d / "one").touch()
        lib.wait_for((d / "two").exists, "the connection")
        said = no(cluster, job)
        assert f"job {job}: " in said and f"port {port}" in said and "epoch" not in said
    (d / "three").touch()
    lib.wait_for((d / "four").exists, "the end of the connection")
    lib.wait_for(lambda: cluster.checkpoint("able", job) == "Yes\n", "the job to be able")
    e = cluster.entry(job)
    assert e["epoch"] == "0" and "error" not in e and not cluster.epochs(job)
    (d / "go").touch()
    assert cluster.wait_end(job) == ("COMPLETED", "0:0")
    assert "COMPLETED" in no(cluster, job)


def test_able_of_a_job_that_runs_srun_and_of_one_that_waits(cluster, jobdir):
    d = jobdir()
    job = cluster.sbatch("FSCHED_SRUN=real srun sh -c 'touch up; while [ ! -e go ]; do sleep 0.1; done'", "--checkpoint=UNLIMITED", cwd=d)
    cluster.wait_running(job)
    lib.wait_for((d / "up").exists, "the step")
    assert "srun" in no(cluster, job)
    (d / "go").touch()
    held = cluster.sbatch("true", "--hold", "--checkpoint=30", cwd=jobdir())
    assert "pending" in no(cluster, held)
    assert cluster.wait_end(job) == ("COMPLETED", "0:0")


def test_able_on_a_node_that_cannot(new_cluster, jobdir):
    c = new_cluster()
    job = c.sbatch(WAIT, "--checkpoint=UNLIMITED", cwd=jobdir())
    c.wait_running(job)
    assert c.checkpoint("able", job) == "Yes\n"
    c.conf().write_text(re.sub(r"(?m)^CriuPath.*$", "CriuPath = /nonexistent/criu", c.conf().read_text()))
    assert "/nonexistent/criu" in no(c, job)
    worker = next(c.dir.glob("stage/usr/libexec/fsched/fsched-worker"))
    worker.rename(worker.with_suffix(".away"))
    assert "installed completely" in no(c, job)
    assert "error" not in c.entry(job)


def test_what_is_wrong_with_who_asks_is_no_error_of_the_job(cluster, jobdir):
    d = jobdir()
    with socket.create_server(("127.0.0.1", 0)) as server:
        job = cluster.sbatch(f"exec 5<>/dev/tcp/127.0.0.1/{server.getsockname()[1]}; touch up; while [ ! -e one ]; do sleep 0.1; done; exec 5>&-\n"
                             "env -u SLURM_JOB_ID scontrol checkpoint create $SLURM_JOB_ID > said 2>&1; touch two\n"
                             "while [ ! -e go ]; do sleep 0.1; done", "--checkpoint=UNLIMITED", cwd=d)
        cluster.wait_running(job)
        lib.wait_for((d / "up").exists, "the connection")
        cluster.fails("scontrol", "checkpoint", "create", job)
        before = cluster.wait_entry(job, lambda e: "TCP" in e.get("error", ""), "the real error")
    (d / "one").touch()
    lib.wait_for((d / "two").exists, "the request from inside")
    assert "itself" in (d / "said").read_text()
    cluster.fails("scontrol", "checkpoint", "create", job, user="nobody")
    assert cluster.entry(job) == before
    assert "itself" in cluster.log(job)
    # nothing was written meanwhile that comes later
    assert "epoch 1" in cluster.checkpoint("create", job)
    assert "error" not in cluster.wait_entry(job, lambda e: e["epoch"] == "1", "the epoch")
    (d / "go").touch()
    assert cluster.wait_end(job) == ("COMPLETED", "0:0")


def test_waiting_tasks_of_an_array(cluster, jobdir):
    d = jobdir()
    job = cluster.sbatch(WAIT, "--checkpoint=UNLIMITED", "--array=1-4%1", cwd=d)
    cluster.wait_state(f"{job}_1", "RUNNING")
    first = lib.wait_for(lambda: cluster.job(f"{job}_1").get("JobId"), "the first task")
    cluster.wait_running(first)
    lib.wait_for((d / "up").exists, "its script")
    p = cluster.run("scontrol", "checkpoint", "create", job)
    assert p.returncode == 1 and f"job {job}_1: epoch 1" in p.stdout, p
    assert f"job {job}_[2-4]: these tasks wait to start" in p.stderr, p
    p = cluster.run("scontrol", "checkpoint", "able", f"{job}_3")
    assert (p.returncode, p.stdout) == (0, "No\n") and f"job {job}_3 is pending" in p.stderr, p


def test_show_of_a_job_that_has_not_run(cluster, jobdir):
    job = cluster.sbatch("true", "--hold", "--checkpoint=30", cwd=jobdir())
    for user in (lib.USER, "root"):
        p = cluster.run("fsched", "show", job, user=user)
        assert p.returncode == 0 and not p.stderr, p
        assert f"Job:       {job} (it has not run yet)" in p.stdout and "no complete epoch yet" in p.stdout
        assert not re.search("cannot|No such|denied", p.stdout), p


def test_agent_gone(cluster, running):
    job, _ = running
    agent, pod = cluster.agent_pid(job), cluster.pod_pids(job)
    assert pod
    os.kill(agent, signal.SIGKILL)
    lib.wait_for(lambda: not any(lib.alive(p) for p in pod), "the pod to die with its agent", 10)
    state, code = cluster.wait_end(job)
    assert state != "COMPLETED"
    entry = cluster.entry(job)
    assert entry["state"] == "ended" and "agent" not in entry and "killed" in entry["error"]


def test_agent_that_hangs_is_reported(cluster, running):
    job, _ = running
    agent = cluster.agent_pid(job)
    os.kill(agent, signal.SIGSTOP)
    try:
        said = cluster.fails("scontrol", "checkpoint", "create", job, "--timeout", "3")
    finally:
        os.kill(agent, signal.SIGCONT)
    assert "answer" in said
    assert cluster.state(job) == "RUNNING"


def test_able_error_list_show(cluster, running):
    job, _ = running
    assert "Yes" in cluster.checkpoint("able", job)
    cluster.checkpoint("create", job)
    assert cluster.run("scontrol", "checkpoint", "error", job).returncode == 0
    out = cluster.ok("fsched", "list", job, user="root")
    assert re.search(r"^\s*1\s+\d{4}-\d\d-\d\dT", out, re.M), out
    out = cluster.ok("fsched", "show", job, "1", user="root")
    assert "create" in out
    files = json.loads((cluster.ckpt_dir(job) / "epochs/000001/manifest.json").read_text())["files"]
    count = [sum(f["class"] in classes for f in files) for classes in (("append", "inplace"), ("closed",), ("absent",))]
    assert "Files:     %d open for writing, %d written and closed before, %d written and removed before\n" % tuple(count) in out
    assert re.search(r"^\s*1\s", cluster.ok("fsched", "list", job), re.M)


def test_foreign_bytes_do_not_disturb_the_agent(cluster, running):
    job, _ = running
    port = int(cluster.entry(job)["agent"].rsplit(":", 1)[-1])
    for data in (b"GET / HTTP/1.0\r\n\r\n", b"\0" * 70000, b"MUNGE:AAAA:\n", json.dumps({"op": "vacate"}).encode() + b"\n", b""):
        with socket.create_connection(("127.0.0.1", port), timeout=10) as s:
            try:
                s.sendall(data)
                s.shutdown(socket.SHUT_WR)
                s.settimeout(15)
                while s.recv(4096):
                    pass
            except (ConnectionError, BrokenPipeError):
                pass
    assert "epoch 1" in cluster.checkpoint("create", job)


def test_answers_to_another_request_do_not_count(cluster, running):
    """Whoever listens at the agent's address may have recorded an answer that root's agent gave before."""
    job, _ = running
    port = cluster.entry(job)["agent"]
    slurm = next(cluster.dir.glob("stage/usr/libexec/fsched/fsched-slurm"))
    publish = lambda agent: cluster.ok(slurm, "publish", job, json.dumps({"agent": agent}), user="root")
    for nonce in ({}, {"nonce": "0123456789abcdef"}):
        answer = json.dumps({"event": "result", "ok": True, "epoch": 7, "bytes": 1, "frozen_us": 1, "total_us": 1, **nonce})
        cred = cluster.ok("munge", "-S", cluster.munge_socket(), "-s", answer, user="root")
        with socket.create_server(("127.0.0.1", 0)) as listener, concurrent.futures.ThreadPoolExecutor() as pool:
            def replay():
                conn = listener.accept()[0]
                with conn, conn.makefile("rb") as f:
                    f.readline()
                    conn.sendall(cred.strip().encode() + b"\n")
                    f.read()

            publish(str(listener.getsockname()[1]))
            done = pool.submit(replay)
            said = cluster.fails("scontrol", "checkpoint", "create", job)
            done.result(timeout=lib.DEADLINE)
        assert "is not to this request" in said and "not known" in said, said
    publish(port)
    assert cluster.epochs(job) == []
    assert "epoch 1" in cluster.checkpoint("create", job)


def test_everything_else_reaches_the_real_scontrol(cluster):
    real = "/usr/bin/scontrol"
    for args in (["ping"], ["show", "config"], ["-o", "show", "nodes"], ["show", "job", "999999"], ["--version"], ["nonsense"], ["-d", "show", "partition"]):
        a, b = cluster.run("scontrol", *args), cluster.run(real, *args)
        strip = lambda t: re.sub(r"\d{4}-\d\d-\d\dT[\d:]+|LastBusyTime=\S+|CPULoad=\S+|FreeMem=\S+|CPUAlloc=\S+", "", t)
        assert (a.returncode, strip(a.stdout), strip(a.stderr)) == (b.returncode, strip(b.stdout), strip(b.stderr)), args
    a = cluster.run("scontrol", stdin="show hostnames a[1-3]\nquit\n")
    assert "a1" in a.stdout and "a3" in a.stdout


def test_port_range(new_cluster, jobdir):
    """Agents listen within CheckpointPorts. If no port is free, the entry says so, and the job runs with periodic checkpoints."""
    first = free_ports(2)
    c, jobs = new_cluster(conf=[f"CheckpointPorts = {first}-{first + 1}"]), []
    for _ in range(2):
        d = jobdir()
        jobs.append((c.sbatch(WAIT, "--checkpoint=UNLIMITED", "-o", "out", cwd=d), d))
        assert int(c.wait_running(jobs[-1][0])["agent"]) in (first, first + 1)
    assert len({c.entry(job)["agent"] for job, _ in jobs}) == 2
    d = jobdir()
    late = c.sbatch(WAIT, "--checkpoint=0:02", "-o", "out", cwd=d)
    entry = c.wait_entry(late, lambda e: e.get("error"), "the error")
    assert f"cannot listen for requests (ports {first}-{first + 1})" in entry["error"] and "in use" in entry["error"], entry
    c.wait_entry(late, lambda e: int(e["epoch"]) >= 1, "a periodic epoch")
    said = c.fails("scontrol", "checkpoint", "create", late)
    assert "cannot listen for requests" in said, said
    # the others are served as before
    for job, _ in jobs:
        assert "saved" in c.checkpoint("create", job)
    for job, d in [*jobs, (late, d)]:
        (d / "go").touch()
        assert c.wait_end(job) == ("COMPLETED", "0:0")
        assert (d / "out").read_text() == "end\n"


def free_ports(n):
    """First of n consecutive free ports below the ephemeral range."""
    for first in range(21000, 29000, n):
        try:
            for port in range(first, first + n):
                with socket.socket() as s:
                    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    s.bind(("", port))
            return first
        except OSError:
            continue
    raise AssertionError("no free ports")


PENDING = """
import os, socket, time
server = socket.socket(socket.AF_UNIX); server.bind("\\0pending-" + os.environ["SLURM_JOB_ID"]); server.listen()
client = socket.socket(socket.AF_UNIX); client.connect(server.getsockname()); client.send(b"hello")
print("connected", flush=True)
while not os.path.exists("accept"): time.sleep(0.05)
c = server.accept()[0]
print(c.recv(100), flush=True)
while not os.path.exists("go"): time.sleep(0.05)
"""


def test_what_passes_by_itself_is_waited_for(cluster, jobdir):
    """A connection that is not accepted yet, with data in it: the same request succeeds when it is, and says what it is if it stays so."""
    c, d = cluster, jobdir()
    (d / "a.py").write_text(PENDING)
    job = c.sbatch("exec /usr/bin/python3 a.py\n", "--checkpoint=UNLIMITED", "-o", "out", cwd=d)
    c.wait_running(job)
    lib.wait_for(lambda: "connected" in (d / "out").read_text(), "the connection")
    said = c.fails("scontrol", "checkpoint", "create", job)
    assert "not accepted yet" in said and "the job continues" in said, said
    assert c.log(job).count("tried again for 15 s") == 1, c.log(job)
    with concurrent.futures.ThreadPoolExecutor() as pool:
        vacate = pool.submit(c.run, "scontrol", "checkpoint", "vacate", job, timeout=lib.DEADLINE * 2)
        lib.wait_for(lambda: c.log(job).count("tried again for 15 s") == 2, "the first attempt")
        (d / "accept").touch()
        p = vacate.result()
    assert p.returncode == 0 and "vacated" in p.stdout, p.stdout + p.stderr
    c.ok("scontrol", "checkpoint", "restart", job)
    (d / "go").touch()
    assert c.wait_end(job) == ("COMPLETED", "0:0")
    assert (d / "out").read_text() == "connected\nb'hello'\n"
