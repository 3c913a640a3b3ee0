"""The memory engine: each way of taking memory, each way of restoring it, and processes that die meanwhile."""
import json
import os
import re
import shutil
import subprocess
import time
from pathlib import Path

import lib
import pytest

from test_pod import USER, base, lines, pods  # noqa: F401  (fixtures)

WAYS = ["fork", "staged", "direct"]


class Job:
    """A program that verifies its memory, in a pod."""

    def __init__(self, pods, base, *argv, place=None):
        self.pods, self.base, self.dir = pods, base, place or pods.place("m")
        self.work, self.state = self.dir / "work", self.dir / "state"
        self.out = self.work / "out"
        self.argv = [str(a) for a in argv]
        self.restores = 0
        self.p = pods.start(self.work, "run", "--dir", self.state, "--user", USER, "--", base / self.argv[0], *self.argv[1:], out=self.out)
        n = int(self.argv[3]) if self.argv[0] == "memory" else int(self.argv[2]) + 2 if self.argv[0] == "brood" else 1
        lib.wait_for(lambda: self.out.exists() and self.out.read_text().count("ready") >= n, "the job", 120)

    def run(self, *argv, fault="", conf=None):
        env = {**self.pods.env(), "FSCHED_FAULT": fault}
        if conf:
            env["FSCHED_CONF"] = str(conf)
        return subprocess.run([self.base / "stage/usr/bin/fsched", "pod", *map(str, argv)], env=env, text=True, capture_output=True,
                              stdin=subprocess.DEVNULL, timeout=240, check=False)

    def begin(self, *argv, fault="", conf=None):
        """Starts a command and does not wait for its end."""
        env = {**self.pods.env(), "FSCHED_FAULT": fault, **({"FSCHED_CONF": str(conf)} if conf else {})}
        p = subprocess.Popen([self.base / "stage/usr/bin/fsched", "pod", *map(str, argv)], env=env, text=True,
                             stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)
        self.pods.running.append(p)
        return p

    def fsched(self, *argv, fault="", conf=None, fails=False):
        p = self.run(*argv, fault=fault, conf=conf)
        assert (p.returncode != 0) == fails, p.stdout + p.stderr
        return p.stdout + p.stderr

    def checkpoint(self, *argv, **kw):
        return self.fsched("checkpoint", *argv, self.state, **kw)

    def manifest(self):
        newest = sorted(self.state.glob("epochs/0*"))[-1]
        return json.loads((newest / "manifest.json").read_text())

    def record(self):
        return json.loads((self.state / "job.json").read_text())

    def restore(self, fault="", conf=None):
        env = {**self.pods.env(), "FSCHED_FAULT": fault}
        if conf:
            env["FSCHED_CONF"] = str(conf)
        self.p.wait(60)
        self.restores += 1
        self.said = self.work / f"restore.{self.restores}"
        with open(self.said, "wb") as f:
            self.p = subprocess.Popen([self.base / "stage/usr/bin/fsched", "pod", "restore", self.state], env=env, stdout=f,
                                      stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, cwd=self.work)
        self.pods.running.append(self.p)
        lib.wait_for(lambda: "restored from epoch" in self.said.read_text() or self.p.poll() is not None, "the restore", 120)
        return self.said.read_text()

    def processes(self):
        name = os.fsencode(self.base / self.argv[0])
        return [p for p in lib.descendants(self.p.pid) if (lib.program(p) or "") == os.fsdecode(name)]

    def work_on(self):
        """Waits until each process has used some processor time to verify and rewrite its memory."""
        end = {p: lib.cpu_time(p) + 0.3 for p in self.processes()}
        assert end, self.said.read_text()
        lib.wait_for(lambda: all(lib.cpu_time(p) >= t for p, t in end.items()), "work of the restored processes", 120)

    def stop(self):
        (self.work / "stop").touch()
        assert self.p.wait(120) == 0, self.out.read_text()
        assert "errors" not in self.out.read_text() or "errors 0" in self.out.read_text()


@pytest.fixture
def conf_criu(base):
    f = base / "criu.conf"
    f.write_text((base / "fsched.conf").read_text() + "MemoryEngine = criu\n")
    return f


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("shape", [(48, 2, 1), (16, 1, 3)], ids=["threads", "processes"])
def test_every_page_of_every_generation(pods, base, way, shape):
    job = Job(pods, base, "memory", *shape)
    for n in range(2):
        assert f"epoch {2 * n + 1}" in job.checkpoint(fault=f"force-{way}")
        memory = job.manifest()["memory"]
        assert memory["method"] == way or way == "staged" and "grown" in memory["why"], memory
        assert len(job.processes()) == shape[2], "a child of a snapshot is left"
        job.checkpoint("--kill", fault=f"force-{way}")
        assert job.manifest()["memory"]["method"] == "direct"      # it stays frozen anyway
        said = job.restore()
        assert "restored from epoch" in said and "takes longer" not in said, said
        assert not (job.state / "epochs/restore.partial").exists()
        job.work_on()
    job.stop()


def test_the_epoch_of_a_fork_is_restored(pods, base):
    """Restores the epoch of the fork, not only that of a later stop: the job is killed and goes back."""
    job = Job(pods, base, "memory", 32, 2, 1)
    for way in ("fork", "staged"):
        job.checkpoint(fault=f"force-{way}")
        job.fsched("kill", job.state)
        job.restore()
        job.work_on()
    job.stop()


def test_criu_takes_and_restores_the_memory(pods, base, conf_criu):
    """Each engine restores epochs of the other."""
    job = Job(pods, base, "memory", 32, 1, 2)
    job.checkpoint("--kill", conf=conf_criu)
    assert "memory" not in job.manifest()
    job.restore()
    job.checkpoint("--kill")
    assert job.manifest()["format"] == 3      # it has shared memory too
    assert "MemoryEngine = criu" in job.restore(conf=conf_criu)
    job.stop()


def test_shared_since_a_fork_stays_shared(pods, base):
    """A child that shares most of its memory with its parent: reading it makes no copies, and the restored processes share it too."""
    code = "import os, time; x = bytearray(os.urandom(1 << 20)) * 160; os.fork(); print('up', flush=True); time.sleep(1000)"
    d = pods.place("s")

    def held(p):
        mine = [q for q in lib.descendants(p.pid) if "python3" in (lib.program(q) or "")]
        assert len(mine) == 2
        return sum(int(line.split()[1]) for q in mine for line in open(f"/proc/{q}/smaps_rollup") if line.startswith("Pss_Anon:"))
    p = pods.start(d / "work", "run", "--dir", d / "state", "--user", USER, "--", "/usr/bin/python3", "-c", code, out=d / "work/out")
    lib.wait_for(lambda: lines(d / "work/out") == 2, "output")
    for way in WAYS:
        subprocess.run([base / "stage/usr/bin/fsched", "pod", "checkpoint", d / "state"], env={**pods.env(), "FSCHED_FAULT": f"force-{way}"}, check=True)
        assert held(p) < 200 * 1024, way
    assert pods.fsched("checkpoint", "--kill", d / "state").returncode == 0
    p.wait(30)
    p = pods.start(d / "work", "restore", d / "state", out=d / "work/restore.out")
    lib.wait_for(lambda: "restored from" in (d / "work/restore.out").read_text(), "the restore", 120)
    assert "takes longer" not in (d / "work/restore.out").read_text()
    assert held(p) < 200 * 1024
    pods.fsched("kill", d / "state")


@pytest.mark.parametrize("filtered", [[], ["seccomp"]], ids=["plain", "seccomp"])
def test_a_snapshot_is_not_seen_by_the_job(pods, base, filtered):
    job = Job(pods, base, "waiter", 32, *filtered)
    for _ in range(3):
        job.checkpoint(fault="force-fork")
        assert job.manifest()["memory"]["method"] == "fork"
    job.stop()
    assert "children 0 signals 0 handlers 0 short 0 descriptors 0" in job.out.read_text()


def test_the_last_way_is_criu(pods, base):
    job = Job(pods, base, "memory", 16, 1, 1)
    said = job.checkpoint(fault="snapshot-fails")
    assert "a fault on purpose" in said and "epoch 1" in said
    assert "memory" not in job.manifest()
    job.checkpoint("--kill")
    said = job.restore(fault="fill-fails")
    assert "restored from epoch 2" in said and "a fault on purpose" in said
    job.stop()


@pytest.mark.parametrize("fault", ["die-before-snapshot", "die-after-snapshot", "die-in-drain", "die-before-commit",
                                   "criu-dies-before-snapshot", "criu-dies-after-snapshot"])
def test_a_worker_or_criu_that_is_killed(pods, base, fault):
    """The job goes on, nothing of fsched stays in it, and the next checkpoint succeeds."""
    job = Job(pods, base, "memory", 16, 1, 2)
    job.checkpoint(fault=f"force-fork,{fault}", fails=True)
    lib.wait_for(lambda: len(job.processes()) == 2, "the children of the snapshot to be gone", 10)
    for p in job.processes():
        lib.wait_for(lambda: "TracerPid:\t0\n" in Path(f"/proc/{p}/status").read_text(), "criu to have let go of the job", 10)
    job.checkpoint()
    job.fsched("kill", job.state)
    assert "restored from epoch" in job.restore()
    job.stop()


@pytest.mark.parametrize("fault", ["die-in-restore", "die-in-fill"])
def test_a_worker_that_is_killed_while_it_restores(pods, base, fault):
    job = Job(pods, base, "memory", 16, 1, 2)
    job.checkpoint("--kill")
    said = job.restore(fault=fault)
    assert "restored from" not in said
    assert job.p.wait(30) != 0 and not job.processes()
    assert "restored from epoch" in job.restore()
    job.stop()


@pytest.fixture
def conf_incremental(base):
    f = base / "incremental.conf"
    f.write_text((base / "fsched.conf").read_text() + "CRIU_Incremental = YES\nCRIU_FullEvery = 3\n")
    return f


def test_every_page_through_increments(pods, base, conf_incremental):
    job = Job(pods, base, "memory", 24, 2, 2)
    for _ in range(3):
        job.checkpoint(fault="force-fork", conf=conf_incremental)
        job.checkpoint(conf=conf_incremental)
        job.fsched("kill", job.state)
        assert "restored from epoch" in job.restore()
        job.work_on()
    job.stop()


@pytest.mark.parametrize("way", ["fork", "staged"])
def test_increments(pods, base, way, conf_incremental):
    """An increment of a heap that hardly changes is small, the older epoch can be removed, and every third epoch is full."""
    conf = conf_incremental
    job = Job(pods, base, "waiter", 48)
    got = []
    for n in range(1, 6):
        job.checkpoint(fault=f"force-{way}", conf=conf)
        got.append(job.manifest()["memory"])
        assert len(list(job.state.glob("epochs/0*"))) == 1      # CRIU_MaxEpochs is 1
    assert [m["increment"] for m in got] == [False, True, False, True, True]
    assert got[1]["reused"] > 40 << 20 and got[1]["raw"] < 8 << 20
    assert got[1]["raw"] + got[1]["reused"] + got[1]["zero"] == got[1]["pages"]
    job.checkpoint("--kill", conf=conf)
    assert "restored from epoch 6" in job.restore()
    job.checkpoint(conf=conf)
    job.fsched("kill", job.state)
    assert "restored from epoch 7" in job.restore()
    job.stop()


def criu_restores_an_export(pods, base, job, epoch):
    """criu restores the exported plain images in an empty pod, with nothing of fsched but the library that every criu here has."""
    images = job.dir / "images"
    p = subprocess.run([base / "stage/usr/bin/fsched", "export", job.state, str(epoch), images], env=pods.env(), capture_output=True, text=True, check=False)
    assert p.returncode == 0, p.stderr
    assert not (images / "parent").exists()
    c = base / "criu"
    p = subprocess.run(["unshare", "--pid", "--mount", "--ipc", "--fork", "--mount-proc", "/bin/sh", "-c",
                        f"echo 9000 > /proc/sys/kernel/ns_last_pid; {c}/ld.so --library-path {c}/lib --preload "
                        f"{base}/stage/usr/libexec/fsched/libfsched-criu.so {c}/criu restore -d -D {images} -o restore.log --file-locks "
                        f"--link-remap --manage-cgroups=ignore && sleep 1; touch {job.work}/stop; "
                        "n=0; while [ -e /proc/2 ] && [ $n -lt 300 ]; do sleep 0.1; n=$((n + 1)); done"],
                       capture_output=True, text=True, timeout=90, check=False)
    assert "errors 0" in job.out.read_text(), p.stderr + (images / "restore.log").read_text()[-2000:]


def test_an_export_is_for_criu_alone(pods, base):
    job = Job(pods, base, "memory", 16, 2, 1)
    job.checkpoint("--kill")
    job.p.wait(30)
    criu_restores_an_export(pods, base, job, 1)


HUGE = """
import mmap, os, time
m = mmap.mmap(-1, 96 << 20, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
m.madvise(mmap.MADV_HUGEPAGE)
m.write(os.urandom(1 << 20) * 96)
print("up", flush=True)
i = 0
while not os.path.exists("stop"):
    for k in range(0, 96 << 20, 2 << 20):
        m[k + i % 500 * 4096 + 1] = 7
    i += 1
    time.sleep(0.01)
"""


def huge_kib(pid):
    return sum(int(line.split()[1]) for line in open(f"/proc/{pid}/smaps_rollup") if line.startswith("AnonHugePages:"))


def test_huge_pages_come_back(pods, base):
    """The job's writes after a fork split all its huge pages, and they are made whole again. A restore fills memory that gets huge pages."""
    if "never" in Path("/sys/kernel/mm/transparent_hugepage/enabled").read_text().split("[")[1].split("]")[0]:
        pytest.skip("this kernel gives no huge pages")
    d = pods.place("h")
    p = pods.start(d / "work", "run", "--dir", d / "state", "--user", USER, "--", "/usr/bin/python3", "-c", HUGE, out=d / "work/out")
    lib.wait_for(lambda: lines(d / "work/out") == 1, "output", 60)
    job = lambda: next(q for q in lib.descendants(p.pid) if "python3" in (lib.program(q) or ""))
    before = huge_kib(job())
    if before < 64 << 10:
        pytest.skip("this machine has no huge pages to give")
    r = subprocess.run([base / "stage/usr/bin/fsched", "pod", "checkpoint", d / "state"], env={**pods.env(), "FSCHED_FAULT": "force-fork"},
                       text=True, capture_output=True, stdin=subprocess.DEVNULL, timeout=240, check=False)
    assert r.returncode == 0, r.stderr
    assert json.loads((d / "state/epochs/000001/manifest.json").read_text())["memory"]["method"] == "fork"
    assert huge_kib(job()) >= before * 0.5
    assert pods.fsched("checkpoint", "--kill", d / "state").returncode == 0
    p.wait(30)
    p = pods.start(d / "work", "restore", d / "state", out=d / "work/restore.out")
    lib.wait_for(lambda: "restored from" in (d / "work/restore.out").read_text(), "the restore", 120)
    assert huge_kib(job()) >= before * 0.5
    (d / "work/stop").touch()
    assert p.wait(60) == 0


def test_damage_is_found(pods, base):
    job = Job(pods, base, "memory", 16, 1, 1)
    job.checkpoint("--kill")
    chunk = max(job.state.glob("epochs/0*/memory/chunks-*"), key=lambda f: f.stat().st_size)
    with open(chunk, "r+b") as f:
        f.seek(chunk.stat().st_size // 2)
        byte = f.read(1)
        f.seek(-1, 1)
        f.write(bytes([byte[0] ^ 1]))
    assert "restored from" not in job.restore()
    assert job.p.wait(30) != 0
    shutil.rmtree(job.state)


def test_who_writes_the_memory_is_told(pods, base, conf_criu):
    """A program without a large piece of memory has nothing in memory/: that is no fault of the engine, and is not told as if it were one."""
    d = pods.place("small")
    out = d / "work/out"
    p = pods.start(d / "work", "run", "--dir", d / "state", "--user", USER, "--", "/bin/sh", "-c", "while echo line; do sleep 0.1; done", out=out)
    lib.wait_for(lambda: lines(out) > 2, "output")

    def checkpoint(conf, fault=""):
        done = subprocess.run([base / "stage/usr/bin/fsched", "pod", "checkpoint", d / "state"], text=True, capture_output=True, check=False,
                              env={**pods.env(), "FSCHED_CONF": str(conf), "FSCHED_FAULT": fault})
        assert done.returncode == 0, done.stderr
        epoch = json.loads((d / "state/job.json").read_text())["epochs"][-1]
        m = json.loads((d / f"state/epochs/{epoch['number']:06}/manifest.json").read_text())
        assert "memory" not in m
        return epoch["memory"], m["criu_memory"], done.stdout + done.stderr

    text, memory, said = checkpoint(base / "fsched.conf")
    assert re.fullmatch(r"small,[\d.]+KiB", text) and memory["method"] == "small" and "256.0 KiB" in memory["why"], (text, memory)
    pages = sum(f.stat().st_size for f in (d / "state/epochs/000001/criu").glob("pages-*.img"))
    assert 0 < memory["bytes"] <= pages and "warning" not in said, (memory, pages, said)
    assert checkpoint(conf_criu)[:2] == ("criu", {"method": "criu", "why": "MemoryEngine = criu", "bytes": 0})
    text, memory, said = checkpoint(base / "fsched.conf", "snapshot-fails")
    assert text == memory["method"] == "criu" and memory["why"] in said, (text, memory, said)
    text, memory, said = checkpoint(base / "fsched.conf", "no-elision")
    assert text == memory["method"] == "criu" and memory["why"].startswith("criu has written") and memory["why"] in said, (text, memory, said)
    p.kill()


def test_memory_that_criu_does_not_leave_out(pods, base):
    """Nothing fails. The checkpoint takes as long as with criu alone, a warning says so, and criu's images hold the memory."""
    job = Job(pods, base, "memory", 16, 1, 1)
    said = job.checkpoint(fault="no-elision")
    assert "criu has written the job's private memory" in said, said
    assert "memory" not in job.manifest()
    assert "criu has written" not in job.checkpoint("--kill")
    assert re.fullmatch(r"direct,[\d.]+MiB,scanned:[\d.]+MiB,dirty:[\d.]+MiB,stored:[\d.]+MiB,ratio:\d+\.\d\d", job.record()["epochs"][-1]["memory"])
    assert "restored from epoch 2" in job.restore()
    job.stop()
