"""A restore waits for an obstacle that passes by itself. The job never starts over because of it."""
import contextlib
import socket
import subprocess

import lib
from test_damage import requeue_by_failure

LISTENER = """#!/usr/bin/python3
import os, socket, time
s = socket.socket()
s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.bind(("127.0.0.1", {port}))
s.listen()
i = 0
while not os.path.exists("stop"):
    print("step", i, flush=True)
    i += 1
    time.sleep(0.1)
"""


def bound(s, port):
    try:
        s.bind(("127.0.0.1", port))
    except OSError:
        return False
    return True


@contextlib.contextmanager
def taken(port):
    """A program outside the job has the port."""
    with socket.socket() as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        lib.wait_for(lambda: bound(s, port), "the job to have let go of its port")
        s.listen()
        yield


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def test_a_port_in_use_is_waited_for(new_cluster, jobdir):
    c, d, port = new_cluster(conf=["CheckpointRestoreRetry=20"]), jobdir(), free_port()
    job = c.sbatch(LISTENER.format(port=port), "--checkpoint=UNLIMITED", "-o", "out", cwd=d)
    c.wait_running(job)
    lib.wait_for(lambda: (d / "out").exists() and (d / "out").read_text(), "the job to listen")

    # asked for by a person: it waits as long as it may, and the job is held with the reason
    c.checkpoint("vacate", job)
    with taken(port):
        said = c.fails("scontrol", "checkpoint", "restart", job, timeout=lib.DEADLINE * 4)
        e = c.wait_entry(job, lambda e: e["state"] == "held", "the job to be held", lib.DEADLINE * 3)
    for text in said, e["error"]:
        assert "a port that the job had open is in use on this node" in text and "it is free" in text, text
    assert "this passes by itself: it is tried again for 20" in c.log(job)
    c.checkpoint("restart", job)

    # after a failure of the node: when it has passed the job goes on
    c.checkpoint("create", job)
    c.ok("scontrol", "update", "nodename=t1", "state=down", "reason=test", user="root")
    with taken(port):
        requeue_by_failure(c, job)
        e = c.wait_entry(job, lambda e: e.get("error", "").startswith("waits, next attempt in"), "the job to wait", lib.DEADLINE * 3)
        assert e["state"] == "restoring" and "a port that the job had open is in use" in e["error"]
    e = c.wait_entry(job, lambda e: e["state"] == "running" and e.get("restored") == "2", "the job to be restored", lib.DEADLINE * 3)
    assert not e.get("error"), e
    (d / "stop").touch()
    assert c.wait_end(job) == ("COMPLETED", "0:0")
    got = (d / "out").read_text().splitlines()
    assert got == [f"step {i}" for i in range(len(got))]


def test_then_another_node(base_dir, jobdir):
    """When the time is over, another node is tried; who has asked for the restart sees the wait on his terminal."""
    c, d, port = lib.Cluster(base_dir / "obstacles", ["PodNetwork=host", "CheckpointRestoreRetry=8", "CheckpointLeaseTime=4"], hosts=2), jobdir(), 17773
    try:
        job = c.sbatch(LISTENER.format(port=port), "--checkpoint=UNLIMITED", "-o", "out", cwd=d)
        c.wait_running(job)
        assert c.job(job)["BatchHost"] == "n1"
        lib.wait_for(lambda: (d / "out").exists() and (d / "out").read_text(), "the job to listen")
        c.checkpoint("vacate", job)
        listen = f"import socket,sys\ns=socket.socket();s.setsockopt(1,2,1);s.bind(('127.0.0.1',{port}));s.listen();print('up',flush=True);sys.stdin.read()"
        argv, cwd = c.lab.enter(["/usr/bin/python3", "-c", listen], host="n1")
        with subprocess.Popen(argv, cwd=cwd, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
            assert other.stdout.readline() == b"up\n"
            said = c.ok("script", "-qec", f"scontrol checkpoint restart {job}", "/dev/null", timeout=lib.DEADLINE * 4)
            other.stdin.close()
        assert "waits, next attempt in" in said and "a port that the job had open is in use" in said, said
        log = c.log(job)
        assert "this passes by itself: it is tried again for 8" in log, log
        assert c.job(job)["BatchHost"] == "n2" and "starts over" not in log, log
        (d / "stop").touch()
        assert c.wait_end(job) == ("COMPLETED", "0:0")
        got = (d / "out").read_text().splitlines()
        assert got == [f"step {i}" for i in range(len(got))]
    finally:
        amiss = c.down()
    assert not amiss, amiss
