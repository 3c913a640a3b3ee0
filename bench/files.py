"""How much longer a freeze takes because the job has a large file that it changes in place: beside the same job with a file of 1 MiB."""
import statistics

from pod import Pod

# name: (where the file is, MiB, MB changed in a second). The private /tmp is an image, the working directory is not.
FILES = {
    "/tmp, 400 MiB, little": ("/tmp", 400, 1),
    "/tmp, 400 MiB, much": ("/tmp", 400, 50),
    "/tmp, 1 GiB, little": ("/tmp", 1024, 1),
    "directory, 400 MiB, little": (".", 400, 1),
    "directory, 400 MiB, much": (".", 400, 50),
}


def measure(bench, conf, rounds):
    """{name: {"without_ms", "with_ms", "more_ms"}}, medians; "more" is that of pairs."""
    out = {}
    for name, (where, mib, rate) in FILES.items():
        without, job = Pod(bench, ["-r", "1", "-d", where, "file", "1"], conf), None
        try:
            job = Pod(bench, ["-r", str(rate), "-d", where, "file", str(mib)], conf)
            pairs = [(without.freeze(without.fsched), job.freeze(job.fsched)) for _ in range(rounds + 1)][1:]
        finally:
            without.remove()
            if job:
                job.remove()
        out[name] = {"mib": mib, "rate": rate, "without_ms": statistics.median(a for a, _ in pairs), "with_ms": statistics.median(b for _, b in pairs),
                     "more_ms": statistics.median(b - a for a, b in pairs), "pairs": pairs}
    return out
