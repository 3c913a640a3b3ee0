"""One test of ZDTM through plain criu, or through a pod of fsched. Each run has a directory and a network namespace of its own."""
import ctypes
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "bench"))
from pod import BUILD, Failed, criu, ended, wait_for  # noqa: E402,F401

USER = "nobody"
HERE = Path(__file__).resolve().parent
CLONE_NEWNET = 0x40000000
PASS, FAIL, NO_START = "pass", "fail", "no start"
CRFAIL = "crfail"     # plain criu has refused, as its own runner expects
REFUSED, LATE, NO_RESTORE = "refused", "after freeze", "no restore"     # before the freeze; in or after it; the epoch is there


class Place:
    """What all runs share: programs that an ordinary user can reach, and a configuration."""

    def __init__(self, where, limit):
        self.dir, self.limit = Path(tempfile.mkdtemp(prefix="fscheck-zdtm.", dir=where)), limit
        self.dir.chmod(0o755)
        shutil.copytree(BUILD / "stage", self.dir / "stage", symlinks=True)
        shutil.copytree(BUILD / "criu", self.dir / "criu", symlinks=True)
        self.preload = self.dir / "stage/usr/libexec/fsched/libfsched-criu.so"
        (self.dir / "fsched.conf").write_text(f"CheckpointType = checkpoint/criu\nCriuPath = {self.dir}/criu\nPodDir = {self.dir}/pod\nPodNetwork = host\n")

    def close(self):
        shutil.rmtree(self.dir, ignore_errors=True)


def own_network():
    """Tests use fixed ports, and what lingers of one run must not be in the way of the next."""
    if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "unshare")
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    Path("/proc/sys/net/ipv4/ping_group_range").write_text("0 2147483647")


def last_lines(path, n=2):
    try:
        return " / ".join(path.read_text(errors="replace").strip().splitlines()[-n:])
    except OSError:
        return ""


class Run:
    """A test in its directory. result and said tell how it went."""

    def __init__(self, place, test):
        self.place, self.test, self.limit = place, test, place.limit
        self.root = test.has("suid")
        self.dir = Path(tempfile.mkdtemp(prefix="t.", dir=place.dir))      # short: the name of a socket has 107 bytes
        self.dir.chmod(0o755)
        self.work = self.dir / "work"
        self.work.mkdir()
        for name in (test.name, "hold.sh"):
            shutil.copy(test.program if name == test.name else HERE / name, self.work / name)
        self.out = self.work / "held.out"
        self.out.touch()
        if self.root:
            self.work.chmod(0o777)      # some become other users, and write there then
        else:
            for f in (self.work, self.out):
                shutil.chown(f, USER, "nogroup")
        self.p = None

    def env(self):
        return {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "TMPDIR": "/tmp", "ENV_00_TEST": "0", "FSCHED_CONF": str(self.place.dir / "fsched.conf"),
                **({} if self.root else {"ZDTM_ROOTLESS": "1"})}

    def command(self):
        return ["/bin/sh", "hold.sh", self.test.pidfile, *self.test.command]

    def popen(self, argv, out=None):
        with open(out or self.out, "ab") as f:
            self.p = subprocess.Popen(list(map(str, argv)), cwd=self.work, env=self.env(), stdin=subprocess.DEVNULL, stdout=f, stderr=subprocess.STDOUT,
                                      start_new_session=True, umask=0o022)

    def call(self, argv):
        try:
            done = subprocess.run(list(map(str, argv)), cwd=self.work, env=self.env(), stdin=subprocess.DEVNULL, capture_output=True, text=True,
                                  errors="replace", timeout=3 * self.limit, check=False)
        except subprocess.TimeoutExpired:
            return -1, f"{argv[1]} took longer than {3 * self.limit} s"
        return done.returncode, (done.stdout + done.stderr).strip()

    def started(self):
        wait_for(lambda: (self.work / "held").exists() or self.p.poll() is not None, "the start", self.limit)
        if not (self.work / "held").exists():
            raise Failed(last_lines(self.out) or last_lines(self.work / (self.test.outfile + ".inprogress")))

    def verdict(self):
        """Tells the test to check, and waits for its end."""
        (self.work / "stop").touch()
        try:
            wait_for(lambda: self.p.poll() is not None, "the end of the test", self.limit)
        except Failed as e:
            return FAIL, str(e)
        out = self.work / self.test.outfile
        if "PASS" in last_lines(out, 1).split():
            return PASS, ""
        return FAIL, last_lines(out) or last_lines(out.with_name(out.name + ".inprogress")) or f"ended with {self.p.returncode}, without a word"

    def go(self):
        """(result, what was said)"""
        own_network()
        start = time.monotonic()
        try:
            result, said = self.steps()
        except Failed as e:
            result, said = NO_START, str(e)
        finally:
            self.end()
        return {"result": result, "said": said.replace(str(self.work) + "/", "").replace(str(self.dir), "DIR"), "seconds": round(time.monotonic() - start, 1)}

    def steps(self):
        raise NotImplementedError

    def kill(self):
        if self.p and self.p.poll() is None:
            os.killpg(self.p.pid, signal.SIGKILL)
        if self.p:
            self.p.wait()

    def end(self):
        self.kill()
        shutil.rmtree(self.dir, ignore_errors=True)


class Plain(Run):
    """criu alone, as ZDTM's own runner calls it: dump, restore. The namespaces are those that a pod has."""
    SPACES = ("unshare", "--pid", "--mount", "--ipc", "--fork", "--kill-child", "--mount-proc")
    FLAGS = ("-v2", "--manage-cgroups=ignore", "--network-lock", "skip")

    def criu(self, action, *argv):
        given = self.test.criu_options("dopts" if action == "dump" else "ropts")
        flags = self.FLAGS[:2] if "--network-lock" in given else self.FLAGS
        return criu(self.place.dir / "criu", self.place.preload, action, "-D", self.dir / "images", "-o", f"{action}.log", *argv, flags=(*flags, *given))

    def error(self, action):
        log = self.dir / f"images/{action}.log"
        lines = [line for line in log.read_text(errors="replace").splitlines() if "Error" in line] if log.exists() else []
        return " / ".join([line for line in lines if "RLIMIT_NOFILE" not in line][:2])     # criu goes on after that one

    def inside(self, *argv):
        """What else runs there, the other ends of the test's connections for example, is left alone."""
        return self.call(["nsenter", "-t", self.init, "-p", "-m", *self.criu(*argv)])

    def steps(self):
        (self.dir / "images").mkdir()
        become = () if self.root else ("setpriv", f"--reuid={USER}", "--regid=nogroup", "--clear-groups")
        self.popen([*self.SPACES, *become, *self.command()])
        self.started()
        with open(f"/proc/{self.p.pid}/task/{self.p.pid}/children", encoding="ascii") as f:
            self.init = f.read().split()[0]
        rc, said = self.inside("dump", "-t", (self.work / self.test.pidfile).read_text().strip())
        if rc:
            return (CRFAIL if self.test.has("crfail") else LATE), self.error("dump") or said
        rc, said = self.inside("restore", "-d")
        return (NO_RESTORE, self.error("restore") or said) if rc else self.verdict()


class Alone(Run):
    """In a pod, without a checkpoint."""

    def fsched(self, *argv):
        return [self.place.dir / "stage/usr/bin/fsched", "pod", *argv]

    def start(self):
        self.state = self.dir / "state"
        self.popen(self.fsched("run", "--dir", self.state, *(() if self.root else ("--user", USER)), "--", *self.command()))
        self.started()

    def steps(self):
        self.start()
        return self.verdict()

    def checkpoint(self, *options):
        """None if it was made."""
        rc, said = self.call(self.fsched("checkpoint", *options, self.state))
        if not rc:
            return None
        said = said.replace("fsched pod checkpoint: ", "").replace("no checkpoint was made, the command runs on: ", "")
        return (LATE if (self.state / "dump.log").exists() else REFUSED), said

    def kill(self):
        if self.p and self.p.poll() is None:
            self.call(self.fsched("kill", self.state))
        super().kill()


class Create(Alone):
    """A checkpoint, and the test goes on."""

    def steps(self):
        self.start()
        return self.checkpoint() or self.verdict()


class Restore(Alone):
    """A checkpoint, the end, a restore."""

    def steps(self):
        self.start()
        failed = self.checkpoint("--kill")
        if failed:
            return failed
        wait_for(lambda: self.p.poll() is not None, "the end of the pod", self.limit)
        out = self.work / "restore.out"
        self.popen(self.fsched("restore", self.state), out)
        wait_for(lambda: "restored from" in last_lines(out, 9) or self.p.poll() is not None, "fsched pod restore", 2 * self.limit)
        if "restored from" not in last_lines(out, 9):
            return NO_RESTORE, last_lines(out, 3).replace("fsched pod restore: ", "")
        return self.verdict()


MODES = {"plain": Plain, "create": Create, "restore": Restore, "alone": Alone}


def run(place, test, modes):
    """A row: the results by mode. What fails after a create is run once more without one."""
    row = {"test": test.name, "user": "root" if test.has("suid") else USER, "flags": test.desc.get("flags", "")}
    for mode in modes:
        try:
            row[mode] = MODES[mode](place, test).go()
        except (OSError, Failed) as e:     # the other tests are wanted too
            row[mode] = {"result": "broken", "said": f"{type(e).__name__}: {e}", "seconds": 0}
    if row.get("create", {}).get("result") in (FAIL, NO_START):
        row["alone"] = Alone(place, test).go()
    return row
