"""Commands of administrators: fsched config, doctor, prune, version, and the installation."""
import fnmatch
import os
import re
import shutil
import subprocess
import time

import lib


def test_config_shows_where_each_value_comes_from(new_cluster):
    c = new_cluster(conf=["CRIU_MaxEpochs = 3   # keep three", "criu_predumpdelay=7"])
    out = c.ok("fsched", "config")
    assert re.search(r"CRIU_MaxEpochs = 3\s+# .*fsched\.conf:\d+", out)
    assert re.search(r"CRIU_FullEvery = 10\s+# default", out)
    assert "no effect" in out


def test_keys_without_effect_are_told_to_the_agents_log(new_cluster, jobdir):
    c = new_cluster(conf=["CRIU_FullEvery=5"])
    job = c.sbatch("true", "--checkpoint=30", cwd=jobdir())
    assert c.wait_end(job)[0] == "COMPLETED"
    lines = [l for l in (c.dir / "log" / "fsched.log").read_text().splitlines() if "no effect" in l]
    assert len(lines) == 1 and "CRIU_FullEvery" in lines[0] and f"job {job}" in lines[0], lines


def test_bad_configuration_is_named(new_cluster, jobdir, tmp_path):
    c = new_cluster()
    good = c.conf().read_text()
    for line, words in [("CRIU_MaxEpoch = 3", "CRIU_MaxEpochs"), ("CRIU_LoadThresholdCPU = 1.5", "0"), ("CRIU_Incremental = perhaps", "YES"),
                        ("JobCheckpointDir = relative", "absolute"), ("CheckpointType = checkpoint/blcr", "checkpoint/criu"), ("nonsense", "=")]:
        rest = [l for l in good.splitlines() if l.partition("=")[0].strip() != line.partition("=")[0].strip()]
        c.conf().write_text("\n".join([*rest, line]) + "\n")
        said = c.fails("fsched", "config")
        assert f"fsched.conf:{len(rest) + 1}" in said and words in said, said
        d = jobdir()
        (d / "job.sh").write_text("#!/bin/bash\ntrue\n")
        assert "fsched.conf" in c.fails("sbatch", "--checkpoint=30", d / "job.sh", cwd=d)
        job = c.sbatch("true", cwd=d)
        assert c.wait_end(job)[0] == "COMPLETED"
    c.conf().write_text(good)


def test_doctor(cluster):
    p = cluster.run("fsched", "doctor", user="root")
    assert p.returncode == 0, p.stdout + p.stderr
    for what in ("criu", "munge", "Slurm", "JobCheckpointDir", "write"):
        assert re.search(what, p.stdout, re.I), p.stdout
    assert not re.search(r"^failed", p.stdout, re.M)
    assert re.search(r"^ok +scontrol - ", p.stdout, re.M), p.stdout
    for what, value in (("Slurm", r"\d+\.\d+\.\d+"), ("AuthType", "auth/munge"), ("NamespaceType", "none"), ("JobSubmitPlugins", "fsched"), ("fanotify groups", "enough")):
        assert re.search(rf"^ok +{what} - {value}", p.stdout, re.M), p.stdout
    assert "chroot" not in p.stdout
    # as after `make install` on a host where nobody has changed PATH
    bare = cluster.run("fsched", "doctor", user="root", env={"PATH": ":".join(d for d in cluster.path.split(":") if not d.endswith("fsched/bin"))})
    assert re.search(r"^warning +scontrol - .*fsched/bin first in PATH", bare.stdout, re.M), bare.stdout


def test_doctor_asks_the_running_slurmctld(new_cluster):
    """slurm.conf on a node may not be what slurmctld runs with."""
    c = new_cluster()
    conf = lib.Path(c.slurm_conf)
    text = conf.read_text()
    conf.write_text(re.sub(r"(?m)^JobSubmitPlugins=.*$", "", text))
    said = c.run("fsched", "doctor", user="root").stdout
    assert re.search(r"^ok +JobSubmitPlugins - fsched", said, re.M), said
    c.lab.stop_daemon("slurmctld")
    conf.write_text(re.sub(r"(?m)^JobSubmitPlugins=.*$", "", text))
    said = c.run("fsched", "doctor", user="root", timeout=300).stdout
    assert re.search(r"^warning +slurmctld - does not answer: .* is looked at instead", said, re.M), said
    assert re.search(r"^failed +JobSubmitPlugins - fsched is not in it", said, re.M), said
    c.lab.start_daemon("slurmctld")
    conf.write_text(text)
    said = c.run("fsched", "doctor", user="root").stdout
    assert re.search(r"^failed +JobSubmitPlugins - fsched is in .*but the slurmctld that runs does not have it .*; restart slurmctld", said, re.M), said
    # what other clusters have
    conf.write_text(text + "\nJobContainerType=job_container/tmpfs\nAuthType=auth/slurm\n")
    c.lab.stop_daemon("slurmctld")
    munge = str(c.munge_socket())
    c.conf().write_text(c.conf().read_text().replace(munge, "/nonexistent"))
    said = c.run("fsched", "doctor", user="root", timeout=300).stdout
    assert re.search(r"^warning +JobContainerType - job_container/tmpfs was not tested", said, re.M), said
    assert re.search(r"^failed +AuthType - AuthType of this cluster is auth/slurm, and no munged answers at /nonexistent", said, re.M), said
    conf.write_text(text)
    c.conf().write_text(c.conf().read_text().replace("/nonexistent", munge))
    c.lab.start_daemon("slurmctld")


def test_doctor_in_a_plain_chroot(cluster):
    """setns() leaves it, which would show other files to the job."""
    root = lib.Path("/mnt")
    said = cluster.run("unshare", "--mount", "sh", "-c", f"mount --rbind / {root} && exec chroot {root} fsched doctor", user="root").stdout
    assert re.search(r"^failed +root directory - this is a plain chroot", said, re.M), said


def test_doctor_looks_at_the_directories_above(new_cluster):
    """Who owns one of them can put another directory of root's in the place of the checkpoint directory."""
    c = new_cluster()
    above = c.dir / "users"
    text = re.sub(r"(?m)^JobCheckpointDir.*$", f"JobCheckpointDir = {above}/a/b", c.conf().read_text())
    c.conf().write_text(re.sub(r"(?m)^PodDir.*$", f"PodDir = {above}/a/p", text))
    for d in ("b", "p"):
        (above / "a" / d).mkdir(parents=True)
    assert "lies below" not in c.run("fsched", "doctor", user="root").stdout
    os.chown(above, 65534, -1)
    p = c.run("fsched", "doctor", user="root")
    for key in ("JobCheckpointDir", "PodDir"):
        assert re.search(rf"^warning +{key} - lies below {above} \(uid 65534", p.stdout, re.M), p.stdout
    os.chown(above, 0, -1)
    above.chmod(0o777)
    p = c.run("fsched", "doctor", user="root")
    assert re.search(rf"^FAILED +JobCheckpointDir - lies below {above} \(uid 0, mode 0777", p.stdout, re.M | re.I), p.stdout
    above.chmod(0o1777)
    assert "lies below" not in c.run("fsched", "doctor", user="root").stdout


def test_doctor_finds_trouble(new_cluster):
    c = new_cluster()
    text = c.conf().read_text()
    c.conf().write_text(re.sub(r"(?m)^CriuPath.*$", "CriuPath = /nonexistent/criu", text))
    p = c.run("fsched", "doctor", user="root")
    assert p.returncode != 0
    assert re.search(r"^failed.*criu", p.stdout, re.M | re.I), p.stdout
    # an srun of the site's own that fsched does not know of
    assert re.search(r"^ok +SrunPath - .*/usr/bin/srun", p.stdout, re.M), p.stdout
    own = c.dir / "site" / "srun"
    own.parent.mkdir()
    shutil.copy("/usr/bin/srun", own)
    p = c.run("fsched", "doctor", user="root", env={"PATH": f"{own.parent}:{c.path}"})
    assert re.search(rf"^warning +SrunPath - {own} is not among", p.stdout, re.M), p.stdout
    c.conf().write_text(text + "SrunPath = NO\n")
    p = c.run("fsched", "doctor", user="root")
    assert re.search(r"^warning +SrunPath - NO: ", p.stdout, re.M), p.stdout


INSTALLED = """etc/bash_completion.d/fsched-scontrol
usr/bin/fsched
usr/lib/*/slurm-wlm/job_submit_fsched.so
usr/lib/*/slurm-wlm/spank_fsched.so
usr/libexec/fsched/apt-suite.sh
usr/libexec/fsched/bin/scontrol
usr/libexec/fsched/fsched-agent
usr/libexec/fsched/fsched-init
usr/libexec/fsched/fsched-leader
usr/libexec/fsched/fsched-net
usr/libexec/fsched/fsched-pmix.so
usr/libexec/fsched/fsched-requeue
usr/libexec/fsched/fsched-slurm
usr/libexec/fsched/fsched-srun
usr/libexec/fsched/fsched-worker
usr/libexec/fsched/get-criu
usr/libexec/fsched/libfsched-criu.so
usr/libexec/fsched/slurm/srun
usr/share/bash-completion/completions/fsched
usr/share/doc/fsched/examples/fsched.conf.example
usr/share/doc/fsched/examples/plugstack.conf.example
usr/share/fsched/grafana/fsched.json
usr/share/man/man1/fsched.1
usr/share/man/man1/scontrol-checkpoint.1
usr/share/man/man5/fsched.conf.5
usr/share/man/man8/fsched-agent.8"""


def test_install_is_complete(base_dir):
    """make install puts exactly these files into DESTDIR. "-o build": nothing is rebuilt while other tests run."""
    build = lib.Path(os.environ.get("FSCHED_MESON", lib.ROOT / "build" / "meson")).parent
    dest = base_dir / "installed"
    subprocess.run(["make", "-s", "-o", "build", "install", f"BUILD={build}", f"DESTDIR={dest}"], cwd=lib.ROOT, check=True)
    found = sorted(str(f.relative_to(dest)) for f in dest.rglob("*") if not f.is_dir())
    wanted = INSTALLED.splitlines()
    assert [f for f in found if not any(fnmatch.fnmatch(f, w) for w in wanted)] == []
    assert [w for w in wanted if not fnmatch.filter(found, w)] == []
    for f in found:
        mode = (dest / f).stat().st_mode
        assert mode & 0o022 == 0 and mode & 0o444 == 0o444, f
        if f.endswith("slurm/srun"):     # only a place for a mount
            continue
        assert bool(mode & 0o111) == ("/bin/" in f or "libexec" in f and not f.endswith(".so")) or f.endswith(".so"), (f, oct(mode))
    said = subprocess.run([dest / "usr/bin/fsched", "version"], capture_output=True, text=True, check=True).stdout
    assert said.startswith("fsched ")


def test_prune(cluster, jobdir):
    d = jobdir()
    job = cluster.sbatch("while [ ! -e go ]; do sleep 0.1; done", "--checkpoint=UNLIMITED", cwd=d)
    cluster.wait_running(job)
    cluster.checkpoint("create", job)
    assert cluster.fails("fsched", "prune", job, "--all", user="root")
    assert cluster.epochs(job) == [1]
    (d / "go").touch()
    cluster.wait_end(job)
    assert cluster.epochs(job) == [1], "checkpoints stay after the job"
    assert "epochs belong to root" in cluster.fails("fsched", "prune", job, "--keep", "0")
    cluster.ok("fsched", "prune", job, "--all", user="root")
    assert cluster.epochs(job) == []
    # Slurm takes no update of a job that has ended, so the entry still has them
    for what in ("list", "show"):
        assert "nothing on disk (pruned?)" in cluster.ok("fsched", what, job, user="root")


def test_prune_of_all_ended_jobs(new_cluster, jobdir):
    """By owner, age and size; what it would remove is printed first. Jobs that need their epochs are left alone."""
    c, d = new_cluster(conf=["CheckpointKeepDays=7"]), jobdir()
    ended, other, vacated = (c.sbatch("until [ -e go ]; do sleep 0.1; done", "--checkpoint=UNLIMITED", cwd=d, user=user) for user in (lib.USER, "root", lib.USER))
    for job in ended, other, vacated:
        c.wait_running(job)
        c.checkpoint("vacate" if job == vacated else "create", job, user="root")
    (d / "go").touch()
    for job in ended, other:
        c.wait_end(job)

    def prune(*options):
        said = c.ok("fsched", "prune", "--ended", "--all", *options, user="root")
        return sorted(int(line.split()[1].rstrip(":")) for line in said.splitlines() if line.startswith("job "))
    assert prune() == [ended, other] and prune("--user", lib.USER) == [ended] and prune("--user", "0") == [other]
    assert prune("--days", "1") == [] == prune("--size", "10G") == prune("--expired") and prune("--size", "1K") == [ended, other]
    assert "--yes" in c.ok("fsched", "prune", "--ended", "--all", user="root")
    for job in ended, other, vacated:
        assert c.epochs(job) == [1]
    old = time.time() - 8 * 86400
    os.utime(c.ckpt_dir(other) / "job.json", (old, old))
    assert prune("--expired", "--yes") == [other]
    assert not c.ckpt_dir(other).exists() and c.epochs(ended) == c.epochs(vacated) == [1]
    c.lab.stop_daemon("slurmctld")
    p = c.run("fsched", "prune", "--ended", "--all", "--yes", user="root", timeout=300)
    assert p.returncode == 1 and "is not known" in p.stderr and c.epochs(ended) == [1], p
    c.lab.start_daemon("slurmctld")
    for wrong in (["--all"], ["--ended"], ["--ended", "--all", "7"], ["--all", "--days", "1", "7"], ["--ended", "--all", "--size", "x"],
                  ["--ended", "--all", "--user", "nobody.here"], ["--ended", "--all", "--force"]):
        assert c.run("fsched", "prune", *wrong, user="root").returncode != 0, wrong


def test_prune_of_a_vacated_job(cluster, jobdir):
    job = cluster.sbatch("while :; do sleep 0.1; done", "--checkpoint=UNLIMITED", cwd=jobdir())
    cluster.wait_running(job)
    # the owner sees why as root does
    for epoch, op in enumerate(("create", "vacate"), 1):
        cluster.checkpoint(op, job)
        for user in (lib.USER, "root"):
            row = cluster.ok("fsched", "list", job, user=user).splitlines()[-1].split()
            assert (row[0], row[-1]) == (str(epoch), op), (user, row)
    assert "--force" in cluster.fails("fsched", "prune", "--all", job, user="root")
    assert "would remove" in cluster.ok("fsched", "prune", "--all", "--dry-run", job, user="root")
    kept = cluster.epochs(job)
    cluster.ok("fsched", "prune", "--keep", "1", "--force", job, user="root")
    assert cluster.epochs(job) == kept[-1:] == [2]
    assert cluster.entry(job)["kept"] == "2" and cluster.entry(job)["epoch"] == "2"
    cluster.ok("fsched", "prune", "--all", "--force", job, user="root")
    assert cluster.entry(job)["epoch"] == "0"
    assert "removed by fsched prune" in cluster.fails("scontrol", "checkpoint", "restart", job)
    assert cluster.state(job) == "PENDING"
    assert "no complete epoch" in cluster.ok("fsched", "list", job, user="root")


def test_prune_of_a_running_job(new_cluster, jobdir):
    """Its agent has the list of epochs in memory."""
    cluster = new_cluster(conf=["CRIU_MaxEpochs=3"])
    job = cluster.sbatch("while :; do sleep 0.1; done", "--checkpoint=UNLIMITED", cwd=jobdir())
    cluster.wait_running(job)
    for _ in range(2):
        cluster.checkpoint("create", job)
    cluster.ok("fsched", "prune", "--keep", "1", "--force", job, user="root")
    cluster.checkpoint("create", job)
    assert cluster.epochs(job) == [2, 3]
    lib.wait_for(lambda: cluster.entry(job)["kept"] == "2,3", "the entry to name what there is")
    assert [e["number"] for e in cluster.record(job)["epochs"]] == [2, 3]
    cluster.ok("scancel", job)


def test_a_vacated_job_that_is_cancelled_is_listed_so(cluster, jobdir):
    def state(job):
        rows = (line.split() for line in cluster.ok("fsched", "list", user="root").splitlines()[1:])
        return next(row[2] for row in rows if row[0] == str(job))

    job = cluster.sbatch("while :; do sleep 0.1; done", "--checkpoint=UNLIMITED", cwd=jobdir())
    cluster.wait_running(job)
    assert state(job) == "running"
    cluster.checkpoint("vacate", job)
    assert state(job) == "vacated"
    cluster.ok("scancel", job)
    cluster.wait_state(job, "CANCELLED")
    assert cluster.record(job)["intent"] == "vacated", "no agent writes it any more"
    assert state(job) == "cancelled"


def test_agent_is_small_and_quiet(cluster, jobdir):
    d = jobdir()
    job = cluster.sbatch("while [ ! -e go ]; do sleep 0.1; done", "--checkpoint=30", cwd=d)
    cluster.wait_running(job)
    cluster.checkpoint("create", job)
    pid = cluster.agent_pid(job)
    stat = lambda: lib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    ticks = lambda: int(stat()[11]) + int(stat()[12])
    lib.wait_for(lambda: not [p for p in lib.children(pid) if lib.comm(p) in ("fsched-worker", "fsched-slurm")], "a quiet agent")
    rss = int(re.search(r"VmRSS:\s+(\d+)", lib.Path(f"/proc/{pid}/status").read_text()).group(1))
    assert rss <= 8192, f"{rss} kB"
    switches = lambda: int(re.search(r"voluntary_ctxt_switches:\s+(\d+)", lib.Path(f"/proc/{pid}/status").read_text()).group(1))

    def wakeups_in_a_second():
        before = switches(), ticks()
        lib.time.sleep(1)   # what is measured: a second in which nothing happens
        return switches() - before[0], ticks() - before[1]
    # the last operation's publishing may still be under way at first
    lib.wait_for(lambda: wakeups_in_a_second() == (0, 0), "a second without a wakeup of the agent", 15)
    (d / "go").touch()
    cluster.wait_end(job)
