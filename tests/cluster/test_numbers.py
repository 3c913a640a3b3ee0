"""Numbers for programs and for people: --json, `fsched metrics`, `fsched report`, and the Grafana dashboard."""
import json
import re
from pathlib import Path

import pytest

import lib

ROOT = Path(__file__).resolve().parents[2]
WAIT = "touch up; while [ ! -e go ]; do sleep 0.1; done; echo end"
# enough memory to be written by fsched, not by criu
LARGE = """/usr/bin/python3 -c '
import os, time
x = b"ab" * (32 << 20)
open("up", "w")
while not os.path.exists("go"):
    time.sleep(0.1)
print("end")'
"""
TYPES = {"integer": int, "string": str, "boolean": bool, "object": dict}


# ---- JSON -------------------------------------------------------------------------------------------------------------------

def documented(heading):
    """{member: (type, may be null)} of one section of docs/json.md."""
    text = (ROOT / "docs/json.md").read_text()
    section = re.search(rf"^## {re.escape(heading)}\n(.*?)(?=^## |\Z)", text, re.M | re.S).group(1)
    rows = re.findall(r"^\| `([^`]+)` \| (\w+)(.*) \|$", section, re.M)
    return {name: (TYPES[kind], "null" in rest) for name, kind, rest in rows}


def members(value, path, found, table):
    """Collects {member: [values]} with [] for elements, and * for the keys of what the table documents so."""
    if isinstance(value, dict):
        for key, v in value.items():
            star = f"{path}.*" if path else "*"
            name = star if any(t.startswith(star) for t in table) else f"{path}.{key}" if path else key
            members(v, name, found, table)
        if path in table:
            found.setdefault(path, []).append(value)
    elif isinstance(value, list):
        for v in value:
            members(v, f"{path}[]", found, table)
    else:
        found.setdefault(path, []).append(value)


def check(text, heading, absent=()):
    """The object has the documented members with their types, and no others."""
    o, table, found = json.loads(text), documented(heading), {}
    name, version = heading.split()[:2]
    assert (o.pop("schema"), o.pop("version")) == (name, int(version))
    members(o, "", found, table)
    assert not set(found) - set(table), f"{heading}: not documented: {sorted(set(found) - set(table))}"
    for member, (kind, nullable) in table.items():
        if any(member.startswith(a) for a in absent):
            continue
        assert member in found, f"{heading}: {member} is missing"
        for v in found[member]:
            assert (v is None and nullable) or type(v) is kind, f"{heading}: {member} is {v!r}"
    return o


def test_json(cluster, jobdir):
    d = jobdir()
    job = cluster.sbatch("exec 3>written; srun -n1 -Jfirst true\n" + LARGE, "--checkpoint=UNLIMITED", "-o", "out", cwd=d)
    cluster.wait_running(job)
    lib.wait_for(lambda: (d / "up").exists(), "the script")
    cluster.checkpoint("create", job)
    lib.wait_for(lambda: "1 ended" in cluster.ok("fsched", "show", job), "the step")
    for user in (lib.USER, "root"):
        o = check(cluster.ok("fsched", "show", job, "--json", user=user), "fsched.show 1")
        assert o["jobs"][0]["record"]["user"] == lib.USER and o["jobs"][0]["epochs"][0]["epoch"] == 1
        assert o["jobs"][0]["slurm"]["state"] == "RUNNING" and o["jobs"][0]["steps"]["last"][0]["name"] == "first"
        check(cluster.ok("fsched", "list", "--json", user=user), "fsched.list 1")
        check(cluster.ok("fsched", "list", job, "--json", user=user), "fsched.epochs 1")
    o = check(cluster.ok("fsched", "show", job, 1, "--json", user="root"), "fsched.show 1 with an epoch")
    assert any(f["path"] == str(d / "written") for f in o["jobs"][0]["epochs"][0]["manifest"]["files"])
    o = check(cluster.ok("fsched", "show", job, 1, "--json"), "fsched.show 1 with an epoch", ["jobs[].epochs[].manifest."])
    assert o["jobs"][0]["epochs"][0]["manifest"] is None
    o = check(cluster.ok("fsched", "checkpoint", "able", job, "--json"), "fsched.able 1")
    assert o["jobs"][0]["able"] is True
    (d / "go").touch()
    cluster.wait_end(job)
    o = check(cluster.ok("fsched", "checkpoint", "able", job, "--json"), "fsched.able 1")
    assert o["jobs"][0]["able"] is False and o["jobs"][0]["reason"]


def test_json_of_the_node(cluster):
    o = check(cluster.ok("fsched", "config", "--json"), "fsched.config 1")
    text = cluster.ok("fsched", "config")
    assert set(o["keys"]) == set(re.findall(r"^#?(\w+) =", text, re.M))
    assert o["keys"]["JobCheckpointDir"]["value"] == str(cluster.ckpt_dir(1).parent) and o["file"]
    p = cluster.run("fsched", "doctor", "--json", user="root")
    o = check(p.stdout, "fsched.doctor 1", ["not_checked[]"])
    assert p.returncode == (1 if o["failed"] else 0) and len(o["findings"]) == o["ok"] + o["warnings"] + o["failed"]


@pytest.mark.parametrize("argv", [["show", 999999, "--json"], ["list", 999999, "--json"]])
def test_json_of_an_unknown_job(cluster, argv):
    p = cluster.run("fsched", *argv)
    assert p.returncode == 1 and "999999" in p.stderr and json.loads(p.stdout)["jobs"] == []


def test_json_is_of_able_only(cluster):
    assert cluster.run("fsched", "checkpoint", "create", 1, "--json").returncode == 2
