"""The node accepts only the option that the submit filter wrote. Variables that a user adds to the job's environment later have no effect,
whatever he knows of other jobs."""
import os
import pwd
import re
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

import lib

NAMES = ("_SLURM_SPANK_OPTION_fsched_checkpoint", "SLURM_SPANK__SLURM_SPANK_OPTION_fsched_checkpoint")
UUID = "01234567-89ab-4def-8123-456789abcdef"
WAIT = "echo ready; while [ ! -e go ]; do sleep 0.1; done; echo end"


@pytest.fixture(scope="module")
def hosts(base_dir):
    """A simulated host has mounts, and so a passwd file, of its own."""
    with lib.Cluster(base_dir / "login", hosts=1) as c:
        yield c


@pytest.fixture
def cluster(hosts):
    yield hosts
    hosts.run("scancel", "--user", lib.USER, user="root")
    lib.wait_for(lambda: not hosts.run("squeue", "-h", user="root").stdout.strip(), "an empty queue", 30)


@pytest.fixture
def profile(cluster, base_dir):
    """profile(value): the user's login profile sets the option. sbatch --get-user-env reads it on the node."""
    pw = pwd.getpwnam(lib.USER)
    home, passwd = base_dir / "home", base_dir / "passwd"
    home.mkdir()
    os.chown(home, pw.pw_uid, pw.pw_gid)
    passwd.write_text(re.sub(rf"(?m)^({lib.USER}(?::[^:]*){{4}}):[^:]*:", rf"\1:{home}:", Path("/etc/passwd").read_text()))
    assert cluster.exec("n1", "mount", "--bind", passwd, "/etc/passwd").returncode == 0

    def write(value, more=""):
        text = ("".join(f"export {name}={value}\n" for name in NAMES) if value else "") + more
        for name in (".profile", ".bash_profile"):
            (home / name).write_text(text)
    yield write
    cluster.exec("n1", "umount", "/etc/passwd")
    shutil.rmtree(home)


def submit(c, d, *args, script=WAIT, **kw):
    return c.sbatch(script, "-o", "out", *args, cwd=d, **kw)


def refused(c, d, job, text):
    """Checks that the job failed with the text in its output, that its script did not run, and that nothing was made for it."""
    assert c.wait_end(job)[0] == "FAILED"
    said = (d / "out").read_text()
    assert "cannot start with --checkpoint" in said and text in said and "ready" not in said, said
    assert not c.ckpt_dir(job).exists()


def test_login_profile_sets_the_option(cluster, jobdir, profile):
    d = jobdir()
    profile(f"0:10/{UUID}/al")
    job = submit(cluster, d, "--get-user-env")
    refused(cluster, d, job, "no Checkpoint entry")
    assert cluster.entry(job) == {}


def test_login_profile_does_not_change_the_option(cluster, jobdir, profile):
    """A job keeps the uuid and the interval of its submission, also when it is started again."""
    c, d = cluster, jobdir()
    profile(f"0:10/{UUID}/al")
    job = submit(c, d, "--checkpoint=UNLIMITED", "--get-user-env", "--hold")
    uuid = c.entry(job)["uuid"]
    c.ok("scontrol", "release", job)
    c.wait_running(job)
    c.checkpoint("vacate", job)
    c.wait_state(job, "PENDING")
    c.checkpoint("restart", job)
    c.wait_running(job)
    entry = c.entry(job)
    assert entry["uuid"] == uuid != UUID and entry["interval"] == "UNLIMITED" and entry["restored"] == "1", entry
    (d / "go").touch()
    assert c.wait_end(job) == ("COMPLETED", "0:0")
    assert (d / "out").read_text() == "ready\nend\n"


@pytest.mark.parametrize("what", ["uuid", "interval"])
def test_option_is_not_what_slurm_has(cluster, jobdir, what):
    """The option is refused however it got into the environment."""
    c, d = cluster, jobdir()
    job = submit(c, d, "--checkpoint=30", "--hold")
    uuid = c.entry(job)["uuid"]
    entry = f"Checkpoint={{state=enabled interval={'00:30:00' if what == 'uuid' else '00:01:00'} epoch=0 uuid={UUID if what == 'uuid' else uuid}}}"
    c.ok("scontrol", "update", f"JobId={job}", f"AdminComment={entry}", user="root")
    c.ok("scontrol", "release", job)
    refused(c, d, job, "is not the one that slurmctld wrote")


def test_array_tasks(cluster, jobdir):
    """Each task is checked against the uuid derived from that of the array, before and after its agent has published it."""
    c, d = cluster, jobdir()
    script = 'echo ready; while [ ! -e "go.$SLURM_ARRAY_TASK_ID" ]; do sleep 0.1; done; echo end'
    job = c.sbatch(script, "-o", "out.%a", "--array=1-2", "--checkpoint=UNLIMITED", cwd=d)
    for task in (1, 2):
        c.wait_running(f"{job}_{task}")
    c.checkpoint("vacate", f"{job}_1")
    c.wait_state(f"{job}_1", "PENDING")
    c.checkpoint("restart", f"{job}_1")
    for task in (1, 2):
        (d / f"go.{task}").touch()
    for task in (1, 2):
        assert c.wait_end(f"{job}_{task}") == ("COMPLETED", "0:0")
        assert (d / f"out.{task}").read_text() == "ready\nend\n"


def test_login_profile_sets_the_uuid_of_another_job(cluster, jobdir, profile):
    c, d, e = cluster, jobdir("victim"), jobdir("thief")
    victim = submit(c, d, "--checkpoint=UNLIMITED")
    c.wait_running(victim)
    c.checkpoint("create", victim)
    profile(f"UNLIMITED/{c.entry(victim)['uuid']}/a")
    refused(c, e, submit(c, e, "--get-user-env", f"--dependency=after:{victim}"), "no Checkpoint entry")
    (d / "go").touch()
    assert c.wait_end(victim) == ("COMPLETED", "0:0")


def test_array_with_the_uuid_of_the_profile(cluster, jobdir, profile):
    c, d = cluster, jobdir()
    profile(f"UNLIMITED/{UUID}/a")
    job = c.sbatch(WAIT, "-o", "out.%a", "--array=1-2", "--get-user-env", cwd=d)
    for task in (1, 2):
        assert c.wait_end(f"{job}_{task}")[0] == "FAILED"
        assert "no Checkpoint entry" in (d / f"out.{task}").read_text()


SUBMIT = r"""
#include <slurm/slurm.h>
#include <stdio.h>
#include <unistd.h>
int main(int argc, char **argv)
{
	job_desc_msg_t d;
	submit_response_msg_t *r = NULL;
	char *env[] = { argv[2], argv[3], "PATH=/usr/bin:/bin", NULL };

	slurm_init(NULL);
	slurm_init_job_desc_msg(&d);
	d.admin_comment = *argv[1] ? argv[1] : NULL;
	d.environment = env;
	d.env_size = 3;
	d.script = "#!/bin/bash\necho ready\n";
	d.work_dir = argv[4];
	d.std_out = "out";
	d.user_id = getuid();
	d.group_id = getgid();
	d.min_nodes = 1;
	d.priority = 0;
	if (slurm_submit_batch_job(&d, &r))
		return slurm_perror("submit"), 1;
	printf("%u\n", r->job_id);
	return 0;
}
"""


@pytest.fixture(scope="module")
def raw_submit(base_dir):
    """Submits a held job through Slurm's API, without its commands: submit ADMINCOMMENT VARIABLE VARIABLE DIRECTORY."""
    source, program = base_dir / "raw_submit.c", base_dir / "raw_submit"
    source.write_text(SUBMIT)
    subprocess.run(["gcc", "-w", "-o", program, source, "-lslurm"], check=True)
    return program


def test_admin_comment_of_the_user(cluster, jobdir, profile, raw_submit):
    """The user's own AdminComment is not accepted."""
    c, d = cluster, jobdir()
    entry = f"Checkpoint={{state=enabled interval=00:10:00 epoch=0 skipped=0 uuid={UUID}}}"
    job = submit(c, d, "--hold", "--get-user-env")
    assert "denied" in c.fails("scontrol", "update", f"JobId={job}", f"AdminComment={entry}")
    profile(f"10/{UUID}/a")
    c.ok("scontrol", "release", job)
    refused(c, d, job, "no Checkpoint entry")
    p = c.run(raw_submit, entry, "A=1", "B=2", d)
    assert p.returncode or not c.entry(int(p.stdout)), c.entry(int(p.stdout))


def test_variables_by_hand(cluster, jobdir, raw_submit):
    """On a host without the plugin each variable requests checkpoints as --checkpoint does, and slurmctld makes the uuid."""
    c, d = cluster, jobdir()
    for i, value in enumerate(("30", f"30/{UUID}/a")):
        for name in NAMES:
            job = int(c.ok(raw_submit, "", f"{name}={value}", "B=2", d))
            entry = c.entry(job)
            assert entry["interval"] == "00:30:00" and entry["uuid"] != UUID
            (d / "out").unlink(missing_ok=True)
            c.ok("scontrol", "release", job)
            assert c.wait_end(job) == ("COMPLETED", "0:0")
            assert (d / "out").read_text() == "ready\n"
            assert c.record(job)["uuid"] == entry["uuid"]


def test_entry_that_an_administrator_has_removed(cluster, jobdir):
    """A job that has run before is identified by its record."""
    c, d = cluster, jobdir()
    job = submit(c, d, "--checkpoint=UNLIMITED")
    c.wait_running(job)
    c.checkpoint("vacate", job)
    c.wait_state(job, "PENDING")
    c.ok("scontrol", "update", f"JobId={job}", "AdminComment=project-x", user="root")
    c.ok("scontrol", "release", job)
    c.wait_running(job)
    (d / "go").touch()
    assert c.wait_end(job) == ("COMPLETED", "0:0")
    assert (d / "out").read_text() == "ready\nend\n"


def test_slurmctld_does_not_answer_for_a_moment(new_cluster, jobdir):
    """A job waits for a controller that hangs."""
    c, d = new_cluster(), jobdir()
    job = submit(c, d, "--checkpoint=UNLIMITED", "--begin=now+2")
    controller, log = c.daemon_pid("slurmctld"), c.dir / "log/slurmd.t1.log"
    # the node has the launch; its question meets a stopped controller
    lib.wait_for(lambda: re.search(rf"[Ll]aunching batch job {job}\b|batch_request: {job}\b", log.read_text()), lambda: f"the launch in {log.read_text()[-1000:]}", poll=0.002)
    os.kill(controller, signal.SIGSTOP)
    try:
        lib.wait_for(lambda: any(lib.comm(p) == "fsched-slurm" for p in lib.descendants(c.lab.keeper_pid())) or (d / "out").exists(), "the question")
    finally:
        os.kill(controller, signal.SIGCONT)
    c.wait_running(job)
    (d / "go").touch()
    assert c.wait_end(job) == ("COMPLETED", "0:0")
    assert (d / "out").read_text() == "ready\nend\n"
