"""What is kept of jobs, who sees it, and how the owner of jobs that have ended gets rid of it: fsched list, fsched prune as an ordinary user."""
import os
import re

import lib

WAIT = "until [ -e go ]; do sleep 0.1; done"
BIG = "python3 -c \"import os, time; x = os.urandom(8 << 20); [time.sleep(.1) for _ in iter(lambda: os.path.exists('go'), True)]\""
MATE = 12121        # uid of another user


def mate(c, *command):
    return c.run("setpriv", f"--reuid={MATE}", "--regid=65534", "--clear-groups", *command, user="root")


def started(c, d, *jobs):
    """(script, user) each; a job with an epoch."""
    ids = []
    for script, user in jobs:
        ids.append(c.sbatch(script, "--checkpoint=UNLIMITED", cwd=d, user=user))
        c.wait_running(ids[-1])
        c.checkpoint("create", ids[-1], user="root")
    return ids


def rows(c, *options, user="root"):
    """Rows as dicts, by job in the order of the list, and the line of the sums."""
    head, *lines, total = c.ok("fsched", "list", *options, user=user).splitlines()
    head = head.split()
    assert total.startswith("total: ")
    return {r["JOB"]: r for r in (dict(zip(head, re.sub(r" ([KMG]iB|B) ", r"\1 ", line).split())) for line in lines)}, total


def test_list(new_cluster, jobdir):
    c, d, e = new_cluster(), jobdir(), jobdir()
    runs, = started(c, e, (WAIT, lib.USER))
    small, big, roots = started(c, d, (WAIT, lib.USER), (BIG, lib.USER), (WAIT, "root"))
    (d / "go").touch()
    for job in small, big, roots:
        c.wait_end(job)
    all_jobs = [str(j) for j in (runs, small, big, roots)]
    listed, total = rows(c)
    assert list(listed) == all_jobs and [listed[j]["SLURM"] for j in all_jobs] == ["running"] + ["completed"] * 3, listed
    assert listed[str(big)]["SIZE"].endswith("MiB") and re.fullmatch(r"\d+s|\dmin", listed[str(big)]["AGE"]), listed
    assert re.match(r"total: 4 jobs, 4 epochs, [\d.]+ MiB; ended: 3 jobs, 3 epochs, [\d.]+ MiB$", total), total
    # what matters first
    (c.ckpt_dir(7777)).mkdir(0o711)
    (c.ckpt_dir(small)).rename(f"{c.ckpt_dir(small)}.older")
    listed, total = rows(c, "--all")
    assert list(listed)[0] == str(big) and list(listed)[-1] == "7777" and listed["7777"]["STATE"] == "unreadable", listed
    assert list(listed).index(f"{small}.older") < list(listed).index(str(runs)) and listed[f"{small}.older"]["SLURM"] == "forgotten"
    # users: their own
    listed, total = rows(c, user=lib.USER)
    assert list(listed) == [str(runs), str(big)] and total.startswith("total: 2 jobs, 2 epochs"), listed
    assert "only root" in c.fails("fsched", "list", "--all") and c.run("fsched", "list", "--all", "7", user="root").returncode == 2
    c.lab.stop_daemon("slurmctld")
    listed, total = rows(c)
    assert listed[str(runs)]["SLURM"] == "?" and total.endswith("ended: not known"), listed
    c.lab.start_daemon("slurmctld")
    (e / "go").touch()
    c.wait_end(runs)


def test_the_owner_frees_what_his_ended_jobs_take(new_cluster, jobdir):
    c, d, e = new_cluster(), jobdir(), jobdir()
    runs, = started(c, e, (WAIT, lib.USER))
    mine, kept, roots = started(c, d, (WAIT, lib.USER), (WAIT, lib.USER), (WAIT, "root"))
    (d / "go").touch()
    for job in mine, kept, roots:
        c.wait_end(job)

    def requested(*more):
        said = c.ok("fsched", "prune", "--ended", "--requested", "--all", *more, user="root")
        return [int(j) for j in re.findall(r"^job (\d+):", said, re.M)]
    said = c.ok("fsched", "prune", "--ended", "--all")
    assert re.findall(r"^job (\d+): would ask for the removal of 1 epoch", said, re.M) == [str(mine), str(kept)] and "--yes" in said, said
    assert requested() == []
    # no other user can ask
    p = mate(c, "fsched", "prune", "--all", mine)
    assert p.returncode == 1 and "only root and the job's owner" in p.stderr, p
    p = mate(c, "chmod", "500", c.ckpt_dir(mine) / "owner/job.json")
    assert p.returncode and requested() == []
    # nor can the owner ask for what a job needs, or for part of it
    assert "may still need its epochs" in c.fails("fsched", "prune", "--all", runs)
    assert "epochs belong to root" in c.fails("fsched", "prune", "--keep", "0", mine)
    os.chmod(c.ckpt_dir(runs) / "owner/job.json", 0o500)
    said = c.ok("fsched", "prune", "--all", mine)
    assert "asked for the removal" in said and "--requested" in said, said
    assert rows(c, user=lib.USER)[0][str(mine)]["STATE"] == rows(c)[0][str(mine)]["STATE"] == "to-prune"
    assert requested() == [mine] == requested("--user", lib.USER) and c.epochs(mine) == [1]
    assert requested("--yes") == [mine]
    assert not c.ckpt_dir(mine).exists() and c.epochs(kept) == c.epochs(roots) == c.epochs(runs) == [1]
    # older ones, too, where the owner has not asked
    old = os.stat(c.ckpt_dir(roots) / "job.json").st_mtime - 3 * 86400
    os.utime(c.ckpt_dir(roots) / "job.json", (old, old))
    c.ok("fsched", "prune", "--all", kept)
    assert requested("--days", "2") == [kept, roots]
    # a job that goes on needs its epochs
    c.ok("scontrol", "requeuehold", kept)
    c.wait_state(kept, "PENDING")
    assert requested() == []
    (d / "go").unlink()
    c.checkpoint("restart", kept)
    (d / "go").touch()
    c.wait_end(kept)
    assert requested() == [], "the start of the job withdraws the request"
    (e / "go").touch()
    c.wait_end(runs)


def test_what_the_owner_can_put_there(new_cluster, jobdir):
    """Root looks at the mode of a file that is the owner's, in a directory of root's, and at nothing else."""
    c, d = new_cluster(), jobdir()
    mine, = started(c, d, (WAIT, lib.USER))
    (d / "go").touch()
    c.wait_end(mine)
    copy = c.ckpt_dir(mine) / "owner/job.json"
    listed = lambda: str(mine) in c.ok("fsched", "prune", "--ended", "--requested", "--all", user="root")
    for mode in (0o400, 0o600, 0o700, 0o777, 0o4500, 0o555):
        copy.chmod(mode)
        assert not listed(), oct(mode)
    copy.chmod(0o500)
    assert listed()
    os.chown(copy, MATE, 0)
    assert not listed(), "of another user"
    copy.unlink()
    copy.symlink_to(d / "out")
    assert not listed()
