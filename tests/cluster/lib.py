"""Private clusters for tests: starts and stops them with lab/, submits jobs as an ordinary user, reads the results.

No sleeps of a guessed length: wait_for() polls a condition until a deadline and then fails with the logs."""
import json
import os
import pwd
import re
import secrets
import select
import shlex
import subprocess
import sys
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
STAGE = Path(os.environ.get("FSCHED_STAGE", ROOT / "build" / "stage"))
USER = "fschedtest"
sys.path.insert(0, str(ROOT / "lab"))
import lab  # noqa: E402
import multi  # noqa: E402
DEADLINE = 60 * float(os.environ.get("FSCHED_TEST_SLOWNESS", "1"))


# Slurm also shows flags such as SIGNALING or COMPLETING in the place of a state
ENDED = ("BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED", "TIMEOUT")


class Timeout(AssertionError):
    pass


def wait_for(condition, what, deadline=DEADLINE, poll=0.05):
    """Returns the first true value of condition(); raises Timeout after deadline seconds. A condition that takes long, such as a command of
    Slurm's, is tried less often: it must not take the processors from what it waits for."""
    end = time.monotonic() + deadline
    while True:
        begun = time.monotonic()
        value = condition()
        if value:
            return value
        now = time.monotonic()
        if now > end:
            raise Timeout(f"waited {deadline:.0f} s for {what() if callable(what) else what}")
        time.sleep(max(poll, min(2 * (now - begun), 1)))


def hurry(d):
    """Ends the pauses of the job in that directory. Jobs have more steps than a loaded machine can run during a test; this lets them end
    soon after it. (workload.h, and the scripts of the tests)"""
    (d / "hurry").touch()


def alive(pid):
    """True while the process exists and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def program(pid):
    """Path of the process's program, "" if it has ended."""
    try:
        return os.readlink(f"/proc/{pid}/exe")
    except OSError:
        return ""


def command(pid):
    """Words of its command line, [] if it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return []


def children(pid):
    try:
        return [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []


def descendants(pid):
    found = []
    for child in children(pid):
        found += [child] + descendants(child)
    return found


def comm(pid):
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def cpu_time(pid):
    """CPU seconds of all its threads, 0 if it has ended."""
    try:
        user, system = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[11:13]
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def parse_checkpoint(text):
    """The members of the Checkpoint={…} entry of an AdminComment, or None."""
    m = re.search(r"Checkpoint=\{([^}]*)\}", text or "")
    if not m:
        return None
    return {k: v.strip('"') for k, v in re.findall(r'(\w+)=("[^"]*"|\S*)', m.group(1))}


class JobQuery:
    """Asks slurmctld for one job after the other in a process that stays (slurm_query.c)."""

    def __init__(self, c):
        program = c.dir / "slurm_query"
        if not program.exists():
            subprocess.run(["gcc", "-O1", "-o", program, ROOT / "tests/cluster/slurm_query.c", "-lslurm"], check=True)
        argv, cwd = c.lab.enter([str(program)])
        self.p = subprocess.Popen(argv, env=c.environment(), cwd=cwd, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)

    def ask(self, job, timeout):
        """The lines of the answer; None if the process has ended or does not answer."""
        try:
            self.p.stdin.write(b"%d\n" % job)
            self.p.stdin.flush()
        except OSError:
            return None
        answer = b""
        end = time.monotonic() + timeout
        while answer != b".\n" and not answer.endswith(b"\n.\n"):
            ready = select.select([self.p.stdout], [], [], max(0, end - time.monotonic()))[0]
            more = os.read(self.p.stdout.fileno(), 65536) if ready else b""
            if not more:
                return None
            answer += more
        return answer.decode(errors="replace").splitlines()[:-1]

    def end(self):
        self.p.kill()
        self.p.wait()
        self.p.stdin.close()
        self.p.stdout.close()


POD_BASES = []           # directories of pods without Slurm that this process has made
CGROUP_NODES = set()     # nodes for which slurmd made cgroups, which are named after them and not after the cluster


class Cluster:
    """A private cluster. conf: lines "Key=Value" for fsched.conf; more: members of lab.Options.

    With hosts=N it has simulated hosts n1 to nN and ctl. Commands run on ctl unless they say host=. Without it has one node, t1 (of another name with
    proctrack="cgroup")."""

    def __init__(self, directory, conf=(), **more):
        # Slurm names cgroups after the node, so that clusters at the same time would share those of t1.
        alone = more.get("proctrack") == "cgroup" and not more.get("hosts")
        name = f"t{secrets.token_hex(3)}n" if alone else "t"
        self.lab = lab.Lab.up(lab.Options(dir=str(directory), name=name, cpus=more.pop("cpus", 16), users=[USER],
                                      stage=str(STAGE), fsched_conf=["CheckpointMinInterval=0:01", *conf], **more))
        if alone:
            CGROUP_NODES.update(self.lab.node_names())
        self.dir = Path(self.lab.dir)
        self.slurm_conf = self.lab.conf
        self.path = self.lab.environment()["PATH"]
        self.query = None
        self.query_lock = threading.Lock()

    def down(self):
        """Ends the cluster and returns a list of problems."""
        self.end_query()
        return self.lab.down()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        """Ends the cluster: nothing may be amiss."""
        amiss = self.down()
        assert not amiss, amiss

    def daemon_pid(self, name):
        return self.lab.daemon_pid(name)

    def conf(self):
        return Path(self.slurm_conf).with_name("fsched.conf")

    def munge_socket(self):
        return Path(self.lab.munge_socket)

    # -- simulated hosts (hosts=N) ------------------------------------------
    def kill_node(self, host):
        """Power failure. When this returns no process of the host runs."""
        self.lab.kill(host)

    def up(self, host, deadline=DEADLINE):
        """Boots a host after kill_node(). Returns when Slurm considers it alive or, if they cannot reach each other, when its daemons run."""
        self.lab.boot(host, deadline)

    def cut(self, host):
        """Cuts the host's link."""
        self.lab.cut(host)

    def heal(self, host):
        self.lab.heal(host)

    def ro(self, host):
        """Makes the cluster file system (self.dir) read-only on one host, except for open files and existing pods."""
        self.lab.ro(host)

    def rw(self, host):
        self.lab.rw(host)

    def umount(self, host):
        """Unmounts the cluster file system on one host and in its pods, until up() after kill_node()."""
        self.lab.umount(host)

    def boot_id(self, host):
        return self.exec(host, "cat", "/proc/sys/kernel/random/boot_id").stdout.strip()

    def exec(self, host, *argv, user="root", **kw):
        """Runs a command on the host and returns the CompletedProcess (text)."""
        return self.run(*argv, user=user, host=host, **kw)

    def node_state(self, node):
        """State of the node as printed by sinfo: idle, allocated, down* ..."""
        return self.ok("sinfo", "-h", "-n", node, "-o", "%T", user="root").strip()

    def wait_node(self, node, *states, deadline=DEADLINE):
        try:
            return wait_for(lambda: (lambda s: s if s in states else None)(self.node_state(node)), f"{node} to be {states}", deadline)
        except Timeout as e:
            raise Timeout(f"{e}; it is {self.node_state(node)}\n{self.logs()}") from None

    # -- commands -----------------------------------------------------------
    def environment(self):
        return {"PATH": self.path, "SLURM_CONF": self.slurm_conf, "LANG": "C.UTF-8"}

    def run(self, *argv, user=USER, cwd=None, env=None, stdin=None, timeout=DEADLINE * 2, host=None):
        """Runs a command with the cluster's environment; returns the CompletedProcess (text)."""
        base = {**self.environment(), **(env or {})}
        argv = [str(a) for a in argv]
        if user != "root":
            pw = pwd.getpwnam(user)
            base.update(HOME=pw.pw_dir, USER=user, LOGNAME=user)
            argv = ["setpriv", f"--reuid={pw.pw_uid}", f"--regid={pw.pw_gid}", "--init-groups", "--"] + argv
        argv, cwd = self.lab.enter(argv, str(cwd or "/"), **({"host": host} if host else {}))
        return subprocess.run(argv, env=base, cwd=cwd, text=True, input=stdin,
                              stdin=subprocess.DEVNULL if stdin is None else None, capture_output=True, timeout=timeout)

    def ok(self, *argv, **kw):
        p = self.run(*argv, **kw)
        assert p.returncode == 0, f"{shlex.join(map(str, argv))}: exit {p.returncode}\n{p.stdout}{p.stderr}\n{self.logs()}"
        return p.stdout

    def fails(self, *argv, **kw):
        """Runs a command that must fail and returns its output."""
        p = self.run(*argv, **kw)
        assert p.returncode != 0, f"{shlex.join(map(str, argv))} succeeded: {p.stdout}{p.stderr}"
        return p.stdout + p.stderr

    def sbatch(self, script, *args, cwd, user=USER, env=None):
        """Submits the text of a script; returns the job id."""
        text = script if script.startswith("#!") else "#!/bin/bash\n" + script
        path = Path(cwd) / "job.sh"
        path.write_text(text)
        path.chmod(0o755)
        out = self.ok("sbatch", *args, path, cwd=cwd, user=user, env=env)
        return int(re.search(r"Submitted batch job (\d+)", out).group(1))

    def checkpoint(self, op, job, *args, user=USER):
        return self.ok("scontrol", "checkpoint", op, job, *args, user=user)

    # -- looking ------------------------------------------------------------
    def end_query(self):
        if self.query:
            self.query.end()
        self.query = None

    def ask(self, job):
        """The lines of `scontrol -o show job`, [] for an unknown job or if slurmctld does not answer."""
        with self.query_lock:
            for _ in range(2):      # the process may have ended with its host since the last question
                self.query = self.query or JobQuery(self)
                answer = self.query.ask(int(job), DEADLINE * 2)
                if answer is not None:
                    return [line for line in answer if line]
                self.end_query()
        return []

    def job(self, job):
        """`scontrol show job` as a dict, with Checkpoint parsed; {} for an unknown job."""
        lines = self.ask(job) if str(job).isdecimal() else self.run("scontrol", "-o", "show", "job", job, user="root").stdout.splitlines()
        if not lines:
            return {}
        line = lines[0]
        d = dict(re.findall(r"(\w[\w:/]*)=(\S*)", re.sub(r"(Admin)?Comment=\S.*?(?= \w+=| *$)", "", line)))
        d["line"] = line
        d["Checkpoint"] = parse_checkpoint(line)
        return d

    def state(self, job):
        return self.job(job).get("JobState", "UNKNOWN")

    def entry(self, job):
        return self.job(job).get("Checkpoint") or {}

    def wait_state(self, job, *states, deadline=DEADLINE):
        def arrived():
            s = self.state(job)
            if s in states:
                return s
            if s in ENDED:
                raise AssertionError(f"job {job} is {s}, wanted {states}\n{self.logs(job)}")
            return None
        try:
            return wait_for(arrived, f"job {job} to be {states}", deadline)
        except Timeout as e:
            raise Timeout(f"{e}; it is {self.job(job).get('line')}\n{self.logs(job)}") from None

    def wait_entry(self, job, condition, what, deadline=DEADLINE):
        """Waits until condition(Checkpoint entry) is true; returns the entry."""
        try:
            return wait_for(lambda: (lambda e: e if e and condition(e) else None)(self.entry(job)), what, deadline)
        except Timeout as e:
            raise Timeout(f"{e}; entry is {self.entry(job)}\n{self.logs(job)}") from None

    def wait_running(self, job, deadline=DEADLINE):
        """Waits until the job runs and its agent can be reached."""
        self.wait_state(job, "RUNNING", deadline=deadline)
        return self.wait_entry(job, lambda e: e.get("state") == "running" and e.get("agent"), f"agent of job {job}", deadline)

    def wait_end(self, job, deadline=DEADLINE * 2):
        """Waits until Slurm shows the job as ended; returns (state, exit code)."""
        def ended():
            d = self.job(job)
            return d if d.get("JobState") in ENDED else None
        try:
            d = wait_for(ended, f"job {job} to end", deadline)
        except Timeout as e:
            raise Timeout(f"{e}; {self.job(job).get('line')}\n{self.logs(job)}") from None
        return d["JobState"], d["ExitCode"]

    def ckpt_dir(self, job):
        m = re.search(r"(?mi)^\s*JobCheckpointDir\s*=\s*(\S+)", self.conf().read_text())
        return Path(m.group(1)) / str(job)

    def epochs(self, job):
        """Numbers of the complete epochs on disk."""
        d = self.ckpt_dir(job) / "epochs"
        return sorted(int(p.name) for p in d.iterdir() if p.name.isdigit()) if d.is_dir() else []

    def record(self, job):
        return json.loads((self.ckpt_dir(job) / "job.json").read_text())

    def history(self, job):
        return json.loads((self.ckpt_dir(job) / "history.json").read_text())

    def log(self, job):
        p = self.ckpt_dir(job) / "checkpoint.log"
        return p.read_text() if p.exists() else ""

    def agent_pid(self, job, host=None):
        """Pid on this machine of the job's fsched-agent, on the simulated host, or where Slurm shows the job."""
        top = self.lab.keeper_pid()
        if isinstance(self.lab, multi.HostsLab):
            host = host or self.job(job).get("BatchHost")
            top = self.lab.hosts().get(host, {}).get("pid")
            if not top:
                return None
        for pid in descendants(top):
            if comm(pid) == "fsched-agent":
                parent = int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])
                if f"[{job}.batch]" in Path(f"/proc/{parent}/cmdline").read_text():
                    return pid
        return None

    def pod_pids(self, job, host=None):
        agent = self.agent_pid(job, host)
        return [p for p in descendants(agent) if comm(p) not in ("fsched-agent", "fsched-init", "fsched-worker", "fsched-slurm")] if agent else []

    def logs(self, job=None):
        """The last lines of the logs, for the report of a failed test."""
        out = []
        for f in [self.ckpt_dir(job) / "checkpoint.log", self.ckpt_dir(job) / "restore.log"] if job else []:
            if f.exists():
                out.append(f"--- {f.name}\n" + "\n".join(f.read_text(errors="replace").splitlines()[-25:]))
        return "\n".join([self.lab.logs(), *out, *(self.slurm_logs(job) if job else [])])

    def slurm_logs(self, job):
        """What Slurm's daemons say of a job, and the processes of jobs on this machine."""
        says = re.compile(rf"\bJobId={job}\b|\bjob {job}\b|\b{job}\.|registration|not responding|returned to service")
        for f in sorted((self.dir / "log").glob("slurm*.log")):
            yield f"--- {f.name}\n" + "\n".join([x for x in f.read_text(errors="replace").splitlines() if says.search(x)][-40:])
        p = subprocess.run(["ps", "-eo", "pid,ppid,stat,etimes,wchan:20,args"], text=True, capture_output=True)
        yield "\n".join(x for x in p.stdout.splitlines() if re.search(r"slurmstepd|fsched-", x))

