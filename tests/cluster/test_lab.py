"""The lab's simulated hosts are nodes of one cluster, lose power or network on request, come back, and leave nothing behind."""
import json
import os
import re
import signal
import subprocess
import time

import pytest

import lib
import lab as lab_module  # noqa: E402  (lib puts lab/ into the path)
import leftovers  # noqa: E402

HOSTS = ["ctl", "n1", "n2", "n3"]
COUNT = "for ((i = 0; i < 2000; i++)); do echo step $i; echo line $i >>log; [ -e hurry ] || sleep 0.1; done"
# says once in 0.1 s which host it runs on, until told to end
WHERE = "while [ ! -e stop ]; do hostname >>where; sleep 0.1; done"


@pytest.fixture
def hosts(new_cluster):
    """A cluster of three simulated hosts."""
    return new_cluster(hosts=3)


def lines(path):
    return path.read_text().splitlines() if path.exists() else []


def interfaces():
    return sorted(os.listdir("/sys/class/net"))


def test_three_hosts_are_nodes_with_a_life_of_their_own(hosts):
    c = hosts
    assert {c.node_state(n) for n in HOSTS[1:]} == {"idle"}
    assert sorted(c.ok("srun", "-N3", "hostname", cwd="/").split()) == HOSTS[1:]
    spaces = {}
    for n in HOSTS:
        assert c.exec(n, "hostname").stdout.strip() == n
        spaces[n] = [c.exec(n, "readlink", f"/proc/self/ns/{k}").stdout for k in ("net", "uts", "ipc", "pid", "mnt")]
    assert len({s for own in spaces.values() for s in own}) == 20
    machines = open("/proc/sys/kernel/random/boot_id", encoding="ascii").read().strip()
    assert len({c.boot_id(n) for n in HOSTS} | {machines}) == 5
    spool = re.search(r"SlurmdSpoolDir\s*=\s*(\S+)", c.ok("scontrol", "show", "config")).group(1)
    assert c.exec("n1", "touch", f"{spool}/mine", "/tmp/mine", "/run/mine").returncode == 0
    for path in (f"{spool}/mine", "/tmp/mine", "/run/mine"):
        assert c.exec("n1", "test", "-e", path).returncode == 0
        assert c.exec("n2", "test", "-e", path).returncode == 1, f"{path} of n1 is seen on n2"
    (c.dir / "home" / lib.USER / "shared").touch()
    assert c.exec("n2", "test", "-e", c.dir / "home" / lib.USER / "shared").returncode == 0


def test_a_vacated_job_goes_on_on_another_host(hosts, jobdir):
    c = hosts
    plain, d = jobdir("plain"), jobdir("job")
    lib.hurry(plain)
    ref = c.sbatch(COUNT, "-o", "out", "--nodelist=n3", cwd=plain)
    job = c.sbatch(COUNT, "-o", "out", "--nodelist=n1", "--checkpoint=UNLIMITED", cwd=d)
    c.wait_running(job)
    assert c.job(job)["BatchHost"] == "n1"
    agent = c.agent_pid(job)
    assert agent in leftovers.descendants(c.lab.host_pid("n1"))
    lib.wait_for(lambda: len(lines(d / "out")) > 5, "some output")
    assert "saved" in c.checkpoint("create", job)                                       # asked on ctl
    asked = c.exec("n2", "scontrol", "checkpoint", "create", job, user=lib.USER)         # and on another node
    assert asked.returncode == 0 and "saved" in asked.stdout, asked.stderr
    assert "vacated" in c.checkpoint("vacate", job)
    assert not c.agent_pid(job, "n1")
    c.ok("scontrol", "update", f"JobId={job}", "ReqNodeList=", "ExcNodeList=n1,n3", user="root")
    assert "restored from epoch 3 on node n2" in c.checkpoint("restart", job)
    assert c.job(job)["BatchHost"] == "n2"
    assert c.agent_pid(job) in leftovers.descendants(c.lab.host_pid("n2"))
    lib.hurry(d)
    assert c.wait_end(job) == ("COMPLETED", "0:0")
    c.wait_end(ref)
    for name in ("out", "log"):
        assert (d / name).read_bytes() == (plain / name).read_bytes(), name


def test_power_failure(hosts, jobdir):
    """Slurm marks the node as down and requeues the job, no process of the host goes on, and the node comes back."""
    c = hosts
    d = jobdir()
    job = c.sbatch(WHERE, "--nodelist=n1", "--checkpoint=UNLIMITED", cwd=d)
    c.wait_running(job)
    c.checkpoint("create", job)
    lib.wait_for(lambda: lines(d / "where"), "the job to run")
    running = leftovers.descendants(c.lab.host_pid("n1"))
    first, boot_id = c.lab.host_pid("n1"), c.boot_id("n1")
    assert c.agent_pid(job) in running
    assert json.loads((c.ckpt_dir(job) / "lease").read_text())["boot_id"] == boot_id
    c.exec("n1", "touch", "/run/gone", "/tmp/kept")
    c.kill_node("n1")
    assert not [p for p in [first, *running] if lib.alive(p)]
    with pytest.raises(lab_module.LabError, match="n1 is off"):
        c.exec("n1", "true")
    with pytest.raises(lab_module.LabError, match="n1 is off"):
        c.kill_node("n1")
    c.wait_node("n1", "down*", "down")
    requeued = lib.wait_for(lambda: (lambda j: j if j.get("JobState") == "PENDING" or j.get("BatchHost", "n1") != "n1" else None)(c.job(job)), "the job's requeue")
    assert requeued["Restarts"] == "1", requeued["line"]
    assert set(lines(d / "where")) == {"n1"}
    c.ok("scontrol", "update", f"JobId={job}", "ReqNodeList=", user="root")     # with it, it could only wait for n1
    begun = int(time.time())
    c.up("n1")
    assert c.node_state("n1") in ("idle", "mixed", "allocated")        # the job may be there again
    with pytest.raises(lab_module.LabError, match="n1 is up already"):
        c.up("n1")
    assert c.exec("n1", "test", "-e", "/run/gone").returncode == 1
    assert c.exec("n1", "test", "-e", "/tmp/kept").returncode == 0
    assert c.lab.host_pid("n1") != first and re.fullmatch(r"[0-9a-f-]{36}", c.boot_id("n1")) and c.boot_id("n1") != boot_id
    boot = c.ok("scontrol", "show", "node", "n1")
    said = re.search(r"BootTime=(\d\S+) SlurmdStartTime=(\d\S+)", boot)
    booted, started = (time.mktime(time.strptime(t, "%Y-%m-%dT%H:%M:%S")) for t in said.groups())
    assert begun <= booted + 1 and abs(started - booted) < 30, boot             # the machine booted earlier
    c.run("scancel", job)
    c.wait_node("n1", "idle")
    assert c.ok("srun", "--nodelist=n1", "hostname", cwd="/").strip() == "n1"


PEER = """
import socket, sys
if sys.argv[1] == "listen":
    s = socket.create_server(("", 7000))
    print("listening", flush=True)
    c, _ = s.accept()
else:
    c = socket.create_connection((sys.argv[1], 7000), 20)
for line in sys.stdin:
    if line.strip() == "read":
        c.settimeout(float(sys.argv[2]))
        try:
            print(repr(c.recv(9)), flush=True)
        except TimeoutError:
            print("nothing", flush=True)
    else:
        c.sendall(line.strip().encode())
        print("sent", flush=True)
"""


def peer(c, host, *args):
    argv, cwd = c.lab.enter(["/usr/bin/python3", "-c", PEER, *args], "/", host)
    return subprocess.Popen(argv, cwd=cwd, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)


def tell(p, line):
    p.stdin.write(line + "\n")
    return p.stdout.readline().strip()


def test_cut_and_heal(hosts, jobdir):
    """A cut link loses packets and neither closes connections nor stops processes. After heal the data arrives."""
    c = hosts
    d = jobdir()
    job = c.sbatch(WHERE, "--nodelist=n2", cwd=d)
    lib.wait_for(lambda: lines(d / "where"), "the job to run")
    server = peer(c, "n3", "listen", "1")
    assert server.stdout.readline().strip() == "listening"
    client = peer(c, "n2", c.lab.address("n3"))
    assert tell(client, "one") == "sent" and tell(server, "read") == "b'one'"
    c.cut("n2")
    with pytest.raises(lab_module.LabError, match="is cut already"):
        c.cut("n2")
    assert tell(client, "two") == "sent" and tell(server, "read") == "nothing"
    # the cut host can reach nobody
    assert c.exec("n2", "timeout", "2", "bash", "-c", f"echo >/dev/tcp/{c.lab.address('ctl')}/6817").returncode != 0
    # its processes live, others are not affected
    before = len(lines(d / "where"))
    lib.wait_for(lambda: len(lines(d / "where")) > before + 3, "the job to run on")
    assert c.exec("n1", "scontrol", "ping").returncode == 0
    c.wait_node("n2", "down*", "allocated*", "mixed*", "idle*")
    c.heal("n2")
    with pytest.raises(lab_module.LabError, match="is not cut"):
        c.heal("n2")
    got = lib.wait_for(lambda: (lambda s: s if s != "nothing" else None)(tell(server, "read")), "what was sent while the link was cut")
    assert got == "b'two'"
    for p in (client, server):
        p.stdin.close()
        p.wait(10)
    lib.wait_for(lambda: not c.node_state("n2").endswith("*") and not c.node_state("n2").startswith("down"), "n2 to be back")
    (d / "stop").touch()


def test_a_host_without_the_cluster_file_system(hosts):
    """The cluster file system is read-only or unmounted on one host: other hosts, the host's disk and the daemons work, and a job can be dumped and restored."""
    c = hosts
    home = c.dir / "home" / lib.USER
    job = c.sbatch(WHERE, "-o", "out", "--nodelist=n1", "--checkpoint=UNLIMITED", cwd=home)
    c.wait_running(job)
    c.checkpoint("create", job)
    probe, mine = c.dir / "checkpoint" / "probe", f"{c.dir}/local/probe"

    def writes(host, path=probe):
        return c.exec(host, "touch", path).returncode == 0

    def pod_writes():
        return subprocess.run(["nsenter", f"--target={c.pod_pids(job)[0]}", "--mount", "--pid", "touch", probe], capture_output=True,
                              text=True, check=False).returncode == 0

    with pytest.raises(lab_module.LabError, match="is not read-only on n1"):
        c.rw("n1")
    for _ in range(2):
        agent = c.agent_pid(job)
        c.ro("n1")
        with pytest.raises(lab_module.LabError, match="is read-only on n1 already"):
            c.ro("n1")
        assert not writes("n1") and not writes("n1", home / "probe") and pod_writes()
        assert "Read-only file system" in c.exec("n1", "touch", probe).stderr
        assert writes("n2") and writes("n2", home / "probe") and writes("n1", mine)
        c.rw("n1")
        assert writes("n1") and writes("n1", home / "probe")
        assert agent and lib.alive(agent)
        assert "saved" in c.checkpoint("create", job)
    c.ok("scontrol", "update", "nodename=n1", "state=drain", "reason=test", user="root")
    c.checkpoint("vacate", job)
    c.ok("scontrol", "update", f"JobId={job}", "ReqNodeList=", user="root")
    assert "restored" in c.checkpoint("restart", job)
    (home / "stop").touch()
    assert c.wait_end(job) == ("COMPLETED", "0:0")
    c.ok("scontrol", "update", "nodename=n1", "state=resume", user="root")
    (home / "stop").unlink()
    job = c.sbatch(WHERE, "-o", "out", "--nodelist=n1", cwd=home)
    lib.wait_for(lambda: c.state(job) == "RUNNING", "the job to run")
    c.ro("n1")
    c.umount("n1")
    assert c.exec("n1", "ls", c.dir).stdout.split() == ["criu", "local", "log", "stage"]
    assert not writes("n1") and not writes("n1", c.dir / "probe") and writes("n2") and writes("n1", mine)
    for again in (c.umount, c.ro, c.rw):
        with pytest.raises(lab_module.LabError, match="n1 has lost"):
            again("n1")
    c.run("scancel", job)
    c.kill_node("n1")
    c.up("n1")
    assert writes("n1") and (c.dir / "host" / "n1" / "probe").exists()


def test_down_leaves_nothing(base_dir, jobdir):
    """lab/down in order, with one host cut off and one without power, and after the keeper was killed."""
    before = interfaces()
    for how in ("in order", "keeper killed"):
        c = lib.Cluster(base_dir / f"left_{how[:2]}", hosts=3, proctrack="cgroup")
        d = jobdir()
        jobs = [c.sbatch(WHERE, "--checkpoint=UNLIMITED", f"--nodelist={n}", cwd=d) for n in HOSTS[1:]]
        for job in jobs:
            c.wait_running(job)
        keeper, tag, switch = c.lab.keeper_pid(), c.lab.tag, c.lab.switch
        running = leftovers.descendants(keeper)
        assert leftovers.networks(switch) and leftovers.cgroups_below(f"fsched-lab.{tag}")
        c.cut("n2")
        c.umount("n2")
        c.kill_node("n3")
        if how != "in order":
            os.kill(keeper, signal.SIGKILL)
            lib.wait_for(lambda: not lib.alive(keeper), "the keeper's end")
        amiss = c.down()
        assert not amiss
        # the kernel ends them by itself, which takes a moment on a busy machine
        lib.wait_for(lambda: not [p for p in [keeper, *running] if lib.alive(p)], "the processes to end")
        assert not leftovers.networks(switch)
        assert not leftovers.cgroups_below(f"fsched-lab.{tag}")
        assert not leftovers.mounts_anywhere(str(c.dir))
        assert not c.dir.exists()
        assert interfaces() == before


def test_a_start_that_is_killed_can_be_cleaned_up(base_dir):
    """lab/up gets SIGKILL as soon as there are hosts. lab/down ends what it started."""
    d = base_dir / "killed"
    starter = subprocess.Popen([lib.ROOT / "lab" / "up", "--hosts", "3", "--dir", d, "--user", lib.USER, "--stage", lib.STAGE],
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    lib.wait_for(lambda: len(leftovers.keepers(str(d))) > 1 or starter.poll() is not None, "hosts", poll=0.005)
    starter.kill()
    starter.wait()
    keepers = leftovers.keepers(str(d))
    assert keepers
    state = json.loads((d / "lab.json").read_text())
    state.pop("keeper", None)            # as if it had been killed even earlier
    (d / "lab.json").write_text(json.dumps(state))
    p = subprocess.run([lib.ROOT / "lab" / "down", "--dir", d], capture_output=True, text=True, timeout=60, check=False)
    assert "down" in p.stdout, p.stderr
    assert not [k for k in keepers if lib.alive(k)]
    assert not leftovers.marked(str(d)) and not leftovers.mounts_anywhere(str(d))
    assert not d.exists()


def test_a_start_that_fails_leaves_nothing(base_dir):
    d = base_dir / "fails"
    began = time.monotonic()
    with pytest.raises(lab_module.LabError, match="(?s)slurmctld ended with status.*NoSuchKey"):
        lib.Cluster(d, hosts=2, slurm_conf=["NoSuchKey=1"])
    assert time.monotonic() - began < 0.8 * lab_module.START_DEADLINE, "noticed at its end, not by the deadline"
    assert not d.exists() and not leftovers.keepers(str(d)) and not leftovers.marked(str(d)) and not leftovers.mounts_anywhere(str(d))


def test_two_labs_at_once(hosts, new_cluster):
    other = new_cluster(hosts=1)
    other.kill_node("n1")
    assert hosts.node_state("n1") == "idle" and hosts.exec("n1", "scontrol", "ping").returncode == 0
    other.up("n1")
    assert other.node_state("n1") == "idle"


def node(c, *argv):
    p = subprocess.run([lib.ROOT / "lab" / "node", "--dir", c.dir, *argv], capture_output=True, text=True, timeout=60, check=False)
    return p.returncode, p.stdout + p.stderr


def test_commands(new_cluster, cluster):
    c = new_cluster(hosts=1)
    status, said = node(c, "list")
    assert status == 0 and re.search(r"^n1 +10\.77\.0\.11 +on +up +idle$", said, re.M) and re.search(r"^ctl ", said, re.M), said
    assert node(c, "exec", "n1", "sh", "-c", "hostname; exit 7") == (7, "n1\n")
    assert node(c, "exec", "--user", lib.USER, "n1", "id", "-un") == (0, f"{lib.USER}\n")
    for wrong in ([], ["list", "n1"], ["kill"], ["kill", "n1", "n2"], ["explode", "n1"], ["exec", "n1"], ["exec", "--user"]):
        status, said = node(c, *wrong)
        assert status == 2 and "usage" in said, wrong
    for argv, text in ((["kill", "n7"], "no host n7 in this lab: it has ctl, n1"), (["up", "n1"], "n1 is up already"),
                       (["heal", "n1"], "is not cut"), (["exec", "--user", "nobody-at-all", "n1", "id"], "no user nobody-at-all")):
        status, said = node(c, *argv)
        assert status == 1 and text in said and "Traceback" not in said, said
    assert node(c, "cut", "n1") == (0, "")
    assert re.search(r"^n1 .* cut ", node(c, "list")[1], re.M)
    assert node(c, "ro", "n1") == (0, "") and c.exec("n1", "touch", c.dir / "etc" / "probe").returncode != 0
    assert node(c, "rw", "n1") == (0, "") and c.exec("n1", "touch", c.dir / "etc" / "probe").returncode == 0
    assert node(c, "heal", "n1")[0] == 0 and node(c, "kill", "n1")[0] == 0
    assert re.search(r"^n1 .* off ", node(c, "list")[1], re.M)
    assert "off" in node(c, "exec", "n1", "true")[1] and "off" in node(c, "ro", "n1")[1] and "off" in node(c, "kill", "n1")[1]
    assert node(c, "up", "n1")[0] == 0
    # the controller is a host like the others
    assert node(c, "kill", "ctl")[0] == 0 and node(c, "list")[0] == 0
    assert node(c, "up", "ctl")[0] == 0
    c.wait_node("n1", "idle")
    status, said = node(cluster, "list")
    assert status == 1 and "no simulated hosts" in said


@pytest.mark.parametrize("address", ["127.0.1.1", "192.0.2.7"])
def test_machine_whose_name_is_another_address(base_dir, address):
    """The machine's name is at 127.0.1.1 on Debian and at a network address in clouds. The lab and the commands in lab/shell use 127.0.0.1."""
    d, hosts = base_dir / f"debian_{address}", base_dir / f"hosts_{address}"
    hosts.write_text(f"127.0.0.1 localhost\n{address} debian.example debian\n")
    up = lib.ROOT / "lab" / "up"
    script = f"""
set -eu
hostname debian
mount --bind {hosts} /etc/hosts
getent ahostsv4 debian | grep -q '^{address} '
{up} --dir {d} --name d --user {lib.USER} --stage {lib.STAGE}
trap '{up.parent}/down --dir {d}' EXIT
shell="{up.parent}/shell --dir {d} --"
$shell srun -n1 hostname
$shell sbatch --wait --checkpoint=UNLIMITED -o out --wrap 'srun -n1 echo in a step; echo done'
$shell cat out
"""
    done = subprocess.run(["unshare", "--uts", "--mount", "bash", "-c", script], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          stdin=subprocess.DEVNULL, timeout=5 * lib.DEADLINE, check=False)
    assert done.returncode == 0, done.stdout
    assert "\ndebian\n" in done.stdout and "in a step\ndone\n" in done.stdout, done.stdout
