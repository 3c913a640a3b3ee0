"""Steps of srun in a job with --checkpoint beside those of Slurm's own srun in the same cluster, and the freeze of idle MPI ranks."""
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from pod import ROOT

sys.path[:0] = [str(ROOT / "tests" / "cluster")]
import lib  # noqa: E402

RANKS = 64
IDLE = """#include <mpi.h>
#include <stdio.h>
#include <unistd.h>
int main(int c, char **v) { int r; MPI_Init(&c, &v); MPI_Comm_rank(MPI_COMM_WORLD, &r); MPI_Barrier(MPI_COMM_WORLD);
if (r == 0) { puts("ready"); fflush(stdout); } while (access("stop", F_OK)) sleep(1); MPI_Finalize(); return 0; }
"""


def job(cluster, d, name, script, *options):
    where = d / name
    where.mkdir()
    shutil.chown(where, lib.USER)
    return cluster.sbatch(script, "-n", str(RANKS), "-o", "out", *options, cwd=where), where / "out"


def seconds(cluster, d, name, command, times, *options):
    """What one of them takes in a job that runs it that often, ms."""
    n, out = job(cluster, d, name, f"{command}\na=$EPOCHREALTIME\nfor ((i = 0; i < {times}; i++)); do {command}; done\necho $a $EPOCHREALTIME\n", *options)
    cluster.wait_end(n, deadline=lib.DEADLINE * 10)
    a, b = out.read_text().split()
    return (float(b) - float(a)) * 1000 / times


def compare(cluster, d, name, command, times, pairs):
    """Pairs of jobs, in turn."""
    took = [[seconds(cluster, d, f"{name}{p}{k}", command, times, *options) for k, options in enumerate(([], ["--checkpoint=UNLIMITED"]))] for p in range(pairs)]
    return {"slurm_ms": statistics.median(t[0] for t in took), "fsched_ms": statistics.median(t[1] for t in took),
            "ratio": statistics.median(t[1] / t[0] for t in took)}


def freeze(cluster, d, rounds):
    """What the checkpoint says of MPI ranks that sleep, ms."""
    if not shutil.which("mpicc.mpich"):
        return {"failed": "no mpicc.mpich"}
    (d / "idle.c").write_text(IDLE)
    subprocess.run(["mpicc.mpich", "-O1", "-o", d / "idle", d / "idle.c"], check=True)
    n, out = job(cluster, d, "ranks", f"exec srun -n{RANKS} --mpi=pmi2 {d}/idle\n", "--checkpoint=UNLIMITED")
    lib.wait_for(lambda: out.exists() and "ready" in out.read_text(), "the ranks", 300)
    said = [re.search(r"frozen ([\d.]+) (ms|s)", cluster.checkpoint("create", n)) for _ in range(rounds)]
    (out.parent / "stop").touch()
    cluster.wait_end(n, deadline=lib.DEADLINE * 10)
    return {"ranks": RANKS, "frozen_ms": statistics.median(float(m[1]) * (1 if m[2] == "ms" else 1000) for m in said)}


def measure(steps, pairs, rounds):
    """A cluster of its own, which is gone afterwards."""
    base = Path(tempfile.mkdtemp(prefix="fscheck.", dir="/var/tmp"))
    base.chmod(0o755)
    cluster = lib.Cluster(base / "lab", cpus=RANKS)
    try:
        return {"one": compare(cluster, base, "one", "srun -n1 true", steps, pairs),
                "many": compare(cluster, base, "many", f"srun -n{RANKS} true", max(2, steps // 20), pairs), "freeze": freeze(cluster, base, rounds)}
    finally:
        cluster.down()
        shutil.rmtree(base, ignore_errors=True)
