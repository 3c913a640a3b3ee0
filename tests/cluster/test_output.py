"""The output of a run with epochs is copied before a fresh start truncates it or appends to it."""
import os
import pwd

import pytest

import lib

SCRIPT = "echo begun $SLURM_RESTART_COUNT; echo error >&2; until [ -e go ]; do sleep 0.1; done; echo end\n"


@pytest.fixture
def requeued(cluster, jobdir):
    """run(mode, *more): runs a job with an epoch that its user requeues, to its end."""
    c = cluster

    def run(mode, *more):
        d = jobdir()
        (d / "victim").write_text("victim")
        (d / "out.run-1").symlink_to("victim")
        (d / "out.run-1.2").write_text("mine")
        os.chown(d / "out.run-1.2", 0, 0)
        job = c.sbatch(SCRIPT, "--checkpoint=UNLIMITED", "--checkpoint-on-requeue=restart", "-o", "out", f"--open-mode={mode}", *more, cwd=d)
        c.wait_running(job)
        lib.wait_for(lambda: "error" in "".join(p.read_text() for p in (d / "out", d / "err") if p.exists()), "some output")
        c.checkpoint("create", job)
        c.ok("scontrol", "requeue", job)
        lib.wait_for(lambda: c.state(job) == "PENDING" and "COMPLETING" not in c.job(job)["line"], "the job to be in the queue")
        c.ok("scontrol", "update", f"jobid={job}", "starttime=now+2", user="root")
        c.wait_running(job, lib.DEADLINE * 3)
        entry = c.entry(job)
        (d / "go").touch()
        assert c.wait_end(job) == ("COMPLETED", "0:0")
        assert (d / "victim").read_text() == "victim" and (d / "out.run-1").is_symlink()
        assert (d / "out.run-1.2").read_text() == "mine"
        return job, d, entry
    return run


def expect_kept(d, name, text):
    assert text in (d / name).read_text()
    assert (d / name).stat().st_uid == pwd.getpwnam(lib.USER).pw_uid


def test_truncated(cluster, requeued):
    job, d, entry = requeued("truncate", "-e", "err")
    expect_kept(d, "out.run-1.3", "begun\n")
    expect_kept(d, "err.run-1", "error\n")
    assert (d / "out").read_text() == "begun 1\nend\n"
    for said in entry["error"], cluster.log(job):
        assert "the output of the run before is kept beside as out.run-1.3, err.run-1" in said, said


def test_appended(cluster, requeued):
    job, d, entry = requeued("append")
    expect_kept(d, "out.run-1.3", "begun\nerror\n")
    assert not (d / "out.run-1.4").exists()
    assert (d / "out").read_text() == (d / "out.run-1.3").read_text() + "begun 1\nerror\nend\n"
    assert "kept beside as" in entry["error"]


def test_what_cannot_be_kept_is_not_truncated(cluster, jobdir):
    """No file can be created in the directory."""
    c, d = cluster, jobdir()
    job = c.sbatch(SCRIPT, "--checkpoint=UNLIMITED", "--checkpoint-on-requeue=restart", "-o", "out", "--open-mode=truncate", cwd=d)
    c.wait_running(job)
    lib.wait_for(lambda: "error" in (d / "out").read_text(), "some output")
    c.checkpoint("create", job)
    d.chmod(0o555)
    os.chown(d, 0, 0)
    c.ok("scontrol", "requeue", job)
    lib.wait_for(lambda: c.state(job) == "PENDING" and "COMPLETING" not in c.job(job)["line"], "the job to be in the queue")
    c.ok("scontrol", "update", f"jobid={job}", "starttime=now+2", user="root")
    c.wait_running(job, lib.DEADLINE * 3)
    (d / "go").touch()
    assert c.wait_end(job) == ("COMPLETED", "0:0")
    text = (d / "out").read_text()
    assert text.startswith("begun\nerror\n") and text.endswith("begun 1\nerror\nend\n"), text
    assert "could not be kept beside" in c.log(job) and "Permission denied" in c.log(job)
