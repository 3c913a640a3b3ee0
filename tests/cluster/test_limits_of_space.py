"""What bounds checkpoints: CheckpointMinInterval, and the quotas CheckpointMaxBytesUser and CheckpointMaxBytes."""
import json
import pwd
import re

import lib

HOLDS = "python3 -c \"import os, time; x = os.urandom(30 << 20); [time.sleep(.1) for _ in iter(lambda: os.path.exists('go'), True)]\""


def refused(c, d, interval):
    (d / "job.sh").write_text("#!/bin/bash\ntrue\n")
    return c.fails("sbatch", f"--checkpoint={interval}", d / "job.sh", cwd=d)


def test_an_interval_below_the_shortest_is_refused(new_cluster, jobdir):
    c, d = new_cluster(conf=["CheckpointMinInterval=1:00"]), jobdir()
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


def set_conf(c, **keys):
    """The next job, and the next checkpoint of each, read it."""
    text = c.conf().read_text()
    for key, value in keys.items():
        text = re.sub(rf"(?m)^{key}\s*=.*\n", "", text) + f"{key} = {value}\n"
    c.conf().write_text(text)


def holds_memory(c, d, user=lib.USER):
    job = c.sbatch(HOLDS, "--checkpoint=UNLIMITED", cwd=d, user=user)
    c.wait_running(job)
    return job


def usage(c, user):
    """Bytes by job, as quotas count them."""
    d = c.ckpt_dir(1).parent / "usage" / str(pwd.getpwnam(user).pw_uid)
    return {f.name: f.stat().st_size * 1024 for f in d.iterdir()}


def test_quota(new_cluster, jobdir):
    """An epoch takes 31 MiB or more, and is expected to take more than that: there is room for two."""
    c, d, e = new_cluster(conf=["CheckpointMaxBytesUser=100M", "CRIU_MaxEpochs=5", "CheckpointKeepDays=1"]), jobdir(), jobdir()
    job = holds_memory(c, d)
    for _ in range(2):
        c.checkpoint("create", job)
    assert list(usage(c, lib.USER)) == [str(job)], usage(c, lib.USER)
    taken = sum(x["bytes"] for x in c.record(job)["epochs"])
    assert 0 <= usage(c, lib.USER)[str(job)] - taken < 1024
    said = c.fails("scontrol", "checkpoint", "create", job)
    assert re.search(r"epochs of all your jobs take \d\d\.\d MiB, this one would take about \d\d\.\d MiB more, and CheckpointMaxBytesUser is 100", said), said
    assert "the job continues" in said
    entry = c.wait_entry(job, lambda x: "CheckpointMaxBytesUser" in x.get("error", ""), "the reason in the entry")
    assert entry["state"] == "running" and entry["epoch"] == "2" and c.epochs(job) == [1, 2]
    assert c.history(job)["tally"]["refused"] == {"quota": 1} and list(usage(c, lib.USER)) == [str(job)]
    # the user is told when he submits; what he writes into his file does no harm
    told = c.ckpt_dir(1).parent / "usage" / f"told.{pwd.getpwnam(lib.USER).pw_uid}"
    (d / "next.sh").write_text("#!/bin/sh\n")
    assert "CheckpointMaxBytesUser is 100.0 MiB" in c.run("sbatch", "--hold", "--checkpoint=30", "next.sh", cwd=d).stderr
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


def test_old_epochs_go_first_where_that_is_allowed(new_cluster, jobdir):
    c, d = new_cluster(conf=["CheckpointMaxBytesUser=100M", "CheckpointQuotaPrune=YES", "CRIU_MaxEpochs=5"]), jobdir()
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
