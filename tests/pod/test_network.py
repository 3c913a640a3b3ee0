"""PodNetwork = private: pods with a network of their own."""
import os
import shutil
import subprocess

import lib
import pytest

from test_pod import USER, base, pods  # noqa: F401  (fixtures)

PORT = 17777


class Server:
    """server.py in a pod, under the configuration conf."""

    def __init__(self, pods, base, conf, address="127.0.0.1", port=PORT, wrap=()):
        self.pods, self.base, self.conf, self.wrap, self.dir = pods, base, conf, list(wrap), pods.place("n")
        self.work, self.state = self.dir / "work", self.dir / "state"
        self.out = self.work / "out"
        shutil.copy(lib.ROOT / "tests/workloads/server.py", self.work)
        self.said = self.work / "said"
        with open(self.out, "wb") as f:
            shutil.chown(self.out, USER)
            self.p = self.begin("run", "--dir", self.state, "--user", USER, "--", "/usr/bin/python3", "server.py", address, port, stdout=f,
                                stderr=subprocess.STDOUT)
        lib.wait_for(lambda: "ready" in self.out.read_text() or self.p.poll() is not None, "the server")

    def begin(self, *argv, **more):
        p = subprocess.Popen([*self.wrap, self.base / "stage/usr/bin/fsched", "pod", *map(str, argv)], text=True, stdin=subprocess.DEVNULL,
                             env={**os.environ, "FSCHED_CONF": str(self.conf)}, cwd=self.work, **more)
        self.pods.running.append(p)
        return p

    def fsched(self, *argv):
        p = self.begin(*argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        out = p.communicate(timeout=120)[0]
        assert p.returncode == 0, out
        return out

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

    def create(self):
        return self.fsched("checkpoint", self.state)

    def kill(self):
        self.fsched("kill", self.state)
        self.p.wait(60)

    def restore(self):
        with open(self.said, "wb") as f:
            self.p = self.begin("restore", self.state, stdout=f, stderr=subprocess.STDOUT)
        lib.wait_for(lambda: "restored from epoch" in self.said.read_text() or self.p.poll() is not None, "the restore")
        return self.said.read_text()

    def inside(self, *argv):
        """Runs a command of the node in the network and UTS namespaces of the pod."""
        pid = lib.wait_for(lambda: [p for p in lib.descendants(self.p.pid) if lib.comm(p) == "python3"], "the server's processes")[0]
        return subprocess.run(["nsenter", f"--target={pid}", "--net", "--uts", "--", *map(str, argv)], text=True, capture_output=True,
                              check=True).stdout

    def stop(self):
        (self.work / "stop").touch()
        assert self.p.wait(60) == 0, self.out.read_text()
        assert "numbers" in self.out.read_text()


@pytest.fixture
def private(base):
    f = base / "private.conf"
    f.write_text((base / "fsched.conf").read_text() + "PodNetwork = private\n")
    return f


@pytest.mark.parametrize("address", ["127.0.0.1", "own"])
def test_a_connection_right_after_create(pods, base, private, address):
    """The addresses of a pod that was killed are not in use (TIME_WAIT) for the one that is restored at once."""
    job = Server(pods, base, private, address)
    for _ in range(3):
        job.moves()
        assert "warning" not in job.create()
        job.kill()
        assert "restored from epoch" in job.restore(), job.said.read_text()
    job.moves()
    job.stop()


def test_two_pods_with_the_same_ports(pods, base, private):
    jobs = [Server(pods, base, private), Server(pods, base, private)]
    for job in jobs:
        job.moves()
        job.create()
    for job in jobs:
        job.kill()
    for job in jobs:
        assert "restored from epoch" in job.restore(), job.said.read_text()
    for job in jobs:
        job.moves()
        job.stop()


def test_the_host_name_stays(pods, base, private):
    """As the node was called when the job began."""
    job = Server(pods, base, private, wrap=["unshare", "--uts", "sh", "-c", 'hostname first.test && exec "$@"', "sh"])
    job.moves()
    job.create()
    job.kill()
    job.wrap = ["unshare", "--uts", "sh", "-c", 'hostname second && exec "$@"', "sh"]
    assert "restored from epoch" in job.restore(), job.said.read_text()
    assert job.inside("hostname").strip() == "first.test"
    assert os.uname().nodename != "first.test"
    job.moves()
    job.stop()
    assert "ready first.test" in job.out.read_text()


def test_the_mode_of_the_epoch_counts(pods, base, private):
    """An epoch of a job with the node's network is restored with it, and one of a job with its own with its own."""
    for begun, later in [(base / "fsched.conf", private), (private, base / "fsched.conf")]:
        job = Server(pods, base, begun, port=PORT + 1)
        job.moves()
        job.create()
        own = job.inside("readlink", "/proc/self/ns/net") != os.readlink("/proc/self/ns/net") + "\n"
        assert own == (begun == private)
        (job.work / "beat").unlink()
        job.fsched("checkpoint", "--kill", job.state)
        job.p.wait(60)
        job.conf = later
        assert "restored from epoch" in job.restore(), job.said.read_text()
        assert (job.inside("readlink", "/proc/self/ns/net") != os.readlink("/proc/self/ns/net") + "\n") == own
        job.moves()
        job.stop()


def test_what_a_pod_sees(pods, base, private):
    job = Server(pods, base, private)
    pid = [p for p in lib.descendants(job.p.pid) if lib.comm(p) == "python3"][0]
    see = ["nsenter", f"--target={pid}", "--net", "--uts", "--mount", "--"]
    interfaces = subprocess.run([*see, "ls", "/sys/class/net"], text=True, capture_output=True, check=True).stdout.split()
    assert "lo" in interfaces and set(interfaces) <= {"lo", "eth0"}
    assert subprocess.run([*see, "cat", "/sys/class/net/lo/mtu"], text=True, capture_output=True, check=True).stdout == "65536\n"
    for name in ("net/core/somaxconn", "net/ipv4/ip_local_port_range"):
        assert subprocess.run([*see, "cat", f"/proc/sys/{name}"], text=True, capture_output=True, check=True).stdout \
            == open(f"/proc/sys/{name}", encoding="ascii").read()
    job.stop()
