"""Measurements under Slurm: a job that does next to nothing, what the option costs at the start, what the agent costs in between."""
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from pod import ROOT, Board, criu_dump

sys.path[:0] = [str(ROOT / "tests" / "cluster")]
import lib  # noqa: E402


class Job:
    """A load under the cluster with --checkpoint."""

    def __init__(self, cluster, base, mib):
        self.c, self.dir = cluster, base / f"t{mib}"
        self.dir.mkdir()
        shutil.chown(self.dir, lib.USER)
        self.board = Board(self.dir / "board")
        self.id = cluster.sbatch(f"exec {base}/load idle {mib} board", "--checkpoint=UNLIMITED", cwd=self.dir)
        cluster.wait_running(self.id)
        lib.wait_for(lambda: self.board.path.exists() and self.board.path.stat().st_size and self.board.get()["ready"], "the load", 120)
        self.agent = cluster.agent_pid(self.id)
        self.init = next(p for p in lib.children(self.agent) if lib.comm(p) == "fsched-init")

    def freeze(self, action):
        """Longest pause that the job itself saw while action ran, ms; what the action took, ms; what it returned."""
        self.board.set("longest", 0)
        start = time.monotonic()
        value = action()
        took = (time.monotonic() - start) * 1000
        time.sleep(0.02)     # the ticker notices the gap when it wakes
        return self.board.get()["longest"] / 1000, took, value

    def fsched(self):
        return self.c.checkpoint("create", self.id)

    def stock(self, images):
        images.mkdir()
        argv = criu_dump(self.c.dir / "criu", self.c.dir / "stage/usr/libexec/fsched/libfsched-criu.so", self.init, images)
        p = subprocess.run(argv, capture_output=True, text=True, timeout=300, check=False)
        shutil.rmtree(images)
        assert p.returncode == 0, p.stdout + p.stderr

    def end(self):
        self.board.set("stop", 1)
        self.c.wait_end(self.id)


def freeze(cluster, base, mib, rounds):
    """Pairs of fsched and stock criu on the same job, in turn."""
    job = Job(cluster, base, mib)
    ours, stock, total, reported = [], [], [], []
    for n in range(rounds):
        gap, took, said = job.freeze(job.fsched)
        m = re.search(r"frozen ([\d.]+) (ms|s)", said)
        reported.append(float(m.group(1)) * (1 if m.group(2) == "ms" else 1000))
        ours.append(gap)
        total.append(took)
        stock.append(job.freeze(lambda n=n: job.stock(base / f"images{n}"))[0])
    job.end()
    return {"mib": mib, "fsched_ms": statistics.median(ours), "stock_ms": statistics.median(stock),
            "ratio": statistics.median(o / s for o, s in zip(ours, stock)), "reported_ms": statistics.median(reported),
            "command_ms": statistics.median(total)}


def start_overhead(cluster, base, rounds):
    """From sbatch's start to the script's first command, with and without --checkpoint, in turn."""
    d = base / "start"
    d.mkdir()
    shutil.chown(d, lib.USER)
    took = {"with": [], "without": []}
    for n in range(rounds):
        for kind, args in (("without", []), ("with", ["--checkpoint=30"])):
            before = time.time()
            job = cluster.sbatch(f"date +%s.%N > {kind}{n}", *args, cwd=d)
            cluster.wait_end(job)
            took[kind].append((float((d / f"{kind}{n}").read_text()) - before) * 1000)
    return {"with_ms": statistics.median(took["with"]), "without_ms": statistics.median(took["without"]),
            "overhead_ms": statistics.median(x - y for x, y in zip(took["with"], took["without"]))}


def agent(cluster, base):
    job = Job(cluster, base, 2)
    job.fsched()
    lib.wait_for(lambda: not [p for p in lib.children(job.agent) if lib.comm(p) in ("fsched-worker", "fsched-slurm")], "a quiet agent")
    proc = Path(f"/proc/{job.agent}")

    def status(key):
        return int(re.search(rf"^{key}:\s+(\d+)", (proc / "status").read_text(), re.M).group(1))

    def cpu_ms():
        return sum(map(int, (proc / "stat").read_text().rsplit(")", 1)[1].split()[11:13])) * 1000 / os.sysconf("SC_CLK_TCK")
    c0, s0 = cpu_ms(), status("voluntary_ctxt_switches")
    time.sleep(10)
    result = {"rss_kib": status("VmRSS"), "rss_anon_kib": status("RssAnon"), "cpu_ms_in_10_s": cpu_ms() - c0,
              "wakeups_in_10_s": status("voluntary_ctxt_switches") - s0}
    job.end()
    return result


def measure(load, rounds):
    """load: the program. A cluster of its own, which is gone afterwards."""
    base = Path(tempfile.mkdtemp(prefix="fscheck.", dir="/var/tmp"))
    base.chmod(0o755)
    shutil.copy(load, base / "load")
    cluster = lib.Cluster(base / "lab")
    try:
        return {"freeze": [freeze(cluster, base, mib, rounds) for mib in (1, 64)], "start": start_overhead(cluster, base, rounds),
                "agent": agent(cluster, base)}
    finally:
        cluster.down()
        shutil.rmtree(base, ignore_errors=True)
