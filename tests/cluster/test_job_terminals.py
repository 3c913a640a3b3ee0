"""Jobs with terminals on a node where logins and other jobs use terminals with the same numbers."""
import os
import re

import lib

JOB = """#!/usr/bin/python3
import os, pty, subprocess, time
pid, master = pty.fork()
if pid == 0:
    os.execlp("sh", "sh", "-c", 'i=0; while [ ! -e stop ]; do i=$((i + 1)); echo "step $i on $(tty), $(ps -o tty= -p $$)"; sleep 0.05; done')
pairs = [pty.openpty() for _ in range(3)]
try:
    while True:
        print(os.read(master, 1000).decode().replace("\\r\\n", "\\n"), end="", flush=True)
except OSError:
    pass
print("status", os.waitpid(pid, 0)[1], "all", sorted(os.listdir("/dev/pts")), [os.ttyname(s) for _, s in pairs], flush=True)
"""


def good(text):
    """Every step once, in order, on the job's first terminal."""
    *steps, end = text.splitlines()
    assert steps == [f"step {i} on /dev/pts/0, pts/0" for i in range(1, len(steps) + 1)], text
    assert re.match(r"status 0 all \['0', '1', '2', '3', 'ptmx'\] \['/dev/pts/1', '/dev/pts/2', '/dev/pts/3'\]$", end), end


def test_two_jobs_and_logins_with_the_same_numbers(cluster, jobdir):
    dirs = [jobdir("one"), jobdir("two")]
    jobs = [cluster.sbatch(JOB, "--checkpoint=UNLIMITED", "-w", "t1", "-n", "1", "-o", "out", cwd=d) for d in dirs]
    for job, d in zip(jobs, dirs):
        cluster.wait_running(job)
        lib.wait_for(lambda d=d: (d / "out").exists() and "step 5 " in (d / "out").read_text(), "some steps")
    for _ in range(2):
        for job in jobs:
            cluster.checkpoint("vacate", job)
        logins = [os.open("/dev/ptmx", os.O_RDWR | os.O_NOCTTY) for _ in range(8)]
        for job in jobs:
            assert "restored from epoch" in cluster.checkpoint("restart", job)
        for fd in logins:
            os.close(fd)
        for d in dirs:
            before = (d / "out").read_text().count("\n")
            lib.wait_for(lambda d=d, n=before: (d / "out").read_text().count("\n") > n + 3, "more steps")
    for job, d in zip(jobs, dirs):
        (d / "stop").touch()
        assert cluster.wait_end(job) == ("COMPLETED", "0:0")
        good((d / "out").read_text())


def test_output_to_a_terminal_of_the_node(cluster, jobdir):
    """The job runs; only a checkpoint is refused, with the name of the terminal."""
    d = jobdir()
    master, slave = os.openpty()
    name = os.ttyname(slave)
    os.chmod(name, 0o666)
    job = cluster.sbatch("#!/bin/sh\nuntil [ -e stop ]; do echo step; sleep 0.1; done\n", "--checkpoint=UNLIMITED", "-w", "t1",
                         "-o", name, "-e", "err", cwd=d)
    cluster.wait_running(job)
    os.set_blocking(master, False)

    def arrives():
        try:
            return b"step" in os.read(master, 10000)
        except BlockingIOError:
            return False
    lib.wait_for(arrives, "output")
    said = cluster.fails("scontrol", "checkpoint", "vacate", job)
    assert f"has the terminal {name} open as descriptor 1" in said and "opened outside the job" in said, said
    lib.wait_for(arrives, "output")
    (d / "stop").touch()
    assert cluster.wait_end(job) == ("COMPLETED", "0:0")
    os.close(slave)
    os.close(master)
