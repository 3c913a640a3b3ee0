#!/usr/bin/python3
"""check-layers.py - checks that each #include in src names a header of the same room or of a room that this one may use.

docs/internals.md, "Rooms", says what each room knows and has the same table. A room is a directory of src; "cli/user" and the like are
rooms of their own."""
import pathlib
import re
import sys

# room: rooms whose headers it may include, beside its own
ROOMS = {
    "base": "",
    "trace": "base",
    "store": "base",
    "files": "base",
    "policy": "base store",
    "criu": "base policy trace preload",
    "image": "base criu",
    "capture": "base trace criu image",
    "net": "base",
    "launch": "base",
    "pod": "base trace criu",
    "preload": "trace",
    "worker": "base policy trace criu image capture files store pod preload",
    "agent": "base policy store files criu pod",
    "slurm": "base",
    "slurm/plugin": "base policy files pod slurm",
    "slurm/rpc": "base policy store slurm",
    "cli": "base",
    "cli/user": "base policy store files criu image capture agent slurm slurm/rpc cli",
    "cli/report": "base policy store slurm/rpc cli cli/user",
    "cli/qualify": "base store slurm/rpc cli cli/user cli/report",
    "cli/doctor": "base policy trace store criu capture pod slurm slurm/rpc cli",
    "cli/pod": "base policy store criu capture pod cli",
}


GENERATED = {"open_watch_bpf.h"}     # by meson, beside the object files


def room_of(path):
    """The longest name of a room that path lies in; path is relative to src."""
    parts = pathlib.PurePath(path).parts
    return next(("/".join(parts[:n]) for n in range(len(parts) - 1, 0, -1) if "/".join(parts[:n]) in ROOMS), None)


def main():
    src, bad = pathlib.Path(__file__).resolve().parent.parent / "src", []
    for f in sorted(src.rglob("*.[ch]")):
        name = str(f.relative_to(src))
        room = room_of(name)
        for number, line in enumerate(f.read_text().splitlines(), 1):
            m = re.match(r'#include "([^"]+)"', line)
            if not m or m[1].endswith(".pb-c.h") or m[1] in GENERATED:
                continue
            other = room_of(m[1])
            if not (src / m[1]).is_file():
                bad.append(f"src/{name}:{number}: {m[1]} is no file below src")
            elif other != room and other not in ROOMS[room].split():
                bad.append(f"src/{name}:{number}: {room}/ may not use {other}/ ({m[1]})")
    print("\n".join(bad) or "ok      layers", file=sys.stderr if bad else sys.stdout)
    return 1 if bad else 0


sys.exit(main())
