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


# ---- metrics ----------------------------------------------------------------------------------------------------------------

def parse_metrics(text):
    """{name: (type, {labels: value})}, after the checks that promtool makes."""
    families, current = {}, None
    assert text.endswith("\n") and "\n\n" not in text
    for line in text.splitlines():
        if line.startswith("# HELP "):
            name, help_text = line[7:].split(" ", 1)
            assert name not in families and help_text.endswith("."), line
            current = name
            families[name] = (None, {})
        elif line.startswith("# TYPE "):
            name, kind = line[7:].split(" ")
            assert name == current and kind in ("counter", "gauge", "histogram"), line
            families[name] = (kind, {})
        else:
            m = re.fullmatch(r'([a-z_][a-z0-9_]*)(?:\{((?:[a-z_]+="(?:[^"\\\n]|\\["\\n])*",?)*)\})? ([0-9.e+-]+)', line)
            assert m, line
            kind, samples = families[current]
            suffixes = ("_bucket", "_sum", "_count") if kind == "histogram" else ("",)
            assert m[1] in [current + s for s in suffixes], line
            assert kind != "counter" or current.endswith("_total"), line
            assert (m[1], m[2]) not in samples, f"twice: {line}"
            samples[m[1], m[2]] = float(m[3])
    for name, (kind, samples) in families.items():
        assert kind and re.fullmatch(r"fsched_[a-z_]+", name), name
        if kind == "histogram":
            buckets = [(k[1], v) for k, v in samples.items() if k[0].endswith("_bucket")]
            bounds = [float(re.fullmatch(r'le="([^"]+)"', labels)[1]) for labels, _ in buckets]
            values = [v for _, v in buckets]
            assert bounds == sorted(set(bounds)) and bounds[-1] == float("inf"), bounds
            assert values == sorted(values) and values[-1] == samples[f"{name}_count", None], values
    return families


def metric(families, name, labels=None):
    return families[name][1][name, labels]


def test_metrics_of_an_empty_directory(cluster, tmp_path):
    conf = tmp_path / "fsched.conf"
    (tmp_path / "ckpt").mkdir()
    conf.write_text(f"JobCheckpointDir = {tmp_path}/ckpt\n")
    families = parse_metrics(cluster.ok("fsched", "metrics", "--conf", conf, user="root"))
    assert metric(families, "fsched_checkpoints_total", 'trigger="periodic"') == 0
    rows = re.findall(r"^\| `(fsched_\w+)[^`]*` \| (\w+) \|", (ROOT / "docs/metrics.md").read_text(), re.M)
    assert {name: kind for name, (kind, _) in families.items()} == dict(rows), "docs/metrics.md"
    reasons = re.findall(r"^\| `(\w+)` \| [^|]+ \|$", (ROOT / "docs/metrics.md").read_text(), re.M)
    printed = [re.fullmatch('reason="(.*)"', k[1])[1] for k in families["fsched_checkpoints_failed_total"][1]]
    assert printed == reasons, "docs/metrics.md"


def test_dashboard_uses_only_metrics_that_exist(cluster, tmp_path):
    (tmp_path / "ckpt").mkdir()
    (tmp_path / "fsched.conf").write_text(f"JobCheckpointDir = {tmp_path}/ckpt\n")
    families = parse_metrics(cluster.ok("fsched", "metrics", "--conf", tmp_path / "fsched.conf", user="root"))
    exist = set(families) | {f"{n}{s}" for n, (k, _) in families.items() if k == "histogram" for s in ("_bucket", "_sum", "_count")}
    dashboard = json.loads((ROOT / "dist/grafana/fsched.json").read_text())
    exprs = [t["expr"] for p in dashboard["panels"] for t in p["targets"]]
    used = {name for e in exprs for name in re.findall(r"\bfsched_\w+", e)}
    assert used <= exist, sorted(used - exist)
    shown = {n for n in families if any(u in (n, f"{n}_bucket") for u in used)}
    assert shown == set(families), f"the dashboard does not show {sorted(set(families) - shown)}"
    ids = [p["id"] for p in dashboard["panels"]]
    assert len(set(ids)) == len(ids)
    for e in exprs:
        assert e.count("(") == e.count(")") and e.count("{") == e.count("}"), e


@pytest.mark.parametrize("argv, status", [(["metrics", "x"], 2), (["metrics", "--textfile"], 2), (["metrics", "--textfile", "/nonexistent"], 1)])
def test_bad_use_of_metrics(cluster, argv, status):
    p = cluster.run("fsched", *argv)
    assert p.returncode == status and len(p.stderr.strip().splitlines()) <= 2 and p.stdout == "", p
