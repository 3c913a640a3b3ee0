"""`able` answers as a checkpoint would, and does not stop processes while another worker does."""
import fcntl
import json
import os
import pwd
import subprocess

import lib
import pytest

from refused import USER, Job, base, has_landlock, installed, nothing_left_of_pods, pods, python  # noqa: F401  (fixtures)


def pod_dir(job):
    return job.place / "state" / "pod"


def able(job):
    """Result of fsched-worker preflight: None, or the reason of the refusal."""
    user = pwd.getpwnam(USER)
    init = next(p for p in lib.children(job.process.pid) if lib.comm(p) == "fsched-init")
    request = {"job_dir": str(job.place / "state"), "pod_dir": str(pod_dir(job)), "config": str(installed() / "fsched.conf"), "uuid": "",
               "script": "", "epoch": 1, "run": 1, "uid": user.pw_uid, "gid": user.pw_gid, "groups": [], "private_tmp": True, "sign": False,
               "init_pid": init, "agent_port": 0}
    worker = next((installed() / "stage").rglob("fsched-worker"))
    p = subprocess.run([worker, "preflight"], input=json.dumps(request) + "\n", text=True, capture_output=True, timeout=60)
    last = json.loads(p.stdout.splitlines()[-1])
    assert last["event"] == "result", p.stdout + p.stderr
    return None if last["ok"] else last["error"]


def test_able_says_what_a_checkpoint_says(pods):
    job = python(pods, "os.open('/proc/self/mem', os.O_RDONLY)\nready()\n").start()
    said = able(job)
    assert said in job.refused("/proc/3/mem open as descriptor 3")


def test_able_of_an_ordinary_job(pods, base):
    job = Job(pods, base / "odd", "no-new-privs").start()
    assert able(job) is None
    job.comes_back()


@pytest.mark.skipif(not has_landlock(), reason="this kernel has no Landlock, or it is off")
def test_able_beside_another_worker(pods, base):
    """The confinement can be detected only by stopping the process."""
    job = Job(pods, base / "odd", "landlock").start()
    assert "Landlock" in able(job)
    fd = os.open(pod_dir(job), os.O_RDONLY)
    fcntl.flock(fd, fcntl.LOCK_EX)
    assert able(job) is None
    os.close(fd)
    job.refused("Landlock")
