"""What a network of its own (PodNetwork = private) costs a job, beside the node's. Node and other host are network namespaces."""
import json
import os
import statistics
import subprocess
import time

from pod import ROOT, Failed

PORT = 7070
NODE, OTHER = "10.99.0.1", "10.99.0.2"
KINDS = ("host", "private")
WAYS = ("send", "receive", "trip")


class Namespace:
    """A network namespace, held by a process."""

    def __init__(self):
        self.p = subprocess.Popen(["unshare", "--net", "--", "sh", "-c", "echo; exec sleep infinity"], stdout=subprocess.PIPE)
        self.p.stdout.readline()
        self.enter = ["nsenter", f"--target={self.p.pid}", "--net", "--"]

    def run(self, *argv):
        subprocess.run([*self.enter, *map(str, argv)], check=True)

    def end(self):
        self.p.kill()
        self.p.wait()
        self.p.stdout.close()


def link(node, other):
    node.run("ip", "link", "add", "uplink", "type", "veth", "peer", "name", "eth0", "netns", other.p.pid)
    for n, interface, address in ((node, "uplink", NODE), (other, "eth0", OTHER)):
        n.run("ip", "address", "add", f"{address}/24", "dev", interface)
        n.run("ip", "link", "set", interface, "up")
        n.run("ip", "link", "set", "lo", "up")
    node.run("ip", "route", "add", "default", "via", OTHER)
    node.run("sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward")


def pod(bench, node, conf, *argv):
    """Runs a command in a pod; returns its output and when it had ended."""
    d = bench.dir / "net"
    p = subprocess.run([*node.enter, bench.dir / "stage/usr/bin/fsched", "pod", "run", "--dir", d, "--", *map(str, argv)], cwd=bench.dir, text=True,
                       env={**os.environ, "FSCHED_CONF": str(conf)}, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    ended = time.time()
    subprocess.run(["rm", "-rf", d], check=True)
    if p.returncode or "warning" in p.stderr:
        raise Failed(p.stderr.strip()[-300:])
    return p.stdout, ended


def start(bench, node, conf):
    """ms from the command to the first process of the pod's command, and from there to its end."""
    began = time.time()
    out, ended = pod(bench, node, conf, "/bin/date", "+%s.%N")
    return {"start": (float(out) - began) * 1000, "end": (ended - float(out)) * 1000}


def pairs(rounds, one):
    """Medians of each kind, and of the differences and ratios of pairs."""
    rows = [{k: one(k) for k in (KINDS if n % 2 else KINDS[::-1])} for n in range(rounds + 1)][1:]

    def middle(f):
        return statistics.median(f(r) for r in rows)
    return {key: {"host": middle(lambda r, k=key: r["host"][k]), "private": middle(lambda r, k=key: r["private"][k]),
                  "more": middle(lambda r, k=key: r["private"][k] - r["host"][k]), "ratio": middle(lambda r, k=key: r["private"][k] / r["host"][k])}
            for key in rows[0]["host"]}


def load(bench, node, conf, seconds):
    out = json.loads(pod(bench, node, conf, "/usr/bin/python3", ROOT / "bench/netload.py", seconds, OTHER, PORT)[0])
    return {f"{to} {way}": out[to][way] for to in out for way in WAYS}


def measure(bench, rounds, seconds):
    conf = {k: bench.conf(f"PodNetwork = {k}") for k in KINDS}
    node, other = Namespace(), Namespace()
    server = None
    try:
        link(node, other)
        server = subprocess.Popen([*other.enter, "/usr/bin/python3", ROOT / "bench/netload.py", "serve", OTHER, str(PORT)], stdout=subprocess.PIPE)
        server.stdout.readline()
        return {"starts": pairs(2 * rounds, lambda k: start(bench, node, conf[k])), "loads": pairs(rounds, lambda k: load(bench, node, conf[k], seconds))}
    finally:
        if server:
            server.kill()
            server.wait()
            server.stdout.close()
        node.end()
        other.end()
