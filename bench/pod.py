"""A load (bench/load.c) in a pod, or under Slurm, and what it loses while something is done to it."""
import collections
import json
import mmap
import os
import shutil
import signal
import statistics
import struct
import subprocess
import tempfile
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BUILD = Path(os.environ.get("FSCHED_BUILD", ROOT / "build"))
MIB = 1 << 20
MADV_POPULATE_WRITE = 23


class Failed(Exception):
    """What is to stand in the table instead of a number."""


def wait_for(condition, what, seconds=120):
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise Failed(f"{what} took longer than {seconds} s")
        time.sleep(0.002)


def meminfo(key):
    """In MiB."""
    with open("/proc/meminfo", encoding="ascii") as f:
        return next(int(line.split()[1]) for line in f if line.startswith(key + ":")) / 1024


def ended(*_):
    """A signal: so that what is "finally" is done."""
    raise SystemExit("ended")


class Group:
    """Cgroups of the benchmark's own: they tell how much memory it has that cannot be dropped, all processes and tmpfs together, and let it
    have more of the processors than others on a shared machine. Without them the machine's memory is looked at, and others count too."""
    WEIGHT = 64     # times that of any other

    def __init__(self):
        self.dirs = {}         # ours: where we were
        self.stat, self.keys = None, ()
        own = dict(line.strip().split(":", 2)[1:] for line in open("/proc/self/cgroup", encoding="ascii"))
        try:
            if "memory" in own:      # version 1
                self.stat, self.keys = self.enter("/sys/fs/cgroup/memory", own["memory"]) / "memory.stat", (b"total_rss", b"total_shmem")
                (self.enter("/sys/fs/cgroup/cpu", own["cpu"]) / "cpu.shares").write_text(str(1024 * self.WEIGHT))
            else:
                ours = self.enter("/sys/fs/cgroup", own[""], "/")
                self.stat, self.keys = ours / "memory.stat", (b"anon", b"shmem")
                (ours / "cpu.weight").write_text(str(100 * self.WEIGHT))
            self.memory()
        except (OSError, KeyError) as e:
            print(f"no cgroups of the benchmark's own, so others on the machine disturb more: {e}")
            self.stat = None

    def enter(self, mount, home, below=None):
        ours = Path(mount + (below or home)) / f"fscheck-bench.{os.getpid()}"
        ours.mkdir()
        self.dirs[ours] = Path(mount + home)
        (ours / "cgroup.procs").write_text(str(os.getpid()))
        return ours

    def memory(self):
        """In MiB."""
        if not self.stat:
            return meminfo("AnonPages") + meminfo("Shmem")
        text = dict(line.split() for line in self.stat.read_bytes().splitlines())
        return sum(int(text[k]) for k in self.keys) / MIB

    def close(self):
        """After the end of all processes."""
        def gone(path):
            try:
                path.rmdir()
            except OSError:
                return not path.exists()
            return True
        for ours, home in self.dirs.items():
            (home / "cgroup.procs").write_text(str(os.getpid()))
            wait_for(lambda path=ours: gone(path), f"removing {ours}", 20)
        self.dirs = {}


def warm(mib):
    """Takes so much memory and gives it back, at once; returns the seconds. The host of a virtual machine takes back what is free there within seconds, and
    gives it again slowly (here 0.7 to 17 s for 2 GiB): without this a restore is as fast as the host was just then."""
    m = mmap.mmap(-1, mib * MIB, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    start = time.monotonic()
    m.madvise(MADV_POPULATE_WRITE)
    took = time.monotonic() - start
    m.close()
    return took


class Board:
    """struct board of load.c."""
    FIELDS = ("ready", "stop", "wanted", "longest", "longest_end", "last")

    def __init__(self, path):
        self.path = path

    def get(self):
        d = self.path.read_bytes()
        values = dict(zip(self.FIELDS, struct.unpack_from("<6Q", d)))
        values["work"] = sum(struct.unpack_from("<Q", d, at)[0] for at in range(64, len(d), 64))
        return values

    def set(self, field, value):
        with open(self.path, "r+b", buffering=0) as f:
            f.seek(8 * self.FIELDS.index(field))
            f.write(struct.pack("<Q", value))

    def rate(self, seconds):
        """Work per second."""
        start, work = time.monotonic(), self.get()["work"]
        time.sleep(seconds)
        return (self.get()["work"] - work) / (time.monotonic() - start)


Point = collections.namedtuple("Point", "time work memory run wait")     # s, units, MiB, s of processor time, s of waiting for a processor


class Sampler(threading.Thread):
    """Points every 10 ms, until stop(). memory: a function; pids: the job's processes."""

    def __init__(self, board, memory, pids):
        super().__init__(daemon=True)
        self.board, self.memory, self.points, self.ended = board, memory, [], threading.Event()
        self.files = [path for pid in pids for path in Path(f"/proc/{pid}/task").glob("*/schedstat")]
        self.start()

    def point(self):
        run = wait = 0
        for path in self.files:
            try:
                r, w, _ = path.read_text().split()
            except OSError:
                continue
            run, wait = run + int(r), wait + int(w)
        return Point(time.monotonic(), self.board.get()["work"], self.memory(), run / 1e9, wait / 1e9)

    def run(self):
        while True:
            self.points.append(self.point())
            if self.ended.wait(0.01):
                break

    def stop(self):
        self.ended.set()
        self.join()
        return self.points


def between(points, start, end):
    """What happened in that time, as a point; None if it is too short to tell."""
    p = [x for x in points if start <= x.time <= end]
    return Point(*(b - a for a, b in zip(p[0], p[-1]))) if len(p) > 5 else None


class Bench:
    """A directory with everything that a load needs, its parts of the machine, and their end."""

    def __init__(self, where="/var/tmp"):
        signal.signal(signal.SIGTERM, ended)
        self.dir = Path(tempfile.mkdtemp(prefix="fscheck-bench.", dir=where))
        self.dir.chmod(0o755)
        self.group = None
        try:
            self.make()
        except BaseException:
            self.close()
            raise

    def make(self):
        shutil.copytree(BUILD / "stage", self.dir / "stage", symlinks=True)
        shutil.copytree(BUILD / "criu", self.dir / "criu", symlinks=True)
        subprocess.run(["gcc", "-O2", "-o", self.dir / "load", ROOT / "bench/load.c", "-pthread", "-lm"], check=True)
        self.criu = self.dir / "criu", self.dir / "stage/usr/libexec/fsched/libfsched-criu.so"
        self.ram = self.dir / "ram"
        self.ram.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=755,size=90%", "fscheck-bench", self.ram], check=True)
        self.group = Group()

    def conf(self, *lines):
        """Path of a configuration with these lines."""
        text = "\n".join(["CheckpointType = checkpoint/criu", f"CriuPath = {self.dir}/criu", f"PodDir = {self.dir}/pod",
                          *(() if any(line.startswith("PodNetwork") for line in lines) else ("PodNetwork = host",)), *lines, ""])
        path = self.dir / f"fsched.{len(list(self.dir.glob('fsched.*.conf')))}.conf"
        path.write_text(text)
        return path

    def running(self, program=""):
        """Pids of this benchmark's programs, or of one of them."""
        found = []
        for pid in (int(d) for d in os.listdir("/proc") if d.isdigit()):
            try:
                if os.readlink(f"/proc/{pid}/exe").startswith(f"{self.dir}/{program}"):
                    found.append(pid)
            except OSError:
                pass
        return found

    def close(self):
        """Never fails: there may be a reason for it that is not to be hidden."""
        for pid in self.running():
            try:
                os.kill(pid, signal.SIGKILL)
            except OSError:
                pass
        try:
            wait_for(lambda: not self.running(), "the end of the benchmark's processes", 20)
            if self.group:
                self.group.close()
        except (Failed, OSError) as e:
            print(f"left behind: {e}")
        if (self.dir / "ram").is_mount():
            subprocess.run(["umount", "-l", self.dir / "ram"], check=False)
        shutil.rmtree(self.dir, ignore_errors=True)


FLAGS = ("-v2", "--manage-cgroups=ignore", "--file-locks", "--link-remap")
BEFORE, AFTER_MAX = 2, 5     # seconds


def criu(directory, preload, *argv, flags=FLAGS):
    """criu as get-criu.sh has put it there. The library gives it what root lacks on some machines; memory it leaves alone unless told."""
    return [f"{directory}/ld.so", "--library-path", f"{directory}/lib", "--preload", str(preload), f"{directory}/criu", *map(str, argv), *flags]


def criu_dump(directory, preload, init, images):
    """Stock criu saves what runs in the pod of this init, and lets it run on."""
    return ["nsenter", "-t", str(init), "-p", "-m", *criu(
        directory, preload, "dump", "-t", "2", "-D", images, "-o", "dump.log", "--leave-running", "--tcp-established", "--network-lock", "skip",
        "--ghost-limit", "1G")]


class Pod:
    """A load in a pod. argv: load's, without the board; the last is its MiB."""
    number = 0

    def __init__(self, bench, argv, conf, processes=1):
        Pod.number += 1
        self.bench, self.env = bench, {**os.environ, "FSCHED_CONF": str(conf)}
        self.dir = bench.dir / f"job{Pod.number}"
        self.dir.mkdir()
        self.state, self.out = self.dir / "state", self.dir / "out"
        self.board = Board(bench.ram / f"board{Pod.number}")
        self.mib = int(argv[-1])
        self.held = None       # the process that holds a job which stock criu has restored
        self.p = self.start("run", "--dir", self.state, "--", bench.dir / "load", *argv, self.board.path)
        wait_for(lambda: self.alive() and self.board.path.exists() and self.board.path.stat().st_size and self.board.get()["ready"] == processes,
                 "filling the job's memory", 300)
        self.init = json.loads((self.state / "pod.json").read_text())["init_pid"]

    def alive(self):
        if self.p.poll() is not None:
            raise Failed(f"the job has ended with {self.p.returncode}: {self.out.read_text()[-300:].strip()}")
        return True

    def start(self, *argv):
        with open(self.out, "ab") as f:
            return subprocess.Popen([self.bench.dir / "stage/usr/bin/fsched", "pod", *map(str, argv)], env=self.env, stdin=subprocess.DEVNULL,
                                    stdout=f, stderr=subprocess.STDOUT, cwd=self.dir)

    def processes(self):
        """Pids of the load."""
        found = []
        for pid in self.bench.running("load"):
            try:
                if os.readlink(f"/proc/{pid}/cwd") == str(self.dir):
                    found.append(pid)
            except OSError:
                pass
        return found

    def call(self, argv):
        """Runs it; returns the seconds of processor time that it and its children took."""
        said = self.dir / "said"
        with open(said, "wb") as f:
            p = subprocess.Popen(list(map(str, argv)), env=self.env, stdin=subprocess.DEVNULL, stdout=f, stderr=subprocess.STDOUT)
            _, status, used = os.wait4(p.pid, 0)
            p.returncode = os.waitstatus_to_exitcode(status)
        if p.returncode:
            raise Failed(f"{Path(argv[0]).name} {argv[1] if argv[0] != 'nsenter' else 'criu'}: " + (said.read_text().strip() or "failed")[-300:])
        return used.ru_utime + used.ru_stime

    # -- what is done to it

    def fsched(self, *options):
        """A checkpoint by fsched."""
        cpu = self.call([self.bench.dir / "stage/usr/bin/fsched", "pod", "checkpoint", *options, self.state])
        epoch = sorted(self.state.glob("epochs/0*"))[-1]
        self.manifest = json.loads((epoch / "manifest.json").read_text())
        stored = sum(f.stat().st_size for f in epoch.rglob("*") if f.is_file() and f.stat().st_nlink == 1)
        return {"cpu_s": cpu, "bytes": stored, "method": self.manifest.get("memory", {}).get("method", "criu"),
                "tracking": self.manifest.get("memory", {}).get("tracking", "none")}

    def stock(self, images, durable):
        """A dump by criu alone. durable: until it is on the disk, as fsched's are."""
        shutil.rmtree(images, ignore_errors=True)
        images.mkdir()
        try:
            cpu = self.call(criu_dump(*self.bench.criu, self.init, images))
        except Failed as e:
            log = (images / "dump.log").read_text(errors="replace") if (images / "dump.log").exists() else ""
            raise Failed(f"{e} " + " / ".join(line for line in log.splitlines() if "Error" in line)[-300:]) from None
        if durable:
            for f in images.iterdir():
                with open(f, "rb") as h:
                    os.fsync(h.fileno())
        return {"cpu_s": cpu, "bytes": sum(f.stat().st_size for f in images.iterdir())}

    def rewrite(self, pages):
        self.board.set("wanted", pages)
        wait_for(lambda: not self.board.get()["wanted"], "rewriting pages")

    # -- what that costs

    def cost(self, action, tail=0.5):
        """What the job sees while action runs, and a little longer: a dictionary. The undisturbed speed is that of BEFORE seconds right
        before it and of as long as it took, at most AFTER_MAX, right after it."""
        sampler = Sampler(self.board, self.bench.group.memory, self.processes())
        try:
            time.sleep(BEFORE)
            self.board.set("longest", 0)
            start = time.monotonic()
            r = action()
            end = time.monotonic()
            time.sleep(tail)
            b, after = self.board.get(), time.monotonic()
            self.alive()
            time.sleep(min(max(end - start, 1), AFTER_MAX))
        finally:
            points = sampler.stop()
        calm = [between(points, 0, start), between(points, after, float("inf"))]
        calm = Point(*(a + b for a, b in zip(*calm)))
        speed, during, drain = calm.work / calm.time, between(points, start, after), between(points, b["longest_end"] / 1e6, end)
        r |= {"freeze_ms": b["longest"] / 1000, "lost_ms": 1000 * (during.time - during.work / speed), "total_s": end - start,
              "extra_mib": max(p.memory for p in points if start <= p.time <= after) - points[0].memory, "slow_drain": None}
        if drain:
            # Slower because it waits for a processor more than before, or because a second of a processor gets less done.
            r |= {"slow_drain": 1 - drain.work / drain.time / speed, "drain_s": drain.time,
                  "drain_less_cpu": 1 - drain.run / drain.time / (calm.run / calm.time),
                  "drain_slower_cpu": 1 - drain.work / max(drain.run, 1e-3) / (calm.work / calm.run)}
        return r

    def freeze(self, action):
        """The pause alone, ms."""
        self.board.set("longest", 0)
        action()
        time.sleep(0.05)
        return self.board.get()["longest"] / 1000

    # -- the way back

    def ticks_again(self, start, p, what):
        """Seconds from start to the first ticks. criu restores the job's clock too, so what the ticks say is of no use, only that they
        change, more often than by a rollback of the file."""
        seen = {self.board.get()["last"]}

        def back():
            if p.poll() is not None:
                raise Failed(f"{what}: {self.out.read_text(errors='replace')[-300:].strip()}")
            seen.add(self.board.get()["last"])
            return len(seen) > 3
        wait_for(back, what, 300)
        return time.monotonic() - start

    def end(self):
        """The job is gone, its epochs are there."""
        if self.held:
            os.killpg(self.held.pid, signal.SIGKILL)
            self.held.wait()
            self.held = None
        if self.p.poll() is None:
            p = subprocess.run([self.bench.dir / "stage/usr/bin/fsched", "pod", "kill", self.state], env=self.env, check=False, capture_output=True, text=True)
            wait_for(lambda: self.p.poll() is not None, f"the end of the pod ({p.stdout}{p.stderr})", 60)
        wait_for(lambda: not self.processes(), "the end of the job", 60)

    def restore(self):
        """Seconds from the command to the job's first tick; from the disk."""
        self.end()
        forget(self.state)
        warm(self.mib + self.mib // 8)
        start = time.monotonic()
        self.p = self.start("restore", self.state)
        took = self.ticks_again(start, self.p, "fsched pod restore")
        wait_for(lambda: "restored from" in self.out.read_text(errors="replace"), "fsched pod restore", 60)
        return took

    def restore_stock(self, images):
        """The same by criu alone, in an empty pid namespace."""
        self.end()
        forget(images)
        warm(self.mib + self.mib // 8)
        command = " ".join(criu(*self.bench.criu, "restore", "-d", "-D", images, "-o", "restore.log", "--tcp-established"))
        start = time.monotonic()
        with open(self.out, "ab") as f:
            self.held = subprocess.Popen(["unshare", "--pid", "--mount", "--ipc", "--fork", "--kill-child", "--mount-proc", "/bin/sh", "-c",
                                          f"echo 9000 > /proc/sys/kernel/ns_last_pid; {command} && while [ -e /proc/2 ]; do sleep 0.2; done"],
                                         stdin=subprocess.DEVNULL, stdout=f, stderr=subprocess.STDOUT, start_new_session=True, cwd=self.dir)
        return self.ticks_again(start, self.held, "criu restore")

    def remove(self):
        self.end()
        shutil.rmtree(self.dir, ignore_errors=True)
        self.board.path.unlink(missing_ok=True)


def forget(directory):
    """Drops the files' pages from the cache, where they are on a disk and written."""
    for path in Path(directory).rglob("*"):
        if path.is_file() and not path.is_symlink():
            fd = os.open(path, os.O_RDONLY)
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(fd)


def medians(rounds):
    """Of dictionaries with the same numbers."""
    values = {k: [r[k] for r in rounds if isinstance(r.get(k), (int, float))] for k in rounds[-1]}
    return {k: statistics.median(v) for k, v in values.items() if v}
