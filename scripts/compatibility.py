#!/usr/bin/python3
"""compatibility.py [--write] - the tables of docs/compatibility.md about what is restored, refused and a limit, from tests/compatibility.toml.

Each row there names the tests that show it. Without --write it only says whether a test is missing or the tables are not those of the file."""
import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE, ROWS = ROOT / "docs/compatibility.md", ROOT / "tests/compatibility.toml"
HEADS = {"restored": ("kind", "what", "test"), "refused": ("what", "why", "test"), "limits": ("what", "effect", "test")}


def missing(test):
    """What is wrong with the name of a test, FILE or FILE::FUNCTION below tests/; None: nothing."""
    name, _, function = test.partition("::")
    path = ROOT / "tests" / name
    if not path.is_file():
        return f"tests/{name} does not exist"
    if function and not re.search(rf"^(def {re.escape(function)}\(|static void {re.escape(function)}\(void)", path.read_text(), re.M):
        return f"tests/{name} has no {function}"
    return None


def table(section, rows):
    lines = ["| " + " | ".join(HEADS[section]) + " |", "|---|---|---|"]
    for r in rows:
        tests = ", ".join(f"`{t}`" for t in r["tests"]) or "–"
        lines.append(f"| {r['what']} | {r['text'].strip()} | {tests} |")
    return "\n".join(lines)


def main():
    rows, page, wrong = tomllib.loads(ROWS.read_text()), PAGE.read_text(), []
    for section in HEADS:
        wrong += [f"{ROWS.name}: {r['what'][:50]}: {m}" for r in rows[section] for m in map(missing, r["tests"]) if m]
        block = re.compile(rf"(<!-- {section}: scripts/compatibility.py --write -->\n).*?(\n<!-- end -->)", re.S)
        if not block.search(page):
            sys.exit(f"{PAGE.name} has no place for the table {section}")
        page = block.sub(lambda m, s=section: m[1] + table(s, rows[s]) + m[2], page)
    if sys.argv[1:] == ["--write"]:
        PAGE.write_text(page)
    elif page != PAGE.read_text():
        wrong.append("docs/compatibility.md is not what tests/compatibility.toml says: run scripts/compatibility.py --write")
    sys.exit("\n".join(wrong) or None)


main()
