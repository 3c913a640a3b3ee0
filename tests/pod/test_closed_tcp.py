"""TCP connections out of the job (CheckpointTcp): refused, or closed in the restored job. The other host is a network namespace."""
import subprocess

import lib
import pytest

from test_network import NODE, WORLD, Pod, node, private, world  # noqa: F401  (fixtures)
from test_pod import base, pods  # noqa: F401  (fixtures)

PORT = 7001
ECHO = """import socket,sys,threading
s=socket.create_server((sys.argv[1],int(sys.argv[2])),family=socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET,backlog=50)
print("up",flush=True)
def echo(c):
    try:
        while d:=c.recv(99): c.sendall(d)
        print("end",flush=True)
    except OSError as e: print(e,flush=True)
while 1: threading.Thread(target=echo,args=(s.accept()[0],),daemon=True).start()
"""


@pytest.fixture
def server(node, world):
    """Starts a server that echoes on another host, or on a given one, and returns its address."""
    running = []

    def start(family="4", where=world):
        if family == "6":
            for who, interface, n in ((node, "uplink", 1), (world, "eth0", 2)):
                who.ok("ip", "address", "add", f"fd99::{n}/64", "dev", interface, "nodad")
        address = {"4": NODE if where is node else WORLD, "6": "fd99::2"}[family]
        running.append(subprocess.Popen([*where.enter, "/usr/bin/python3", "-c", ECHO, address, str(PORT)], stdout=subprocess.PIPE))
        assert running[0].stdout.readline() == b"up\n"
        return address
    yield start
    for p in running:
        p.kill()
        p.wait()
        p.stdout.close()


def config(base, network, tcp):
    f = base / f"tcp-{network}-{tcp}.conf"
    f.write_text((base / "fsched.conf").read_text().replace("PodNetwork = host\n", "") + f"PodNetwork = {network}\n" + (f"CheckpointTcp = {tcp}\n" if tcp else ""))
    return f


class Job(Pod):
    def __init__(self, pods, base, node, conf, address):
        super().__init__(pods, base, node, conf, "/usr/bin/python3", "leaving.py", address, PORT, files=[lib.ROOT / "tests/workloads/leaving.py"])
        self.wait("ready")

    def wait(self, words):
        lib.wait_for(lambda: words in self.out.read_text() or self.p.poll() is not None, words)
        assert words in self.out.read_text(), self.out.read_text()

    def lines(self):
        return {line.split()[0]: line.split()[1:] for line in self.out.read_text().splitlines() if " " in line}

    def moves(self, *files):
        def now():
            return [int((self.work / f).read_text()) if (self.work / f).exists() else 0 for f in files]
        first = now()
        lib.wait_for(lambda: all(b > a + 20 for a, b in zip(first, now())) or self.p.poll() is not None, "echoes")
        assert self.p.poll() is None, self.out.read_text() + (self.said.read_text() if self.said.exists() else "")


@pytest.mark.parametrize("network", ["host", "private"])
def test_refused_by_default(pods, base, node, server, network):
    job = Job(pods, base, node, config(base, network, ""), server())
    job.moves("beat", "inner")
    said = job.create(fails=True)
    assert f"has a TCP connection to another host, {WORLD} port {PORT}" in said and "--checkpoint-tcp=close" in said, said
    job.moves("beat", "inner")
    assert not job.lines()
    job.kill()


def test_opened_just_before_the_freeze(pods, base, node, server, monkeypatch):
    """What the preflight has not seen is refused in the freeze, and the job keeps its connections."""
    job = Job(pods, base, node, config(base, "host", ""), server())
    monkeypatch.setenv("FSCHED_FAULT", "no-preflight")
    job.moves("beat", "inner")
    said = job.create(fails=True)
    assert f"has opened a TCP connection to another host, {WORLD}:{PORT}, since the job was checked" in said, said
    job.moves("beat", "inner")
    assert not job.lines()
    job.kill()


@pytest.mark.parametrize("network, family", [("host", "4"), ("host", "6"), ("private", "4")])
def test_closed_in_the_restored_job(pods, base, node, server, network, family):
    """The job that goes on keeps its connections. In the restored one they are reset, and the one within the job goes on."""
    address = server(family)
    job = Job(pods, base, node, config(base, network, "close"), address)
    for _ in range(3):
        job.moves("beat", "inner")
        said = job.create()
        shown = f"[{address}]:{PORT}" if family == "6" else f"{address}:{PORT}"
        assert said.count(f"(python3) to {shown}") == 4, said
    job.moves("beat", "inner")
    assert not job.lines(), job.out.read_text()
    job.kill()
    said = job.restore()
    assert "restored from epoch" in said and said.count(f"to {shown}") == 4, said
    for words in ("read", "epoll", "echo"):
        job.wait(words)
    (job.work / "write").touch()
    job.wait("write")
    job.moves("beat", "inner")
    (job.work / "stop").touch()
    assert job.p.wait(60) == 0, job.out.read_text()
    lines = job.lines()
    assert lines["read"] == ["ECONNRESET", "b''"]
    assert lines["epoll"] == ["EPOLLIN", "EPOLLERR", "EPOLLHUP", "EPOLLRDHUP", "ECONNRESET"]
    assert lines["write"] == ["ECONNRESET", "EPIPE", "ENOTCONN"]
    assert lines["echo"] == ["ECONNRESET"]
    assert "done" in job.out.read_text()


def test_again_after_a_restore(pods, base, node, server):
    """An epoch of a restored job has new connections, and sockets whose error nobody has seen yet."""
    job = Job(pods, base, node, config(base, "private", "close"), server())
    for n in range(3):
        job.moves("beat", "inner")
        said = job.create()
        job.kill()
        assert "restored from epoch" in job.restore(), (n, job.said.read_text())
        job.moves("beat", "inner")
    (job.work / "write").touch()
    job.wait("write")
    (job.work / "stop").touch()
    assert job.p.wait(60) == 0, job.out.read_text()
    assert "to an end that has closed it" in said
    assert job.lines()["write"] == ["ECONNRESET", "EPIPE", "ENOTCONN"], said


def test_to_another_process_of_the_node(pods, base, node, server):
    job = Job(pods, base, node, config(base, "host", "close"), server(where=node))
    job.moves("beat", "inner")
    job.create()
    job.moves("beat", "inner")
    assert not job.lines(), job.out.read_text()
    job.kill()
    assert "restored from epoch" in job.restore(), job.said.read_text()
    job.wait("read")
    job.moves("beat", "inner")
    (job.work / "stop").touch()
    assert job.p.wait(60) == 0, job.out.read_text()
