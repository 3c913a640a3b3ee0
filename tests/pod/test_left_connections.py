"""Sockets in states that programs leave them in: an end that was closed, a connection that nobody has accepted, datagrams that nobody has read."""
import json
import os
import socket

import lib

from test_pod import USER, base, pods  # noqa: F401  (fixtures)

HEAD = """
import json, os, socket, sys, time
listening = socket.socket()
listening.bind(("127.0.0.1", 0))
listening.listen(5)
client = socket.socket()
client.connect(listening.getsockname())
def tell(**words):
    print(json.dumps(words), flush=True)
def go(name):
    while not os.path.exists(name):
        time.sleep(0.02)
"""
CLOSED = """
server = listening.accept()[0]
server.send(b"last words")
server.close()
listening.close()      # its port is taken for a minute by what is left of the connection, if the pod has no network of its own
tell(ready=1)
go("go")
tell(read=client.recv(100).decode())
tell(end=client.recv(100).decode())
"""
NOT_ACCEPTED = """
tell(ready=1)
go("accept")
server = listening.accept()[0]
tell(accepted=1)
go("go")
client.send(b"hello")
tell(read=server.recv(100).decode())
"""
EVENTS = """
import ctypes
libc = ctypes.CDLL(None)
server = listening.accept()[0]
os.mkdir("watched")
fd = libc.inotify_init1(os.O_NONBLOCK)
IN_CREATE, IN_ONESHOT = 0x100, 0x80000000
libc.inotify_add_watch(fd, b"watched", ctypes.c_uint32(IN_CREATE | IN_ONESHOT))
if UNREAD:
    open("watched/file", "w").close()
tell(ready=1)
go("go")
try:
    tell(read=len(os.read(fd, 4096)))
except BlockingIOError:
    tell(read=0)
"""
DATAGRAM = """
to = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
to.bind(("127.0.0.1", 0))
socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"unread", to.getsockname())
server = listening.accept()[0]
tell(ready=1)
go("go")
to.setblocking(False)
try:
    tell(read=to.recv(100).decode())
except BlockingIOError:
    tell(read="")
"""


OUTSIDE = """
listening.close()
client.close()
outside = socket.create_connection(("127.0.0.1", int(os.environ["OUTSIDE"])))
tell(ready=1)
go("go")
outside.settimeout(10)
try:
    tell(read=outside.recv(100).decode())
except OSError as e:
    tell(read=type(e).__name__)
"""


class Program:
    def __init__(self, pods, text):
        self.pods, d = pods, pods.place("connections")
        self.work, self.state = d / "work", d / "state"
        pods.start(self.work, "run", "--dir", self.state, "--user", USER, "--", "/usr/bin/python3", "-c", HEAD + text, out=self.work / "out")
        self.wait("ready")

    def told(self):
        return {k: v for line in (self.work / "out").read_text().splitlines() if line.startswith("{") for k, v in json.loads(line).items()}

    def wait(self, what):
        lib.wait_for(lambda: what in self.told(), lambda: (self.work / "out").read_text())

    def checkpoint(self):
        return self.pods.fsched("checkpoint", self.state)

    def again(self):
        """Saves and kills it, and lets it go on from that epoch."""
        done = self.pods.fsched("checkpoint", "--kill", self.state)
        assert done.returncode == 0, done.stderr
        (self.work / "go").touch()
        p = self.pods.start(self.work, "restore", self.state, out=self.work / "out")
        assert p.wait(60) == 0, (self.work / "out").read_text()
        return self.told()


def test_the_other_end_was_closed(pods, base):
    """A client that has not noticed yet that its server has closed the connection."""
    program = Program(pods, CLOSED)
    done = program.checkpoint()
    assert done.returncode == 0, done.stderr
    told = program.again()
    assert told["read"] == "last words" and told["end"] == "", told


def test_not_accepted_yet(pods, base):
    program = Program(pods, NOT_ACCEPTED)
    done = program.checkpoint()
    assert done.returncode != 0 and "(python3) has a TCP connection within the job that waits to be accepted" in done.stderr, done.stderr
    (program.work / "accept").touch()
    program.wait("accepted")
    done = program.checkpoint()
    assert done.returncode == 0, done.stderr
    assert program.again()["read"] == "hello"


def test_not_accepted_by_a_process_outside(pods, base, monkeypatch):
    """It is like any connection to a process outside: whoever listens there can neither prevent a checkpoint nor delay it."""
    conf = base / "left.conf"
    conf.write_text((base / "fsched.conf").read_text() + "CheckpointTcp = close\n")
    with socket.create_server(("127.0.0.1", 0)) as listening:
        monkeypatch.setenv("OUTSIDE", str(listening.getsockname()[1]))
        program = Program(pods, OUTSIDE)
        assert "has a TCP connection to a process outside of the job" in program.checkpoint().stderr
        monkeypatch.setattr(pods, "env", lambda: {**os.environ, "FSCHED_CONF": str(conf)})
        assert program.again()["read"] == "ConnectionResetError"


def test_datagrams_that_nobody_has_read(pods, base):
    program = Program(pods, DATAGRAM)
    done = program.checkpoint()
    assert done.returncode == 0 and "warning: datagrams that 1 UDP sockets have received" in done.stderr, done.stderr
    assert program.again()["read"] == ""


def test_events_of_inotify_that_nobody_has_read(pods, base):
    program = Program(pods, EVENTS.replace("UNREAD", "True"))
    done = program.checkpoint()
    assert done.returncode == 0 and "warning: events that 1 inotify or fanotify descriptors hold" in done.stderr, done.stderr
    assert program.again()["read"] == 0


def test_flags_of_inotify_watches(pods, base):
    program = Program(pods, EVENTS.replace("UNREAD", "False"))
    done = program.checkpoint()
    assert done.returncode == 0 and "warning: 1 inotify descriptors have watches with IN_ONESHOT" in done.stderr, done.stderr
    assert program.again()["read"] == 0
