"""Numbers for programs and for people: --json, `fsched metrics`, `fsched report`, and the Grafana dashboard."""
import html.parser
import json
import re
import shutil
from pathlib import Path

import pytest

import browser
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
TYPES = {"integer": int, "string": str, "boolean": bool, "object": dict, "number": float}


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


PROOF = ["jobs[].epochs[].proof.", "epochs[].proof."]
LARGE_ONLY, SMALL_ONLY = "jobs[].epochs[].manifest.memory.", "jobs[].epochs[].manifest.criu_memory."


def check(text, heading, absent=(*PROOF, SMALL_ONLY)):
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
    o = check(cluster.ok("fsched", "verify", f"{job}:1", "--json", user="root"), "fsched.verify 1")
    assert o["epochs"][0]["intact"] is True
    o = check(cluster.ok("fsched", "show", job, 1, "--json", user="root"), "fsched.show 1 with an epoch")
    assert any(f["path"] == str(d / "written") for f in o["jobs"][0]["epochs"][0]["manifest"]["files"])
    o = check(cluster.ok("fsched", "show", job, 1, "--json"), "fsched.show 1 with an epoch", ["jobs[].epochs[].manifest.", "jobs[].epochs[].proof."])
    assert o["jobs"][0]["epochs"][0]["manifest"] is None
    o = check(cluster.ok("fsched", "advise", job, "--json"), "fsched.advise 1")
    assert o["jobs"][0]["checkpoints"] == 1 and o["jobs"][0]["interval_auto"] is False
    o = check(cluster.ok("fsched", "checkpoint", "able", job, "--json"), "fsched.able 1")
    assert o["jobs"][0]["able"] is True
    (d / "go").touch()
    cluster.wait_end(job)
    o = check(cluster.ok("fsched", "checkpoint", "able", job, "--json"), "fsched.able 1")
    assert o["jobs"][0]["able"] is False and o["jobs"][0]["reason"]


def test_json_of_a_small_job(cluster, jobdir):
    """Its memory is in criu's images, and why."""
    d = jobdir()
    job = cluster.sbatch("exec 3>written; echo up; while [ ! -e go ]; do sleep 0.1; done", "--checkpoint=UNLIMITED", "-o", "out", cwd=d)
    lib.wait_for(lambda: (d / "out").exists() and (d / "out").read_text(), "the script")
    cluster.checkpoint("create", job)
    o = check(cluster.ok("fsched", "show", job, 1, "--json", user="root"), "fsched.show 1 with an epoch", [*PROOF, LARGE_ONLY])
    epoch = o["jobs"][0]["epochs"][0]
    memory = epoch["manifest"]["criu_memory"]
    assert epoch["manifest"]["memory"] is None and memory["method"] == "small" and memory["bytes"] > 0 and "256.0 KiB" in memory["why"]
    assert epoch["memory"].startswith("small,")
    cluster.wait_entry(job, lambda e: e.get("memory") == epoch["memory"], "the entry to say it")
    assert f"KiB ({memory['why']})" in cluster.ok("fsched", "show", job, 1, user="root")
    (d / "go").touch()
    cluster.wait_end(job)


def test_json_of_the_node(cluster):
    o = check(cluster.ok("fsched", "config", "--json"), "fsched.config 1")
    text = cluster.ok("fsched", "config")
    assert set(o["keys"]) == set(re.findall(r"^#?(\w+) =", text, re.M))
    assert o["keys"]["JobCheckpointDir"]["value"] == str(cluster.ckpt_dir(1).parent) and o["file"]
    p = cluster.run("fsched", "doctor", "--json", user="root")
    o = check(p.stdout, "fsched.doctor 1", ["not_checked[]"])
    assert p.returncode == (1 if o["failed"] else 0) and len(o["findings"]) == o["ok"] + o["warnings"] + o["failed"]


@pytest.mark.parametrize("argv", [["show", 999999, "--json"], ["list", 999999, "--json"], ["advise", 999999, "--json"]])
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


@pytest.mark.parametrize("argv, status", [(["metrics", "x"], 2), (["metrics", "--textfile"], 2), (["metrics", "--textfile", "/nonexistent"], 1),
                                          (["metrics", "--textfile", "/tmp", "--json"], 2)])
def test_bad_use_of_metrics(cluster, argv, status):
    p = cluster.run("fsched", *argv)
    assert p.returncode == status and len(p.stderr.strip().splitlines()) <= 2 and p.stdout == "", p


# ---- a job with failures and restores ---------------------------------------------------------------------------------------

NAME = "</title><script>document.title = 'evil'</script><img src=x onerror=alert(1)>\"'&"


class Page(html.parser.HTMLParser):
    """What a browser would make of the page: its elements, its text, and whether each element is closed."""
    VOID = {"meta", "br", "img", "link"}

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.tags, self.attributes, self.open, self.words = set(), set(), [], []
        self.feed(text)
        self.close()
        assert not self.open, self.open

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_endtag(self, tag):
        assert self.open and self.open[-1] == tag, (tag, self.open)
        self.open.pop()

    def handle_data(self, data):
        self.words.append(data)


@pytest.fixture(scope="module")
def own_cluster(base_dir):
    with lib.Cluster(base_dir / "lived", ["CRIU_MaxEpochs=3"]) as c:
        yield c
        c.run("scancel", "--user", lib.USER, user="root")


@pytest.fixture(scope="module")
def lived(own_cluster, base_dir):
    """A job that was refused a checkpoint, vacated, was held because its newest epoch is damaged, and restored from the one before."""
    c, d = own_cluster, base_dir / "lived-job"
    d.mkdir()
    shutil.chown(d, lib.USER)
    (d / "secret").write_text("x")
    (d / "secret").chmod(0o600)
    shutil.chown(d / "secret", lib.USER)
    job = c.sbatch("exec 5<secret\n" + WAIT, "--checkpoint=UNLIMITED", "-o", "out", "-J", NAME, cwd=d)
    c.wait_running(job)
    lib.wait_for((d / "up").exists, "the script")
    c.checkpoint("create", job)
    shutil.chown(d / "secret", "root")
    for _ in range(2):
        assert "could not open it again" in c.fails("scontrol", "checkpoint", "create", job)
    shutil.chown(d / "secret", lib.USER)
    c.checkpoint("create", job)
    c.checkpoint("vacate", job)
    manifest = c.ckpt_dir(job) / "epochs" / "000003" / "manifest.json"
    manifest.write_bytes(manifest.read_bytes()[:-1])
    assert "held" in c.fails("scontrol", "checkpoint", "restart", job)
    c.checkpoint("restart", job, "--epoch", 2)
    c.wait_entry(job, lambda e: e.get("restored") == "2", "the restore from the epoch before")
    yield c, job, d
    (d / "go").touch()
    c.wait_end(job)


def test_what_a_job_has_lived_through_is_counted(lived):
    c, job, _ = lived
    f = parse_metrics(c.ok("fsched", "metrics", user="root"))
    assert [metric(f, "fsched_checkpoints_total", f'trigger="{t}"') for t in ("create", "vacate", "periodic")] == [2, 1, 0]
    refused = {k[1]: v for k, v in f["fsched_checkpoints_refused_total"][1].items() if v}
    assert sum(refused.values()) == 2 and set(refused) <= {'reason="file"', 'reason="descriptor"'}, refused
    assert [metric(f, "fsched_restores_total", f'outcome="{o}"') for o in ("ok", "failed", "held", "moved", "started_over")] == [1, 1, 1, 0, 0]
    freezes = f["fsched_freeze_seconds"][1]
    assert freezes["fsched_freeze_seconds_count", None] == 2, "a vacate is no freeze"
    assert freezes["fsched_freeze_seconds_sum", None] > 0 and metric(f, "fsched_written_bytes_total") > 0
    assert metric(f, "fsched_kept_epochs", f'user="{lib.USER}"') == len(c.epochs(job))
    du = sum(p.stat().st_size for p in (c.ckpt_dir(job) / "epochs").rglob("*") if p.is_file() and not p.name.startswith("manifest"))
    assert metric(f, "fsched_kept_bytes", f'user="{lib.USER}"') == pytest.approx(du, rel=0.05)
    labels = f'job="{job}",user="{lib.USER}",node="{c.record(job)["host"]}"'
    assert 0 <= metric(f, "fsched_job_last_epoch_age_seconds", labels) < 600
    kinds = [e["kind"] for e in c.history(job)["events"]]
    assert kinds == ["started", "epoch", "refused", "epoch", "epoch", "left", "restore_failed", "held", "restored"]
    o = check(c.ok("fsched", "metrics", "--json", user="root"), "fsched.metrics 1")
    assert {m["name"]: len(m["samples"]) for m in o["metrics"]} == {name: len(samples) for name, (_, samples) in f.items()}
    # the owner sees the same, others nothing
    own = parse_metrics(c.ok("fsched", "metrics"))
    assert own["fsched_checkpoints_total"] == f["fsched_checkpoints_total"]
    other = parse_metrics(c.ok("setpriv", "--reuid=daemon", "--regid=daemon", "--clear-groups", "fsched", "metrics", user="root"))
    assert not any(other["fsched_checkpoints_total"][1].values()) and not other["fsched_kept_bytes"][1]


def test_textfile(lived, tmp_path):
    c, _, _ = lived
    c.ok("fsched", "metrics", "--textfile", tmp_path, user="root")
    assert [p.name for p in tmp_path.iterdir()] == ["fsched.prom"]
    parse_metrics((tmp_path / "fsched.prom").read_text())
    assert (tmp_path / "fsched.prom").stat().st_mode & 0o777 == 0o644


def test_counters_survive_prune(lived, jobdir):
    c, _, _ = lived
    job = c.sbatch(WAIT, "--checkpoint=UNLIMITED", cwd=(d := jobdir()))
    c.wait_running(job)
    lib.wait_for((d / "up").exists, "the script")
    c.checkpoint("create", job)
    (d / "go").touch()
    c.wait_end(job)
    before = parse_metrics(c.ok("fsched", "metrics", user="root"))["fsched_checkpoints_total"]
    c.ok("fsched", "prune", job, "--all", user="root")
    assert not c.ckpt_dir(job).exists()
    assert parse_metrics(c.ok("fsched", "metrics", user="root"))["fsched_checkpoints_total"] == before


def report(c, d, *argv, user=lib.USER):
    c.ok("fsched", "report", "-o", d / "report.html", *argv, user=user)
    return (d / "report.html").read_text()


def test_report(lived, jobdir):
    c, job, _ = lived
    d = jobdir()
    for user, text in [("root", report(c, jobdir("root"), user="root")), (lib.USER, report(c, d))]:
        page = Page(text)
        words = " ".join(page.words)
        assert NAME in page.words, "the job's name as text"
        assert not page.tags & {"script", "img", "iframe", "object", "link", "form"} and not any(a.startswith("on") for a in page.attributes)
        assert "src" not in page.attributes and set(re.findall(r"(?:href=.|http)[^\s\"']", text)) == {"href=\"#", "http-"}
        for said in ("restored from epoch 2", "restore of epoch 3 failed", "could not open it again", "not made, 2 times", "off its node (vacate)", lib.USER):
            assert said in words, (user, said)
    assert (d / "report.html").stat().st_mode & 0o077 == 0
    assert "There is no job to show" not in report(c, d, "--since", "now-1hour")
    assert "There is no job to show" in report(c, d, "--since", "2099-01-01")
    assert f">{job}<" in report(c, d, job) and f">{job}<" in report(c, d, "--user", lib.USER)
    assert "There is no job to show" in report(c, jobdir("root"), "--user", "daemon", user="root")
    # users see only their own jobs
    other = ("setpriv", "--reuid=daemon", "--regid=daemon", "--clear-groups")
    text = c.ok(*other, "fsched", "report", "-o", "-", user="root")
    assert "There is no job to show" in text and "of others not shown" in text
    p = c.run(*other, "fsched", "report", job, "-o", "-", user="root")
    assert p.returncode == 1 and f"job {job} has no checkpoint directory that you may read" in p.stderr and not p.stdout


@pytest.mark.parametrize("argv, status, said", [
    (["--since", "soon", "-o", "x"], 2, "--since needs a time"),
    (["12x", "-o", "x"], 2, "12x"),
    (["--user", "nobody-of-that-name", "-o", "x"], 1, "there is no user"),
    ([999999, "-o", "x"], 1, "job 999999 has no checkpoint directory"),
    (["-o", "/nonexistent/x"], 1, "cannot open directory /nonexistent"),
    (["--colour"], 2, "colour"),
])
def test_bad_use_of_report(lived, jobdir, argv, status, said):
    c, _, _ = lived
    p = c.run("fsched", "report", *argv, cwd=jobdir())
    assert p.returncode == status and said in p.stderr and p.stdout == "", p
    assert "999999" in map(str, argv) or len(p.stderr.splitlines()) <= 2, p.stderr


def test_a_link_is_not_followed(lived, jobdir):
    c, _, _ = lived
    d = jobdir()
    (d / "precious").write_text("precious")
    (d / "report.html").symlink_to(d / "precious")
    report(c, d, user="root")
    assert (d / "precious").read_text() == "precious" and not (d / "report.html").is_symlink()


@pytest.mark.skipif(not browser.PROGRAM, reason="no Chromium")
def test_report_in_a_browser(lived, tmp_path):
    c, _, _ = lived
    (tmp_path / "out").mkdir()
    report(c, tmp_path / "out", user="root")
    url = f"file://{tmp_path}/out/report.html"
    with browser.Browser(tmp_path / "profile") as b:
        b.open(url)
        assert b.evaluate("document.title") == "Checkpoints" and b.evaluate("document.scripts.length") == 0
        assert NAME in b.evaluate("document.body.innerText")
        colors = set()
        for width, scheme, media in [(1100, "light", "screen"), (1100, "dark", "screen"), (360, "light", "screen"), (700, "dark", "print")]:
            b.look(width, scheme, media)
            assert b.evaluate("document.documentElement.scrollWidth") <= width, (width, scheme, media)
            assert b.evaluate("[...document.querySelectorAll('svg[role=img]')].every(s => s.getBoundingClientRect().width > 0)")
            colors.add(b.evaluate("getComputedStyle(document.body).backgroundColor"))
            b.screenshot(tmp_path / f"{width}-{scheme}-{media}.png")
        assert colors == {"rgb(255, 255, 255)", "rgb(20, 23, 27)"}, colors
        b.look(1100)
        before = b.evaluate("document.querySelector('details').offsetHeight")
        b.click("summary")
        lib.wait_for(lambda: b.evaluate("document.querySelector('details').offsetHeight") > before, "the events to be shown")
        assert "restore of epoch 3 failed" in b.evaluate("document.querySelector('details').innerText")
        b.click("a[href^='#job-']")
        assert b.evaluate("location.hash") == "#job-0"
        assert b.errors == [] and set(b.requests) == {url}
