"""Requests that cannot be met: each gets a message of its own, a non-zero exit, and changes nothing."""
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
    cluster.checkpoint("restart", job)


def test_restart_at_once_after_a_vacate_takes_its_epoch(cluster, running):
    """The entry shows the epoch before until the agent has published the new one."""
    job, d = running
    cluster.checkpoint("create", job)
    assert "epoch 2" in cluster.checkpoint("vacate", job, "--no-wait")
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
    """Slurm would requeue it: the cancel comes after the epoch is complete and before the requeue."""
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


@pytest.mark.parametrize("how", ["restart", "release"])
def test_a_vacated_job_whose_epochs_cannot_be_seen_is_held(cluster, running, how):
    """As on a node that has another file system in the place of JobCheckpointDir: the job must not start over."""
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


def catches(pid, sig):
    """Has the process a handler for the signal?"""
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
    """The processes of the epoch are those of the old programs."""
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
    assert re.search(r"^\s*1\s", cluster.ok("fsched", "list", job), re.M)


def test_foreign_bytes_do_not_disturb_the_agent(cluster, running):
    import socket
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


def test_everything_else_reaches_the_real_scontrol(cluster):
    real = "/usr/bin/scontrol"
    for args in (["ping"], ["show", "config"], ["-o", "show", "nodes"], ["show", "job", "999999"], ["--version"], ["nonsense"], ["-d", "show", "partition"]):
        a, b = cluster.run("scontrol", *args), cluster.run(real, *args)
        strip = lambda t: re.sub(r"\d{4}-\d\d-\d\dT[\d:]+|LastBusyTime=\S+|CPULoad=\S+|FreeMem=\S+|CPUAlloc=\S+", "", t)
        assert (a.returncode, strip(a.stdout), strip(a.stderr)) == (b.returncode, strip(b.stdout), strip(b.stderr)), args
    a = cluster.run("scontrol", stdin="show hostnames a[1-3]\nquit\n")
    assert "a1" in a.stdout and "a3" in a.stdout


def test_port_range(new_cluster, jobdir):
    """Agents listen within CheckpointPorts. When no port is left, that is said, and the job runs and is checkpointed by the timer."""
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
    """First of n ports in a row that nobody listens on, below those that the kernel gives out."""
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
