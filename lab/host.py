"""Simulated hosts: computers of a lab that can lose their power or their network.

A host is a set of PID, mount, network, UTS and IPC namespaces whose first process (keeper.py --host) starts its daemons.
Only its processes hold the namespaces, so the death of the first process is a power failure: the kernel kills the other processes,
and the mounts and the network go with the last of them. A host has:

    /proc, /run, /dev/shm   fresh at each boot
    DIR/local, /tmp         its own disk, which survives a power failure; from outside it is DIR/host/NAME and DIR/host/NAME/tmp
    everything else         the machine's file system, the same on all hosts. DIR is their cluster file system. It is not
                            reached through the network: a host whose link is cut still reads and writes it. Data written
                            before a power failure is kept even if it was not synced
    DIR itself              a mount of the host's own, which can become read-only or be unmounted on this host alone. Without it
                            the host still has its disk, the programs (which a real node has on its disk) and the logs: KEPT
    boot id                 a new one at each boot. A pod's own /proc shows the machine's

The hosts are connected to one bridge ("the switch") in the network namespace of the lab's keeper. No link leads out of it.
"""
import ctypes
import os
import signal
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
PR_SET_PDEATHSIG = 1
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE, MS_SLAVE = 1, 2, 4, 8, 0x20, 0x1000, 0x4000, 0x40000, 0x80000
NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWPID, NEWNET = 0x20000, 0x2000000, 0x4000000, 0x8000000, 0x20000000, 0x40000000
DEATH = 20.0       # s for the kernel to end a host
CGROUPS = "/sys/fs/cgroup"
KEPT = ("local", "log", "stage", "criu")     # of DIR, on a host that has lost it
BOOT_ID = "/proc/sys/kernel/random/boot_id"

_libc = ctypes.CDLL(None, use_errno=True)


def _call(name, *arguments):
    encoded = [a.encode() if isinstance(a, str) else ctypes.c_ulong(a) if isinstance(a, int) else a for a in arguments]
    if getattr(_libc, name)(*encoded) < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}{arguments}: {os.strerror(number)}")


def _ip(*commands):
    """Runs commands of ip(8) in the network namespace of this process. An error ends the list."""
    done = subprocess.run(["ip", "-batch", "-"], input="\n".join(commands) + "\n", stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode != 0:
        raise OSError(f"ip: {done.stdout.strip()} (of: {'; '.join(commands)})")


def use_hosts_file(text, place):
    """Gives this process its own mount namespace, a slave of the machine's, with text as /etc/hosts. place: a directory on which a tmpfs
    is mounted for a moment; a file in DIR would leave a mount of something in DIR."""
    _call("unshare", NEWNS)
    _call("mount", None, "/", None, MS_REC | MS_SLAVE, None)
    _call("mount", "hosts", place, "tmpfs", MS_NOSUID | MS_NODEV, "size=64k,mode=755")
    with open(f"{place}/hosts", "w", encoding="utf-8") as f:
        f.write(text)
    _call("mount", f"{place}/hosts", "/etc/hosts", None, MS_BIND, None)
    _call("umount2", place, 0)


# --- cgroups: each host has one of its own in every hierarchy and sees it as root ------------------------------------------------

def _hierarchies():
    """Yields (mount point, type, options for another mount of it) of each cgroup hierarchy of the machine."""
    with open("/proc/self/mountinfo", encoding="utf-8") as f:
        for line in f:
            before, _, after = line.partition(" - ")
            kind, _, options = after.split()[:3]
            point = before.split()[4]
            if kind in ("cgroup", "cgroup2") and point.startswith(CGROUPS):
                yield point, kind, ",".join(o for o in options.split(",") if o not in ("rw", "ro")) if kind == "cgroup" else ""


def _enter_cgroups(group):
    """Makes the cgroup in all hierarchies and moves this process into it."""
    for point, kind, options in _hierarchies():
        path = point
        for part in group.split("/"):
            parent, path = path, os.path.join(path, part)
            os.makedirs(path, exist_ok=True)
            if kind == "cgroup" and "cpuset" in options.split(","):     # version 1 accepts no process before these are set
                for name in ("cpuset.cpus", "cpuset.mems"):
                    with open(os.path.join(parent, name), encoding="ascii") as f:
                        value = f.read()
                    with open(os.path.join(path, name), "w", encoding="ascii") as f:
                        f.write(value)
        with open(os.path.join(path, "cgroup.procs"), "w", encoding="ascii") as f:
            f.write(str(os.getpid()))


def _remount_cgroups():
    """Remounts the hierarchies in the new cgroup and mount namespaces, so that they show only the host's cgroups."""
    for point, kind, options in list(_hierarchies()):
        _call("umount2", point, 0)
        _call("mount", "cgroup", point, kind, MS_NOSUID | MS_NODEV | MS_NOEXEC, options)


# --- in the keeper ------------------------------------------------------------------------------------------------------------

class Hosts:
    """The hosts of a lab and their switch. Moves the calling process into a new network namespace, which holds the switch.

    spec, from keeper.json: {"switch": NAME OF THE BRIDGE, "cgroup": PATH or null, "hosts": {NAME: {"address": A}}}. Methods that
    serve a request return its answer, {"error": TEXT} for an invalid request."""

    def __init__(self, directory, spec):
        self.dir = directory
        self.spec = spec
        self.pids = {}       # name -> pid of the first process, of hosts that are up
        self.unplugged = set()
        _call("unshare", NEWNET)
        _ip("link set lo up", f"link add {spec['switch']} type bridge", f"link set {spec['switch']} up")

    def list(self):
        return {"hosts": {name: {"pid": self.pids.get(name), "cut": name in self.unplugged, "address": s["address"]}
                          for name, s in self.spec["hosts"].items()}}

    def boot(self, name):
        """When this returns the host's first process runs and its daemons start."""
        if name in self.pids:
            return {"error": f"{name} is up already"}
        ready, tell_ready = os.pipe()
        wait_go, go = os.pipe()
        pid = self._fork_first(name, tell_ready, wait_go, go)
        os.close(tell_ready)
        os.close(wait_go)
        self.pids[name] = pid
        try:
            if os.read(ready, 1) != b"r":
                return {"error": f"{name} could not be made; {self.dir}/log/host.{name}.log says why"}
            switch = self.spec["switch"]
            _ip(f"link add {name} type veth peer name eth0 netns {pid}",
                f"link set {name} master {switch} {'down' if name in self.unplugged else 'up'}")
            os.write(go, b"g")
        except OSError as e:
            self.kill(name)
            return {"error": f"{name}: {e.strerror or e}"}
        finally:
            os.close(ready)
            os.close(go)
        return {"pid": pid}

    def _fork_first(self, name, tell_ready, wait_go, go):
        """unshare(CLONE_NEWPID) applies to later children, so the old namespace is restored after this fork."""
        own = os.open("/proc/self/ns/pid", os.O_RDONLY)
        _call("unshare", NEWPID)
        try:
            pid = os.fork()
            if pid == 0:
                os.close(go)
                self._first(name, tell_ready, wait_go)
            return pid
        finally:
            _call("setns", own, NEWPID)
            os.close(own)

    def _first(self, name, tell_ready, wait_go):
        try:
            _call("prctl", PR_SET_PDEATHSIG, signal.SIGKILL)      # the host dies with the keeper
            os.setsid()
            log = os.open(f"{self.dir}/log/host.{name}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
            for fd, source in ((0, os.open(os.devnull, os.O_RDONLY)), (1, log), (2, log)):
                os.dup2(source, fd)
            group = self.spec["cgroup"]
            if group:
                _enter_cgroups(f"{group}/{name}")
            _call("unshare", NEWNS | NEWUTS | NEWIPC | NEWNET | (NEWCGROUP if group else 0))
            os.write(tell_ready, b"r")
            if os.read(wait_go, 1) == b"g":
                os.execv(sys.executable, [sys.executable, "-ES", os.path.join(HERE, "keeper.py"), "--host", name, self.dir])
        except OSError as e:
            print(f"host {name}: {e}", file=sys.stderr, flush=True)
        finally:
            os._exit(1)

    def ended(self, pid):
        """Must be called with the pid of each reaped child. Returns the name of the host whose first process it was, or None."""
        for name, first in list(self.pids.items()):
            if first == pid:
                del self.pids[name]
                self._link(f"link del {name}")      # now, so that it can boot again at once; the kernel removes it later
                return name
        return None

    def kill(self, name):
        """Power failure. Takes the link down first, so that the dying processes' connections are not closed in order."""
        if name not in self.pids:
            return {"error": f"{name} is off"}
        pid = self.pids[name]
        self._link(f"link set {name} down")
        os.kill(pid, signal.SIGKILL)
        deadline = time.monotonic() + DEATH
        while os.waitpid(pid, os.WNOHANG)[0] != pid:      # waitpid() succeeds when no other process of the host is left
            if time.monotonic() > deadline:
                return {"error": f"{name}: its processes did not end within {DEATH:g} s"}
            time.sleep(0.005)
        self.ended(pid)
        return {}

    def cut(self, name):
        if name in self.unplugged:
            return {"error": f"the link of {name} is cut already"}
        self.unplugged.add(name)
        if name in self.pids:
            _ip(f"link set {name} down")
        return {}

    def heal(self, name):
        if name not in self.unplugged:
            return {"error": f"the link of {name} is not cut"}
        self.unplugged.discard(name)
        if name in self.pids:
            _ip(f"link set {name} up")
        return {}

    @staticmethod
    def _link(command):
        """Ignores errors: the link of a host that has just ended, or whose boot failed, may be gone."""
        try:
            _ip(command)
        except OSError:
            pass


# --- in the first process of a host -------------------------------------------------------------------------------------------

def _mount_shared(directory, disk):
    """Makes DIR a mount of its own. The directories of KEPT are mounted twice: in DIR, and in an empty file system below it, which appears
    when DIR is unmounted. (Below a plain bind mount the same files would appear.)"""
    shared = os.open(directory, os.O_PATH)
    source = f"/proc/self/fd/{shared}"
    kept = {n: disk if n == "local" else f"{directory}/{n}" for n in KEPT if os.path.isdir(f"{directory}/{n}")}
    sources = {n: os.open(path, os.O_PATH) for n, path in kept.items()}
    _call("mount", "lost", directory, "tmpfs", MS_NOSUID | MS_NODEV, "size=64k,mode=755")
    for turn in ("below", "above"):
        if turn == "above":
            _call("mount", None, directory, None, MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NODEV, None)
            _call("mount", source, directory, None, MS_BIND, None)
        for sub, fd in sources.items():
            if turn == "below":
                os.mkdir(f"{directory}/{sub}")
            _call("mount", f"/proc/self/fd/{fd}", f"{directory}/{sub}", None, MS_BIND, None)
    for fd in (shared, *sources.values()):
        os.close(fd)


def _new_boot_id():
    with open("/proc/sys/kernel/random/uuid", encoding="ascii") as f:
        text = f.read()
    with open("/run/boot_id", "w", encoding="ascii") as f:
        f.write(text)
    os.chmod("/run/boot_id", 0o444)
    _call("mount", "/run/boot_id", BOOT_ID, None, MS_BIND, None)


def become(name, directory, spec):
    """Sets up the namespaces of this process as a host: name, mounts, network. spec: as for Hosts."""
    disk = f"{directory}/host/{name}"
    _call("sethostname", name, len(name))
    _call("mount", None, "/", None, MS_REC | MS_PRIVATE, None)
    _call("mount", "proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, None)
    _call("mount", "run", "/run", "tmpfs", MS_NOSUID | MS_NODEV, "mode=755")
    _call("mount", "shm", "/dev/shm", "tmpfs", MS_NOSUID | MS_NODEV, "mode=1777")
    for sub, mode in (("munge", 0o755), ("lock", 0o1777)):
        os.mkdir(f"/run/{sub}")
        os.chmod(f"/run/{sub}", mode)
    _new_boot_id()
    _mount_shared(directory, disk)
    _call("mount", f"{disk}/tmp", "/tmp", None, MS_BIND, None)
    _call("mount", f"{directory}/etc/hosts", "/etc/hosts", None, MS_BIND, None)
    # Hides the disks of other hosts.
    _call("mount", "disks", f"{directory}/host", "tmpfs", MS_NOSUID | MS_NODEV | MS_RDONLY, "size=4k,mode=755")
    if spec["cgroup"]:
        _remount_cgroups()
    with open("/proc/sys/net/ipv4/ip_forward", "w", encoding="ascii") as f:     # for jobs with a network of their own
        f.write("1")
    _ip("link set lo up", f"addr add {spec['hosts'][name]['address']}/24 dev eth0", "link set eth0 up")
