"""--checkpoint-tcp: a job with a connection to another host."""
import shutil
import subprocess

import lib
import pytest

PORT = 17771
ECHO = "import os,socket,sys,threading\ns=socket.create_server((sys.argv[1],int(sys.argv[2])),backlog=50)\nprint('up',flush=True)\n" \
       "def echo(c):\n try:\n  while d:=c.recv(99): c.sendall(d)\n except OSError: pass\n" \
       "def end():\n sys.stdin.read()\n os._exit(0)\nthreading.Thread(target=end).start()\n" \
       "while 1: threading.Thread(target=echo,args=(s.accept()[0],),daemon=True).start()\n"


@pytest.fixture(scope="module")
def network(base_dir):
    with lib.Cluster(base_dir / "tcp", ["CheckpointLeaseTime=4"], hosts=3) as c:
        yield c


@pytest.fixture
def server(network):
    """On the third host."""
    p = subprocess.Popen(network.lab.enter(["/usr/bin/python3", "-c", ECHO, network.lab.address("n3"), str(PORT)], host="n3")[0], stdin=subprocess.PIPE,
                         stdout=subprocess.PIPE)
    assert p.stdout.readline() == b"up\n"
    yield network.lab.address("n3")
    p.stdin.close()
    p.wait()
    p.stdout.close()


def start(c, d, workloads, server, *args):
    shutil.copy(workloads / "leaving.py", d)
    job = c.sbatch(f"exec /usr/bin/python3 leaving.py {server} {PORT}\n", "--checkpoint=UNLIMITED", "-o", "out", *args, cwd=d)
    c.wait_running(job)
    lib.wait_for(lambda: (d / "out").exists() and "ready" in (d / "out").read_text(), "the connections")
    return job


def moves(d, *files):
    def now():
        return [int((d / f).read_text()) if (d / f).exists() else 0 for f in files]
    first = now()
    lib.wait_for(lambda: all(b > a + 20 for a, b in zip(first, now())), "echoes")


def test_close(network, jobdir, workloads, server):
    """Saved with its connections, restored on another host after a power failure; what is closed is in the log and in `fsched show`."""
    c, d = network, jobdir()
    job = start(c, d, workloads, server, "--checkpoint-tcp=close")
    assert c.job(job)["BatchHost"] == "n1"
    moves(d, "beat", "inner")
    c.checkpoint("create", job)
    moves(d, "beat", "inner")
    assert "ECONNRESET" not in (d / "out").read_text()
    words = f"(python3) to {server}:{PORT}"
    assert "epoch 1: warning: TCP connections out of the job are not saved" in c.log(job) and c.log(job).count(words) >= 4, c.log(job)
    for user in ("root", lib.USER):
        said = c.ok("fsched", "show", job, "1", user=user)
        assert "Closed after a restart:" in said and words in said, said
    c.kill_node("n1")
    c.wait_entry(job, lambda e: e.get("state") == "running" and e.get("restored") == "1", "the restore", 180)
    assert "TCP connections out of the job are closed now" in c.log(job), c.log(job)
    lib.wait_for(lambda: "echo ECONNRESET" in (d / "out").read_text(), "the error")
    moves(d, "beat", "inner")
    (d / "write").touch()
    lib.wait_for(lambda: "write" in (d / "out").read_text(), "the writer")
    (d / "stop").touch()
    assert c.wait_end(job) == ("COMPLETED", "0:0"), (d / "out").read_text() + c.logs(job)
    assert "read ECONNRESET b''" in (d / "out").read_text()
    c.up("n1")
    c.wait_node("n1", "idle")


def test_refuse(network, jobdir, workloads, server):
    """The default, and the option against a configuration that says close."""
    c = network
    conf = c.conf()
    text = conf.read_text()
    d = jobdir()
    job = start(c, d, workloads, server, "-w", "n2")
    said = c.fails("scontrol", "checkpoint", "create", job)
    assert "has a TCP connection to another host" in said and "--checkpoint-tcp=close" in said, said
    conf.write_text(text + "CheckpointTcp = close\n")
    try:
        c.checkpoint("create", job)
        e = jobdir("e")
        other = start(c, e, workloads, server, "--checkpoint-tcp=refuse", "-w", "n2")
        assert "has a TCP connection to another host" in c.fails("scontrol", "checkpoint", "create", other)
    finally:
        conf.write_text(text)
    for j, p in ((job, d), (other, e)):
        (p / "stop").touch()
        assert c.wait_end(j) == ("COMPLETED", "0:0")


def test_the_option(network, jobdir):
    c = network
    said = c.fails("sbatch", "--checkpoint-tcp=close", "--wrap", "true", cwd=jobdir("a"))
    assert "--checkpoint-tcp needs --checkpoint too" in said, said
    said = c.fails("sbatch", "--checkpoint=1", "--checkpoint-tcp=keep", "--wrap", "true", cwd=jobdir("b"))
    assert "allowed: refuse or close" in said, said
    assert c.run("srun", "--checkpoint-tcp=close", "true").returncode != 0
    d = jobdir("c")
    job = c.sbatch("env | grep -c checkpoint_tcp\n", "--checkpoint=UNLIMITED", "--checkpoint-tcp=close", "-o", "out", cwd=d)
    c.wait_end(job)
    assert (d / "out").read_text() == "0\n"
