"""PodScratch on simulated hosts, each with a disk of its own: a job's directory on its node's disk moves with the job."""
import lib
import pytest


@pytest.fixture(scope="module")
def cluster(base_dir):
    d = base_dir / "node_scratch"
    with lib.Cluster(d, ["CheckpointLeaseTime=4", f"PodScratch={d}/local/scratch:{d}/local/none"], hosts=2) as c:
        yield c


# A file of 1 MiB that is changed in place, whose bytes the job knows, and one that was written and closed.
SCRIPT = """
scratch={top}/user.$SLURM_JOB_ID
mkdir $scratch
exec /usr/bin/python3 -c '
import os, sys, time
os.chdir(sys.argv[1])
data = bytearray(os.urandom(1 << 20)); f = open("data", "w+b", buffering=0); f.write(data)
open("closed", "w").write("closed"); here = sys.argv[2]; n = 0
while not os.path.exists(here + "/stop"):
    n += 1
    data[n % len(data)] = n % 251; f.seek(n % len(data)); f.write(bytes([n % 251]))
    f.seek(0)
    print(n, "same" if f.read() == data and open("closed").read() == "closed" and os.listdir(".") else "differs", os.uname().nodename, flush=True)
    time.sleep(0.05)
' $scratch $PWD
"""


def test_it_moves_with_the_job(cluster, jobdir):
    c, d = cluster, jobdir("s")
    top = f"{c.dir}/local/scratch"
    for host in ("n1", "n2"):
        c.exec(host, "sh", "-c", f"mkdir -m 1777 {top} && mkdir -m 777 {top}/user.1234567").check_returncode()
    job = c.sbatch(SCRIPT.format(top=top), "--checkpoint=UNLIMITED", "-n", "1", "-o", "out", cwd=d)
    c.wait_running(job)
    lib.wait_for(lambda: (d / "out").exists() and "same" in (d / "out").read_text(), "the job")
    first = c.job(job)["BatchHost"]
    other = {"n1": "n2", "n2": "n1"}[first]
    c.checkpoint("create", job)
    # A directory of the same user that has not the job's id in its name is nobody's business.
    c.exec(first, "touch", f"{top}/user.{job}/left", user=lib.USER).check_returncode()
    c.kill_node(first)
    lib.wait_for(lambda: c.job(job).get("BatchHost") == other and (d / "out").read_text().count("same") > 1, "the job on the other node", 90)
    n = len((d / "out").read_text().splitlines())
    lib.wait_for(lambda: len((d / "out").read_text().splitlines()) > n + 3, "output", 60)
    assert "differs" not in (d / "out").read_text()
    found = c.exec(other, "find", top, "-mindepth", "1", "-printf", "%P %u\\n").stdout.splitlines()
    mine = f"user.{job}"
    assert sorted(found) == sorted([f"{mine} {lib.USER}", f"{mine}/data {lib.USER}", f"{mine}/closed {lib.USER}", "user.1234567 root"]), found
    assert "other inode numbers" in c.logs(job), c.logs(job)
    (d / "stop").touch()
    assert c.wait_end(job) == ("COMPLETED", "0:0"), (d / "out").read_text() + c.logs(job)
    c.up(first)
