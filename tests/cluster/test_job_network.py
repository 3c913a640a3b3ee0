"""PodNetwork = private on simulated hosts: jobs with a network of their own."""
import re
import shutil

import lib
import pytest

PORT = 17777


@pytest.fixture(scope="module")
def network(base_dir):
    with lib.Cluster(base_dir / "network", ["CheckpointLeaseTime=4"], hosts=2) as c:
        yield c


def forward(c, host, value=1):
    c.exec(host, "sh", "-c", f"echo {value} > /proc/sys/net/ipv4/ip_forward").check_returncode()


def left_of_pods(c, host):
    """Interfaces, rules and namespaces of jobs on the host."""
    links = [w for w in c.exec(host, "ip", "-br", "link").stdout.split() if w.startswith("fsched")]
    pods = [p for p in lib.descendants(c.lab.host_pid(host)) if lib.comm(p) in ("fsched-init", "fsched-leader")]
    return links, c.exec(host, "nft", "list", "ruleset").stdout, pods


@pytest.fixture
def hosts(network):
    """The cluster; at the end of a test nothing of a pod may be left on its hosts."""
    c = network
    for n in ("n1", "n2"):
        if not c.lab.hosts()[n]["pid"]:
            c.up(n)
        forward(c, n)
        c.wait_node(n, "idle")
    yield c
    c.run("scancel", "--user", lib.USER, user="root")
    lib.wait_for(lambda: not c.run("squeue", "-h", user="root").stdout.strip(), "an empty queue", 30)
    for n in ("n1", "n2"):
        if c.lab.hosts()[n]["pid"]:
            lib.wait_for(lambda: left_of_pods(c, n) == ([], "", []), f"{n} to be as it was found: {left_of_pods(c, n)}", 20)


def server(c, d, workloads, *args, address="own", port=PORT):
    shutil.copy(workloads / "server.py", d)
    job = c.sbatch(f"exec /usr/bin/python3 server.py {address} {port}\n", "--checkpoint=UNLIMITED", "-n", "1", "-o", "out", *args, cwd=d)
    c.wait_running(job)
    lib.wait_for(lambda: (d / "out").exists() and re.search("^ready ", (d / "out").read_text(), re.M), "the server")
    return job


def moves(d):
    def beat():
        return int((d / "beat").read_text() or 0) if (d / "beat").exists() else 0
    first = beat()
    lib.wait_for(lambda: beat() > first + 200, "numbers that move")


def ends(c, job, d):
    (d / "stop").touch()
    assert c.wait_end(job) == ("COMPLETED", "0:0"), (d / "out").read_text() + c.logs(job)
    assert "numbers" in (d / "out").read_text()


def test_ports_that_are_in_use_on_the_other_node(hosts, jobdir, workloads):
    """After a power failure the job goes on beside one that has the same ports, with the name of its first node."""
    c, a, b = hosts, jobdir("a"), jobdir("b")
    first = server(c, a, workloads)
    assert c.job(first)["BatchHost"] == "n1"
    second = server(c, b, workloads, "-w", "n2")
    moves(a)
    c.checkpoint("create", first)
    c.kill_node("n1")
    c.wait_entry(first, lambda e: e.get("state") == "running" and e.get("restored") == "1", "the restore", 180)
    assert c.job(first)["BatchHost"] == "n2"
    moves(a)
    moves(b)
    assert "n1 198.18.224.1" in (a / "out").read_text() and "n2 198.18.224.1" in (b / "out").read_text()
    ends(c, first, a)
    ends(c, second, b)


def test_two_jobs_with_the_same_ports_restored_at_once(hosts, jobdir, workloads):
    c, dirs = hosts, [jobdir("a"), jobdir("b")]
    jobs = [server(c, d, workloads, "-w", "n1", address="127.0.0.1") for d in dirs]
    for job, d in zip(jobs, dirs):
        moves(d)
        c.checkpoint("vacate", job)
    for job in jobs:
        c.ok("scontrol", "checkpoint", "restart", job, timeout=lib.DEADLINE * 4)
    for job, d in zip(jobs, dirs):
        moves(d)
        ends(c, job, d)


def test_what_a_job_reaches(hosts, jobdir):
    """slurmctld, another host, and the agent, which says that a job cannot checkpoint itself."""
    c, d = hosts, jobdir()
    script = f"""squeue -h -j $SLURM_JOB_ID -o 'queue %i %T'
exec 3<>/dev/tcp/{c.lab.address("n2")}/6818 && echo slurmd
exec 3>&-
until [ -e go ]; do sleep 0.1; done
scontrol checkpoint create $SLURM_JOB_ID
squeue -h -j $SLURM_JOB_ID -o 'again %i %T'
"""
    job = c.sbatch(script, "--checkpoint=UNLIMITED", "-w", "n1", "-o", "out", cwd=d)
    c.wait_running(job)
    lib.wait_for(lambda: "slurmd" in (d / "out").read_text(), "the script")
    c.checkpoint("vacate", job)
    c.ok("scontrol", "update", f"JobId={job}", "ReqNodeList=n2", user="root")
    c.ok("scontrol", "checkpoint", "restart", job, timeout=lib.DEADLINE * 4)
    c.wait_running(job)
    (d / "go").touch()
    assert c.wait_end(job) == ("COMPLETED", "0:0"), (d / "out").read_text()
    out = (d / "out").read_text()
    assert f"queue {job} RUNNING" in out and f"again {job} RUNNING" in out, out
    assert "a job cannot checkpoint itself" in out, out


def test_doctor(hosts):
    """It tries what a job needs, leaves nothing, and names what an administrator should look at."""
    c = hosts

    def said():
        return [line for line in c.exec("n1", "fsched", "doctor").stdout.splitlines() if "PodNetwork" in line]

    assert len(said()) == 1 and said()[0].startswith("ok"), said()
    forward(c, "n1", 0)
    assert len(said()) == 1 and said()[0].startswith("warning") and "net.ipv4.ip_forward is 0" in said()[0], said()
    forward(c, "n1")
    rules = "table inet theirs { chain out { type filter hook output priority 0; meta skuid 0 accept; }; " \
            "chain through { type filter hook forward priority 0; policy drop; }; }"
    c.exec("n1", "nft", rules).check_returncode()
    try:
        assert [line.split()[0] for line in said()] == ["warning", "warning", "ok"], said()
        assert "skuid" in said()[0] and "drops what is forwarded" in said()[1]
    finally:
        c.exec("n1", "nft", "delete table inet theirs").check_returncode()


def test_without_ip_forward(hosts, jobdir, workloads):
    """The job begins with the node's network, says so once, and is restored with it where it could have its own."""
    c, d = hosts, jobdir()
    forward(c, "n1", 0)
    job = server(c, d, workloads, "-w", "n1")
    said = [line for line in c.log(job).splitlines() if "warning" in line]
    assert len(said) == 1 and "net.ipv4.ip_forward is 0" in said[0] and "PodNetwork" in said[0], c.log(job)
    assert "net.ipv4.ip_forward is 0" in (c.dir / "log/fsched.log").read_text()
    assert f"n1 {c.lab.address('n1')}" in (d / "out").read_text()
    moves(d)
    c.checkpoint("vacate", job)
    forward(c, "n1")
    c.ok("scontrol", "checkpoint", "restart", job, timeout=lib.DEADLINE * 4)
    moves(d)
    ends(c, job, d)


def test_a_node_that_cannot_give_the_network_back(hosts, jobdir, workloads):
    """The job goes to another."""
    c, d = hosts, jobdir()
    job = server(c, d, workloads)
    assert c.job(job)["BatchHost"] == "n1"
    moves(d)
    c.checkpoint("vacate", job)
    forward(c, "n1", 0)
    c.ok("scontrol", "checkpoint", "restart", job, timeout=lib.DEADLINE * 4)
    c.wait_running(job, lib.DEADLINE * 2)
    assert c.job(job)["BatchHost"] == "n2" and "cannot give the job a network of its own" in c.log(job), c.log(job)
    moves(d)
    ends(c, job, d)


@pytest.mark.parametrize("mpiexec, rank", [("mpiexec.mpich", "PMI_RANK"), ("mpirun.openmpi", "OMPI_COMM_WORLD_RANK")])
def test_mpi(hosts, jobdir, mpiexec, rank):
    """Two such jobs on a node, restored on the other one."""
    if not shutil.which(mpiexec):
        pytest.skip(f"needs {mpiexec}")
    c, dirs = hosts, [jobdir("a"), jobdir("b")]
    loop = f"for ((i = 0; i < 2000; i++)); do echo ${rank} $i >> rank.${rank}; [ -e hurry ] || sleep 0.1; done"
    jobs = [c.sbatch(f"{mpiexec} -np 2 bash -c '{loop}'\n", "--checkpoint=UNLIMITED", "-n", "2", "-w", "n1", "-o", "out", cwd=d) for d in dirs]
    for job, d in zip(jobs, dirs):
        c.wait_running(job)
        lib.wait_for(lambda: (d / "rank.1").exists(), "the ranks")
        c.checkpoint("create", job)
        c.checkpoint("vacate", job)
        c.ok("scontrol", "update", f"JobId={job}", "ReqNodeList=n2", user="root")
    for job in jobs:
        c.ok("scontrol", "checkpoint", "restart", job, timeout=lib.DEADLINE * 4)
    for job, d in zip(jobs, dirs):
        lib.hurry(d)
        assert c.wait_end(job) == ("COMPLETED", "0:0"), (d / "out").read_text() + c.logs(job)
        for r in "01":
            assert (d / f"rank.{r}").read_text() == "".join(f"{r} {i}\n" for i in range(2000))


def test_the_agent_is_killed(hosts, jobdir, workloads):
    c, d = hosts, jobdir()
    job = server(c, d, workloads, "-w", "n1")
    moves(d)
    c.exec("n1", "pkill", "-KILL", "-x", "fsched-agent")
    c.wait_end(job)


def test_steps_of_srun_move_to_another_host(hosts, jobdir):
    """Also with PMIx, whose server and clients talk TCP within the job."""
    c, d = hosts, jobdir()
    script = "srun -n2 -l bash -c 'for ((i = 0; i < 2000; i++)); do echo $i; [ -e hurry ] || sleep 0.2; done'\nsrun -n1 hostname\n"
    compiler = shutil.which("mpicc.openmpi")
    if compiler:
        shutil.copy(lib.ROOT / "tests" / "workloads" / "mpi_ring.c.txt", d / "ring.c")
        c.ok(compiler, "-O1", "-o", "ring", "ring.c", cwd=d)
        script = script.replace("srun -n1 hostname", "srun -n1 hostname; wait").replace("srun -n2", "srun --overlap --mpi=pmix -n2 -o ring.out ./ring 40 &\nsrun --overlap -n2", 1)
    job = c.sbatch(script, "--checkpoint=UNLIMITED", "-n", "2", "-w", "n1", "-o", "out", cwd=d)
    c.wait_running(job)
    lib.wait_for(lambda: "3" in (d / "out").read_text() and (not compiler or "step 2 " in (d / "ring.out").read_text()), "the steps")
    c.checkpoint("vacate", job)
    c.ok("scontrol", "update", f"jobid={job}", "reqnodelist=n2", user="root")
    c.ok("scontrol", "checkpoint", "restart", job, timeout=lib.DEADLINE * 4)
    c.wait_running(job)
    lib.hurry(d)
    assert c.wait_end(job) == ("COMPLETED", "0:0"), (d / "out").read_text()
    out = (d / "out").read_text().splitlines()
    for task in "01":
        assert [x for x in out if x.startswith(f"{task}: ")] == [f"{task}: {i}" for i in range(2000)]
    assert not compiler or (d / "ring.out").read_text().endswith("end\n")


def test_with_the_srun_of_slurm(hosts, jobdir, workloads):
    """Slurm's own srun cannot be reached in a network of the job's own, so a job that is submitted for it has the node's."""
    c, d = hosts, jobdir()
    job = server(c, d, workloads, "--export=ALL,FSCHED_SRUN=real", "-w", "n1", port=PORT + 1)     # PORT of the node may not be free yet
    assert f"n1 {c.lab.address('n1')}" in (d / "out").read_text() and "warning" not in c.log(job), c.log(job)
    moves(d)
    ends(c, job, d)
