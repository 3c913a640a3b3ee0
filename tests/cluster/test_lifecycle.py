"""create, vacate and restart of real jobs, compared byte for byte with an uninterrupted run."""
import os
import re
from pathlib import Path

import pytest

import lib

# what runs, its exit code, and the files to compare besides the output
PROGRAMS = {
    "bash": ("{w}/counter.sh 1200 0.1", "4:0", ["counter.log"]),
    "threads200M": ("{w}/threads 2400 200", "5:0", []),
    "python": ("/usr/bin/python3 {w}/walk.py 400", "9:0", []),
    "pipeline": ("{w}/pipeline.sh 1200", "6:0", ["pipeline.log"]),
    "family": ("{w}/family 2400 .", "3:0", ["orphan.log"]),
    "files": ("{w}/files 2400 .", "0:0", ["append.log", "seq.out", "header.dat", "inplace.dat", "mapped.dat"]),
}


def reference(cluster, script, cwd):
    """The same job without --checkpoint."""
    lib.hurry(cwd)
    return cluster.sbatch(script, "-o", "out", cwd=cwd)


def compare(ref, got, files):
    for name in ["out", *files]:
        assert (got / name).read_bytes() == (ref / name).read_bytes(), f"{name} differs from the uninterrupted run"


@pytest.mark.parametrize("name", PROGRAMS)
def test_vacate_and_restart(cluster, jobdir, workloads, name):
    command, code, files = PROGRAMS[name]
    script = command.format(w=workloads) + "\n"
    script += "exit $?\n"
    ref, got = jobdir("reference"), jobdir("checkpointed")
    plain = reference(cluster, script, ref)
    job = cluster.sbatch(script, "--checkpoint=UNLIMITED", "-o", "out", cwd=got)
    cluster.wait_running(job)
    lib.wait_for(lambda: (got / "out").read_text().count("\n") > 5, "some output")
    said = cluster.checkpoint("create", job)
    assert f"job {job}: epoch 1 saved" in said and "frozen" in said
    said = cluster.checkpoint("vacate", job)
    assert re.search(r"vacated at epoch 2: \S+ \S+, frozen [\d.]+ m?s, [\d.]+ m?s in all", said), said
    d = cluster.job(job)
    assert d["Checkpoint"]["frozen"], d["line"]
    assert re.match(r"small,[\d.]+[KM]iB$|direct,[\d.]+[KM]iB,scanned:", d["Checkpoint"]["memory"]), d["line"]
    assert f"epoch 2: memory {d['Checkpoint']['memory']} (" in cluster.log(job)
    for line in cluster.ok("fsched", "list", job).splitlines()[1:]:
        assert re.search(r"([\d.]+ m?s +){2}", line), line
    assert d["JobState"] == "PENDING" and d["Priority"] == "0", d["line"]
    assert d["Checkpoint"]["state"] == "vacated"
    assert not [s for s in cluster.ok("squeue", "-h", "-t", "R", "-o", "%A").split() if int(s) == job]
    size = (got / "out").stat().st_size
    said = cluster.checkpoint("restart", job)
    assert "restored from epoch 2" in said
    entry = cluster.entry(job)
    assert entry["restored"] == "2" and entry["state"] == "running"
    lib.hurry(got)
    state, exit_code = cluster.wait_end(job)
    assert exit_code == code, cluster.logs(job)
    cluster.wait_end(plain)
    assert (got / "out").stat().st_size > size
    compare(ref, got, files)


def test_ten_cycles(cluster, jobdir, workloads):
    script = f"{workloads}/counter.sh 3000 0.1\nexit $?"
    ref, got = jobdir("reference"), jobdir("checkpointed")
    plain = reference(cluster, script, ref)
    job = cluster.sbatch(script, "--checkpoint=UNLIMITED", "-o", "out", cwd=got)
    cluster.wait_running(job)
    for cycle in range(1, 11):
        before = (got / "out").read_text().count("\n")
        cluster.checkpoint("vacate", job)
        assert f"restored from epoch {cycle}" in cluster.checkpoint("restart", job)
        lib.wait_for(lambda: (got / "out").read_text().count("\n") > before, f"progress in cycle {cycle}")
    lib.hurry(got)
    assert cluster.wait_end(job)[1] == "4:0"
    cluster.wait_end(plain)
    compare(ref, got, ["counter.log"])
    assert cluster.epochs(job) == [10]


def test_a_daemon_of_the_job_is_in_every_epoch(cluster, jobdir):
    """The daemon's session leader has ended, as after a double fork."""
    d = jobdir()
    (d / "daemon.sh").write_text("i=0; while [ ! -e hurry ]; do i=$((i + 1)); echo $i >> daemon.log; sleep 0.1; done; echo end >> daemon.log\n")
    job = cluster.sbatch("setsid sh -c 'sh daemon.sh >/dev/null 2>&1 &'\nuntil grep -q end daemon.log; do sleep 0.1; done", "--checkpoint=UNLIMITED",
                         "-o", "out", cwd=d)
    cluster.wait_running(job)
    log = d / "daemon.log"
    lib.wait_for(log.exists, "the daemon")
    for cycle in range(1, 4):
        cluster.checkpoint("vacate", job)
        before = log.read_text().count("\n")
        assert f"restored from epoch {cycle}" in cluster.checkpoint("restart", job)
        lib.wait_for(lambda: log.read_text().count("\n") > before, f"the daemon in cycle {cycle}")
    lib.hurry(d)
    assert cluster.wait_end(job) == ("COMPLETED", "0:0")
    said = log.read_text().split()
    assert said == [str(i) for i in range(1, len(said))] + ["end"]


def test_an_older_epoch_rolls_the_files_back(new_cluster, jobdir, workloads):
    c = new_cluster(conf=["CRIU_MaxEpochs = 3"])
    ref, got = jobdir("reference"), jobdir("checkpointed")
    script = f"{workloads}/files 2400 .\nexit $?"
    plain = reference(c, script, ref)
    job = c.sbatch(script, "--checkpoint=UNLIMITED", "-o", "out", cwd=got)
    c.wait_running(job)
    for epoch in (1, 2, 3):
        before = (got / "out").read_text().count("\n")
        c.checkpoint("create", job)
        lib.wait_for(lambda: (got / "out").read_text().count("\n") > before + 3, "progress")
    c.checkpoint("vacate", job)
    assert c.epochs(job) == [2, 3, 4]
    assert "1" in c.fails("scontrol", "checkpoint", "restart", job, "--epoch", "1")
    assert "restored from epoch 2" in c.checkpoint("restart", job, "--epoch", "2")
    lib.hurry(got)
    assert c.wait_end(job)[1] == "0:0"
    c.wait_end(plain)
    compare(ref, got, PROGRAMS["files"][2])


def test_two_jobs_at_once_on_one_node(cluster, jobdir, workloads):
    script = f"{workloads}/family 2400 .\nexit $?"
    ref = jobdir("reference")
    plain = reference(cluster, script, ref)
    dirs = [jobdir("a"), jobdir("b")]
    jobs = [cluster.sbatch(script, "--checkpoint=UNLIMITED", "-o", "out", cwd=d) for d in dirs]
    for j in jobs:
        cluster.wait_running(j)
    ids = ",".join(map(str, jobs))
    said = cluster.checkpoint("vacate", ids)
    assert said.count("vacated") == 2
    cluster.checkpoint("restart", ids)
    for j, d in zip(jobs, dirs):
        lib.hurry(d)
        assert cluster.wait_end(j)[1] == "3:0"
    cluster.wait_end(plain)
    for d in dirs:
        compare(ref, d, ["orphan.log"])


def test_output_of_an_earlier_job_is_truncated_as_slurm_does(cluster, jobdir):
    """fsched forces append so that a requeue keeps the output; the user's truncate must still hold."""
    d = jobdir()
    (d / "out").write_text("old\n")
    os.chown(d / "out", d.stat().st_uid, d.stat().st_gid)
    job = cluster.sbatch("echo new", "--checkpoint=30", "-o", "out", "--open-mode=truncate", cwd=d)
    assert cluster.wait_end(job) == ("COMPLETED", "0:0")
    assert (d / "out").read_text() == "new\n"
    job = cluster.sbatch("echo more", "--checkpoint=30", "-o", "out", "--open-mode=append", cwd=d)
    assert cluster.wait_end(job) == ("COMPLETED", "0:0")
    assert (d / "out").read_text() == "new\nmore\n"


def test_requeue_by_a_person_starts_over(cluster, jobdir, workloads):
    ref, got = jobdir("reference"), jobdir("checkpointed")
    script = f"{workloads}/threads 2400 1"
    plain = reference(cluster, script, ref)
    job = cluster.sbatch(script, "--checkpoint=UNLIMITED", "--checkpoint-on-requeue=restart", "-o", "out", cwd=got)
    cluster.wait_running(job)
    cluster.checkpoint("create", job)
    cluster.ok("scontrol", "requeue", job)
    cluster.wait_state(job, "PENDING")
    lib.wait_for(lambda: "COMPLETING" not in cluster.ok("squeue", "-h", "-o", "%T", "-j", job), "the old run to be gone")
    cluster.ok("scontrol", "update", f"JobId={job}", "StartTime=now+2", user="root")   # in the same second slurmd takes it for the old run: "credential revoked"
    lib.hurry(got)
    assert cluster.wait_end(job)[1] == "5:0"
    cluster.wait_end(plain)
    compare(ref, got, [])
    assert "restored" not in cluster.log(job).split("start", 2)[-1]


def test_script_sees_its_own_files_only(cluster, jobdir):
    """Private /tmp and /dev/shm belong to the job, come back after a restart and are gone afterwards."""
    d = jobdir()
    job = cluster.sbatch("echo secret > /tmp/fsched-private; echo s > /dev/shm/fsched-private; mkdir /tmp/d; ln -s d /tmp/l\n"
                         "touch up; while [ ! -e go ]; do sleep 0.1; done; cat /tmp/fsched-private /dev/shm/fsched-private; readlink /tmp/l; stat -c %F /tmp/d",
                         "--checkpoint=UNLIMITED", "-o", "out", cwd=d)
    cluster.wait_running(job)
    lib.wait_for(lambda: (d / "up").exists(), "the files")
    for place in ("/tmp", "/dev/shm"):
        assert not Path(place, "fsched-private").exists()
    cluster.checkpoint("vacate", job)
    cluster.checkpoint("restart", job)
    (d / "go").touch()
    assert cluster.wait_end(job) == ("COMPLETED", "0:0")
    assert (d / "out").read_text() == "secret\ns\nd\ndirectory\n"
