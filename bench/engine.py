"""Measurements of the memory engine: pairs of fsched and stock criu on the same job, increments, what a short interval costs."""
import os
import shutil
import statistics

from pod import MIB, Failed, Pod, meminfo, medians

# name: (options and kind of bench/load.c, processes, what a reader wants to know)
PROGRAMS = {
    "idle": (["idle"], 1, "memory that nobody touches, 4K pages"),
    "write": (["-r", "100", "write"], 1, "pages at random, 100 MB/s"),
    "stencil": (["stencil"], 1, "doubles, rewrites everything"),
    "walk": (["walk"], 1, "float32s, rewrites everything"),
    "processes": (["-p", "32", "-r", "100", "write"], 32, "32 processes, 100 MB/s together"),
    "huge": (["-H", "idle"], 1, "idle, huge pages"),
    "threads": (["-t", "8", "stencil"], 1, "the stencil by 8 threads"),
}
ENGINES = {"disk": "stock criu to disk", "tmpfs": "stock criu to tmpfs", "fsched": "fsched to disk"}


def start(bench, program, mib, conf):
    """The job, or why it is left out."""
    argv, processes, _ = PROGRAMS[program]
    need, free = 2.3 * mib + 1024, meminfo("MemAvailable")
    if free < need:
        raise Failed(f"left out: it needs {need / 1024:.1f} GiB of memory with its copies, {free / 1024:.1f} are free")
    disk = shutil.disk_usage(bench.dir).free / MIB
    if disk < 4 * mib:
        raise Failed(f"left out: it needs {4 * mib / 1024:.1f} GiB in {bench.dir.parent}, {disk / 1024:.1f} are free")
    return Pod(bench, [*argv, str(mib)], conf, processes)


def ratio(rounds, key, other):
    """Median of the pairs."""
    pairs = [(f[key], o[key]) for f, o in zip(rounds["fsched"], rounds[other]) if f.get(key) is not None and o.get(key)]
    return statistics.median(f / o for f, o in pairs) if pairs else None


def restores(job, disk, ram, rounds):
    """Medians. Whatever fails stands there as a text."""
    found = {}
    for name, action in (("tmpfs", lambda: job.restore_stock(ram)), ("disk", lambda: job.restore_stock(disk)), ("fsched", job.restore)):
        try:
            found[name] = statistics.median(action() for _ in range(rounds))
        except Failed as e:
            found[name] = str(e)
        if name == "tmpfs":
            job.end()
            shutil.rmtree(ram)
    return found


def compare(bench, program, mib, rounds, conf):
    """One program of one size: {"engines": medians, "ratios", "rounds"}."""
    job = start(bench, program, mib, conf)
    disk, ram = bench.dir / "images", bench.ram / "images"
    actions = {"disk": lambda: job.stock(disk, True), "fsched": job.fsched, "tmpfs": lambda: job.stock(ram, False)}
    try:
        job.fsched()          # memory that the machine has never given to anybody is slow once
        done = {name: [] for name in actions}
        for n in range(rounds):
            for name, action in actions.items():
                done[name].append(job.cost(action))
                if name == "tmpfs" and n + 1 < rounds:
                    shutil.rmtree(ram)
        memory, methods = job.manifest.get("memory", {}), " ".join(sorted({r["method"] for r in done["fsched"]}))
        back = restores(job, disk, ram, rounds)
    finally:
        job.remove()
        for d in (disk, ram):
            shutil.rmtree(d, ignore_errors=True)
    engines = {name: {**medians(r), "restore_s": back[name]} for name, r in done.items()}
    ratios = {f"{key}_{other}": ratio(done, f"{key}_{unit}", other) for key, unit in (("freeze", "ms"), ("lost", "ms"), ("total", "s")) for other in ("disk", "tmpfs")}
    if all(isinstance(back[n], float) for n in back):
        ratios |= {f"restore_{other}": back[other] / back["fsched"] for other in ("disk", "tmpfs")}
    return {"program": program, "mib": mib, "engines": engines, "ratios": ratios, "memory": memory, "methods": methods, "rounds": done}


def increments(bench, program, mib, conf, rounds, dirty=None):
    """Checkpoints of a job in turn, every third one full. dirty: share of the pages that it rewrites in between; None: what it does by itself
    in 3 s. The undisturbed speed is that before the first one, when nothing is tracked yet."""
    job = start(bench, program, mib, conf)
    full, inc, tracked = [], [], []
    try:
        speed = job.board.rate(5)
        job.fsched()
        for n in range(2, 3 * rounds + 1):
            if dirty:
                job.rewrite(int(dirty * mib * MIB / 4096))
                tracked.append(1 - job.board.rate(1) / speed)
            else:
                tracked.append(1 - job.board.rate(3) / speed)
            (full if n % 3 == 0 else inc).append(job.cost(job.fsched, tail=0.1))
    finally:
        job.remove()
    f, i = medians(full), medians(inc)
    return {"program": program, "mib": mib, "dirty": dirty, "full": f, "increment": i, "slow_tracking": statistics.median(tracked),
            "tracked": sum(r["tracking"] != "none" for r in inc), "bytes_ratio": i["bytes"] / f["bytes"],
            "time_ratio": i["total_s"] / f["total_s"], "rounds": {"full": full, "increment": inc}}


def interval(bench, program, mib, conf, pairs, seconds=20):
    """Windows of so many seconds in turn, with one checkpoint at the start of it and without any: what the checkpoint costs in work, and so
    what one a minute costs."""
    job = start(bench, program, mib, conf)
    lost = []
    try:
        job.fsched()
        for _ in range(pairs):
            without = job.board.rate(seconds)
            begun, work = job.board.get()["work"], None
            t = os.times().elapsed
            job.fsched()
            rest = seconds - (os.times().elapsed - t)
            if rest > 0:
                job.board.rate(rest)
            work = job.board.get()["work"] - begun
            lost.append((os.times().elapsed - t) - work / without)
    finally:
        job.remove()
    each = statistics.median(lost)
    return {"program": program, "mib": mib, "window_s": seconds, "lost_s": lost, "lost_each_s": each, "slow_at_60_s": each / 60}
