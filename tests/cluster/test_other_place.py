"""A vacated job that is changed by scontrol update before it is restarted: another partition, time limit, memory, number of processors."""
import re

import pytest

import lib
from failures import LONG

PINNED = """import os, sys, threading, time
cpus = sorted(os.sched_getaffinity(0))[:int(sys.argv[1])]
up = []
def work(cpu):
    os.sched_setaffinity(0, {cpu})
    up.append(cpu)
    while not os.path.exists('go'):
        time.sleep(0.05)
for c in cpus:
    threading.Thread(target=work, args=(c,)).start()
while len(up) < len(cpus):
    time.sleep(0.05)
print('pinned', len(cpus), flush=True)
while not os.path.exists('go'):
    time.sleep(0.05)
print('end', sorted(os.sched_getaffinity(0)), flush=True)
"""


@pytest.fixture(scope="module")
def place(base_dir):
    with lib.Cluster(base_dir / "place", cpus=4, proctrack="cgroup", slurm_conf=[
        "TaskPlugin=task/cgroup,task/affinity", "SelectTypeParameters=CR_CPU_Memory", "NodeName=DEFAULT RealMemory=1000",
        "PartitionName=other Nodes=ALL MaxTime=INFINITE State=UP", "PartitionName=short Nodes=ALL MaxTime=10 State=UP"]) as c:
        yield c


def vacated(c, d, *more, script="until [ -e go ]; do sleep 0.1; done; echo end\n"):
    job = c.sbatch(script, "--checkpoint=UNLIMITED", "-o", "out", *more, cwd=d)
    c.wait_running(job)
    return job


def end(c, d, job):
    (d / "go").touch()
    assert c.wait_end(job, LONG) == ("COMPLETED", "0:0"), c.logs(job)


@pytest.mark.parametrize("change, shown", [("partition=other", "Partition=other"), ("partition=short timelimit=5", "TimeLimit=00:05:00"),
                                           ("minmemorynode=200", "mem=200M"), ("timelimit=3", "TimeLimit=00:03:00")])
def test_what_can_be_changed(place, jobdir, change, shown):
    d = jobdir()
    job = vacated(place, d, "--mem=100", "-t", "10")
    place.checkpoint("vacate", job)
    place.ok("scontrol", "update", f"jobid={job}", *change.split(), user="root")
    assert "restored from epoch 1" in place.checkpoint("restart", job)
    assert shown in place.job(job)["line"]
    end(place, d, job)


def with_cpus(c, job, cpus):
    c.ok("scontrol", "update", f"jobid={job}", f"numcpus={cpus}", f"mincpusnode={cpus}", user="root")


def pinned(c, d, need):
    """A vacated job whose threads are bound to CPUs of their own, as many as need; it has two CPUs."""
    (d / "pin.py").write_text(PINNED)
    job = vacated(c, d, "-n1", "-c2", script=f"exec python3 pin.py {need}\n")
    lib.wait_for(lambda: f"pinned {need}" in (d / "out").read_text(), "the threads")
    c.checkpoint("vacate", job)
    return job


@pytest.mark.parametrize("cpus, need", [(4, 2), (2, 2), (1, 1)])
def test_processors(place, jobdir, cpus, need):
    """Threads that were bound to CPUs of their own are bound to those that the job has now, if there are enough."""
    d = jobdir()
    job = pinned(place, d, need)
    with_cpus(place, job, cpus)
    assert "restored from epoch 1" in place.checkpoint("restart", job)
    assert f"NumCPUs={cpus}" in place.job(job)["line"]
    end(place, d, job)
    assert "different ones: some share a CPU" not in place.log(job)


def test_fewer_processors_than_pinned_threads(place, jobdir):
    """The restart is refused with the reason, and the job is held. It continues after the command that the message names."""
    d = jobdir()
    job = pinned(place, d, 2)
    with_cpus(place, job, 1)
    said = place.fails("scontrol", "checkpoint", "restart", job)
    advice = re.search(r"bound to 2 CPUs of their own, and the job has got 1; give it at least 2: scontrol (update JobId=\d+ NumCPUs=2 MinCPUsNode=2)", said)
    assert advice and "it is held" in said and f"scontrol checkpoint restart {job}" in said, said
    assert place.state(job) == "PENDING" and "end" not in (d / "out").read_text() and "another node" not in place.log(job)
    place.ok("scontrol", *advice[1].split(), user="root")
    assert "restored from epoch 1" in place.checkpoint("restart", job)
    end(place, d, job)


def test_what_slurm_cannot_give(place, jobdir):
    """More processors than any node has. Slurm says so, and so does the restart, until that is corrected."""
    d = jobdir()
    job = vacated(place, d)
    place.checkpoint("vacate", job)
    place.fails("scontrol", "update", f"jobid={job}", "numcpus=64", "mincpusnode=64", user="root")
    said = place.fails("scontrol", "checkpoint", "restart", job)
    assert "configuration not available" in said and "stays as it is" in said
    place.ok("scontrol", "update", f"jobid={job}", "numcpus=1", "mincpusnode=1", user="root")
    assert "restored from epoch 1" in place.checkpoint("restart", job)
    end(place, d, job)
