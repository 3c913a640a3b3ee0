"""A private Slurm cluster on this machine: munged, slurmctld and slurmd of the distribution with their own key, sockets, ports and
directories, on the loopback interface only. Several can run at once, each in a directory DIR:

    DIR/etc      slurm.conf, plugstack.conf, fsched.conf, MUNGE's key      DIR/stage     copy of the installed fsched
    DIR/log      logs of all daemons and of fsched                         DIR/home/U    home of the user U: jobs start there
    DIR/spool    slurmd's files                                            DIR/checkpoint, DIR/pod   fsched's files
    DIR/lab.json what lab/down needs to end it

DIR must have a short name (unix sockets), every user must be able to reach it, and it must lie outside /tmp (jobs have a private /tmp).
If the wanted place does not fulfil that, DIR is made in /var/tmp and the wanted place becomes a symbolic link to it.

This file has one kind of lab, class Lab. multi.py derives from it the lab whose nodes are simulated hosts. lab.py is above both: it
chooses between them and has the commands.
"""
import dataclasses
import fcntl
import glob
import grp
import json
import os
import pwd
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import time

import leftovers

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BUILD = os.path.abspath(os.environ.get("FSCHED_BUILD", os.path.join(ROOT, "build")))
HERE = os.path.dirname(os.path.abspath(__file__))
LOCK = "/run/fsched-lab.lock"       # not in /run/lock, where every user could create and hold it
REGISTRY = "/run/fsched-lab"       # for each user: the labs that use it; removed with the last lab
PATH_MAX_LEN = 60                  # of DIR: the names that Slurm and MUNGE append must fit into sun_path
USER_COMMENT = "made by fsched lab"
DEFAULT_USER = "fscheddemo"
HOSTS_MAX = 50
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
START_DEADLINE = 90.0              # s
JOBS_DEADLINE = 90.0               # s for the jobs of a lab that is ended


class LabError(Exception):
    """An error for the user, printed without a traceback."""


@dataclasses.dataclass
class Options:
    dir: str = os.path.join(BUILD, "lab")
    name: str = "lab"              # of the cluster and of its nodes: lab1, lab2 ...
    nodes: int = 1                 # slurmds on this machine
    backup: str = ""               # with hosts: the host that also runs a backup slurmctld, e.g. "n2"
    hosts: int = 0                 # if not 0: simulated hosts n1, n2 ... instead of nodes, and a host for slurmctld (multi.py)
    cpus: int = 0                  # per node; 0 = as many as the machine has, at least 2
    users: list = dataclasses.field(default_factory=lambda: [DEFAULT_USER])
    fsched: bool = True
    proctrack: str = "linuxproc"   # or cgroup
    slurm_user: str = "root"       # or slurm
    stage: str = os.path.join(BUILD, "stage")
    criu: str = os.path.join(BUILD, "criu")
    slurm_conf: list = dataclasses.field(default_factory=list)   # "Key=Value", replaces the lab's own line for Key
    fsched_conf: list = dataclasses.field(default_factory=list)  # the same for fsched.conf; "Key=" removes the key
    daemon_env: dict = dataclasses.field(default_factory=dict)   # added to the environment of the daemons


def run(argv, **more):
    return subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          check=False, **more)


def wait_until(predicate, deadline, interval=0.05):
    """Calls predicate until it is true or deadline seconds are over; returns its last value."""
    end = time.monotonic() + deadline
    while True:
        value = predicate()
        if value or time.monotonic() > end:
            return value
        time.sleep(interval)


# --- places -----------------------------------------------------------------------------------------------------------

def everyone_reaches(path):
    while path != "/":
        if os.path.isdir(path) and os.stat(path).st_mode & 0o005 != 0o005:
            return False
        path = os.path.dirname(path)
    return True


def suitable(path):
    real = os.path.realpath(path)
    below_tmp = (real + "/").startswith("/tmp/")
    parent = real
    while not os.path.isdir(parent):
        parent = os.path.dirname(parent)
    noexec = os.statvfs(parent).f_flag & os.ST_NOEXEC
    return len(real) <= PATH_MAX_LEN and not below_tmp and not noexec and everyone_reaches(real)


def make_place(wanted):
    """Makes an empty DIR and returns its real name."""
    wanted = os.path.abspath(wanted)
    os.makedirs(os.path.dirname(wanted), exist_ok=True)
    if os.path.islink(wanted):
        shutil.rmtree(os.path.realpath(wanted), ignore_errors=True)
        os.unlink(wanted)
    elif os.path.isdir(wanted):
        if os.listdir(wanted) and not os.path.exists(os.path.join(wanted, "lab.json")):
            raise LabError(f"{wanted} is not empty and not a directory of a lab: choose another one with --dir")
        shutil.rmtree(wanted)
    if suitable(wanted):
        os.mkdir(wanted)
        real = os.path.realpath(wanted)
    else:
        real = tempfile.mkdtemp(prefix="fsched-lab.", dir="/var/tmp")
        os.symlink(real, wanted)
    os.chmod(real, 0o755)
    return real


def slurm_plugins():
    for pattern in ("/usr/lib/*/slurm-wlm/auth_munge.so", "/usr/lib/*/slurm/auth_munge.so", "/usr/lib*/slurm/auth_munge.so"):
        for found in glob.glob(pattern):
            return os.path.dirname(found)
    raise LabError("Slurm's plugins are not installed: run scripts/get-deps.sh run")


def plugin_of_stage(stage, name):
    found = glob.glob(f"{stage}/usr/lib*/**/{name}", recursive=True)
    if not found:
        raise LabError(f"{name} is not in {stage}: run make build (or start the lab with --no-fsched)")
    return found[0]


def free_ports(number):
    """Free TCP ports outside of the ephemeral range. The caller holds the lock until they are taken."""
    ports = []
    while len(ports) < number:
        port = random.randrange(20000, 30000)
        with socket.socket() as s:
            try:
                s.bind(("127.0.0.1", port))
            except OSError:
                continue
        if port not in ports:
            ports.append(port)
    return ports


class Lock:
    """Held by a lab while it chooses ports, or creates or removes users."""

    def __enter__(self):
        os.makedirs(REGISTRY, mode=0o755, exist_ok=True)
        self.fd = os.open(LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        fcntl.flock(self.fd, fcntl.LOCK_EX)
        return self

    def __exit__(self, *_):
        try:
            os.rmdir(REGISTRY)
        except OSError:
            pass
        os.close(self.fd)


# --- users: a lab creates missing users; the last lab that uses one removes it ----------------------------------------------

def _claims(user):
    path = os.path.join(REGISTRY, user)
    try:
        with open(path, encoding="utf-8") as f:
            return [line for line in f.read().splitlines() if os.path.isdir(line)]
    except OSError:
        return []


def _set_claims(user, claims):
    path = os.path.join(REGISTRY, user)
    if claims:
        os.makedirs(REGISTRY, exist_ok=True)
        with open(path, "w", encoding="utf-8") as f:
            f.write("\n".join(claims) + "\n")
    elif os.path.exists(path):
        os.unlink(path)


def claim_user(user, directory):
    try:
        pwd.getpwnam(user)
    except KeyError:
        done = run(["useradd", "--system", "--user-group", "--no-create-home", "--home-dir", "/nonexistent", "--shell", "/bin/bash",
                    "--comment", USER_COMMENT, user])
        if done.returncode != 0:
            raise LabError(f"cannot make the user {user}: {done.stdout.strip()}") from None
    _set_claims(user, _claims(user) + [directory])


def release_user(user, directory):
    """Returns None, or the text of an error."""
    rest = [c for c in _claims(user) if c != directory]
    _set_claims(user, rest)
    try:
        ours = pwd.getpwnam(user).pw_gecos.startswith(USER_COMMENT)
    except KeyError:
        return None
    if rest or not ours:
        return None
    done = run(["userdel", user])
    return f"the user {user} could not be removed: {done.stdout.strip()}" if done.returncode != 0 else None


# --- configuration files --------------------------------------------------------------------------------------------------

def merge(lines, changes):
    """Replaces the lines of the keys in changes ("Key=Value"; "Key=" removes)."""
    for change in changes:
        key, separator, value = change.partition("=")
        key = key.strip()
        if not separator or not key:
            raise LabError(f'"{change}" is not Key=Value')
        repeated = key.lower() in ("nodename", "partitionname")
        if not repeated:
            lines = [l for l in lines if l.partition("=")[0].strip().lower() != key.lower()]
        if value.strip():
            lines = lines + [f"{key}={value}"]
    return lines


def loopback_hosts():
    """Returns /etc/hosts with the machine's name at 127.0.0.1. Slurm's daemons and srun listen on the address of this name, which is
    127.0.1.1 on a fresh Debian and an address of the network elsewhere."""
    names = {os.uname().nodename, os.uname().nodename.partition(".")[0]}
    lines = [f"127.0.0.1 {' '.join(sorted(names - {'localhost'}))} localhost"]
    try:
        with open("/etc/hosts", encoding="utf-8", errors="replace") as f:
            for line in f:
                address, *others = line.partition("#")[0].split() or [""]
                kept = [n for n in others if n not in names]
                lines += [" ".join([address, *kept])] if kept else []
    except OSError:
        pass
    return "".join(line + "\n" for line in lines)


def slurm_conf(lab, o, ports):
    d, host = lab.dir, os.uname().nodename.partition(".")[0]
    lines = [
        f"ClusterName={o.name}",
        "CommunicationParameters=NoInAddrAny,NoCtldInAddrAny",
        f"SlurmctldHost={host}(127.0.0.1)",
        f"SlurmctldPort={ports[0]}",
        f"SlurmUser={o.slurm_user}",
        "SlurmdUser=root",
        "AuthType=auth/munge",
        # A requeued job waits for cred_expire before it starts again. cred_expire must be above KillWait.
        f"AuthInfo=socket={d}/run/munge.socket,cred_expire=10",
        "CredType=cred/munge",
        f"StateSaveLocation={d}/state",
        f"SlurmdSpoolDir={d}/spool/%n",
        f"SlurmctldPidFile={d}/state/slurmctld.pid",
        f"SlurmdPidFile={d}/run/slurmd.%n.pid",
        f"SlurmctldLogFile={d}/log/slurmctld.log",
        f"SlurmdLogFile={d}/log/slurmd.%n.log",
        f"ProctrackType=proctrack/{o.proctrack}",
        "TaskPlugin=task/none",
        "MpiDefault=none",
        "SwitchType=switch/none",
        "MailProg=/bin/true",
        "ReturnToService=2",
        "SelectType=select/cons_tres",
        "SelectTypeParameters=CR_CPU",
        "SlurmdParameters=config_overrides",
        "SchedulerParameters=batch_sched_delay=0,sched_interval=1,sched_min_interval=0,bf_interval=1",
        "JobAcctGatherType=jobacct_gather/none",
        "AccountingStorageType=accounting_storage/none",
        "JobCompType=jobcomp/filetxt",
        f"JobCompLoc={d}/state/jobcomp.txt",
        "SlurmctldDebug=debug",
        "SlurmdDebug=debug",
        "KillWait=5",
        "MinJobAge=600",
        f"PlugStackConfig={d}/etc/plugstack.conf",
    ]
    if o.fsched:
        plugins = os.path.dirname(plugin_of_stage(lab.stage, "job_submit_fsched.so"))
        lines += ["JobSubmitPlugins=fsched", f"PluginDir={slurm_plugins()}:{plugins}"]
    lines = merge(merge(lines, lab.slurm_changes()), o.slurm_conf) + lab.backup_controller()
    cpus = o.cpus or max(2, os.cpu_count() or 2)
    for name, where in lab.node_places(host, ports[1:]).items():
        lines.append(f"NodeName={name} {where} CPUs={cpus} State=UNKNOWN")
    lines.append(f"PartitionName=batch Nodes={','.join(lab.node_names())} Default=YES MaxTime=INFINITE State=UP")
    return lines


def fsched_conf(lab, o):
    d = lab.dir
    lines = [
        "CheckpointType=checkpoint/criu",
        f"JobCheckpointDir={d}/checkpoint",
        f"PodDir={lab.pod_dir}",
        f"MungeSocket={lab.munge_socket}",
        f"CheckpointLog={d}/log/fsched.log",
        "CheckpointMinInterval=0:05",
    ]
    if not o.hosts:     # the machine's own network: no link or rule of a lab belongs there
        lines.append("PodNetwork=host")
    if lab.criu:
        lines.append(f"CriuPath={lab.criu}")
    return merge(lines, o.fsched_conf)


def write(path, lines, mode=0o644):
    with open(path, "w", encoding="utf-8") as f:
        f.write("".join(line + "\n" for line in lines))
    os.chmod(path, mode)


# --- the lab --------------------------------------------------------------------------------------------------------------

class Lab:
    """A running lab, or one that is being made. lab.py: Lab.up() makes one, Lab.open() finds one that another process started."""

    def __init__(self, directory, state):
        self.dir = directory
        self.state = state

    @property
    def stage(self):
        return os.path.join(self.dir, "stage")

    @property
    def criu(self):
        return self.state.get("criu", "")

    @property
    def conf(self):
        return os.path.join(self.dir, "etc", "slurm.conf")

    @property
    def munge_socket(self):
        return os.path.join(self.dir, "run", "munge.socket")

    @property
    def pod_dir(self):
        return os.path.join(self.dir, "pod")

    def backup_controller(self):
        """Lines of slurm.conf after the first SlurmctldHost."""
        return []

    def slurm_changes(self):
        """Changes of this kind of lab to slurm_conf(), for merge()."""
        return []

    def node_places(self, host, ports):
        """{NAME: the address part of its line in slurm.conf}."""
        return {n: f"NodeHostname={host} NodeAddr=127.0.0.1 Port={p}" for n, p in zip(self.node_names(), ports)}

    def node_names(self):
        return [f"{self.state['name']}{i + 1}" for i in range(self.state["nodes"])]

    def save(self):
        write(os.path.join(self.dir, "lab.json"), [json.dumps(self.state, indent=1)])

    def environment(self, user="root"):
        """The environment of a shell that uses the cluster."""
        try:
            entry = pwd.getpwnam(user)
        except KeyError:
            raise LabError(f"no user {user}") from None
        home = "/root" if user == "root" else os.path.join(self.dir, "home", user)
        return {
            "SLURM_CONF": self.conf,
            "FSCHED_LAB": self.dir,
            "PATH": f"{self.stage}/usr/libexec/fsched/bin:{self.stage}/usr/bin:{self.stage}/usr/sbin:{SYSTEM_PATH}",
            "MANPATH": f"{self.stage}/usr/share/man:",
            "HOME": home, "USER": entry.pw_name, "LOGNAME": entry.pw_name, "SHELL": "/bin/bash",
            "LANG": "C.UTF-8", "TERM": os.environ.get("TERM", "dumb"),
        }

    def as_user(self, user):
        """A command prefix that runs the command as user."""
        if user == "root":
            return []
        entry = pwd.getpwnam(user)
        return ["setpriv", f"--reuid={entry.pw_uid}", f"--regid={entry.pw_gid}", "--init-groups", "--inh-caps=-all", "--"]

    def enter(self, argv, cwd="/"):
        """Returns (argv, cwd) of a process on this machine that runs argv in the directory cwd of the place where commands of the cluster
        run. env(1) changes the directory, since nsenter would open it before it enters the namespaces."""
        keeper = self.keeper_pid()
        return (["nsenter", f"--target={keeper}", "--mount", "--", "env", f"--chdir={cwd}", *argv], "/") if keeper else (argv, cwd)

    def slurm(self, *argv, timeout=30):
        argv, cwd = self.enter(list(argv))
        return run(argv, env=self.environment(), timeout=timeout, cwd=cwd)

    # keeper

    def keeper(self, **request):
        return self.ask("keeper.sock", **request)

    def ask(self, listener, /, **request):
        """One request to the keeper that listens on the socket DIR/run/listener."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as s:
            s.settimeout(60)
            s.connect(os.path.join(self.dir, "run", listener))
            s.sendall((json.dumps(request) + "\n").encode())
            reply = json.loads(s.makefile().readline() or '{"error": "the keeper of the lab did not answer"}')
        if "error" in reply:
            raise LabError(reply["error"])
        return reply

    def keeper_pid(self):
        """The pid of the keeper, or None if it does not run."""
        if "keeper" not in self.state:      # its starter was killed before it could record the pid
            self.state["keeper"] = next(((p, leftovers.start_time(p)) for p in leftovers.keepers(self.dir)), (0, 0))
        pid, start = self.state["keeper"]
        if not pid or leftovers.start_time(pid) != start:
            return None
        try:    # it is our child if this process started it
            if os.waitpid(pid, os.WNOHANG)[0] == pid:
                return None
        except ChildProcessError:
            pass
        return pid

    def daemons(self):
        return ["munged", "slurmctld", *(f"slurmd.{n}" for n in self.node_names())]

    def processes(self):
        """The living processes that the lab started, except keeper and daemons: steps, agents, jobs."""
        pid = self.keeper_pid()
        found = set(leftovers.descendants(pid)) if pid else set()
        found |= set(leftovers.marked(self.dir))
        for name, daemon in (self.daemon_pids() if pid else {}).items():
            found.discard(daemon)
            if not name.startswith("slurmd."):     # slurmctld has helper processes of its own
                found -= set(leftovers.descendants(daemon))
        # fsched's plugin in slurmctld starts fsched-requeue, which ends with slurmctld
        return sorted(p for p in found if leftovers.program(p) != "fsched-requeue")

    # up

    def directories(self):
        return ["etc", "run", "log", "state", "home", "checkpoint", "spool", "pod"]

    def _make_directories(self, o):
        d = self.dir
        for name in self.directories():
            os.mkdir(os.path.join(d, name))
            os.chmod(os.path.join(d, name), 0o755)
        owner = pwd.getpwnam(o.slurm_user)
        os.chown(os.path.join(d, "state"), owner.pw_uid, owner.pw_gid)
        write(os.path.join(d, "log", "slurmctld.log"), [])
        os.chown(os.path.join(d, "log", "slurmctld.log"), owner.pw_uid, owner.pw_gid)
        for user in o.users:
            self.make_home(user)

    def make_home(self, user):
        entry = pwd.getpwnam(user)
        home = os.path.join(self.dir, "home", user)
        os.mkdir(home)
        for source in (os.path.join(ROOT, "examples", "heat.sh"), os.path.join(BUILD, "examples", "heat2d")):
            if os.path.exists(source):
                shutil.copy(source, home)
                os.chown(os.path.join(home, os.path.basename(source)), entry.pw_uid, entry.pw_gid)
        os.chown(home, entry.pw_uid, entry.pw_gid)

    def _copy_programs(self, o):
        if not o.fsched:
            return
        plugin_of_stage(o.stage, "spank_fsched.so")
        shutil.copytree(o.stage, self.stage, symlinks=True)
        if os.path.exists(os.path.join(o.criu, "VERSION")):
            self.state["criu"] = os.path.join(self.dir, "criu")
            shutil.copytree(o.criu, self.criu, symlinks=True)

    def _write_configuration(self, o, ports):
        etc = os.path.join(self.dir, "etc")
        write(self.conf, slurm_conf(self, o, ports))
        stack = []
        if o.fsched:
            write(os.path.join(etc, "fsched.conf"), fsched_conf(self, o))
            stack.append(f"required {plugin_of_stage(self.stage, 'spank_fsched.so')} conf={etc}/fsched.conf "
                         f"libexec={self.stage}/usr/libexec/fsched")
        write(os.path.join(etc, "plugstack.conf"), stack)
        if o.proctrack == "cgroup":
            write(os.path.join(etc, "cgroup.conf"), ["CgroupMountpoint=/sys/fs/cgroup", "IgnoreSystemd=yes"])
        with open(os.path.join(etc, "munge.key"), "wb") as f:
            os.fchmod(f.fileno(), 0o400)
            f.write(os.urandom(128))
        write(os.path.join(etc, "bashrc"), [f"PS1='[{o.name}] \\u:\\w\\$ '"])

    def daemon_spec(self, o, name, *argv, **more):
        env = {"PATH": SYSTEM_PATH, "HOME": "/", "LANG": "C.UTF-8", "SLURM_CONF": self.conf, "FSCHED_LAB": self.dir, **o.daemon_env}
        return {"argv": list(argv), "env": env, "log": os.path.join(self.dir, "log", f"{name}.out"), **more}

    def munged(self, run_dir, log):
        return ["/usr/sbin/munged", "-F", "--force", f"--socket={self.munge_socket}", f"--key-file={self.dir}/etc/munge.key",
                f"--pid-file={run_dir}/munged.pid", f"--seed-file={run_dir}/munged.seed", f"--log-file={self.dir}/log/{log}.log",
                "--num-threads=4"]

    def slurmd(self, node):
        return ["/usr/sbin/slurmd", "-D", "-f", self.conf, "-N", node]

    def keeper_config(self, o):
        daemons = {
            "munged": self.daemon_spec(o, "munged", *self.munged(f"{self.dir}/run", "munged")),
            "slurmctld": self.daemon_spec(o, "slurmctld", "/usr/sbin/slurmctld", "-D", "-f", self.conf),
        }
        for name in self.node_names():
            daemons[f"slurmd.{name}"] = self.daemon_spec(o, f"slurmd.{name}", *self.slurmd(name))
        return {"daemons": daemons, "names": {"text": loopback_hosts(), "place": REGISTRY}}

    def _write_keeper(self, o):
        write(os.path.join(self.dir, "keeper.json"), [json.dumps(self.keeper_config(o), indent=1)], 0o600)

    def _start_keeper(self):
        with open(os.path.join(self.dir, "log", "keeper.log"), "ab") as log:
            process = subprocess.Popen(["/usr/bin/python3", "-ES", os.path.join(HERE, "keeper.py"), self.dir], stdin=subprocess.DEVNULL,
                                       stdout=log, stderr=log, cwd="/", start_new_session=True,
                                       env={"PATH": SYSTEM_PATH, "PYTHONDONTWRITEBYTECODE": "1"})
        self.state["keeper"] = (process.pid, leftovers.start_time(process.pid))
        self.save()
        if not wait_until(lambda: os.path.exists(os.path.join(self.dir, "run", "keeper.sock")), START_DEADLINE):
            raise LabError("the lab's keeper did not start")

    def start_daemons(self):
        for name in self.daemons():
            self.start_daemon(name)

    def start_daemon(self, name):
        self.keeper(op="start", name=name)
        ready = {"munged": self._munged_ready, "slurmctld": self._slurmctld_ready}.get(name, lambda: self._node_ready(name[7:]))
        if not wait_until(lambda: self._ended(name) or ready(), START_DEADLINE) or self._ended(name):
            raise LabError(f"{name} did not start")

    def stop_daemon(self, name, number=15, wait=10):
        return self.keeper(op="stop", name=name, signal=number, wait=wait)["exit"]

    def daemon_pids(self):
        """{name: pid} of the daemons that run."""
        listed = self.keeper(op="list")["daemons"]
        return {name: daemon["pid"] for name, daemon in listed.items() if daemon["pid"]}

    def daemon_pid(self, name):
        if name not in self.daemons():
            raise LabError(f"no daemon {name} in this lab: it has {', '.join(self.daemons())}")
        return self.daemon_pids().get(name)

    def _ended(self, name):
        return self.daemon_pid(name) is None

    def _munged_ready(self):
        return run(["munge", "-n", "-S", self.munge_socket]).returncode == 0

    def _slurmctld_ready(self):
        return self.slurm("scontrol", "ping").stdout.find("is UP") >= 0

    def _node_ready(self, node):
        state = self.slurm("sinfo", "-h", "-n", node, "-o", "%T").stdout.split()
        return len(state) == 1 and state[0] in ("idle", "mixed", "allocated", "completing")

    def logs(self, lines=25):
        """The last lines of all logs."""
        text = []
        for path in sorted(glob.glob(os.path.join(self.dir, "log", "*"))):
            log = path.removesuffix(".out") + ".log"
            if path.endswith(".out") and os.path.exists(log) and os.path.getsize(log):
                continue    # the daemon writes the same into its .log
            with open(path, encoding="utf-8", errors="replace") as f:
                tail = f.read().splitlines()[-lines:]
            if tail:
                text.append(f"--- {path}\n" + "\n".join(tail))
        return "\n".join(text)

    def start(self, o):
        """Fills the empty DIR and starts the daemons. After an error everything is ended and removed."""
        self.save()
        try:
            with Lock():
                for user in o.users:
                    claim_user(user, self.dir)
                self._make_directories(o)
                self._copy_programs(o)
                self._write_configuration(o, free_ports(1 + o.nodes))
                self._write_keeper(o)
                self._start_keeper()
                self.start_daemons()
        except BaseException as e:
            logs = self.logs()
            self.down()
            if isinstance(e, LabError) and logs:
                raise LabError(f"{e}; the logs end with\n{logs}") from None
            raise

    # down

    def _stop_daemons(self):
        for name in reversed(self.daemons()):
            self.stop_daemon(name)

    def _cancel_jobs(self):
        """Returns None, or why the jobs could not be ended in order."""
        if self._ended("slurmctld") or self._ended("munged"):
            return "slurmctld or munged was not running: jobs could not be cancelled"
        listed = self.slurm("squeue", "-h", "-o", "%A")
        jobs = listed.stdout.split()
        if jobs:
            self.slurm("scancel", *jobs)
        if not wait_until(lambda: not self.processes(), JOBS_DEADLINE, 0.1):
            return "jobs did not end after scancel"
        return None

    def down(self, purge=True):
        """Ends the lab. Returns a list of problems, each a sentence."""
        amiss = []
        if self.keeper_pid():
            try:
                problem = self._cancel_jobs()
                if problem and self.processes():
                    amiss.append(problem)
                self._stop_daemons()
            except (OSError, ValueError, LabError, subprocess.SubprocessError) as e:
                amiss.append(f"the lab could not be stopped in order: {e}")
        amiss += self._kill_left()
        if self.keeper_pid():
            try:
                self.keeper(op="quit")
            except (OSError, ValueError, LabError):
                pass
            if not wait_until(lambda: not self.keeper_pid(), 5):
                os.kill(self.state["keeper"][0], 9)
        amiss += self._unmount()
        amiss += self._remove_cgroups()
        amiss += self._left_of_network()
        with Lock():
            for user in self.state["users"]:
                problem = release_user(user, self.dir)
                if problem:
                    amiss.append(problem)
        if purge:
            self.purge()
        return amiss

    def _kill_left(self):
        mine = set()
        pid = os.getpid()
        while pid > 1:
            mine.add(pid)
            pid = leftovers.parent(pid)
        amiss = []

        def left():
            keeper = self.keeper_pid()
            found = set(leftovers.descendants(keeper)) if keeper else set()
            return (found | set(leftovers.marked(self.dir))) - mine

        for p in left():
            amiss.append(f"had to kill {leftovers.describe(p)}")
        deadline = time.monotonic() + 10
        while left() and time.monotonic() < deadline:
            for p in left():
                try:
                    os.kill(p, 9)
                except ProcessLookupError:
                    pass
            time.sleep(0.05)
        return amiss + [f"could not kill {leftovers.describe(p)}" for p in left()]

    def _unmount(self):
        amiss = []
        for point in leftovers.mounts_below(self.dir):
            amiss.append(f"had to unmount {point}")
            if run(["umount", point]).returncode != 0:
                run(["umount", "-l", point])
        return amiss + leftovers.mounts_anywhere(self.dir)

    def _left_of_network(self):
        return []

    def _cgroups(self):
        return leftovers.cgroups(self.node_names()) if self.state["proctrack"] == "cgroup" else []

    def _remove_cgroups(self):
        amiss = []
        for path in self._cgroups():
            try:
                os.rmdir(path)
            except OSError as e:
                amiss.append(f"could not remove the cgroup {path}: {e.strerror}")
        return amiss

    def purge(self):
        """Removes DIR and a symbolic link to it."""
        if leftovers.mounts_below(self.dir):
            return
        shutil.rmtree(self.dir, ignore_errors=True)
        wanted = self.state.get("link")
        if wanted and os.path.islink(wanted):
            os.unlink(wanted)
