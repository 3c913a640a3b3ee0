#!/usr/bin/python3
"""check-names.py - no name of a static function stands in more than one file of src: a backtrace shows names alone."""
import collections
import pathlib
import re
import sys

DEFINED = re.compile(r"^(?:__attribute__\(\(\w+\)\) )?static (?!inline)(?:[\w*]+ +\**)+?\**(\w+)\((?=[^;]*?\)\s*\n\{)", re.M)


def main():
    src, found = pathlib.Path(__file__).resolve().parent.parent / "src", collections.defaultdict(list)
    for f in sorted(src.rglob("*.c")):
        for m in DEFINED.finditer(f.read_text()):
            found[m[1]].append(str(f.relative_to(src)))
    bad = {name: files for name, files in found.items() if len(files) > 1}
    for name, files in sorted(bad.items()):
        print(f"{name}(): {', '.join(files)}", file=sys.stderr)
    if not bad:
        print(f"ok      names, {len(found)} static functions")
    return 1 if bad else 0


sys.exit(main())
