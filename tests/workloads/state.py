"""Gives itself unusual state that the kernel keeps for a process, each kind in a child of its own, and tells all that a program can find out
about it: a line of JSON in the file state.KIND now, and another one when the file GO exists.

state.py GO [KIND ...]
"""
import ctypes
import fcntl
import json
import os
import resource
import select
import signal
import socket
import struct
import sys
import threading
import time

PAGE = 4096
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
NR = {"x86_64": {"timer_create": 222, "timer_settime": 223, "timer_gettime": 224, "mbind": 237, "set_mempolicy": 238, "get_mempolicy": 239,
                 "add_key": 248, "keyctl": 250, "ioprio_set": 251, "ioprio_get": 252, "get_robust_list": 274, "sched_setattr": 314,
                 "sched_getattr": 315, "memfd_create": 319, "membarrier": 324, "mlock2": 325, "pidfd_open": 434,
                 "rt_sigqueueinfo": 129, "sigaltstack": 131}}[os.uname().machine]
NORESERVE, GROWSDOWN, ANONYMOUS, FIXED, PRIVATE, SHARED = 0x4000, 0x100, 0x20, 0x10, 2, 1
KINDS = {}


def kind(f):
    """f sets the state and returns a function that tells it."""
    KINDS[f.__name__] = f
    return f


def call(name, *args):
    """The result, or -errno."""
    r = libc.syscall(NR[name], *[ctypes.c_long(a) if isinstance(a, int) else a for a in args])
    return r if r >= 0 else -ctypes.get_errno()


def prctl(*args):
    r = libc.prctl(*[ctypes.c_ulong(a) if isinstance(a, int) else a for a in [*args, 0, 0, 0, 0][:5]])
    return r if r >= 0 else -ctypes.get_errno()


def prctl_out(op):
    v = ctypes.c_int(-1)
    return v.value if prctl(op, ctypes.byref(v)) >= 0 else -ctypes.get_errno()


def read(path):
    try:
        with open(path, encoding="utf-8") as f:
            return f.read().strip()
    except OSError as e:
        return e.errno


def status(*keys, of="self"):
    return dict(line.split(":\t") for line in read(f"/proc/{of}/status").split("\n") if line.split(":")[0] in keys)


def mapping(flags=PRIVATE | ANONYMOUS, fd=-1, pages=4):
    """A mapping that the kernel does not join with its neighbours."""
    place = libc.mmap(None, (pages + 2) * PAGE, 0, PRIVATE | ANONYMOUS, -1, 0) + PAGE
    assert libc.mmap(place, pages * PAGE, 3, flags | FIXED, fd, 0) == place
    ctypes.memset(place, 65, pages * PAGE)
    return place


def advise(place, advice):
    return libc.madvise(ctypes.c_void_p(place), ctypes.c_size_t(4 * PAGE), advice)


def flags_of(places):
    """Name -> permissions and flags, without those of criu's and the kernel's own bookkeeping."""
    found, at = {}, None
    for line in read("/proc/self/smaps").split("\n"):
        f = line.split()
        if "-" in f[0] and not f[0].endswith(":"):
            at = [int(x, 16) for x in f[0].split("-")], f[1]
        elif f[0] == "VmFlags:":
            for name, place in places.items():
                if at[0][0] <= place < at[0][1]:
                    found[name] = [at[1], [x for x in f[1:] if x not in ("sd", "um", "uw")]]
    return found


def sched():
    b = ctypes.create_string_buffer(64)
    r = call("sched_getattr", 0, b, 64, 0)
    return struct.unpack_from("IIQiIQQQII", b.raw) if r == 0 else r


@kind
def process():
    prctl(1, 12)                # PR_SET_PDEATHSIG
    prctl(36, 1)                # PR_SET_CHILD_SUBREAPER
    prctl(41, 1)                # PR_SET_THP_DISABLE
    prctl(15, b"oddname")       # PR_SET_NAME
    prctl(29, 70000)            # PR_SET_TIMERSLACK
    prctl(4, 0)                 # PR_SET_DUMPABLE, there
    prctl(4, 1)                 # and back
    os.umask(0o123)
    os.nice(5)
    resource.setrlimit(resource.RLIMIT_NOFILE, (200, 333))
    resource.setrlimit(resource.RLIMIT_STACK, (4 << 20, 8 << 20))
    with open("/proc/self/oom_score_adj", "w", encoding="ascii") as f:
        f.write("500")
    keys = ("Name", "Umask", "Uid", "Gid", "Groups", "NoNewPrivs", "Seccomp", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "SigIgn", "SigCgt", "SigBlk")
    return lambda: {"death": prctl_out(2), "reaper": prctl_out(37), "thp": prctl(42), "dumpable": prctl(3), "slack": prctl(30), "keepcaps": prctl(7),
                    "securebits": prctl(27), "tsc": prctl_out(25), "nice": os.nice(0), "status": status(*keys), "group": [os.getsid(0), os.getpgid(0)],
                    "files": [read(f"/proc/self/{n}") for n in ("limits", "oom_score_adj", "comm", "cmdline", "coredump_filter", "cgroup", "loginuid")],
                    "links": [os.readlink(f"/proc/self/{n}") for n in ("exe", "cwd", "root")]}


@kind
def no_new_privileges():
    prctl(38, 1)
    return lambda: prctl(39)


@kind
def merged_memory():
    prctl(67, 1)                # PR_SET_MEMORY_MERGE
    return lambda: prctl(68)


@kind
def denied_executable_memory():
    prctl(65, 1)                # PR_SET_MDWE
    return lambda: prctl(66)


@kind
def policy_of_a_thread():
    """The first thread has a policy, and another one none, and a third one its own."""
    one = ctypes.byref(ctypes.c_ulong(1))
    found = {}

    def run(name, mode):
        if mode is not None:
            call("set_mempolicy", mode, one if mode else None, 64 if mode else 0)
        while True:
            m = ctypes.c_int(-1)
            call("get_mempolicy", ctypes.byref(m), None, 0, None, 0)
            found[name] = m.value
            time.sleep(0.02)

    call("set_mempolicy", 2, one, 64)
    for name, mode in (("inherits", None), ("none", 0), ("own", 3)):
        threading.Thread(target=run, args=(name, mode), daemon=True).start()

    def look():
        found.clear()
        while len(found) < 3:
            time.sleep(0.02)
        m = ctypes.c_int(-1)
        call("get_mempolicy", ctypes.byref(m), None, 0, None, 0)
        return {**dict(sorted(found.items())), "first": m.value}
    return look


@kind
def mappings():
    advice = {"dontfork": 10, "wipeonfork": 18, "dontdump": 16, "huge": 14, "nohuge": 15, "mergeable": 12, "random": 1, "sequential": 2, "free": 8}
    places = {name: mapping() for name in advice}
    for name, n in advice.items():
        advise(places[name], n)
    for name, flags in (("noreserve", NORESERVE | PRIVATE | ANONYMOUS), ("grows", GROWSDOWN | PRIVATE | ANONYMOUS), ("shared", SHARED | ANONYMOUS)):
        places[name] = mapping(flags)
    places["locked"], places["on_fault"] = mapping(), mapping()
    libc.mlock(ctypes.c_void_p(places["locked"]), ctypes.c_size_t(4 * PAGE))
    call("mlock2", places["on_fault"], 4 * PAGE, 1)
    one = ctypes.byref(ctypes.c_ulong(1))
    policies = {"bound": mapping(), "preferred": mapping(), "spread": mapping(SHARED | ANONYMOUS)}
    for mode, place in zip((2, 1, 3), policies.values()):
        call("mbind", place, 4 * PAGE, mode, one, 64, 0)
    guard = mapping()
    guarded = libc.madvise(ctypes.c_void_p(guard + PAGE), ctypes.c_size_t(PAGE), 102) == 0     # MADV_GUARD_INSTALL, Linux 6.13

    def end_of(f):
        pid = os.fork()
        if pid == 0:
            os._exit(f())
        return os.waitpid(pid, 0)[1]

    def numa():
        lines = {int(line.split()[0], 16): line.split()[1] for line in str(read("/proc/self/numa_maps")).split("\n") if " " in line}
        return {name: lines.get(place) for name, place in policies.items()}
    return lambda: {"flags": flags_of(places), "numa": numa(), "wiped": end_of(lambda: ctypes.string_at(places["wipeonfork"], 1)[0]),
                    "guard": guarded and end_of(lambda: ctypes.string_at(guard + PAGE, 1)[0] * 0)}


def locks(flags):
    libc.mlockall(flags)
    return lambda: flags_of({"new": mapping()})


@kind
def locked_in_future():
    return locks(2)             # MCL_FUTURE


@kind
def locked_on_fault_in_future():
    return locks(2 | 4)         # MCL_FUTURE | MCL_ONFAULT


@kind
def scheduling():
    os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    call("ioprio_set", 1, 0, 2 << 13 | 6)
    return lambda: {"attr": sched(), "io": call("ioprio_get", 1, 0)}


@kind
def idle_scheduling():
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    return sched


@kind
def slice_of_scheduling():
    call("sched_setattr", 0, struct.pack("IIQiIQQQ", 48, 3, 1, 3, 0, 700000, 0, 0), 0)
    return sched


@kind
def signals():
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    signal.signal(signal.SIGUSR2, lambda *a: None)
    queued = signal.SIGRTMIN + 3
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGHUP, queued])
    os.kill(os.getpid(), signal.SIGHUP)
    for n in range(3):
        call("rt_sigqueueinfo", os.getpid(), int(queued), ctypes.create_string_buffer(struct.pack("iiiiiil", queued, 0, -1, 0, os.getpid(), os.getuid(), n), 128))
    stack, old = ctypes.create_string_buffer(65536), ctypes.create_string_buffer(24)
    call("sigaltstack", struct.pack("PixxxxN", ctypes.addressof(stack), 0, 65536), None)
    for which, seconds in ((signal.ITIMER_VIRTUAL, 1000), (signal.ITIMER_PROF, 2000)):
        signal.setitimer(which, seconds, 7)

    def look():
        call("sigaltstack", None, old)
        return {"status": status("SigPnd", "ShdPnd", "SigBlk", "SigIgn", "SigCgt"), "stack": struct.unpack("PixxxxN", old.raw)[0] == ctypes.addressof(stack),
                "timers": [[round(x, -2) for x in signal.getitimer(t)] for t in (signal.ITIMER_VIRTUAL, signal.ITIMER_PROF)]}
    return look


@kind
def registrations():
    for command in (4, 16, 64, 128):    # MEMBARRIER_CMD_REGISTER_*
        call("membarrier", command, 0, 0)

    def look():
        head, n = ctypes.c_void_p(), ctypes.c_size_t()
        return {"robust": [call("get_robust_list", 0, ctypes.byref(head), ctypes.byref(n)), head.value, n.value], "membarrier": call("membarrier", 512, 0, 0)}
    return look


@kind
def keys():
    call("keyctl", 1, b"mysession")
    call("add_key", b"user", b"key", b"payload", 7, -3)
    return lambda: call("keyctl", 10, -3, b"user", b"key", 0) > 0


@kind
def timers():
    ids = {}
    for clock in (0, 1, 2, 7, 11):
        n = ctypes.c_int(-1)
        if call("timer_create", clock, ctypes.create_string_buffer(struct.pack("lii", 5, signal.SIGRTMIN + 6, 0), 64), ctypes.byref(n)) == 0:
            call("timer_settime", n.value, 0, struct.pack("llll", 7, 0, 100000, 0), None)
            ids[clock] = n.value
    fds = [libc.timerfd_create(clock, 0) for clock in (0, 1, 7)]
    for fd in fds:
        libc.timerfd_settime(fd, 0, struct.pack("llll", 5, 0, 200000, 0), None)

    def look():
        b = ctypes.create_string_buffer(32)
        found = {}
        for clock, n in ids.items():
            call("timer_gettime", n, b)
            found[f"timer {clock}"] = [n, struct.unpack("llll", b.raw)[0], round(struct.unpack("llll", b.raw)[2], -4)]
        for fd in fds:
            libc.timerfd_gettime(fd, b)
            found[f"descriptor {fd}"] = [struct.unpack("llll", b.raw)[0], round(struct.unpack("llll", b.raw)[2], -4)]
        return found
    return look


def make_descriptors():
    fds = {}
    r, w = fds["pipe"], fds["pipe end"] = os.pipe()
    fcntl.fcntl(w, 1031, 1 << 18)       # F_SETPIPE_SZ
    os.write(w, b"x" * 5000)
    signal.signal(signal.SIGRTMIN + 5, signal.SIG_IGN)
    fcntl.fcntl(r, fcntl.F_SETFL, os.O_NONBLOCK | os.O_ASYNC)
    fcntl.fcntl(r, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(r, 10, int(signal.SIGRTMIN + 5))    # F_SETSIG
    fds["memfd"] = call("memfd_create", b"sealed", 3)
    os.ftruncate(fds["memfd"], 5000)
    fcntl.fcntl(fds["memfd"], 1033, 2 | 4)          # F_ADD_SEALS
    fds["file"] = os.open("locked", os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_DSYNC)
    os.write(fds["file"], b"y" * 100)
    fcntl.lockf(fds["file"], fcntl.LOCK_EX | fcntl.LOCK_NB, 10, 5)
    fds["copy"] = os.dup(fds["file"])
    fds["flock"] = os.open("flocked", os.O_RDWR | os.O_CREAT | os.O_NOATIME)
    fcntl.flock(fds["flock"], fcntl.LOCK_SH)
    fds["ofd"] = os.open("ofd", os.O_RDWR | os.O_CREAT)
    fcntl.fcntl(fds["ofd"], 37, struct.pack("hhqqi4x", fcntl.F_WRLCK, 0, 3, 8, 0))      # F_OFD_SETLK
    fds["nameless"] = os.open(".", os.O_TMPFILE | os.O_RDWR, 0o640)
    os.write(fds["nameless"], b"tmp" * 100)
    fds["directory"] = os.open(".", os.O_RDONLY | os.O_DIRECTORY)
    fds["path"] = os.open("locked", os.O_PATH)
    with open("gone", "w", encoding="ascii") as f:
        f.write("gone" * 10)
    fds["gone"] = os.open("gone", os.O_RDONLY)
    os.lseek(fds["gone"], 5, 0)
    os.unlink("gone")
    os.mkdir("gone directory")
    fds["gone directory"] = os.open("gone directory", os.O_RDONLY)
    os.rmdir("gone directory")
    os.mkfifo("fifo")
    fds["fifo"] = os.open("fifo", os.O_RDWR | os.O_NONBLOCK)
    os.write(fds["fifo"], b"abc")
    fds["event"] = libc.eventfd(7, 0)
    fds["epoll"] = libc.epoll_create1(0)
    select.epoll.fromfd(os.dup(fds["epoll"])).register(r, select.EPOLLIN | select.EPOLLET | select.EPOLLONESHOT)
    fds["process"] = call("pidfd_open", os.getpid(), 0)
    fds["signal"] = libc.signalfd(-1, ctypes.create_string_buffer(b"\x04", 128), 0)
    return fds


@kind
def descriptors():
    fds = make_descriptors()

    def fdinfo(name, fd):
        lines = [line.split() for line in read(f"/proc/self/fdinfo/{fd}").split("\n")]
        # Numbers of objects and the size of an epoll, which the kernel tells differently at each look, say nothing.
        return [[*f[:5], *f[-2:]] if f[0] == "lock:" else f for f in lines
                if f[0] not in ("mnt_id:", "ino:", "scm_fds:", "Pid:", "NSpid:", "tfd:", "eventfd-id:", "flags:") and not (name == "epoll" and f[0] == "pos:")]

    def one(name, fd):
        st = os.fstat(fd)
        found = {"flags": fcntl.fcntl(fd, fcntl.F_GETFL), "close": fcntl.fcntl(fd, fcntl.F_GETFD), "info": fdinfo(name, fd), "mode": oct(st.st_mode),
                 "size": st.st_size if name != "epoll" else 0, "links": st.st_nlink}
        if name in ("pipe", "pipe end", "fifo"):
            found["room"] = fcntl.fcntl(fd, 1032)
        if name == "memfd":
            found["seals"] = fcntl.fcntl(fd, 1034)
        if name == "pipe":
            found |= {"owner": fcntl.fcntl(fd, fcntl.F_GETOWN), "signal": fcntl.fcntl(fd, 11)}
        return found
    return lambda: {name: one(name, fd) for name, fd in fds.items()}


SOL, IP, IP6, TCP, UDP = socket.SOL_SOCKET, socket.IPPROTO_IP, socket.IPPROTO_IPV6, socket.IPPROTO_TCP, socket.IPPROTO_UDP
# Everything that can be set without a right, as (level, option, value).
EVERY = [(SOL, 2, 1), (SOL, 9, 1), (SOL, 7, 40000), (SOL, 8, 50000), (SOL, 13, struct.pack("ii", 1, 7)), (SOL, 12, 4), (SOL, 18, 7), (SOL, 10, 1), (SOL, 29, 1),
         (SOL, 6, 1), (SOL, 5, 1), (SOL, 20, struct.pack("ll", 5, 0)), (SOL, 21, struct.pack("ll", 6, 0)), (SOL, 40, 1), (SOL, 47, 10 ** 9)]
V4 = [(IP, 1, 16), (IP, 2, 33), (IP, 8, 1), (IP, 10, 2), (IP, 11, 1), (IP, 12, 1), (IP, 13, 1), (IP, 15, 1), (IP, 21, 9)]
V4_DATAGRAM = [(IP, 33, 5), (IP, 34, 0), (IP, 49, 0), (UDP, 103, 500), (UDP, 104, 1)]
V6 = [(IP6, 16, 44), (IP6, 23, 2), (IP6, 25, 1), (IP6, 49, 1), (IP6, 51, 1), (IP6, 66, 1), (IP6, 67, 8), (IP6, 26, 1)]
STREAM = [(TCP, 1, 1), (TCP, 4, 33), (TCP, 5, 12), (TCP, 6, 4), (TCP, 7, 3), (TCP, 8, 17), (TCP, 13, b"reno"), (TCP, 16, 1), (TCP, 18, 9000), (TCP, 25, 1000), (TCP, 36, 1)]
LISTENING = [(TCP, 9, 3), (TCP, 23, 5)]


def with_options(s, options):
    """Those that this kernel has."""
    kept = []
    for level, option, value in options:
        try:
            s.setsockopt(level, option, value)
            kept.append((level, option))
        except OSError:
            pass
    s.options = kept
    return s


class Socket(socket.socket):
    options = ()


def make_sockets():
    found = {}
    for name, family, address, more in (("ipv4", socket.AF_INET, "127.0.0.1", V4), ("ipv6", socket.AF_INET6, "::1", V6)):
        listening = found[f"{name} listening"] = with_options(Socket(family, socket.SOCK_STREAM), EVERY + more + STREAM + LISTENING)
        listening.setsockopt(TCP, 9, 0)      # a deferred accept would wait
        listening.bind((address, 0))
        listening.listen(9)
        client = found[f"{name} client"] = with_options(Socket(family, socket.SOCK_STREAM), EVERY + more + STREAM)
        client.connect(listening.getsockname())
        fd = listening._accept()[0]
        found[f"{name} accepted"] = with_options(Socket(family, socket.SOCK_STREAM, fileno=fd), STREAM + more)
        found[f"{name} accepted"].send(b"data on its way")
        udp = found[f"{name} datagrams"] = with_options(Socket(family, socket.SOCK_DGRAM), EVERY + more + (V4_DATAGRAM if family == socket.AF_INET else []))
        udp.bind((address, 0))
    found["unix listening"] = with_options(Socket(socket.AF_UNIX), EVERY)
    found["unix listening"].bind("listening")
    found["unix listening"].listen(5)
    for name, of in (("packets", socket.SOCK_SEQPACKET), ("datagrams", socket.SOCK_DGRAM), ("stream", socket.SOCK_STREAM)):
        a, b = socket.socketpair(socket.AF_UNIX, of)
        a.send(b"one")
        a.send(b"two")
        # With SO_TIMESTAMP (29), data comes with a control message, which criu does not save.
        found[f"unix {name}"], found[f"unix {name} end"] = [with_options(Socket(fileno=s.detach()), [o for o in EVERY if o[1] != 29]) for s in (a, b)]
    found["unix credentials"], found["unix credentials end"] = [with_options(Socket(fileno=s.detach()), EVERY + [(SOL, 16, 1)]) for s in socket.socketpair()]
    return found


@kind
def sockets():
    found = make_sockets()

    def peek(s):
        try:
            return s.recv(100, socket.MSG_PEEK | socket.MSG_DONTWAIT).hex()
        except OSError as e:
            return e.errno
    return lambda: {name: {"options": {f"{level} {option}": s.getsockopt(level, option, 64).hex() for level, option in s.options}, "name": str(s.getsockname()),
                           "flags": [fcntl.fcntl(s, fcntl.F_GETFL), fcntl.fcntl(s, fcntl.F_GETFD)], "data": peek(s)} for name, s in found.items()}


def main(go, *kinds):
    for name in kinds or KINDS:
        if os.fork():
            continue
        os.mkdir(f"of {name}")
        os.chdir(f"of {name}")
        look = KINDS[name]()
        with open(f"../state.{name}", "w", encoding="utf-8") as f:
            print(json.dumps(look()), file=f, flush=True)
            while not os.path.exists("../" + go):
                time.sleep(0.02)
            print(json.dumps(look()), file=f, flush=True)
        os._exit(0)
    for _ in kinds or KINDS:
        os.wait()


main(*sys.argv[1:])
