"""What bounds checkpoints: CheckpointMinInterval, the quotas CheckpointMaxBytesUser and CheckpointMaxBytes, how often --checkpoint=auto makes
them, and how many a node makes at once (CheckpointMaxWriters)."""
import fcntl
import json
import os
import pwd
import re
import shutil
import threading

import pytest

import lib

HOLDS = "python3 -c \"import os, time; x = os.urandom(30 << 20); open('up', 'w'); [time.sleep(.1) for _ in iter(lambda: os.path.exists('go'), True)]\""


@pytest.fixture(scope="module")
def own_cluster(base_dir):
    with lib.Cluster(base_dir / "limits") as c:
        yield c


@pytest.fixture
def limited(own_cluster):
    """limited(KEY=value, …): the module's cluster with these keys, where nothing is kept of earlier jobs."""
    c, text = own_cluster, own_cluster.conf().read_text()

    def make(**keys):
        set_conf(c, **keys)
        return c
    yield make
    for user in lib.USER, "root":
        c.run("scancel", "--user", user, user="root")
    lib.wait_for(lambda: not c.run("squeue", "-h", user="root").stdout.strip(), "an empty queue", 30)
    c.conf().write_text(text)
    for kept in c.ckpt_dir(1).parent.iterdir():
        shutil.rmtree(kept, ignore_errors=True)


def set_conf(c, **keys):
    """The next job, and the next checkpoint of each, read it."""
    text = c.conf().read_text()
    for key, value in keys.items():
        text = re.sub(rf"(?m)^{key}\s*=.*\n", "", text) + f"{key} = {value}\n"
    c.conf().write_text(text)


def refused(c, d, interval):
    (d / "job.sh").write_text("#!/bin/bash\ntrue\n")
    return c.fails("sbatch", f"--checkpoint={interval}", d / "job.sh", cwd=d)


def test_an_interval_below_the_shortest_is_refused(limited, jobdir):
    c, d = limited(CheckpointMinInterval="1:00"), jobdir()
    said = refused(c, d, "0:59")
    assert "00:00:59 is shorter than this cluster allows: the shortest is 00:01:00 (CheckpointMinInterval" in said, said
    # The plugin of sbatch is for an early message. slurmctld refuses by itself: here the submit host has another file.
    other = d / "fsched.conf"
    other.write_text("CheckpointType = checkpoint/criu\nCheckpointMinInterval = 0:01\n")
    stack = d / "plugstack.conf"
    plugstack = next(line.split("=", 1)[1] for line in open(c.slurm_conf) if line.startswith("PlugStackConfig="))
    text = open(plugstack.strip()).read()
    stack.write_text("".join(f"{' '.join(w if not w.startswith('conf=') else f'conf={other}' for w in line.split())}\n" for line in text.splitlines()))
    conf = d / "slurm.conf"
    conf.write_text("".join(f"PlugStackConfig={stack}\n" if line.startswith("PlugStackConfig=") else line for line in open(c.slurm_conf)))
    p = c.run("sbatch", "--checkpoint=0:59", d / "job.sh", cwd=d, env={"SLURM_CONF": str(conf)})
    assert p.returncode and "CheckpointMinInterval" in p.stderr and "Batch job submission failed" in p.stderr, p
    for interval in "1:00", "UNLIMITED":
        c.sbatch("true", "--hold", f"--checkpoint={interval}", cwd=d)


def holds_memory(c, d, user=lib.USER):
    job = c.sbatch(HOLDS, "--checkpoint=UNLIMITED", cwd=d, user=user)
    c.wait_running(job)
    lib.wait_for(lambda: (d / "up").exists(), "its memory")
    return job


def usage(c, user):
    """Bytes by job, as quotas count them."""
    d = c.ckpt_dir(1).parent / "usage" / str(pwd.getpwnam(user).pw_uid)
    return {f.name: f.stat().st_size * 1024 for f in d.iterdir()}


def test_quota(limited, jobdir):
    """An epoch takes 31 MiB or more, and is expected to take more than that: there is room for two."""
    c, d, e = limited(CheckpointMaxBytesUser="95M", CRIU_MaxEpochs=5, CheckpointKeepDays=1), jobdir(), jobdir()
    job = holds_memory(c, d)
    for _ in range(2):
        c.checkpoint("create", job)
    assert list(usage(c, lib.USER)) == [str(job)], usage(c, lib.USER)
    taken = sum(x["bytes"] for x in c.record(job)["epochs"])
    assert 0 <= usage(c, lib.USER)[str(job)] - taken < 1024
    said = c.fails("scontrol", "checkpoint", "create", job)
    assert re.search(r"epochs of all your jobs take \d\d\.\d MiB, this one would take about \d\d\.\d MiB more, and CheckpointMaxBytesUser is 95", said), said
    assert "the job continues" in said
    entry = c.wait_entry(job, lambda x: "CheckpointMaxBytesUser" in x.get("error", ""), "the reason in the entry")
    assert entry["state"] == "running" and entry["epoch"] == "2" and c.epochs(job) == [1, 2]
    assert c.history(job)["tally"]["refused"] == {"quota": 1} and list(usage(c, lib.USER)) == [str(job)]
    # the user is told when he submits; what he writes into his file does no harm
    told = c.ckpt_dir(1).parent / "usage" / f"told.{pwd.getpwnam(lib.USER).pw_uid}"
    (d / "next.sh").write_text("#!/bin/sh\n")
    assert "CheckpointMaxBytesUser is 95.0 MiB" in c.run("sbatch", "--hold", "--checkpoint=30", "next.sh", cwd=d).stderr
    assert json.loads(told.read_text())["need"] > 31 << 20 and c.run("cat", told).returncode == 0
    assert c.run("ls", told.parent / str(told.stat().st_uid)).returncode
    c.ok("chmod", "600", told)
    c.ok("sh", "-c", f"echo '{{' > {told}")
    assert c.run("sbatch", "--hold", "--checkpoint=30", "next.sh", cwd=d).stderr == ""
    # another user has a quota of his own, and all have one together
    roots = holds_memory(c, e, user="root")
    set_conf(c, CheckpointMaxBytes="90M")
    assert "the epochs of all users take" in c.fails("scontrol", "checkpoint", "create", roots, user="root")
    # an ended job goes if its owner has asked for it and the administrator allows it
    (d / "go").touch()
    c.wait_end(job)
    c.ok("fsched", "prune", "--all", job)
    assert "of all users" in c.fails("scontrol", "checkpoint", "create", roots, user="root") and c.epochs(job) == [1, 2]
    set_conf(c, CheckpointQuotaPrune="YES")
    c.checkpoint("create", roots, user="root")
    assert not c.ckpt_dir(job).exists() and usage(c, lib.USER) == {} and f"what was kept of job {job} (" in c.log(roots)
    (e / "go").touch()
    c.wait_end(roots)


def test_old_epochs_go_first_where_that_is_allowed(limited, jobdir):
    c, d = limited(CheckpointMaxBytesUser="95M", CheckpointQuotaPrune="YES", CRIU_MaxEpochs=5), jobdir()
    job = holds_memory(c, d)
    for _ in range(4):
        c.checkpoint("create", job)
    assert c.epochs(job) == [3, 4] == [x["number"] for x in c.record(job)["epochs"]]
    assert "1 old epoch (1 to 1) removed to make room" in c.log(job), c.log(job)
    # not for nothing: the newest one stays, and all others would not be enough
    set_conf(c, CheckpointMaxBytesUser="50M")
    assert "CheckpointMaxBytesUser is 50.0 MiB" in c.fails("scontrol", "checkpoint", "create", job)
    assert c.epochs(job) == [3, 4]
    # a vacate that is refused leaves the job where it is
    assert "was not vacated" in c.fails("scontrol", "checkpoint", "vacate", job) and c.state(job) == "RUNNING"
    (d / "go").touch()
    c.wait_end(job)


WAITS = "until [ -e go ]; do sleep 0.1; done; echo end"


def test_auto(limited, jobdir):
    c, d = limited(), jobdir()
    job = c.sbatch(WAITS, "--checkpoint=auto", "-o", "out", cwd=d)
    c.wait_running(job)
    # nothing is known of its cost
    assert c.entry(job)["interval"] == "auto" and c.entry(job)["every"] == "00:10:00"
    said = c.ok("fsched", "advise", job).splitlines()
    assert [x.split(":")[0] for x in said] == ["Cost", "Failures", "Advice", "Interval"] and said[0].endswith("after which the job ran on"), said
    assert said[1:] == ["Failures:  one in 365-00:00:00 for each node (CheckpointMTBF)", "Advice:    every 00:10:00 (the first one)",
                        "Interval:  00:10:00"], said
    c.checkpoint("create", job)
    entry = c.wait_entry(job, lambda x: x["every"] != "00:10:00", "another interval")
    advice = json.loads(c.ok("fsched", "advise", job, "--json"))["jobs"][0]
    assert advice["interval_auto"] is True and advice["interval_s"] == advice["advice_s"] and advice["frozen_us"] > 0, (advice, entry)
    said = c.ok("fsched", "advise", job)
    assert f"Interval:  {entry['every']}, which costs 0.0" in said and re.search(r"frozen for .*, slower for .* \(mean of 1\)", said), said
    assert f"the interval is {entry['every']} now, it was 00:10:00" in c.log(job)
    p = c.run("setpriv", "--reuid=12121", "--regid=65534", "--clear-groups", "fsched", "advise", job, user="root")
    assert p.returncode == 1 and not p.stdout, p
    # it is the job's for its whole life, and what was measured is kept
    c.checkpoint("vacate", job)
    c.checkpoint("restart", job)
    assert c.wait_entry(job, lambda x: x["state"] == "running" and x.get("restored") == "2", "its restart")["every"] == entry["every"]
    # within the bounds, which the agent reads when its job begins
    set_conf(c, CheckpointAutoMax="0:02")
    often = c.sbatch(WAITS, "--checkpoint=AUTO", cwd=d)
    c.wait_running(often)
    c.wait_entry(often, lambda x: int(x["epoch"]) >= 2, "periodic checkpoints")
    assert c.entry(often)["every"] == "00:00:02" and "(CheckpointAutoMax; the optimum is " in c.ok("fsched", "advise", often)
    (d / "go").touch()
    for j in job, often:
        assert c.wait_end(j) == ("COMPLETED", "0:0"), c.logs(j)


class Writer:
    """A checkpoint of somebody else on the node, as far as turns go: a ticket that is locked, or one whose process has died."""

    def __init__(self, c, number, lives=True):
        pods = re.search(r"(?m)^PodDir\s*=\s*(\S+)", c.conf().read_text())[1]
        self.dir = f"{pods}/writers"
        os.makedirs(self.dir, mode=0o700, exist_ok=True)
        self.fd = os.open(f"{self.dir}/{number}", os.O_RDWR | os.O_CREAT, 0o600)
        if lives:
            fcntl.flock(self.fd, fcntl.LOCK_EX)
        else:
            os.close(self.fd)

    def tickets(self):
        return sorted(int(name) for name in os.listdir(self.dir) if name.isdigit())


def test_writers(limited, jobdir):
    c, d = limited(CheckpointMaxWriters=1, CheckpointWriterWait=60), jobdir()
    jobs = [c.sbatch(WAITS, "--checkpoint=UNLIMITED", "-o", f"out{i}", cwd=d) for i in range(2)]
    for job in jobs:
        c.wait_running(job)
    # of a process that has died: nobody waits for it
    dead = Writer(c, 3, lives=False)
    c.checkpoint("create", jobs[0])
    assert dead.tickets() == [] and c.epochs(jobs[0]) == [1]
    # of one that lives: the others wait, and have their turns in their order; their jobs run meanwhile
    other, done, said = Writer(c, 7), [], {}

    def create(job):
        said[job] = c.checkpoint("create", job)
        done.append(job)
    threads = [threading.Thread(target=create, args=(job,)) for job in jobs]
    for n, thread in enumerate(threads):
        thread.start()
        lib.wait_for(lambda: other.tickets() == [7, 8, 9][:n + 2], "its ticket")
    assert c.epochs(jobs[0]) == [1] and c.epochs(jobs[1]) == [] and c.state(jobs[0]) == "RUNNING"
    os.close(other.fd)
    for thread in threads:
        thread.join()
    assert done == jobs and c.epochs(jobs[0]) == [2] and c.epochs(jobs[1]) == [1] and other.tickets() == [], (done, said)
    # too long: what is due again soon is left out, what was asked for is made
    set_conf(c, CheckpointWriterWait="1")
    other = Writer(c, 20)
    periodic = c.sbatch(WAITS, "--checkpoint=0:02", "-o", "out3", cwd=d)
    c.wait_running(periodic)
    entry = c.wait_entry(periodic, lambda x: "CheckpointMaxWriters" in x.get("error", ""), "a periodic one that is left out")
    assert "come before this one: 1, CheckpointMaxWriters: 1, waited: 1 s; it is left out" in entry["error"] and int(entry["failed"]) > 0, entry
    assert entry["epoch"] == "0" and c.history(periodic)["tally"]["failed"].get("writers"), entry
    c.checkpoint("create", jobs[1])
    assert c.epochs(jobs[1]) == [2] and "waited: 1 s; it is made all the same" in c.log(jobs[1])
    os.close(other.fd)
    c.wait_entry(periodic, lambda x: int(x["epoch"]) > 0, "a periodic one that has its turn")
    (d / "go").touch()
    for job in [*jobs, periodic]:
        assert c.wait_end(job) == ("COMPLETED", "0:0")
