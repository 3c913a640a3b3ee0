"""Tables of bench/run, and the targets."""
import engine


def size(mib):
    return f"{mib / 1024:g} GB" if mib != 512 else "0.5 GB"


def number(value, unit="", scale=1, digits=0):
    return f"{value * scale:.{digits}f}{unit}" if isinstance(value, (int, float)) else "-"


def table(head, rows):
    rows = [[str(c) for c in r] for r in rows]
    width = [max(len(r[i]) for r in [head, *rows]) for i in range(len(head))]
    line = lambda r: "| " + " | ".join(c.ljust(w) if i < 3 else c.rjust(w) for i, (c, w) in enumerate(zip(r, width))) + " |"
    print("\n".join([line(head), "|" + "|".join("-" * (w + 2) for w in width) + "|", *map(line, rows)]))


def engines(rows):
    head = ["program", "memory", "who", "freeze", "progress lost", "total", "written", "slower while writing", "extra memory", "CPU", "restore"]
    out = []
    for r in rows:
        if "failed" in r:
            out.append([r["program"], size(r["mib"]), r["failed"][:120]] + [""] * 8)
            continue
        for name, text in engine.ENGINES.items():
            e = r["engines"][name]
            out.append([r["program"], size(r["mib"]), text, number(e["freeze_ms"], " ms"), number(e["lost_ms"], " ms"), number(e["total_s"], " s", 1, 1),
                        number(e["bytes"], " MiB", 1 / (1 << 20)), number(e.get("slow_drain"), " %", 100) if name == "fsched" else "-",
                        number(e["extra_mib"], " MiB"), number(e["cpu_s"], " s", 1, 1), number(e["restore_s"], " s", 1, 1)])
    table(head, out)
    for r in rows:
        for name, e in r.get("engines", {}).items():
            if isinstance(e["restore_s"], str):
                print(f"restore of {r['program']}, {size(r['mib'])}, {engine.ENGINES[name]}: {e['restore_s'][:300]}")
    print("\nfsched beside stock criu: medians of the pairs; restore is how many times faster.\n")
    table(["program", "memory", "method", "freeze: disk", "tmpfs", "progress lost: disk", "tmpfs", "restore: disk", "tmpfs"],
          [[r["program"], size(r["mib"]), r["methods"], *(number(r["ratios"].get(k), "", 1, 3) for k in
            ("freeze_disk", "freeze_tmpfs", "lost_disk", "lost_tmpfs")), *(number(r["ratios"].get(k), "x", 1, 1) for k in ("restore_disk", "restore_tmpfs"))]
           for r in rows if "failed" not in r])


def against_limits(rows, limit):
    """How far the engine is from what the machine can do: its memory at the disk's rate, and copied once."""
    print(f"\nThis machine, in this run: {number(limit['disk_write'], ' MB/s', 1e-6)} to the disk, {number(limit['disk_read'], ' MB/s', 1e-6)} from it (direct I/O), "
          f"{number(limit['copy'], ' MB/s', 1e-6)} copied by one processor. fsched beside it:\n")
    times = lambda value, rate, mib: number(value / (mib * 1048576 / rate), "x", 1, 2) if isinstance(value, (int, float)) and rate else "-"
    table(["program", "memory", "until it is on the disk", "of writing all memory", "freeze, of copying it", "restore, of reading it"],
          [[r["program"], size(r["mib"]), number(e["total_s"], " s", 1, 1), times(e["total_s"], limit["disk_write"], r["mib"]),
            times(e["freeze_ms"] / 1000, limit["copy"], r["mib"]), times(e["restore_s"], limit["disk_read"], r["mib"])]
           for r in rows if "failed" not in r for e in [r["engines"]["fsched"]]])


def increments(rows):
    print("\nIncrements (CRIU_Incremental, every third one full): of a full checkpoint's bytes and time, its freeze, and how much slower the job is between checkpoints.\n")
    table(["program", "memory", "rewritten in between", "tracked", "bytes", "time", "freeze", "of a full one", "slower while tracking"],
          [[r["program"], size(r["mib"]), r["failed"][:120]] + [""] * 6 if "failed" in r else
           [r["program"], size(r["mib"]), number(r["dirty"], " % of the pages", 100) if r["dirty"] else "what it does in 3 s",
            f"{r['tracked']} of {len(r['rounds']['increment'])}", number(r["bytes_ratio"], " %", 100, 1),
            number(r["time_ratio"], " %", 100), number(r["increment"]["freeze_ms"], " ms"), number(r["full"]["freeze_ms"], " ms"), number(r["slow_tracking"], " %", 100, 1)]
           for r in rows])


def intervals(rows):
    print()
    for r in rows:
        if "failed" in r:
            print(f"interval, {r['program']} {size(r['mib'])}: {r['failed']}")
        else:
            print(f"interval, {r['program']} {size(r['mib'])}: a checkpoint costs {r['lost_each_s']:.2f} s of work (median of {len(r['lost_s'])} pairs of windows of "
                  f"{r['window_s']} s, with one and without), so one a minute {100 * r['slow_at_60_s']:.2f} %")


def slurm(r):
    print("\nUnder Slurm, small jobs:\n")
    table(["memory", "pause, fsched", "stock criu", "ratio", "fsched says", "whole command"],
          [[f"{f['mib']} MiB", number(f["fsched_ms"], " ms", 1, 1), number(f["stock_ms"], " ms", 1, 1), number(f["ratio"], "", 1, 2), number(f["reported_ms"], " ms", 1, 1),
            number(f["command_ms"], " ms")] for f in r["freeze"]])
    s, g = r["start"], r["agent"]
    print(f"\nsubmit to start: {s['with_ms']:.0f} ms with --checkpoint, {s['without_ms']:.0f} ms without; overhead {s['overhead_ms']:.0f} ms (median of the pairs)")
    print(f"agent between checkpoints: {g['rss_kib'] / 1024:.1f} MiB resident ({g['rss_anon_kib'] / 1024:.1f} MiB its own), "
          f"{g['cpu_ms_in_10_s']:.0f} ms CPU and {g['wakeups_in_10_s']} wakeups in 10 s")


def files(r):
    print("\nA file that the job changes in place, and how much longer the freeze is because of it, ms:\n")
    table(["where, size", "changed: MB/s", "without", "with", "more (pairs)"],
          [[name, str(v["rate"]), number(v["without_ms"]), number(v["with_ms"]), number(v["more_ms"])] for name, v in r.items()])


def network(r):
    print("\nPodNetwork = private beside host:\n")
    table(["what", "host", "private", "more", "ratio"],
          [[what, number(v["host"], unit, 1, d), number(v["private"], unit, 1, d), number(v["more"], unit, 1, d), number(v["ratio"], "", 1, 2)]
           for what, v, unit, d in [("start of a pod", r["starts"]["start"], " ms", 0), ("end of a pod", r["starts"]["end"], " ms", 0),
                                    *((f"{to}: {text}", r["loads"][f"{key} {way}"], unit, d)
                                      for to, key in (("another host", "host"), ("loopback", "loopback"))
                                      for text, way, unit, d in (("sent", "send", " MB/s", 0), ("received", "receive", " MB/s", 0),
                                                                 ("round trip", "trip", " us", 1)))]])


def steps(r):
    print("\nSteps of srun in a job with --checkpoint beside Slurm's own:\n")
    table(["what", "Slurm", "fsched", "ratio"],
          [[what, number(v["slurm_ms"], " ms", 1, 1), number(v["fsched_ms"], " ms", 1, 1), number(v["ratio"], "", 1, 2)]
           for what, v in (("a step of one task, in a loop", r["one"]), ("a step of 64 tasks", r["many"]))])
    f = r["freeze"]
    print(f"freeze of idle MPI ranks: {f['failed']}" if "failed" in f else f"\nfreeze of {f['ranks']} idle MPI ranks (MPICH): {f['frozen_ms']:.0f} ms")


# ---- targets ---------------------------------------------------------------------

def find(rows, **want):
    return next((r for r in rows or [] if all(r.get(k) == v for k, v in want.items())), None)


def worse(r, key, pick=max):
    """Against the better of stock's two."""
    both = [r["ratios"].get(f"{key}_{o}") for o in ("disk", "tmpfs")]
    return pick(v for v in both if v is not None) if any(v is not None for v in both) else None


def of_engine(key, program, mib, pick=max):
    def value(out):
        r = find(out.get("engine"), program=program, mib=mib)
        return None if not r or "failed" in r else worse(r, key, pick)
    return value


def of_increment(key):
    def value(out):
        r = find(out.get("increments"), program="idle")
        return r.get(key) if r else None
    return value


def of_interval(mib):
    def value(out):
        r = find(out.get("interval"), mib=mib)
        return r.get("slow_at_60_s") if r else None
    return value


def of_fsched(key, program, mib):
    def value(out):
        r = find(out.get("engine"), program=program, mib=mib)
        return None if not r or "failed" in r else r["engines"]["fsched"][key]
    return value


def of_raw_writing(program, mib):
    """The time of a checkpoint to that of writing the same memory to the disk."""
    def value(out):
        total, rate = of_fsched("total_s", program, mib)(out), out.get("limits", {}).get("disk_write")
        return total / (mib * 1048576 / rate) if total and rate else None
    return value


# (what, limit, at most or at least, value of the output)
TARGETS = [
    ("freeze, idle 2 GB, 4K pages", 1 / 6, max, of_engine("freeze", "idle", 2048)),
    ("freeze, idle 2 GB, huge pages", 1 / 18, max, of_engine("freeze", "huge", 2048)),
    ("freeze, idle 6 GB, 4K pages", 1 / 16, max, of_engine("freeze", "idle", 6144)),
    ("progress lost, stencil 2 GB", 1 / 4, max, of_engine("lost", "stencil", 2048)),
    ("progress lost, idle 2 GB", 1 / 6, max, of_engine("lost", "idle", 2048)),
    ("restore, idle 2 GB, times faster", 10, min, of_engine("restore", "idle", 2048, min)),
    ("increment of 5 % dirty, bytes of a full one", 0.07, max, of_increment("bytes_ratio")),
    ("increment of 5 % dirty, time of a full one", 0.15, max, of_increment("time_ratio")),
    ("time, stencil 2 GB, of writing it as it is", 1.3, max, of_raw_writing("stencil", 2048)),
    ("processor time, stencil 2 GB, s", 2, max, of_fsched("cpu_s", "stencil", 2048)),
    ("stencil 0.5 GB slower by one checkpoint a minute", 0.01, max, of_interval(512)),
    ("stencil 2 GB slower by one checkpoint a minute", 0.01, max, of_interval(2048)),
]


def targets(out):
    rows = []
    for what, limit, kind, value in TARGETS:
        v = value(out)
        verdict = "not measured" if v is None else "met" if kind(v, limit) == limit else "MISSED"
        rows.append([what, ("at most " if kind is max else "at least ") + f"{limit:.3g}", number(v, "", 1, 3), verdict])
    return rows


def show(out):
    m = out["machine"]
    print(f"{m['cpus']} CPUs ({m['cpu']}), {m['memory_mib'] / 1024:.0f} GiB, kernel {m['kernel']}; load {m['load']:.1f} when it began; took {out['took_s'] / 60:.1f} minutes.")
    if "touch_s" in m:
        print(f"Touching 1 GiB of memory took {m['touch_s'][0]:.1f} s, and {m['touch_s'][1]:.1f} s at once again: what differs the machine's host took to give it.")
    print()
    if out.get("engine"):
        engines(sorted(out["engine"], key=lambda r: (r["mib"], list(engine.PROGRAMS).index(r["program"]))))
        if out.get("limits"):
            against_limits(out["engine"], out["limits"])
    if out.get("increments"):
        increments(out["increments"])
    if out.get("interval"):
        intervals(out["interval"])
    for key, name, f in (("slurm", "Slurm", slurm), ("network", "Networks", network), ("files", "Files", files), ("steps", "Steps", steps)):
        if out.get(key) and "failed" in out[key]:
            print(f"\n{name}: {out[key]['failed']}")
        elif out.get(key):
            f(out[key])
    print("\nTargets: ratios of fsched to the better one of stock criu's two, in this run.\n")
    table(["what", "target", "measured", ""], targets(out))
