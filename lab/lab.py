"""Private Slurm clusters on this machine, for tests, the demo and people: the commands lab/up, down, env, shell and node, and the
class Lab, whose up() and open() are for programs. base.py says what a lab consists of."""
import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import base
import multi
from base import (DEFAULT_USER, HOSTS_MAX, START_DEADLINE, SYSTEM_PATH, BUILD, LabError, Options,  # noqa: F401
                  make_place, wait_until)


def class_of(hosts):
    """The class of a lab with that many simulated hosts."""
    return multi.HostsLab if hosts else base.Lab


class Lab:
    """How programs get at a lab; both return a base.Lab."""
    @staticmethod
    def open(wanted):
        """Returns the lab in the directory wanted. Another process may have started it."""
        directory = os.path.realpath(wanted)
        try:
            state = json.loads(Path(directory, "lab.json").read_text(encoding="utf-8"))
        except OSError:
            raise LabError(f"no lab in {wanted} (lab/up starts one)") from None
        return class_of(state.get("hosts", 0))(directory, state)

    @staticmethod
    def up(o):
        """Starts a lab. An earlier lab in the same directory, whose keeper is gone, is ended and removed first."""
        if os.geteuid() != 0:
            raise LabError("a lab needs root: slurmd starts jobs as other users")
        try:
            running = Lab.open(o.dir)
        except LabError:
            running = None
        if running and running.keeper_pid():
            raise LabError(f"a lab runs in {o.dir} (lab/down ends it)")
        if running:
            running.down()
        lab = class_of(o.hosts)(make_place(o.dir), {"name": o.name, "nodes": o.nodes, "hosts": o.hosts, "backup": o.backup, "users": o.users,
                                                    "proctrack": o.proctrack, "link": os.path.abspath(o.dir)})
        lab.start(o)
        return lab


# --- commands -------------------------------------------------------------------------------------------------------------

def parser_of(command):
    p = argparse.ArgumentParser(prog=f"lab/{command}")
    p.add_argument("--dir", default=Options().dir, help="directory of the lab (%(default)s)")
    return p


def number_of_hosts(text):
    if not text.isdigit() or not 1 <= int(text) <= HOSTS_MAX:
        raise argparse.ArgumentTypeError(f"{text}: 1 to {HOSTS_MAX} hosts")
    return int(text)


def command_up(argv):
    p = parser_of("up")
    p.add_argument("--name", default="lab", help="name of the cluster and of its nodes (lab: lab1, lab2, ...)")
    p.add_argument("--nodes", type=int, default=1, help="nodes on this machine, one slurmd each (%(default)s)")
    p.add_argument("--hosts", type=number_of_hosts, default=0,
                   help="simulated hosts n1, n2 ..., each a node with a network, processes and disks of its own, and ctl for slurmctld")
    p.add_argument("--cpus", type=int, default=0, help="CPUs of a node (as many as this machine has, at least 2)")
    p.add_argument("--user", dest="users", action="append", help=f"ordinary user, made if missing ({DEFAULT_USER}); may be repeated")
    p.add_argument("--no-fsched", dest="fsched", action="store_false", help="plain Slurm, to compare with")
    p.add_argument("--proctrack", choices=("linuxproc", "cgroup"), default="linuxproc")
    p.add_argument("--slurm-user", default="root", help="SlurmUser (%(default)s)")
    p.add_argument("--stage", default=Options().stage, help="where fsched is installed (%(default)s)")
    p.add_argument("--criu", default=Options().criu, help="directory made by scripts/get-criu.sh (%(default)s)")
    p.add_argument("--slurm-conf", action="append", default=[], metavar="KEY=VALUE", help="a line of slurm.conf")
    p.add_argument("--conf", dest="fsched_conf", action="append", default=[], metavar="KEY=VALUE", help="a line of fsched.conf")
    a = vars(p.parse_args(argv))
    a["users"] = a["users"] or [DEFAULT_USER]
    if a["hosts"] and a["nodes"] != 1:
        p.error("--nodes are nodes on this machine, --hosts simulated hosts: choose one")
    began = time.monotonic()
    lab = Lab.up(Options(**a))
    print(f"lab: cluster \"{lab.state['name']}\" with {len(lab.node_names())} node(s) is up after "
          f"{time.monotonic() - began:.1f} s in {lab.dir}")
    return 0


def command_down(argv):
    p = parser_of("down")
    p.add_argument("--keep", action="store_true", help="keep the directory with logs and checkpoints")
    a = p.parse_args(argv)
    lab = Lab.open(a.dir)
    amiss = lab.down(purge=not a.keep)
    for sentence in amiss:
        print(f"lab: {sentence}", file=sys.stderr)
    print("lab: down" + (f"; logs and checkpoints are in {lab.dir}" if a.keep else ""))
    return 1 if amiss else 0


def command_env(argv):
    p = parser_of("env")
    lab = Lab.open(p.parse_args(argv).dir)
    if lab.state.get("hosts"):
        raise LabError("this lab has simulated hosts, whose network cannot be reached from here: use lab/shell or lab/node exec")
    env = lab.environment()
    print(f"# eval \"$(lab/env)\" lets this shell use the cluster in {lab.dir}")
    for key in ("SLURM_CONF", "FSCHED_LAB", "MANPATH"):
        print(f"export {key}='{env[key]}'")
    print(f"export PATH='{env['PATH'].removesuffix(SYSTEM_PATH)}'\"$PATH\"")
    return 0


def command_shell(argv):
    p = parser_of("shell")
    p.add_argument("--user", default=None, help="whose shell (the lab's ordinary user; root: the administrator's)")
    p.add_argument("command", nargs=argparse.REMAINDER, help="runs this instead of a shell")
    a = p.parse_args(argv)
    lab = Lab.open(a.dir)
    user = a.user or lab.state["users"][0]
    env = lab.environment(user)
    cwd = env["HOME"] if os.path.isdir(env["HOME"]) and user != "root" else lab.dir
    command = a.command[1:] if a.command[:1] == ["--"] else a.command
    if not command:
        print(HINT.format(user=user, dir=lab.dir))
        if lab.state.get("hosts"):
            print(f"It runs on ctl; the nodes are {', '.join(lab.node_names())}. From outside of it, lab/node cuts their power or network.")
        command = ["bash", "--rcfile", os.path.join(lab.dir, "etc", "bashrc"), "-i"]
    argv, cwd = lab.enter(lab.as_user(user) + command, cwd)
    sys.stdout.flush()
    try:
        os.chdir(cwd)
        os.execvpe(argv[0], argv, env)
    except OSError as e:
        raise LabError(f"{argv[0]}: {e.strerror}") from None


NODE_USAGE = """\
usage: lab/node [--dir DIR] list
       lab/node [--dir DIR] kill|up|cut|heal|ro|rw|umount HOST
       lab/node [--dir DIR] exec [--user USER] HOST COMMAND [ARGUMENT ...]

Hosts of a lab that was started with lab/up --hosts N (make lab NODES=N): n1, n2 ... and ctl, which runs slurmctld.
  list   the hosts with address, power, link and state in Slurm
  kill   power failure: every process there ends at once; its disk keeps its files
  up     boots it
  cut    disconnects its network; its processes go on
  heal   connects it again
  ro     makes the cluster file system read-only there, except for files that are open and for jobs that run
  rw     undoes ro
  umount unmounts the cluster file system there, until its next boot
  exec   runs a command there, as root or as USER"""


def _print_hosts(lab):
    hosts = lab.hosts()
    slurm = {}
    if hosts[multi.CONTROLLER]["pid"]:
        listed = lab.slurm("sinfo", "-h", "-N", "-o", "%N %T")
        slurm = dict(line.split() for line in listed.stdout.splitlines() if len(line.split()) == 2) if listed.returncode == 0 else {}
        slurm[multi.CONTROLLER] = "slurmctld" if listed.returncode == 0 else "slurmctld does not answer"
    print(f"{'HOST':6} {'ADDRESS':12} {'POWER':6} {'LINK':5} SLURM")
    for name, state in hosts.items():
        print(f"{name:6} {state['address']:12} {'on' if state['pid'] else 'off':6} {'cut' if state['cut'] else 'up':5} "
              f"{slurm.get(name, '-')}")


def _execute(lab, host, user, command):
    env = lab.environment(user)
    cwd = env["HOME"] if user != "root" and os.path.isdir(env["HOME"]) else "/"
    argv, _ = lab.enter(lab.as_user(user) + command, cwd, host)
    sys.stdout.flush()
    return subprocess.run(argv, env=env, cwd="/", check=False).returncode


def command_node(argv):
    p = argparse.ArgumentParser(prog="lab/node", usage=NODE_USAGE.removeprefix("usage: "), add_help=False, allow_abbrev=False)
    p.add_argument("--dir", default=Options().dir)
    p.add_argument("-h", "--help", action="store_true")
    p.add_argument("op", nargs="?", choices=("list", "kill", "up", "cut", "heal", "ro", "rw", "umount", "exec"))
    p.add_argument("words", nargs=argparse.REMAINDER)
    a = p.parse_args(argv)
    if a.help:
        print(NODE_USAGE)
        return 0
    user = "root"
    if a.op == "exec" and a.words[:1] == ["--user"]:
        user, a.words = (a.words[1:2] or [""])[0], a.words[2:]
    wrong = {"list": len(a.words) != 0, "exec": len(a.words) < 2}.get(a.op, len(a.words) != 1)
    if wrong or not a.op or not user:
        print(NODE_USAGE, file=sys.stderr)
        return 2
    lab = Lab.open(a.dir)
    if not isinstance(lab, multi.HostsLab):
        raise LabError(f"the lab in {lab.dir} has no simulated hosts (lab/up --hosts N, make lab NODES=N)")
    if a.op == "list":
        _print_hosts(lab)
    elif a.op == "exec":
        return _execute(lab, a.words[0], user, a.words[1:])
    elif a.op == "up":
        began = time.monotonic()
        lab.boot(a.words[0])
        print(f"{a.words[0]}: up after {time.monotonic() - began:.1f} s")
    else:
        lab.check_name(a.words[0])
        lab.hosts()
        getattr(lab, a.op)(a.words[0])
    return 0


HINT = """\
A shell of {user} on a private cluster; its files are in {dir}. Try:
  sbatch --checkpoint=0:30 heat.sh          a job that is checkpointed every 30 seconds
  scontrol show job 1 | grep Checkpoint     its state
  scontrol checkpoint create 1              save it now
  scontrol checkpoint vacate 1              save it and free its CPUs; squeue shows it held
  scontrol checkpoint restart 1             continue it
  fsched list 1                             its checkpoints
"exit" ends the shell; the cluster stays up. "make lab-shell" gives another shell, "make lab-down" ends the cluster."""


def main(command, argv):
    try:
        return {"up": command_up, "down": command_down, "env": command_env, "shell": command_shell,
                "node": command_node}[command](argv)
    except LabError as e:
        print(f"lab: error: {e}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
