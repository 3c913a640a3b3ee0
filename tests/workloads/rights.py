"""Prints what a job can do, and what the kernel reports of its objects, before and after a restore: one line of JSON each.

rights.py GO FILE…    GO: the second look begins when it is there.  FILE…: held open (for writing too if it is a cgroup's file)
"""
import ctypes
import fcntl
import json
import os
import pty
import select
import signal
import socket
import struct
import sys
import time

libc = ctypes.CDLL(None, use_errno=True)
KEYCTL = {"x86_64": 250, "aarch64": 219}[os.uname().machine]


def tried(call, *args):
    """The result of a call, or its error."""
    try:
        result = call(*args)
        return "done" if result is None else result
    except OSError as e:
        return os.strerror(e.errno)


def c_call(function, *args):
    result = function(*args)
    if result < 0:
        raise OSError(ctypes.get_errno(), "")
    return result


class IpcPerm(ctypes.Structure):
    _fields_ = [("key", ctypes.c_int), ("uid", ctypes.c_uint), ("gid", ctypes.c_uint), ("cuid", ctypes.c_uint), ("cgid", ctypes.c_uint),
                ("rest", ctypes.c_char * 400)]


class Objects:
    def __init__(self, files):
        self.files = {n: os.open(n, os.O_WRONLY if n.endswith("cgroup.procs") else os.O_RDONLY) for n in files}
        self.udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.udp.bind(("127.0.0.1", 0))
        self.tcp = socket.socket()
        self.listening = socket.socket()
        self.listening.bind(("127.0.0.1", 0))
        self.listening.listen(1)
        self.pair = socket.socketpair()
        self.named = socket.socket(socket.AF_UNIX)
        self.named.bind("rights.socket")
        self.named.listen(1)
        self.pipe = os.pipe()
        self.memfd = os.memfd_create("rights")
        self.pty = pty.openpty()
        os.mkfifo("rights.fifo")
        self.fifo = os.open("rights.fifo", os.O_RDWR)
        self.inotify = c_call(libc.inotify_init)
        c_call(libc.inotify_add_watch, self.inotify, b".", 0x100)
        self.epoll = select.epoll()
        self.epoll.register(self.pipe[0])
        self.ghost = os.open("rights.ghost", os.O_RDWR | os.O_CREAT)
        os.unlink("rights.ghost")
        self.ipc = {"shm": c_call(libc.shmget, 0, 65536, 0o600 | 0o1000), "sem": c_call(libc.semget, 0, 1, 0o600 | 0o1000),
                    "msg": c_call(libc.msgget, 0, 0o600 | 0o1000)}
        timer = ctypes.c_long()
        c_call(libc.timer_create, 1, None, ctypes.byref(timer))


def owner(fd):
    st = os.fstat(fd)
    return [st.st_uid, st.st_gid]


def shown(fd, name):
    if name.endswith("cgroup.procs"):
        return tried(os.write, fd, b"1")
    os.lseek(fd, 0, 0)
    text = os.read(fd, 4096)
    return len(text) if name.endswith("config") else text.split(b"\n")[0].decode()[:60]


def peer(sock):
    return list(struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[1:])


def reopen(fd):
    os.close(os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY))


def in_child(function):
    """The result of a call in a process of its own."""
    r, w = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.write(w, json.dumps(function()).encode())
        os._exit(0)
    os.close(w)
    os.waitpid(pid, 0)
    with os.fdopen(r) as f:
        return json.load(f)


def write(name, text):
    fd = os.open(name, os.O_WRONLY)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)


def user_namespace(inside):
    if libc.unshare(0x10000000):
        return "no user namespaces"
    return [tried(write, "/proc/self/setgroups", "deny"), tried(write, "/proc/self/uid_map", inside)]


def inotify_left():
    fds = []
    while (fd := libc.inotify_init()) >= 0 and len(fds) < 2000:
        fds.append(fd)
    for fd in fds:
        os.close(fd)
    return len(fds)


def session_keyring():
    """Owner of the session's keyring; "default" if that is the one of the user."""
    buf = ctypes.create_string_buffer(256)
    if libc.syscall(KEYCTL, 6, -3, buf, 256) < 0:
        return os.strerror(ctypes.get_errno())
    return buf.value.decode().split(";")[1]


def ipc_owner(objects, kind):
    perm = IpcPerm()
    if kind == "sem":
        c_call(libc.semctl, objects.ipc[kind], 0, 2, ctypes.byref(perm))
    else:
        c_call(libc.shmctl if kind == "shm" else libc.msgctl, objects.ipc[kind], 2, ctypes.byref(perm))
    return [perm.uid, perm.gid, perm.cuid, perm.cgid]


def look(o):
    status = dict(line.split(":", 1) for line in open("/proc/self/status") if ":" in line)
    udp = [line.split()[7] for line in open("/proc/net/udp") if line.split()[9] == str(os.fstat(o.udp.fileno()).st_ino)]
    kinds = {"udp": o.udp.fileno(), "tcp": o.tcp.fileno(), "listening": o.listening.fileno(), "pair": o.pair[0].fileno(), "named": o.named.fileno(),
             "pipe": o.pipe[0], "memfd": o.memfd, "fifo": o.fifo, "pty master": o.pty[0], "pty slave": o.pty[1], "ghost": o.ghost}
    client = socket.socket(socket.AF_UNIX)
    client.connect("rights.socket")
    served = o.named.accept()[0]
    uid = os.getuid()
    return {
        "status": {k: status[k].split() for k in ("Uid", "Gid", "Groups", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp")},
        # counted for the user, who may have other processes: some, or none if they are counted for somebody else
        "signals queued": status["SigQ"].split("/")[0].strip() != "0",
        "files": {n: shown(fd, n) for n, fd in o.files.items()},
        "owners": {k: owner(fd) for k, fd in kinds.items()},
        "net/udp": udp,
        "peers": [peer(o.pair[0]), peer(client), peer(served)],
        "reopened": {k: tried(reopen, kinds[k]) for k in ("pipe", "memfd", "pty slave", "ghost")},
        "written to the pair": tried(o.pair[0].send, b"x"),
        "ipc": {k: ipc_owner(o, k) for k in o.ipc},
        "mark": tried(o.udp.setsockopt, socket.SOL_SOCKET, 36, 7),
        "buffer by force": tried(o.udp.setsockopt, socket.SOL_SOCKET, 32, 1 << 26),
        "pipe size": tried(fcntl.fcntl, o.pipe[0], 1031, 1 << 26),
        "inotify left": inotify_left(),
        "own user namespace": in_child(lambda: user_namespace(f"0 {uid} 1")),
        "root's user namespace": in_child(lambda: user_namespace("0 0 1")),
        "pid 1": [tried(os.kill, 1, 0), tried(reopen, "../../1/mem"), tried(os.listdir, "/proc/1/fd")],
        "nice": tried(os.nice, -1),
        "priority": tried(os.setpriority, os.PRIO_PROCESS, 0, -5),
    }


def main():
    o = Objects(sys.argv[2:])
    signal.signal(signal.SIGALRM, signal.SIG_IGN)
    print("before", json.dumps({**look(o), "keyring": session_keyring()}), flush=True)
    print("ready", flush=True)
    while not os.path.exists(sys.argv[1]):
        time.sleep(0.1)
    print("after", json.dumps({**look(o), "keyring": session_keyring()}), flush=True)


main()
