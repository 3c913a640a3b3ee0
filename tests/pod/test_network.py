"""PodNetwork = private: pods with a network of their own. The "node" is a network namespace, linked to another, the rest of the world."""
import os
import re
import shutil
import subprocess
import time
from pathlib import Path

import lib
import pytest

from test_pod import USER, base, pods  # noqa: F401  (fixtures)

PORT = 17777
NODE, WORLD = "10.99.0.1", "10.99.0.2"


class Namespace:
    """A network namespace, held by a process."""

    def __init__(self, *more):
        self.p = subprocess.Popen(["unshare", "--net", *more, "--", "sh", "-c", "echo; exec sleep infinity"], stdout=subprocess.PIPE)
        self.p.stdout.readline()
        self.enter = ["nsenter", f"--target={self.p.pid}", "--net", *more, "--"]
        self.ok("ip", "link", "set", "lo", "up")

    def ok(self, *argv):
        return subprocess.run([*self.enter, *map(str, argv)], text=True, capture_output=True, check=True).stdout

    def sysctl(self, name, value):
        self.ok("sh", "-c", f"echo {value} > /proc/sys/{name}")

    def links(self):
        return [line.split()[0].partition("@")[0] for line in self.ok("ip", "-br", "link").splitlines()]

    def rules(self):
        return self.ok("nft", "list", "ruleset")

    def end(self):
        self.p.kill()
        self.p.wait()
        self.p.stdout.close()


@pytest.fixture
def world():
    n = Namespace()
    yield n
    n.end()


@pytest.fixture
def node(world):
    """At the end of a test nothing of a pod may be left in it."""
    n = Namespace()
    n.ok("ip", "link", "add", "uplink", "type", "veth", "peer", "name", "eth0", "netns", world.p.pid)
    for who, interface, address in ((n, "uplink", NODE), (world, "eth0", WORLD)):
        who.ok("ip", "address", "add", f"{address}/24", "dev", interface)
        who.ok("ip", "link", "set", interface, "up")
    n.ok("ip", "route", "add", "default", "via", WORLD)
    n.sysctl("net/ipv4/ip_forward", 1)
    yield n
    try:
        lib.wait_for(lambda: n.links() == ["lo", "uplink"] and not n.rules(), "the node to be as it was found", 20)
    finally:
        left = n.links(), n.rules()
        n.end()
    assert left == (["lo", "uplink"], "")


@pytest.fixture
def private(base):
    f = base / "private.conf"
    f.write_text((base / "fsched.conf").read_text().replace("PodNetwork = host", "PodNetwork = private"))
    return f


class Pod:
    """A program in a pod on a node, under the configuration conf."""

    def __init__(self, pods, base, node, conf, *argv, files=()):
        self.pods, self.base, self.conf, self.dir, self.enter = pods, base, conf, pods.place("n"), node.enter
        self.work, self.state = self.dir / "work", self.dir / "state"
        self.out, self.said = self.work / "out", self.work / "said"
        for f in files:
            shutil.copy(f, self.work)
        with open(self.out, "wb") as f:
            shutil.chown(self.out, USER)
            self.p = self.begin("run", "--dir", self.state, "--user", USER, "--", *argv, stdout=f, stderr=subprocess.STDOUT)

    def begin(self, *argv, **more):
        p = subprocess.Popen([*self.enter, self.base / "stage/usr/bin/fsched", "pod", *map(str, argv)], text=True, stdin=subprocess.DEVNULL,
                             env={**os.environ, "FSCHED_CONF": str(self.conf), "SLURM_CONF": str(self.dir / "slurm.conf")}, cwd=self.work, **more)
        self.pods.running.append(p)
        return p

    def fsched(self, *argv, fails=False):
        p = self.begin(*argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        out = p.communicate(timeout=120)[0]
        assert (p.returncode != 0) == fails, out
        return out

    def create(self, **more):
        return self.fsched("checkpoint", self.state, **more)

    def kill(self):
        self.fsched("kill", self.state)
        self.p.wait(60)

    def restore(self):
        with open(self.said, "wb") as f:
            self.p = self.begin("restore", self.state, stdout=f, stderr=subprocess.STDOUT)
        lib.wait_for(lambda: "restored from epoch" in self.said.read_text() or self.p.poll() is not None, "the restore")
        return self.said.read_text()

    def inside(self, *argv, mount=False):
        """Runs a command of the node in the namespaces of the pod."""
        pid = lib.wait_for(lambda: [p for p in lib.descendants(self.p.pid) if lib.comm(p) == "fsched-leader"], "the pod")[0]
        return subprocess.run(["nsenter", f"--target={pid}", "--net", "--uts", *(["--mount"] if mount else []), "--", *map(str, argv)],
                              text=True, stdout=subprocess.PIPE, check=True).stdout


class Server(Pod):
    def __init__(self, pods, base, node, conf, address="127.0.0.1", port=PORT):
        super().__init__(pods, base, node, conf, "/usr/bin/python3", "server.py", address, port, files=[lib.ROOT / "tests/workloads/server.py"])
        lib.wait_for(lambda: "ready" in self.out.read_text() or self.p.poll() is not None, "the server")

    def beat(self):
        try:
            return int((self.work / "beat").read_text() or 0)
        except FileNotFoundError:
            return 0

    def moves(self):
        """Waits until numbers have gone both ways."""
        first = self.beat()
        lib.wait_for(lambda: self.beat() > first + 200 or self.p.poll() is not None, "numbers that move")
        assert self.p.poll() is None, self.out.read_text() + (self.said.read_text() if self.said.exists() else "")

    def stop(self):
        (self.work / "stop").touch()
        assert self.p.wait(60) == 0, self.out.read_text()
        assert "numbers" in self.out.read_text() and "warning" not in self.out.read_text()


@pytest.mark.parametrize("address", ["127.0.0.1", "own"])
def test_a_connection_right_after_create(pods, base, node, private, address):
    """The addresses of a pod that was killed are not in use (TIME_WAIT) for the one that is restored at once."""
    job = Server(pods, base, node, private, address)
    for _ in range(3):
        job.moves()
        assert "warning" not in job.create()
        job.kill()
        assert "restored from epoch" in job.restore(), job.said.read_text()
    job.moves()
    job.stop()
    assert "198.18.224.1" in job.out.read_text()


def test_two_pods_with_the_same_ports(pods, base, node, private):
    jobs = [Server(pods, base, node, private, "own"), Server(pods, base, node, private, "own")]
    for job in jobs:
        job.moves()
        job.create()
    for job in jobs:
        job.kill()
    for job in jobs:
        assert "restored from epoch" in job.restore(), job.said.read_text()
    assert len(node.links()) == 4
    # criu has not dumped the namespaces, which would take 50 ms of the freeze.
    images = [f.name for f in jobs[0].state.glob("epochs/0*/criu/*.img")]
    assert images and not [n for n in images if n.startswith(("netdev", "netns", "ifaddr", "route", "iptables", "nftables", "utsns"))], images
    for job in jobs:
        job.moves()
        job.stop()


def test_the_host_name_stays(pods, base, node, private):
    """As the node was called when the job began."""
    names = [["unshare", "--uts", "sh", "-c", f'hostname {name} && exec "$@"', "sh"] for name in ("first.test", "second")]
    enter = node.enter
    node.enter = enter + names[0]
    job = Server(pods, base, node, private)
    job.moves()
    job.create()
    job.kill()
    node.enter = enter
    job.enter = enter + names[1]
    assert "restored from epoch" in job.restore(), job.said.read_text()
    assert job.inside("hostname").strip() == "first.test"
    job.moves()
    job.stop()
    assert "ready first.test" in job.out.read_text()


def test_the_mode_of_the_epoch_counts(pods, base, node, private):
    """An epoch of a job with the node's network is restored with it, and one of a job with its own with its own."""
    def own(job):
        return job.inside("readlink", "/proc/self/ns/net") != node.ok("readlink", "/proc/self/ns/net")

    for begun, later in [(base / "fsched.conf", private), (private, base / "fsched.conf")]:
        job = Server(pods, base, node, begun)
        job.moves()
        assert own(job) == (begun == private)
        job.fsched("checkpoint", "--kill", job.state)
        job.p.wait(60)
        job.conf = later
        assert "restored from epoch" in job.restore(), job.said.read_text()
        assert own(job) == (begun == private)
        job.moves()
        job.stop()


def test_what_a_pod_sees(pods, base, node, private):
    node.ok("ip", "link", "set", "uplink", "mtu", 1400)
    node.sysctl("net/core/somaxconn", 1234)
    node.sysctl("net/ipv4/ip_local_port_range", "'20000 30000'")
    job = Server(pods, base, node, private)
    assert set(job.inside("ls", "/sys/class/net", mount=True).split()) == {"lo", "eth0"}
    assert job.inside("cat", "/sys/class/net/eth0/address", mount=True).startswith("02:66:73")
    assert job.inside("cat", "/sys/class/net/eth0/mtu", mount=True) == "1400\n"
    assert job.inside("cat", "/proc/sys/net/core/somaxconn").split() == ["1234"]
    assert job.inside("cat", "/proc/sys/net/ipv4/ip_local_port_range").split() == ["20000", "30000"]
    assert job.inside("getent", "hosts", os.uname().nodename, mount=True).split()[0] == "198.18.224.1"
    job.stop()


def test_files_of_the_pod_that_are_open(pods, base, node, private):
    """/etc/hosts and what /sys says of interfaces are mounts of the pod's own."""
    program = "import os,time\nf=[open(n) for n in ('/sys/class/net/eth0/address','/etc/hosts')]\nfirst=[x.readline() for x in f]\n" \
              "print('ready',flush=True)\nwhile not os.path.exists('stop'): time.sleep(0.05)\n" \
              "for x in f: x.seek(0)\nassert first==[x.readline() for x in f]\nprint('same',flush=True)\n"
    job = Pod(pods, base, node, private, "/usr/bin/python3", "-c", program)
    lib.wait_for(lambda: "ready" in job.out.read_text() or job.p.poll() is not None, "the program")
    job.create()
    job.kill()
    assert "restored from epoch" in job.restore(), job.said.read_text()
    (job.work / "stop").touch()
    assert job.p.wait(60) == 0, job.out.read_text()
    assert "same" in job.out.read_text()


def test_the_world_and_the_node(pods, base, node, world, private):
    """A pod reaches both, except what listens on the node's loopback, and no other pod."""
    hello = "import socket,sys\ns=socket.socket();s.setsockopt(1,2,1);s.bind((sys.argv[1],int(sys.argv[2])));s.listen()\n" \
            "print('up',flush=True)\nwhile 1:\n c,a=s.accept();c.send(a[0].encode());c.close()\n"
    servers = [subprocess.Popen([*who.enter, "/usr/bin/python3", "-c", hello, address, str(port)], stdout=subprocess.PIPE)
               for who, address, port in ((world, WORLD, 7001), (node, NODE, 7002), (node, "127.0.0.1", 7003))]
    first = "import socket\ns=socket.socket(2,2);s.bind(('0.0.0.0',7004));print('up',flush=True);print(s.recv(99).decode(),flush=True)\n"
    servers.append(subprocess.Popen([*node.enter, "/usr/bin/python3", "-c", first], stdout=subprocess.PIPE))
    send = f"import socket\nfor to,via in (('127.0.0.1',b'eth0'),('{NODE}',b'')):\n s=socket.socket(2,2);s.setsockopt(1,25,via)\n" \
           " try: s.sendto(to.encode(),(to,7004))\n except PermissionError: assert via\n"
    ask = "import socket,sys\nopt=sys.argv[3:]\ns=socket.socket();s.settimeout(2)\nif opt: s.setsockopt(1,25,opt[0].encode())\n" \
          "try:\n s.connect((sys.argv[1],int(sys.argv[2])));print(s.recv(99).decode())\nexcept OSError as e: print('no',e)\n"
    try:
        for s in servers:
            s.stdout.readline()
        jobs = [Server(pods, base, node, private, "own"), Server(pods, base, node, private, "own")]
        def asks(*argv, user=("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--")):
            return jobs[0].inside(*user, "/usr/bin/python3", "-c", ask, *argv).strip()
        assert asks(WORLD, 7001) == NODE
        assert asks(NODE, 7002).startswith("198.18.")
        assert asks("127.0.0.1", 7003).startswith("no")
        assert asks("198.18.224.2", 7003).startswith("no")
        # A process may choose the interface: the node must not take what it sends for its own loopback's.
        assert asks("127.0.0.1", 7003, "eth0").startswith("no")
        jobs[0].inside("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--", "/usr/bin/python3", "-c", send)
        assert servers[-1].stdout.readline() == NODE.encode() + b"\n"
        # The other pod's address on the node: it cannot be reached by that, neither from pods nor from the world.
        routes = [line.split()[0] for line in node.ok("ip", "route").splitlines() if "fsched" in line]
        assert len(routes) == 2
        world.ok("ip", "route", "add", "198.18.0.0/15", "via", NODE)
        for r in routes:
            assert asks(r, PORT).startswith("no")
            assert world.ok("/usr/bin/python3", "-c", ask, r, PORT).startswith("no")
        for job in jobs:
            job.stop()
    finally:
        for s in servers:
            s.kill()
            s.wait()
            s.stdout.close()


def test_ways_to_the_loopback_of_the_node(pods, base, node, private):
    """A node that accepts source routes (Linux 6.18 asks for CAP_NET_RAW to send them, older versions do not), and one whose rules are
    flushed: nothing of a pod reaches the loopback."""
    for scope in ("all", "default"):
        node.sysctl(f"net/ipv4/conf/{scope}/accept_source_route", 1)
    receive = "import socket\ns=socket.socket(2,2);s.bind(('127.0.0.1',7003));print('up',flush=True)\n" \
              "while 1: print(s.recv(99).decode(),flush=True)\n"
    send = "import socket\ns=socket.socket(2,2)\ns.setsockopt(0,4,bytes([131,7,4])+socket.inet_aton('198.18.224.2')+b'\\0')\n" \
           "s.sendto(b'through',('127.0.0.1',7003))\n"
    flushed = "import socket\ns=socket.socket(2,2);s.setsockopt(1,25,b'eth0')\ntry: s.sendto(b'flushed',('127.0.0.1',7003))\n" \
              "except OSError: pass\n"
    server = subprocess.Popen([*node.enter, "/usr/bin/python3", "-c", receive], stdout=subprocess.PIPE, text=True)
    try:
        server.stdout.readline()
        job = Server(pods, base, node, private)
        job.inside("/usr/bin/python3", "-c", send)
        # as `systemctl reload nftables` does
        node.ok("nft", "flush", "ruleset")
        job.inside("/usr/bin/python3", "-c", flushed)
        node.ok("/usr/bin/python3", "-c", "import socket;socket.socket(2,2).sendto(b'own',('127.0.0.1',7003))")
        assert server.stdout.readline() == "own\n"
        job.stop()
    finally:
        server.kill()
        server.wait()
        server.stdout.close()


def test_a_flood_of_connections(pods, base, node, world, private):
    """The node tracks those of all, and has room for so many only: one job does not get all of it, and another gets what it needs."""
    most = int(node.ok("cat", "/proc/sys/net/netfilter/nf_conntrack_max"))
    flood = f"import socket\ns=socket.socket(2,2)\nfor port in range(20000,32000):\n try: s.sendto(b'',('{WORLD}',port))\n except OSError: pass\n"
    one = "import socket\ns=socket.socket(2,2);s.bind(('',20000));print('up',flush=True);print(s.recv(99).decode(),flush=True)\n"
    jobs = [Server(pods, base, node, private, "own"), Server(pods, base, node, private, "own")]
    jobs[0].inside("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--", "/usr/bin/python3", "-c", flood)
    tracked = int(node.ok("cat", "/proc/sys/net/netfilter/nf_conntrack_count"))
    assert 500 <= tracked <= 8200 < most, tracked
    server = subprocess.Popen([*world.enter, "/usr/bin/python3", "-c", one], stdout=subprocess.PIPE, text=True)
    try:
        server.stdout.readline()
        jobs[1].inside("/usr/bin/python3", "-c", f"import socket;socket.socket(2,2).sendto(b'other',('{WORLD}',20000))")
        assert server.stdout.readline() == "other\n"
    finally:
        server.kill()
        server.wait()
        server.stdout.close()
    for job in jobs:
        job.stop()


def test_many_at_once(pods, base, node, world, private):
    """Rules are there as long as there is a pod, whichever begins or ends meanwhile."""
    hello = "import socket\ns=socket.socket();s.setsockopt(1,2,1);s.bind(('0.0.0.0',7001));s.listen(99)\nprint('up',flush=True)\n" \
            "while 1:\n c,a=s.accept();c.send(a[0].encode());c.close()\n"
    ask = f"import socket;print(socket.create_connection(('{WORLD}',7001),20).recv(99).decode())"
    server = subprocess.Popen([*world.enter, "/usr/bin/python3", "-c", hello], stdout=subprocess.PIPE)
    try:
        server.stdout.readline()
        jobs = [Pod(pods, base, node, private, "/usr/bin/python3", "-c", ask) for _ in range(10)]
        for job in jobs:
            assert job.p.wait(120) == 0, job.out.read_text()
            assert job.out.read_text().endswith(NODE + "\n"), job.out.read_text()
    finally:
        server.kill()
        server.wait()
        server.stdout.close()


def test_a_name_server_on_the_loopback_and_slurmctld(pods, base, private):
    """Those that the job needs are forwarded, with both ends on the loopback as before."""
    n = Namespace("--mount")
    resolv = Path(pods.place("r")) / "resolv.conf"
    resolv.write_text("nameserver 127.0.0.53\noptions timeout:1\n")
    n.ok("mount", "--bind", resolv, "/etc/resolv.conf")
    n.sysctl("net/ipv4/ip_forward", 1)
    answer = "import socket\nu=socket.socket(2,2);u.bind(('127.0.0.53',53))\nt=socket.socket();t.bind(('127.0.0.1',7100));t.listen()\n" \
             "print('up',flush=True)\nd,a=u.recvfrom(99);u.sendto(a[0].encode(),a)\nc,a=t.accept();c.send(a[0].encode());c.close()\n"
    ask = "import socket\nu=socket.socket(2,2);u.settimeout(3);u.connect(('127.0.0.53',53));u.send(b'q');print(u.recv(99).decode())\n" \
          "t=socket.create_connection(('127.0.0.1',7100),3);print(t.recv(99).decode(),t.getpeername()[0])\n"
    server = subprocess.Popen([*n.enter, "/usr/bin/python3", "-c", answer], stdout=subprocess.PIPE)
    try:
        server.stdout.readline()
        place = pods.place("c")
        (place / "slurm.conf").write_text("SlurmctldHost=ctl(127.0.0.1)\nSlurmctldPort=7100\n")
        n.enter += ["env", f"SLURM_CONF={place}/slurm.conf"]
        job = Pod(pods, base, n, private, "/bin/sleep", "1000")
        assert job.inside("/usr/bin/python3", "-c", ask) == "127.0.0.1\n127.0.0.1 127.0.0.1\n"
        job.kill()
        assert lib.wait_for(lambda: n.links() == ["lo"] and not n.rules(), "the node to be as it was found")
    finally:
        server.kill()
        server.wait()
        server.stdout.close()
        n.end()


@pytest.mark.parametrize("obstacle, words", [("forward", "net.ipv4.ip_forward is 0"), ("range", "route to 198.18.224.0/24")])
def test_a_node_that_cannot_give_a_network(pods, base, node, private, obstacle, words):
    """A job begins with the node's network then, and says so. One that has its own is not restored without it."""
    job = Server(pods, base, node, private)
    job.moves()
    job.fsched("checkpoint", "--kill", job.state)
    job.p.wait(60)
    if obstacle == "forward":
        node.sysctl("net/ipv4/ip_forward", 0)
    else:
        node.ok("ip", "route", "add", "198.18.224.0/24", "dev", "uplink")
    said = job.restore()
    assert job.p.wait(60) != 0 and "cannot give the job a network of its own" in said and words in said, said
    other = Server(pods, base, node, private)
    assert other.inside("readlink", "/proc/self/ns/net") == node.ok("readlink", "/proc/self/ns/net")
    said = other.out.read_text()
    assert said.count("warning") == 1 and words in said, said
    (other.work / "stop").touch()
    assert other.p.wait(60) == 0
    if obstacle == "forward":
        node.sysctl("net/ipv4/ip_forward", 1)
    else:
        node.ok("ip", "route", "del", "198.18.224.0/24")
    assert "restored from epoch" in job.restore(), job.said.read_text()
    job.moves()
    job.stop()


def test_a_killed_supervisor_leaves_no_link(pods, base, node, private):
    """The link goes with the pod, and the rules with the next pod that ends."""
    job = Server(pods, base, node, private)
    job.p.kill()
    job.p.wait()
    lib.wait_for(lambda: node.links() == ["lo", "uplink"], "the link to go")
    job = Server(pods, base, node, private)
    job.stop()


def test_the_start_is_not_much_slower(pods, base, node, private, record_property):
    def measure(conf):
        """ms to the first line of the command, and from there to the end of the pod; the best of 7."""
        times = []
        for _ in range(7):
            d = pods.place("t")
            began = time.time()
            p = subprocess.run([*node.enter, base / "stage/usr/bin/fsched", "pod", "run", "--dir", d / "state", "--", "/bin/date", "+%s.%N"],
                               env={**os.environ, "FSCHED_CONF": str(conf)}, cwd=d, stdin=subprocess.DEVNULL, capture_output=True, check=True)
            assert b"warning" not in p.stderr, p.stderr
            times.append((float(p.stdout) - began, time.time() - float(p.stdout)))
        return [1000 * min(t) for t in zip(*times)]
    host, own = measure(base / "fsched.conf"), measure(private)
    record_property("say", f"a pod with the node's network begins in {host[0]:.0f} ms and ends in {host[1]:.0f} ms, "
                           f"one with its own in {own[0]:.0f} and {own[1]:.0f} ms")
    assert own[0] - host[0] < 300


@pytest.mark.parametrize("family", ["4", "6"])
@pytest.mark.parametrize("network", ["private", "host"])
def test_a_restored_stream_is_as_fast(pods, base, node, private, network, family, record_property):
    """criu restores connections with the smallest segments that there are (MSS 524)."""
    def segments(job):
        return {int(n) for n in re.findall(r"\bmss:(\d+)", job.inside("ss", "-tin", "state", "established", f"( sport = {PORT} or dport = {PORT} )"))}

    def rate(job):
        def now():
            return int((job.work / "beat").read_text()) if (job.work / "beat").exists() else 0
        first = lib.wait_for(now, "bytes")
        began = time.monotonic()
        lib.wait_for(lambda: now() > first + (256 << 20) and time.monotonic() > began + 1, "256 MiB")
        return (now() - first) / (time.monotonic() - began) / 1e6

    job = Pod(pods, base, node, private if network == "private" else base / "fsched.conf", "/usr/bin/python3", "stream.py", family, PORT,
              files=[lib.ROOT / "tests/workloads/stream.py"])
    before = rate(job)
    usual = segments(job)
    job.fsched("checkpoint", "--kill", job.state)
    job.p.wait(60)
    assert "restored from epoch" in job.restore(), job.said.read_text()
    restored = segments(job)
    after = rate(job)
    record_property("say", f"{network}, IPv{family}: {before:.0f} MB/s with MSS {sorted(usual)}, restored {after:.0f} MB/s with MSS {sorted(restored)}")
    (job.work / "stop").touch()
    assert job.p.wait(60) == 0, job.out.read_text()
    assert min(restored) >= min(usual) // 2 > 10000
    assert after > before / 3
