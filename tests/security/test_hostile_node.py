"""A hostile user and the node: what he leaves, serves or floods holds up none of root's programs, nor another user's job."""
import lib


def submit(c, d, script, *args):
    job = c.sbatch(script, "--checkpoint=UNLIMITED", "-o", d / "out", *args, cwd=d)
    c.wait_running(job)
    lib.wait_for(lambda: (d / "out").exists() and "ready" in (d / "out").read_text(), "the job to be ready")
    return job


def test_a_tree_that_takes_long_to_remove(cluster, jobdir):
    """A private /tmp with many directories, each in the one before: the step ends without waiting for its removal."""
    d = jobdir()
    job = submit(cluster, d, """exec /usr/bin/python3 -c '
import os, time
os.chdir("/tmp")
for i in range(10000):
    os.mkdir("d")
    os.chdir("d")
print("ready", flush=True)
time.sleep(1000)'""")
    cluster.run("scancel", job, user="root")
    assert cluster.wait_end(job, 15)[0] == "CANCELLED"
    pods = cluster.dir / "pod"
    lib.wait_for(lambda: not any(pods.glob(f"*{job}.*")), f"{pods} to be as it was", 300)


def test_a_flood_of_written_files(cluster, jobdir):
    """More files than the agent can look at: it sees to the lease and to requests all the same."""
    d = jobdir()
    job = submit(cluster, d, """exec /usr/bin/python3 -c '
import os
for k in range(3):
    if os.fork() == 0:
        break
for i in range(20000):
    os.close(os.open(f"f{k}_{i}", os.O_CREAT | os.O_WRONLY))
print("ready", flush=True)
while not os.path.exists("go"):
    for i in range(20000):
        os.close(os.open(f"f{k}_{i}", os.O_WRONLY))'""")
    for _ in range(20):
        assert "Yes" in cluster.checkpoint("able", job)
    assert cluster.job(job)["Restarts"] == "0", "its lease was lost"
    (d / "go").touch()
    assert cluster.wait_end(job) == ("COMPLETED", "0:0")
