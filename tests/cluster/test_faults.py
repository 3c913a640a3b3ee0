"""Failures during a checkpoint: the job goes on, the error is recorded, and the next checkpoint succeeds."""
import json
import os
import re
import signal
import subprocess
import threading
import time
from pathlib import Path

import pytest

import lib
import test_damage as damage

WAIT = "while [ ! -e go ]; do echo x >> progress; sleep 0.1; done; echo end"


def progress(d):
    f = d / "progress"
    return f.stat().st_size if f.exists() else 0


def computes_on(d):
    before = progress(d)
    lib.wait_for(lambda: progress(d) > before + 4, "the job to compute on")


def start(c, d, *args):
    job = c.sbatch(WAIT, "--checkpoint=UNLIMITED", *args, "-o", "out", cwd=d)
    c.wait_running(job)
    lib.wait_for(lambda: progress(d), "progress")
    return job


def finish(c, d, job):
    (d / "go").touch()
    assert c.wait_end(job) == ("COMPLETED", "0:0")
    assert (d / "out").read_text() == "end\n"


def fails_then_works(c, d, job, broken, mended, expect):
    broken()
    try:
        said = c.fails("scontrol", "checkpoint", "create", job)
    finally:
        mended()
    assert re.search(expect, said, re.I), said
    computes_on(d)
    assert c.wait_entry(job, lambda e: e.get("error"), "the error in show job")
    assert c.state(job) == "RUNNING"
    assert "saved" in c.checkpoint("create", job)
    c.wait_entry(job, lambda e: not e.get("error"), "the error to go away")


def test_missing_criu(new_cluster, jobdir):
    c, d = new_cluster(), jobdir()
    job = start(c, d)
    conf = c.conf()
    good = conf.read_text()
    bad = re.sub(r"(?m)^CriuPath.*$", "CriuPath = /nonexistent/criu", good)
    assert bad != good
    fails_then_works(c, d, job, lambda: conf.write_text(bad), lambda: conf.write_text(good), "criu")
    finish(c, d, job)


def test_full_disk(new_cluster, jobdir, workloads, base_dir):
    small = base_dir / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m,mode=755", "fsched-test", small], check=True)
    try:
        c, d = new_cluster(conf=[f"JobCheckpointDir = {small}"]), jobdir()
        job = c.sbatch(f"exec {workloads}/threads 6000 64", "--checkpoint=UNLIMITED", "-o", "out", cwd=d)
        c.wait_running(job)
        lib.wait_for(lambda: (d / "out").stat().st_size > 0, "output")
        for op in ("create", "vacate"):
            said = c.fails("scontrol", "checkpoint", op, job)
            assert re.search("space", said, re.I), said
            before = (d / "out").stat().st_size
            lib.wait_for(lambda: (d / "out").stat().st_size > before, "the job to compute on")
        subprocess.run(["mount", "-o", "remount,size=512m", small], check=True)
        assert "saved" in c.checkpoint("create", job)
        c.ok("scancel", job)
        c.wait_end(job)
        assert not c.down()
    finally:
        subprocess.run(["umount", small], check=True)


def test_unwritable_directory(new_cluster, jobdir):
    c, d = new_cluster(), jobdir()
    job = start(c, d)
    epochs = c.ckpt_dir(job) / "epochs"
    fails_then_works(c, d, job, lambda: subprocess.run(["chattr", "+i", epochs], check=True),
                     lambda: subprocess.run(["chattr", "-i", epochs], check=True), "epochs|permitted|write")
    finish(c, d, job)


def test_munge_down(new_cluster, jobdir):
    """Without MUNGE no request can be authenticated and no manifest signed. The periodic checkpoint fails and the job goes on."""
    c, d = new_cluster(), jobdir()
    job = c.sbatch(WAIT, "--checkpoint=0:03", "-o", "out", cwd=d)
    c.wait_running(job)
    c.lab.stop_daemon("munged")
    try:
        assert re.search("munge", c.fails("scontrol", "checkpoint", "create", job), re.I)
        lib.wait_for(lambda: re.search("failed.*munge", c.log(job), re.I), "the periodic checkpoint to fail")
        computes_on(d)
    finally:
        c.lab.start_daemon("munged")
    c.wait_entry(job, lambda e: int(e["epoch"]) >= 1 and not e.get("error"), "a good epoch afterwards", 90)
    finish(c, d, job)


def test_slurmctld_down_during_vacate(new_cluster, jobdir):
    c, d = new_cluster(), jobdir()
    job = start(c, d)
    agent = c.agent_pid(job)
    # the client needs slurmctld to find the agent, so slurmctld stops when the tree is frozen and saved
    pid = c.daemon_pid("slurmctld")
    stopped = threading.Event()

    def stop_when_held():
        lib.wait_for(lambda: re.search("held|vacating", (c.ckpt_dir(job) / "job.json").read_text() + c.log(job)), "the epoch to be durable", 30, poll=0.001)
        os.kill(pid, signal.SIGSTOP)
        stopped.set()
    t = threading.Thread(target=stop_when_held)
    t.start()
    try:
        p = c.run("scontrol", "checkpoint", "vacate", job, timeout=180)
    finally:
        t.join()
        os.kill(pid, signal.SIGCONT)
    assert stopped.is_set() and lib.alive(pid)
    if p.returncode == 0:
        # slurmctld had taken the requeue before it stopped: then the job has to be vacated, not lost
        lib.wait_for(lambda: c.state(job) == "PENDING", "the vacated job", 60)
        c.checkpoint("restart", job)
    else:
        assert re.search("slurmctld|Slurm", p.stdout + p.stderr)
        # a requeue that was under way in slurmctld may still be carried out: held with its epoch, or running on
        lib.wait_for(lambda: c.state(job) in ("PENDING", "RUNNING"), "the job", 60)
        if c.state(job) == "RUNNING" and lib.alive(agent):
            computes_on(d)
            assert "saved" in c.checkpoint("create", job)
        else:
            c.checkpoint("restart", job)
    finish(c, d, job)


def memory_written(cluster, job):
    """Bytes of memory in the epoch that is being made, written by criu or by fsched."""
    total = 0
    for pattern in ("criu/pages-*.img", "memory/chunks-*"):
        for f in (cluster.ckpt_dir(job) / "epochs").glob(f"*.partial/{pattern}"):
            try:
                total += f.stat().st_size
            except FileNotFoundError:   # it was just there
                pass
    return total


@pytest.mark.parametrize("victim", ["fsched-worker", "criu"])
def test_killed_in_the_middle(request, jobdir, workloads, victim):
    # with fsched's own engine, criu has ended when most of the memory is written (tests/pod has the moments before)
    cluster = request.getfixturevalue("cluster") if victim != "criu" else request.getfixturevalue("new_cluster")(conf=["MemoryEngine = criu"])
    d = jobdir()
    job = cluster.sbatch(f"exec {workloads}/threads 6000 500", "--checkpoint=UNLIMITED", "-o", "out", cwd=d)
    cluster.wait_running(job)
    lib.wait_for(lambda: (d / "out").stat().st_size > 0, "output")
    agent = cluster.agent_pid(job)
    argv = ["scontrol", "checkpoint", "create", str(job)]
    result = {}
    t = threading.Thread(target=lambda: result.update(p=cluster.run(*argv)))
    t.start()

    def find():
        for p in lib.descendants(agent):
            if lib.comm(p) == victim if victim != "criu" else "swrk" in lib.command(p):
                return p
        return None
    pid = lib.wait_for(find, f"{victim} to appear", poll=0.001)
    # in the middle of the dump proper: memory is being written. (Killed in the few milliseconds in which criu plants its code in
    # the job or takes it out, criu leaves the job with wrong registers; docs/admin.md says so.)
    lib.wait_for(lambda: memory_written(cluster, job) > 32 << 20, "memory to be written", poll=0.001)
    os.kill(pid, signal.SIGKILL)
    t.join()
    # what passes by itself is tried again, and then succeeds
    said = result["p"].stderr + result["p"].stdout
    assert said if result["p"].returncode else "not made yet" in cluster.log(job) and "killed" in cluster.log(job), said
    before = (d / "out").stat().st_size
    lib.wait_for(lambda: (d / "out").stat().st_size > before, "the job to compute on")
    assert "saved" in cluster.checkpoint("create", job)
    cluster.ok("scancel", job)
    cluster.wait_end(job)


def test_killed_before_it_can_report(new_cluster, jobdir):
    """The worker dies after its epoch is complete and before it reports that. The next epoch gets another number, and then the stray one is removed."""
    c, d = new_cluster(conf=["CRIU_MaxEpochs = 5"]), jobdir()
    job = start(c, d)
    assert "epoch 1" in c.checkpoint("create", job)
    worker = next(c.dir.glob("stage/usr/libexec/fsched/fsched-worker"))
    real = worker.with_suffix(".real")
    worker.rename(real)
    try:
        worker.write_text(f'#!/bin/sh\n{real} "$@" | grep -v --line-buffered \'"ok":true\'\nkill -9 $$\n')
        worker.chmod(0o755)
        assert "killed by signal 9" in c.fails("scontrol", "checkpoint", "create", job)
    finally:
        real.rename(worker)
    strays = c.epochs(job)[1:]      # it was tried again
    assert strays[0] == 2 and [e["number"] for e in c.record(job)["epochs"]] == [1]
    computes_on(d)
    last = strays[-1] + 1
    assert f"epoch {last}" in c.checkpoint("create", job)
    lib.wait_for(lambda: c.epochs(job) == [1, last], "the stray epochs to be removed")
    assert "vacated" in c.checkpoint("vacate", job)
    assert f"restored from epoch {last + 1}" in c.checkpoint("restart", job)
    finish(c, d, job)


def keeper_of(c, job):
    """Pid of the process that renews the job's lease. It has only the job's directory open."""
    def has_dir(pid):
        try:
            return any(os.readlink(f) == str(c.ckpt_dir(job)) for f in Path(f"/proc/{pid}/fd").iterdir())
        except OSError:
            return False
    return next((p for p in lib.children(c.agent_pid(job)) if lib.comm(p) == "fsched-agent" and has_dir(p)), None)


def test_the_process_that_renews_the_lease_dies(new_cluster, jobdir):
    """Another process replaces it long before the lease expires."""
    c, d = new_cluster(conf=["CheckpointLeaseTime = 20"]), jobdir()
    job = start(c, d)
    first = lib.wait_for(lambda: keeper_of(c, job), "the lease")
    lease = c.ckpt_dir(job) / "lease"
    lib.wait_for(lease.exists, "the lease")
    os.kill(first, signal.SIGKILL)
    second = lib.wait_for(lambda: (lambda p: p if p and p != first else None)(keeper_of(c, job)), "another one")
    before = lease.stat().st_mtime_ns
    lib.wait_for(lambda: lease.stat().st_mtime_ns != before, "the lease to be renewed")
    assert keeper_of(c, job) == second
    computes_on(d)
    finish(c, d, job)


def test_a_start_that_was_overtaken_takes_no_request(new_cluster, jobdir):
    """A start that waits for the lease learns that a later one exists. A person's restart request belongs to the start that has the job."""
    c, d = new_cluster(), jobdir()
    job = start(c, d)
    c.checkpoint("vacate", job)

    def lease(**what):
        (c.ckpt_dir(job) / "lease").write_text(json.dumps({"host": "t1", "boot_id": "x", "pid_ns": 1, "pid": 2, "pid_start": 3, "duration": 20, **what}))
    lease(restart_count=99, released=False)
    before = int(c.job(job)["Restarts"])
    c.run("scontrol", "checkpoint", "restart", job, "--no-wait")
    lib.wait_for(lambda: int(c.job(job)["Restarts"]) > before, "the overtaken start to give the job back")
    assert "fsched-restart=" in c.job(job)["line"]
    lease(restart_count=0, released=True)
    c.wait_entry(job, lambda e: e.get("restored") == "1", "the restore", lib.DEADLINE * 2)
    finish(c, d, job)


def test_criu_that_hangs_before_the_freeze(new_cluster, jobdir):
    c, d = new_cluster(conf=["CheckpointTimeout = 10"]), jobdir()
    job = start(c, d)
    conf, real = c.conf(), f"{c.lab.criu}"
    wrapper = c.dir / "criu-that-hangs"
    wrapper.write_text(f"""#!/bin/sh
case "$*" in *swrk*) exec sleep 1000 ;; esac
exec {real}/ld.so --library-path {real}/lib {real}/criu "$@"
""")
    wrapper.chmod(0o755)
    good = conf.read_text()
    bad = re.sub(r"(?m)^CriuPath.*$", f"CriuPath = {wrapper}", good)
    assert bad != good
    fails_then_works(c, d, job, lambda: conf.write_text(bad), lambda: conf.write_text(good), r"longer than CheckpointTimeout \(10 s\)")
    finish(c, d, job)


@pytest.mark.parametrize("limit", [["CheckpointTimeout = 10"], ["CheckpointFreezeTimeout = 5", "CheckpointFileLimit = 16M", "CheckpointTmpLimit = 16M"]],
                         ids=["whole", "freeze"])
def test_criu_that_hangs_in_the_freeze(new_cluster, jobdir, workloads, limit):
    """criu is stopped while it writes the memory of the frozen job. After CheckpointTimeout or CheckpointFreezeTimeout the job goes on."""
    c, d = new_cluster(conf=[*limit, "MemoryEngine = criu"]), jobdir()
    key = limit[0].split()[0]
    job = c.sbatch(f"exec {workloads}/threads 6000 500", "--checkpoint=UNLIMITED", "-o", "out", cwd=d)
    c.wait_running(job)
    lib.wait_for(lambda: (d / "out").stat().st_size > 0, "output")
    agent, result = c.agent_pid(job), {}
    t = threading.Thread(target=lambda: result.update(p=c.run("scontrol", "checkpoint", "create", job)))
    t.start()
    pid = lib.wait_for(lambda: next((p for p in lib.descendants(agent) if "swrk" in lib.command(p)), None), "criu", poll=0.001)
    lib.wait_for(lambda: memory_written(c, job) > 32 << 20, "memory to be written", poll=0.001)
    os.kill(pid, signal.SIGSTOP)
    t.join()
    assert result["p"].returncode and key in result["p"].stdout + result["p"].stderr
    before = (d / "out").stat().st_size
    lib.wait_for(lambda: (d / "out").stat().st_size > before, "the job to compute on")
    assert c.wait_entry(job, lambda e: key in e.get("error", ""), "the error in show job")
    assert key in c.log(job)
    assert not lib.alive(pid)
    conf = re.sub(rf"(?m)^{key}\s*=.*$", f"{key} = 600", c.conf().read_text())     # on a busy machine it may take longer
    assert f"{key} = 600" in conf
    c.conf().write_text(conf)
    assert "saved" in c.checkpoint("create", job)
    c.wait_entry(job, lambda e: not e.get("error"), "the error to go away")
    c.ok("scancel", job)
    c.wait_end(job)


def test_end_during_a_checkpoint_is_no_error(cluster, jobdir):
    """A job that ends by itself during a checkpoint has ended normally. The client is told why there is no epoch."""
    for _ in range(5):
        d = jobdir()
        job = cluster.sbatch("while [ ! -e go ]; do :; done", "--checkpoint=UNLIMITED", cwd=d)
        cluster.wait_running(job)
        result = {}
        t = threading.Thread(target=lambda: result.update(p=cluster.run("scontrol", "checkpoint", "create", job)))
        t.start()
        lib.wait_for(lambda: list((cluster.ckpt_dir(job) / "epochs").glob("*")) or not t.is_alive(), "the checkpoint to begin", 20, poll=0.001)
        (d / "go").touch()
        assert cluster.wait_end(job) == ("COMPLETED", "0:0")
        t.join()
        assert "error" not in cluster.entry(job), cluster.logs(job)
        if result["p"].returncode:
            assert "ended" in result["p"].stdout + result["p"].stderr


@pytest.fixture
def other_host():
    """Address of a listening process in another network namespace, for the job another host. It keeps connections open."""
    name, net = f"fsc{os.getpid() % 100000}", f"10.213.{os.getpid() % 250 + 1}"
    ip = lambda *args: subprocess.run(["ip", *args], check=True)
    ip("netns", "add", name)
    try:
        ip("link", "add", f"{name}a", "type", "veth", "peer", "name", f"{name}b", "netns", name)
        ip("addr", "add", f"{net}.1/30", "dev", f"{name}a")
        ip("link", "set", f"{name}a", "up")
        ip("-n", name, "addr", "add", f"{net}.2/30", "dev", f"{name}b")
        ip("-n", name, "link", "set", f"{name}b", "up")
        server = subprocess.Popen(["ip", "netns", "exec", name, "/usr/bin/python3", "-c", "import socket\ns = socket.create_server(('', 5000))\n"
                                   "print('up', flush=True)\nkept = []\nwhile True: kept.append(s.accept())"], stdout=subprocess.PIPE)
        try:
            assert server.stdout.readline() == b"up\n"
            yield f"{net}.2"
        finally:
            server.kill()
            server.wait()
    finally:
        ip("netns", "del", name)


CONNECT = "exec 9<>/dev/tcp/{other_host}/5000\n"
# a device of the kernel's that everybody may open, and that does nothing when opened
DEVICE = "/dev/autofs"


@pytest.mark.parametrize("what,expect", [("srun", "srun"), ("iouring", "io_uring"), ("traced", "trace"), ("device", f"has the device {DEVICE} open"),
                                         ("tcp", "has a TCP connection to another host, {other_host} port 5000"),
                                         ("user namespace", "is in another (user|network) namespace"), ("PID namespace", "is in another (PID|user) namespace")])
def test_refused_before_the_freeze(cluster, jobdir, request, what, expect):
    if what == "device" and not (os.path.exists(DEVICE) and os.stat(DEVICE).st_mode & 0o004):
        pytest.skip(f"no {DEVICE} here that the job's user may open")
    if "namespace" in what and cluster.run("unshare", "-U", "true").returncode:
        pytest.skip("users may not make namespaces here")
    other = request.getfixturevalue("other_host") if what == "tcp" else ""
    expect = expect.replace("{other_host}", other)
    scripts = {
        "device": f"exec 9< {DEVICE}\n" + WAIT,
        "tcp": CONNECT.format(other_host=other) + WAIT,
        "user namespace": "unshare -U -n sh -c 'while [ ! -e go ]; do sleep 0.1; done' &\n" + WAIT,
        "PID namespace": "unshare -U -r -p -f sh -c 'while [ ! -e go ]; do sleep 0.1; done' &\n" + WAIT,
        "srun": "FSCHED_SRUN=real srun -n1 sh -c 'while [ ! -e go ]; do sleep 0.1; done' &\n" + WAIT,
        "iouring": "/usr/bin/python3 -c 'import ctypes,os,time\nlibc=ctypes.CDLL(None)\nb=(ctypes.c_char*120)()\nassert libc.syscall(425,8,b)>=0\n"
                   "while not os.path.exists(\"go\"): time.sleep(.1)' &\n" + WAIT,
        "traced": "sleep 1000 & p=$!\n/usr/bin/python3 -c 'import ctypes,os,sys,time\nlibc=ctypes.CDLL(None)\nassert libc.ptrace(0x4206,int(sys.argv[1]),None,None)==0\n"
                  "while not os.path.exists(\"go\"): time.sleep(.1)' $p &\n" + WAIT + "; kill $p",
    }
    d = jobdir()
    job = cluster.sbatch(scripts[what], "--checkpoint=UNLIMITED", "-o", "out", cwd=d)
    cluster.wait_running(job)
    computes_on(d)

    def refused():
        p = cluster.run("scontrol", "checkpoint", "create", job)
        return p.stdout + p.stderr if p.returncode else None
    said = lib.wait_for(refused, "a refusal", 20, poll=0.5)
    assert re.search(expect, said), said
    assert re.search(expect, cluster.fails("scontrol", "checkpoint", "vacate", job))
    # nothing stood still: the refusal comes before an epoch is begun
    assert "not made" in cluster.log(job) and not list((cluster.ckpt_dir(job) / "epochs").iterdir())
    computes_on(d)
    (d / "go").touch()
    cluster.wait_end(job)


def test_restart_that_cannot_be_restored_is_held(cluster, jobdir):
    d = jobdir()
    job = start(cluster, d)
    cluster.checkpoint("vacate", job)
    images = sorted((cluster.ckpt_dir(job) / "epochs" / "000001" / "criu").glob("core-*.img"))
    good = images[0].read_bytes()
    images[0].write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    said = cluster.fails("scontrol", "checkpoint", "restart", job)
    assert images[0].name in said, said
    lib.wait_for(lambda: cluster.job(job).get("JobState") == "PENDING" and cluster.job(job)["Priority"] == "0", "the job to be held again")
    entry = cluster.entry(job)
    assert images[0].name in entry["error"]
    before = progress(d)
    images[0].write_bytes(good)
    assert "restored from epoch 1" in cluster.checkpoint("restart", job)
    assert progress(d) >= before
    finish(cluster, d, job)


def test_missing_output_file_is_named(cluster, jobdir):
    d = jobdir()
    # larger than what an epoch has a copy of
    job = cluster.sbatch("exec 5>>log.txt; seq 20000 >&5; while [ ! -e go ]; do echo x >&5; sleep 0.1; done", "--checkpoint=UNLIMITED", cwd=d)
    cluster.wait_running(job)
    lib.wait_for(lambda: (d / "log.txt").exists() and (d / "log.txt").stat().st_size > 100000, "log.txt")
    cluster.checkpoint("vacate", job)
    (d / "log.txt").rename(d / "moved.txt")
    assert "log.txt" in cluster.fails("scontrol", "checkpoint", "restart", job)
    (d / "moved.txt").rename(d / "log.txt")
    lib.wait_for(lambda: cluster.job(job).get("JobState") == "PENDING" and cluster.job(job)["Priority"] == "0", "the job to be held again")
    assert "restored" in cluster.checkpoint("restart", job)
    (d / "go").touch()
    assert cluster.wait_end(job)[0] == "COMPLETED"


def test_forged_epoch_is_refused(cluster, jobdir):
    """An epoch whose manifest was not signed by root is not restored."""
    d = jobdir()
    job = start(cluster, d)
    cluster.checkpoint("vacate", job)
    cred = cluster.ckpt_dir(job) / "epochs" / "000001" / "manifest.cred"
    good = cred.read_bytes()
    digest = subprocess.run(["sha256sum", cred.with_name("manifest.json")], capture_output=True, text=True, check=True).stdout.split()[0]
    forged = cluster.ok("munge", "-S", cluster.munge_socket(), "-s", digest)   # made by the user, not by root
    cred.write_text(forged)
    said = cluster.fails("scontrol", "checkpoint", "restart", job)
    assert re.search("sign|root", said), said
    cred.write_bytes(good)
    lib.wait_for(lambda: cluster.job(job).get("JobState") == "PENDING" and cluster.job(job)["Priority"] == "0", "the job to be held again")
    assert "restored" in cluster.checkpoint("restart", job)
    finish(cluster, d, job)


def test_epochs_belong_to_root_alone(cluster, jobdir):
    d = jobdir()
    job = start(cluster, d)
    cluster.checkpoint("create", job)
    top = cluster.ckpt_dir(job)
    for p in [top, *top.rglob("*")]:
        st = p.lstat()
        assert not st.st_mode & 0o022, p
        if p.parent == top / "owner":
            assert st.st_uid != 0 and st.st_mode & 0o777 == 0o400, p
        else:
            assert st.st_uid == 0, p
    assert cluster.run("ls", top / "epochs" / "000001").returncode != 0
    assert cluster.run("cat", top / "checkpoint.log").returncode != 0
    assert "epoch 1 complete" in cluster.ok("cat", top / "owner" / "checkpoint.log")
    finish(cluster, d, job)


def test_agent_killed_in_a_checkpoint(cluster, jobdir, workloads):
    """The agent is killed at random moments. Its pod and all its processes die with it; complete epochs on disk are intact."""
    import random
    seed = random.randrange(100000)
    rng = random.Random(seed)
    for _ in range(3):
        d = jobdir()
        job = cluster.sbatch(f"exec {workloads}/threads 6000 100", "--checkpoint=UNLIMITED", "-o", "out", cwd=d)
        cluster.wait_running(job)
        lib.wait_for(lambda: (d / "out").stat().st_size > 0, "output")
        assert "saved" in cluster.checkpoint("create", job)
        agent = cluster.agent_pid(job)
        t = threading.Thread(target=lambda: cluster.run("scontrol", "checkpoint", "create", job))
        t.start()
        lib.wait_for(lambda: [p for p in lib.descendants(agent) if lib.comm(p) == "fsched-worker"] or not t.is_alive(), "the worker", poll=0.001)
        time.sleep(rng.uniform(0, 0.7))
        below = lib.descendants(agent)
        os.kill(agent, signal.SIGKILL)
        lib.wait_for(lambda: not [p for p in below if lib.alive(p)], f"all below the agent to be gone (seed {seed})")
        assert cluster.wait_end(job)[0] != "COMPLETED", seed
        t.join()
        found = cluster.epochs(job)
        assert found[0] == 1 or found == [2], (seed, found)
        for epoch in found:
            assert damage.verify(cluster, job, epoch)[0] == 0, (seed, epoch)
