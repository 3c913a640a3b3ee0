"""A lab whose nodes are simulated hosts (host.py): n1, n2 ... with munged and slurmd, and ctl with munged and slurmctld.

It has the directories of base.py. The files of a node are on the host's own disk: DIR/local on the host, DIR/host/NAME seen from
outside, with "spool" (SlurmdSpoolDir, the same path on all hosts), "pod" (PodDir) and "tmp". The rest of DIR is the cluster file
system. Commands of the cluster (sbatch, scontrol ...) run on ctl. The daemons of a host are called slurmd.n1, munged.n1.

ctl has the address 10.77.0.10 and the nodes those from .11 on, in network namespaces without a link to the outside. So labs do not
reach each other.
"""
import calendar
import hashlib
import os
import re
import time

import base
import leftovers
from base import Lab, LabError, run, wait_until, write

NETWORK = "10.77.0"
FIRST = 10                   # last part of ctl's address
CONTROLLER = "ctl"
SWITCH = "fsl"               # followed by six digits of a digest of DIR: the bridge of a lab
MUNGE = "/run/munge/munge.socket.2"
UMOUNT = 'n=$(grep -c " $1 [^ ]* " /proc/self/mountinfo); while [ "$n" -gt 1 ]; do umount --lazy "$1"; n=$((n - 1)); done'
DOWN_STATES = ("down", "unk", "boot", "fail", "err", "reboot")


class HostsLab(Lab):
    def node_names(self):
        return [f"n{i + 1}" for i in range(self.state["hosts"])]

    def host_names(self):
        return [CONTROLLER, *self.node_names()]

    def address(self, name):
        return f"{NETWORK}.{FIRST + self.host_names().index(name)}"

    @property
    def tag(self):
        return hashlib.sha256(self.dir.encode()).hexdigest()[:6]

    @property
    def switch(self):
        return SWITCH + self.tag

    @property
    def munge_socket(self):
        return MUNGE

    @property
    def pod_dir(self):
        return os.path.join(self.dir, "local", "pod")

    # configuration

    def slurm_changes(self):
        return [
            "CommunicationParameters=",
            f"SlurmctldHost={CONTROLLER}({self.address(CONTROLLER)})",
            "SlurmctldPort=6817",
            "SlurmdPort=6818",
            f"AuthInfo=socket={MUNGE},cred_expire=10",
            # The same path on all hosts: a restored job finds its batch script in its old place.
            f"SlurmdSpoolDir={self.dir}/local/spool",
            "SlurmdPidFile=/run/slurmd.pid",
            # Slurm detects a dead node soon.
            "SlurmdTimeout=15",
            "BatchStartTimeout=10",
        ]

    def backup_controller(self):
        backup = self.state.get("backup")
        return [f"SlurmctldHost={backup}({self.address(backup)})"] if backup else []

    def node_places(self, host, ports):
        return {n: f"NodeHostname={n} NodeAddr={self.address(n)}" for n in self.node_names()}

    def directories(self):
        disks = [f"host/{n}{sub}" for n in self.host_names() for sub in ("", "/spool", "/pod", "/tmp")]
        return ["etc", "run", "log", "state", "home", "checkpoint", "local", "host", *disks]

    def _make_directories(self, o):
        super()._make_directories(o)
        for name in self.host_names():
            os.chmod(os.path.join(self.dir, "host", name, "tmp"), 0o1777)
        write(os.path.join(self.dir, "etc", "hosts"), ["127.0.0.1 localhost", "::1 localhost ip6-localhost",
                                                       *(f"{self.address(n)} {n}" for n in self.host_names())])

    def keeper_config(self, o):
        daemons = {}
        for host in self.host_names():
            name = f"munged.{host}"
            daemons[name] = self.daemon_spec(o, name, *self.munged("/run", name), host=host, socket=MUNGE)
            if host == CONTROLLER:
                daemons["slurmctld"] = self.daemon_spec(o, "slurmctld", "/usr/sbin/slurmctld", "-D", "-f", self.conf, host=host)
            else:
                # /proc/uptime is the machine's, not the host's. -b tells slurmctld that the host has booted.
                daemons[f"slurmd.{host}"] = self.daemon_spec(o, f"slurmd.{host}", *self.slurmd(host), host=host, boot=["-b"])
        if o.backup:
            name = f"slurmctld.{o.backup}"
            daemons[name] = self.daemon_spec(o, name, "/usr/sbin/slurmctld", "-D", "-f", self.conf, host=o.backup)
        network = {"switch": self.switch, "cgroup": f"fsched-lab.{self.tag}" if o.proctrack == "cgroup" else None,
                   "hosts": {n: {"address": self.address(n)} for n in self.host_names()}}
        return {"daemons": daemons, "network": network}

    # hosts

    def check_name(self, name):
        if name not in self.host_names():
            raise LabError(f"no host {name} in this lab: it has {', '.join(self.host_names())}")

    def hosts(self):
        """{name: {"pid": of its first process or None if it is off, "cut": bool, "address"}}"""
        if not self.keeper_pid():
            raise LabError(f"the lab in {self.dir} is not up")
        return self.keeper(op="hosts")["hosts"]

    def host_pid(self, name):
        """Pid, on this machine, of the first process of a host that is up."""
        self.check_name(name)
        pid = self.hosts()[name]["pid"]
        if not pid:
            raise LabError(f"{name} is off (lab/node up {name} boots it)")
        return pid

    def enter(self, argv, cwd="/", host=CONTROLLER):
        """As in Lab."""
        return ["nsenter", f"--target={self.host_pid(host)}", "--mount", "--uts", "--ipc", "--net", "--pid",
                *(["--cgroup"] if self.state["proctrack"] == "cgroup" else []), "--", "env", f"--chdir={cwd}", *argv], "/"

    def boot(self, name, deadline=base.START_DEADLINE):
        """Returns when the host's daemons run and, if it and slurmctld reach each other, Slurm knows that it has booted."""
        self.check_name(name)
        began = int(time.time())
        self.keeper(op="boot", host=name)
        if not wait_until(lambda: self._booted(name, began), deadline):
            raise LabError(f"{name} is not up after {deadline:g} s; the ends of the logs:\n{self.logs(10)}")

    def _booted(self, name, since=0):
        """since: Unix time. An earlier start of the node's slurmd does not count."""
        hosts = self.hosts()
        if not hosts[name]["pid"]:
            raise LabError(f"{name} ended while it booted; the ends of the logs:\n{self.logs(10)}")
        listed = self._listed(name)
        self._none_ended(listed)
        if not listed or not all(s["pid"] for s in listed.values()):
            return False
        reachable = hosts[CONTROLLER]["pid"] and not hosts[CONTROLLER]["cut"] and not hosts[name]["cut"]
        if name == CONTROLLER:
            return self._slurmctld_ready()
        return not reachable or (self._slurmd_start(name) >= since and self._node_ready(name))

    def _slurmd_start(self, node):
        """Start time of the node's slurmd as slurmctld knows it, Unix time; 0 if it knows none."""
        shown = self.slurm("env", "TZ=UTC", "scontrol", "show", "node", node).stdout
        found = re.search(r"SlurmdStartTime=(\d\S+)", shown)
        return calendar.timegm(time.strptime(found.group(1), "%Y-%m-%dT%H:%M:%S")) if found else 0

    def _node_ready(self, node):
        state = self.slurm("sinfo", "-h", "-n", node, "-o", "%T").stdout.split()
        return len(state) == 1 and not state[0].endswith("*") and not state[0].startswith(DOWN_STATES)

    def kill(self, name):
        """Power failure. When this returns no process of the host runs."""
        self.check_name(name)
        self.keeper(op="kill", host=name)

    def cut(self, name):
        self.check_name(name)
        self.keeper(op="cut", host=name)

    def heal(self, name):
        self.check_name(name)
        self.keeper(op="heal", host=name)

    # the cluster file system, on one host

    def _mounts_of_dir(self, pid):
        """Options of the mounts on DIR that the process sees, the uppermost last. The lowest is what a host without DIR sees."""
        with open(f"/proc/{pid}/mountinfo", encoding="utf-8") as f:
            return [line.split(" ")[5].split(",") for line in f if line.split(" ")[4] == self.dir]

    def _in_mounts(self, name, script, pods):
        """Runs script with $1 = DIR in the host's mount namespace. pods: also in those of its pods, which have copies of the mounts."""
        first = self.host_pid(name)
        seen = set()
        for pid in [first, *(leftovers.descendants(first) if pods else [])]:
            namespace = self._namespace(pid)
            if not namespace or namespace in seen:
                continue
            # Enters the PID namespace too, for which its /proc was mounted: mount(8) reads /proc/self.
            done = run(["nsenter", f"--target={pid}", "--mount", "--pid", "--", "sh", "-ec", script, "sh", self.dir])
            if done.returncode == 0:
                seen.add(namespace)
            elif self._namespace(pid):      # a process that has ended, or is a zombie, has no namespace
                raise LabError(f"{name}: {done.stdout.strip()}")

    @staticmethod
    def _namespace(pid):
        try:
            return os.readlink(f"/proc/{pid}/ns/mnt")
        except OSError:
            return None

    def _readonly(self, name):
        mounts = self._mounts_of_dir(self.host_pid(name))
        if len(mounts) < 2:
            raise LabError(f"{name} has lost {self.dir} (lab/node kill {name} and up {name} give it back)")
        return "ro" in mounts[-1]

    def ro(self, name):
        """Makes DIR read-only on one host. Its disk, the logs, open files, names in open directories and existing pods stay writable; on a
        real node the flags of a mount do not propagate to pods either."""
        if self._readonly(name):
            raise LabError(f"{self.dir} is read-only on {name} already")
        # The existing mount cannot become read-only while a file in it is open for writing, and fsched's agent has one open. So another
        # mount is put on top. In a pod that is not possible: criu dumps no file that is open on a mount below another one.
        self._in_mounts(name, 'mount --rbind "$1" "$1"; n=0; until mount -o remount,bind,ro "$1" 2>/dev/null || [ $n = 50 ]; do n=$((n + 1)); sleep 0.1; done; mount -o remount,bind,ro "$1"', pods=False)

    def rw(self, name):
        """Undoes ro(), also in pods that were made meanwhile."""
        if not self._readonly(name):
            raise LabError(f"{self.dir} is not read-only on {name}")
        # Not unmounted: files that were opened meanwhile would lie on a detached mount, which criu cannot dump.
        self._in_mounts(name, 'mount -o remount,bind,rw "$1"', pods=True)

    def umount(self, name):
        """Unmounts DIR on one host and in its pods, until it boots again. host.KEPT and open files stay."""
        self._readonly(name)
        self._in_mounts(name, UMOUNT, pods=True)

    # daemons

    def daemons(self):
        return [f"munged.{CONTROLLER}", "slurmctld", *(f"{d}.{n}" for n in self.node_names() for d in ("munged", "slurmd")),
                *([f"slurmctld.{self.state['backup']}"] if self.state.get("backup") else [])]

    @staticmethod
    def host_of(daemon):
        return daemon.partition(".")[2] or CONTROLLER

    def _listed(self, host):
        """{daemon: {"pid": pid inside, "exit"}}; {} while the host boots or dies."""
        try:
            return self.ask(f"keeper.{host}.sock", op="list")["daemons"]
        except OSError:
            return {}

    @staticmethod
    def _none_ended(listed):
        for name, state in listed.items():
            if state["exit"] is not None:
                raise LabError(f"{name} ended with status {state['exit']}")

    def daemon_pids(self):
        """{name: pid on this machine} of the daemons that run, on all hosts."""
        found = {}
        for name, state in self.hosts().items():
            if not state["pid"]:
                continue
            listed = self._listed(name)
            outside = leftovers.pids_inside(state["pid"])
            found.update({d: outside[s["pid"]] for d, s in listed.items() if s["pid"] in outside})
        return found

    def start_daemons(self):
        for name in self.host_names():
            self.keeper(op="boot", host=name)
        left = set(self.node_names())

        def started():
            ended = [n for n, s in self.hosts().items() if not s["pid"]]
            if ended:
                raise LabError(f"host {ended[0]} ended while it booted")
            for n in self.host_names():
                self._none_ended(self._listed(n))
            listed = self.slurm("sinfo", "-h", "-N", "-o", "%N %T").stdout.splitlines()
            left.difference_update(line.split()[0] for line in listed if line.endswith(" idle"))
            return not left
        if not wait_until(started, base.START_DEADLINE):
            raise LabError(f"Slurm does not take {', '.join(sorted(left))} for idle after {base.START_DEADLINE:g} s")

    def start_daemon(self, name):
        self.daemon_pid(name)       # raises an error for a wrong name
        host = self.host_of(name)
        self.host_pid(host)
        began = int(time.time()) if name.startswith("slurmd.") else 0
        self.ask(f"keeper.{host}.sock", op="start", name=name)
        if not wait_until(lambda: self._booted(host, began), base.START_DEADLINE):
            raise LabError(f"{name} did not start")

    def stop_daemon(self, name, number=15, wait=10):
        self.daemon_pid(name)
        self.host_pid(self.host_of(name))
        return self.ask(f"keeper.{self.host_of(name)}.sock", op="stop", name=name, signal=number, wait=wait)["exit"]

    # down

    def processes(self, hosts=None):
        """As in Lab. hosts: of these hosts only."""
        firsts = {n: s["pid"] for n, s in self.hosts().items() if s["pid"]} if self.keeper_pid() else {}
        found = set(super().processes()) - set(firsts.values())
        if hosts is not None:
            found &= {p for n in hosts if n in firsts for p in leftovers.descendants(firsts[n])}
        return sorted(found)

    def _cancel_jobs(self):
        """Jobs on hosts that are cut off, or whose daemons are gone, need not end: they die with the host."""
        hosts = self.hosts()
        running = self.daemon_pids()
        well = [n for n, s in hosts.items() if s["pid"] and not s["cut"]
                and all(d in running for d in self.daemons() if self.host_of(d) == n)]
        if CONTROLLER not in well:
            return None
        well = [n for n in well if n == CONTROLLER or self._node_ready(n)]
        jobs = self.slurm("squeue", "-h", "-o", "%A").stdout.split()
        if jobs:
            self.slurm("scancel", *jobs)
        if not wait_until(lambda: not self.processes(well), base.JOBS_DEADLINE, 0.1):
            left = "; ".join(leftovers.describe(p) for p in self.processes(well))
            return f"jobs did not end after scancel: {left}"
        return None

    def _stop_daemons(self):
        """The hosts end with the keeper."""
        firsts = {s["pid"]: leftovers.start_time(s["pid"]) for s in self.hosts().values() if s["pid"]}
        self.keeper(op="quit")
        wait_until(lambda: not any(leftovers.start_time(p) == t for p, t in firsts.items()), base.START_DEADLINE)

    def _kill_left(self):
        """If the keeper was killed, the kernel may still be ending the hosts."""
        wait_until(lambda: not leftovers.keepers(self.dir) + leftovers.marked(self.dir), 10)
        return super()._kill_left()

    def _cgroups(self):
        return leftovers.cgroups_below(f"fsched-lab.{self.tag}")

    def _left_of_network(self):
        wait_until(lambda: not leftovers.networks(self.switch), 5)
        return leftovers.networks(self.switch)
