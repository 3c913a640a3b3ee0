"""The parent of a lab's daemons.

One process per lab. It is a child sub-reaper, so processes started by slurmd remain its descendants even when slurmd is gone: exactly the
processes of the lab are below the keeper. It listens on DIR/run/keeper.sock (root only) for one JSON request per connection:

    {"op": "start", "name": "slurmctld"}                      -> {"pid": N}
    {"op": "stop", "name": "slurmctld", "signal": 15, "wait": 10}  -> {"exit": STATUS}, after the process is gone
    {"op": "list"}       -> {"daemons": {NAME: {"pid": N or null, "exit": STATUS or null}}}
    {"op": "quit"}       -> {}; the keeper exits and stops no daemon

Usage: keeper.py DIR. DIR/keeper.json holds {"daemons": {NAME: {"argv": [...], "env": {...}, "log": PATH}}} and, for daemons that
run on the machine itself, "names": {"text": of /etc/hosts, "place": as for host.use_hosts_file()}

In a lab of simulated hosts (host.py) the keeper is the parent of all hosts, which end when it ends. It has no daemons. Its requests are

    {"op": "boot", "host": NAME}    -> {"pid": N}; also "kill", "cut" and "heal", -> {}
    {"op": "hosts"}                 -> {"hosts": {NAME: {"pid": N or null if it is off, "cut": BOOL, "address": A}}}

Each host has a keeper of its own as its first process: keeper.py --host NAME DIR, which listens on DIR/run/keeper.NAME.sock. It starts
the daemons of its host in the order of keeper.json. keeper.json then has more members: "network" (for host.Hosts), and for a
daemon "host", "boot" (arguments at the boot only) and "socket" (which it must create before the next daemon is started). The pids
are those inside the host.
"""
import ctypes
import json
import os
import signal
import socket
import subprocess
import sys
import time

import host as simulated

PR_SET_CHILD_SUBREAPER = 36
TERM_GRACE = 10.0   # s between the signal of "stop" and SIGKILL
BOOT_WAIT = 10.0    # s for a daemon to make its socket


class Keeper:
    def __init__(self, directory, host=None):
        with open(os.path.join(directory, "keeper.json"), encoding="utf-8") as f:
            config = json.load(f)
        self.specs = {name: spec for name, spec in config["daemons"].items() if spec.get("host") == host}
        self.running = {}      # name -> Popen
        self.ended = {}        # name -> exit status, negative: signal
        self.hosts = None
        if "names" in config:
            simulated.use_hosts_file(config["names"]["text"], config["names"]["place"])
        if host:
            simulated.become(host, directory, config["network"])
        elif "network" in config:
            self.hosts = simulated.Hosts(directory, config["network"])
        path = os.path.join(directory, "run", f"keeper.{host}.sock" if host else "keeper.sock")
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        old = os.umask(0o077)
        if os.path.exists(path + "-"):
            os.unlink(path + "-")
        self.listener.bind(path + "-")
        os.umask(old)
        self.listener.listen(8)
        os.rename(path + "-", path)     # a client that sees the name can connect; replaces the socket of an earlier boot
        self.listener.settimeout(0.2)

    def reap(self):
        """Reaps daemons and adopted orphans."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if self.hosts and (name := self.hosts.ended(pid)):
                print(f"host {name} (pid {pid}) ended with status {os.waitstatus_to_exitcode(status)}", flush=True)
            for name, process in list(self.running.items()):
                if process.pid == pid:
                    process.returncode = os.waitstatus_to_exitcode(status)
                    self.ended[name] = process.returncode
                    del self.running[name]
                    print(f"{name} (pid {pid}) ended with status {process.returncode}", flush=True)

    def boot(self):
        """Starts all daemons."""
        for name, spec in self.specs.items():
            self.start(name, spec.get("boot", []))
            deadline = time.monotonic() + BOOT_WAIT
            while spec.get("socket") and not os.path.exists(spec["socket"]) and name in self.running and time.monotonic() < deadline:
                time.sleep(0.005)
                self.reap()

    def start(self, name, more=()):
        if name in self.running:
            return {"error": f"{name} is running already"}
        spec = self.specs[name]
        # The log is a plain file: the reader of a pipe would wait as long as any process that inherits it runs.
        with open(spec["log"], "ab") as log:
            process = subprocess.Popen([*spec["argv"], *more], env=spec["env"], stdin=subprocess.DEVNULL, stdout=log,
                                       stderr=log, cwd="/", start_new_session=True)
        self.running[name] = process
        self.ended.pop(name, None)
        print(f"started {name}, pid {process.pid}", flush=True)
        return {"pid": process.pid}

    def stop(self, name, number, grace):
        if name not in self.running:
            return {"exit": self.ended.get(name)}
        process = self.running[name]
        os.kill(process.pid, number)
        deadline = time.monotonic() + grace
        while name in self.running:
            self.reap()
            if time.monotonic() > deadline:
                print(f"{name} did not end within {grace:g} s: SIGKILL", flush=True)
                os.kill(process.pid, signal.SIGKILL)
                deadline = float("inf")
            time.sleep(0.01)
        return {"exit": self.ended[name]}

    def list(self):
        names = self.specs.keys()
        return {"daemons": {n: {"pid": self.running[n].pid if n in self.running else None,
                                "exit": self.ended.get(n)} for n in names}}

    def answer(self, request):
        op = request["op"]
        if op == "start":
            return self.start(request["name"])
        if op == "stop":
            return self.stop(request["name"], request.get("signal", signal.SIGTERM), request.get("wait", TERM_GRACE))
        if op == "list":
            return self.list()
        if op == "quit":
            return {}
        if self.hosts and op == "hosts":
            return self.hosts.list()
        if self.hosts and op in ("boot", "kill", "cut", "heal"):
            return getattr(self.hosts, op)(request["host"])
        return {"error": f"unknown op {op}"}

    def serve(self):
        while True:
            self.reap()
            try:
                connection, _ = self.listener.accept()
            except TimeoutError:
                continue
            with connection:
                connection.settimeout(5)
                try:
                    request = json.loads(connection.makefile().readline())
                    try:
                        reply = self.answer(request)
                    except OSError as e:
                        reply = {"error": str(e)}
                    connection.sendall((json.dumps(reply) + "\n").encode())
                    if request["op"] == "quit":
                        return
                except (OSError, ValueError, KeyError) as e:
                    print(f"request failed: {e!r}", flush=True)


def main():
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        sys.exit("keeper: prctl(PR_SET_CHILD_SUBREAPER) failed")
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        # Only "quit" ends the keeper, since its descendants would get another parent. A handler is used because the daemons, and so
        # every job, would inherit SIG_IGN.
        signal.signal(number, lambda *_: None)
    host = sys.argv[2] if sys.argv[1] == "--host" else None
    keeper = Keeper(sys.argv[-1], host)
    if host:
        keeper.boot()
    keeper.serve()


if __name__ == "__main__":
    main()
