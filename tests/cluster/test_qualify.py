"""`fsched qualify`: small jobs of an ordinary user that are qualified, that must not be, and bad use."""
import concurrent.futures
import json
import os
import pwd
import re
import shutil
import signal
import subprocess

import pytest

import lib
from test_numbers import Page, check

LOOP = "for ((i = 0; i < 60; i++)); do echo \"step $i\"; echo $((i * i)) >> result; sleep 0.1; done\n"
# The moments of this seed are early: the program has to live until the checkpoint is made, on a busy machine, too.
SEED = "--seed=562"
NOT_DETERMINISTIC = "echo $$ > pid; date +%N > stamp; cat /proc/sys/kernel/random/uuid\nfor ((i = 0; i < 50; i++)); do sleep 0.1; done; echo end >> result\n"
SHORT = "#SBATCH --checkpoint=5\necho done\n"


@pytest.fixture(scope="module")
def nodes(base_dir):
    """Three nodes. A job whose agent was killed starts on another as soon as its lease is over."""
    with lib.Cluster(base_dir / "qualify", ["CheckpointLeaseTime=4"], nodes=3, cpus=8) as c:
        yield c
        c.run("scancel", "--user", lib.USER, user="root")


def put(d, script, name="job.sh"):
    d.mkdir(exist_ok=True)
    (d / name).write_text(script if script.startswith("#!") else "#!/bin/bash\n" + script)
    return d


def qualify(c, d, *argv, user=lib.USER, **kw):
    return c.run("fsched", "qualify", *argv, cwd=d, user=user, timeout=lib.DEADLINE * 4, **kw)


def result(c, d, *argv, exit_status, **kw):
    """The object of --json. Nothing is left of the jobs in Slurm."""
    p = qualify(c, d, "--json", *argv, **kw)
    assert p.returncode == exit_status, f"{p.stdout}{p.stderr}\n{c.logs()}"
    return json.loads(p.stdout), p


def verdict(c, d, expected, *argv, **kw):
    o, p = result(c, d, *argv, exit_status=0 if expected == "qualified" else 1, **kw)
    assert o["verdict"] == expected, (o, p.stderr)
    return o


def leftovers(d):
    return [p.name for p in d.iterdir() if p.name.startswith("fsched-qualify.")]


@pytest.fixture(scope="module")
def qualified(nodes, base_dir):
    """Scripts that are qualified, all at once, since each takes a while: name -> (object, directory, standard error)."""
    dirs = {}
    for name in ("both", "requeue", "node", "command", "ignore"):
        dirs[name] = put(base_dir / f"qualify-{name}", LOOP if name in ("requeue", "node") else NOT_DETERMINISTIC)
        shutil.chown(dirs[name], "root" if name == "node" else lib.USER)
    put(dirs["both"], "cat input\n" + LOOP + "echo \"$@\" >&2\n")
    (dirs["both"] / "input").write_text("input\n")
    (dirs["command"] / "same").write_text("#!/bin/sh\n[ $# = 2 ] && [ -e $1/stdout ] && cmp $1/work/result $2/work/result\n")
    (dirs["command"] / "same").chmod(0o755)
    elsewhere = ("--exclude", "t3")
    rest = ("--events=vacate", "--same-node", "--keep")
    argv = {
        "both": ("--cycles=1", "--html=page.html", "job.sh", *elsewhere, "-n1", "-J", "</title><b>", "--", "arg 1", "$(reboot)"),
        "requeue": ("--cycles=1", "--events=fail", "--fail=requeue", "job.sh", *elsewhere),
        # only root can set a node DOWN, and only one without jobs of others
        "node": ("--cycles=1", "--events=fail", "--fail=node", "job.sh", "-w", "t3"),
        "command": ("--cycles=2", *rest, "--compare-command", "./same", "--directory=runs", "job.sh", *elsewhere),
        "ignore": ("--cycles=1", *rest, "--compare=result", "--ignore=stdout", "job.sh", *elsewhere),
    }
    with concurrent.futures.ThreadPoolExecutor() as pool:
        found = {name: pool.submit(result, nodes, d, SEED, *argv[name], exit_status=0, user="root" if name == "node" else lib.USER)
                 for name, d in dirs.items()}
    return {name: (f.result()[0], dirs[name], f.result()[1].stderr) for name, f in found.items()}


def test_a_deterministic_script_is_qualified(nodes, qualified):
    """With both events, on another node, with an input file that each run gets."""
    c, (o, d, said) = nodes, qualified["both"]
    check(json.dumps(o), "fsched.qualify 1", ["reasons[]", "remarks[]", "runs[].differences[]"])
    assert o["verdict"] == "qualified" and o["qualified"] and o["reasons"] == [], (o, said)
    assert [r["kind"] for r in o["runs"]] == ["plain", "pod", "vacate", "fail"]
    assert [r["same"] for r in o["runs"]] == [None, True, True, True]
    for run in o["runs"][2:]:
        [k] = run["cycles"]
        assert k["done"] and k["from"] != k["to"] and k["bytes"] and k["total_us"] and k["restore_us"] and k["at_us"] > 0, run
        assert [e["epoch"] for e in c.history(run["job_id"])["events"] if e["kind"] == "restored"] == [k["epoch"]]
    assert o["runs"][3]["cycles"][0]["lost_us"] > 0
    assert o["frozen_us"]["n"] >= 1 and o["moved"] and o["other_node"]
    assert not any("t3" in (k["from"], k["to"]) for run in o["runs"] for k in run["cycles"]), "the user's --exclude"
    assert o["directory"] is None and leftovers(d) == [] and "result" not in os.listdir(d)
    assert "restored on" in said and "ran for" in said
    page = Page((d / "page.html").read_text())
    assert any("QUALIFIED: after" in w for w in page.words) and not page.tags & {"script", "img"}
    # the user's request for the removal of the epochs, which belong to root
    kept = c.ok("fsched", "list", user="root")
    for run in o["runs"][1:]:
        assert re.search(rf"^ +{run['job_id']} .*to-prune", kept, re.M), kept


def test_what_is_not_deterministic_can_be_qualified(nodes, qualified):
    """By a comparison of the user's, or where the files that differ are left out; on the same node, and kept."""
    (a, d, _), (b, other, _) = qualified["command"], qualified["ignore"]
    assert not a["deterministic_bytes"] and any("--compare-command decided" in r for r in a["remarks"])
    assert a["directory"] == str(d / "runs") and (d / "runs" / "vacate" / "work" / "result").read_text() == "end\n"
    assert [k["epoch"] for k in a["runs"][2]["cycles"]] == [1, 2]
    assert b["deterministic_bytes"] and len(leftovers(other)) == 1
    for o in a, b:
        assert all(k["done"] and k["from"] == k["to"] for k in o["runs"][2]["cycles"]) and not o["moved"]
        assert any("--same-node" in u for u in o["untested"])
        assert nodes.epochs(o["runs"][2]["job_id"]), "--keep"


def expect_failure(o, how):
    assert o["verdict"] == "qualified" and o["failure"] == how and o["runs"][2]["cycles"][0]["done"], o
    assert how in " ".join(o["untested"]) or how == "node", o["untested"]


def test_a_requeue_instead_of_a_kill(qualified):
    """After it Slurm starts the job by itself."""
    expect_failure(qualified["requeue"][0], "requeue")


def test_a_node_set_down(nodes, qualified):
    expect_failure(qualified["node"][0], "node")
    nodes.wait_node("t3", "idle")


PIPE = "/usr/bin/python3 -c 'import os, time; p = os.pipe2(os.O_DIRECT); time.sleep(9)'\n"
# A restored program sees a jump of the clock.
CLOCK = """/usr/bin/python3 -c '
import time
last = time.time()
for i in range(100):
    time.sleep(0.05)
    if time.time() - last > 1.5:
        print("the clock jumped")
    last = time.time()
print("end")'
"""
IN_POD = "[ \"$(cat /proc/1/comm)\" = fsched-init ] && echo pod; echo end\n"
BAD = {
    "not_deterministic": (NOT_DETERMINISTIC, ["two undisturbed runs differ", "stdout: differs from byte 1 on"], ["plain", "pod", "plain-again"]),
    "refused": (PIPE, ["refused before the freeze", "pipe in packet mode (O_DIRECT)"], ["plain", "pod", "vacate"]),
    "differs": (CLOCK, ["stdout: differs from byte 1 on; line 1 is \"the clock jumped\" instead of \"end\""], ["plain", "pod", "vacate"]),
    "differs_in_pod": (IN_POD, ["without any checkpoint, has others", "line 1 is \"pod\" instead of \"end\""], ["plain", "pod", "plain-again"]),
    "program_failed": ("exit 3\n", ["exit status 3"], ["plain"]),
    "too_short": (SHORT, ["ended before a cycle was possible"], ["plain", "pod", "vacate"]),
}


def test_what_is_not_qualified(nodes, jobdir):
    """All at once, since each takes a while."""
    c = nodes
    dirs = {v: put(jobdir(v), script) for v, (script, _, _) in BAD.items()}
    with concurrent.futures.ThreadPoolExecutor() as pool:
        found = {v: pool.submit(verdict, c, d, v, "--cycles=1", "--events=vacate", SEED, "job.sh") for v, d in dirs.items()}
    for v, (_, words, runs) in BAD.items():
        o = found[v].result()
        check(json.dumps(o), "fsched.qualify 1", ["reasons[]", "remarks[]", "runs[].differences[]", "runs[].cycles[]."])
        reasons = " ".join(o["reasons"])
        assert all(w in reasons for w in words) and o["advice"], (v, o["reasons"])
        assert [r["kind"] for r in o["runs"]] == runs, (v, o["runs"])
        # what is needed to look for the reason is kept
        assert [str(dirs[v] / n) for n in leftovers(dirs[v])] == [o["directory"]]
        assert (dirs[v] / leftovers(dirs[v])[0] / "plain" / "stdout").exists()
    assert found["refused"].result()["runs"][2]["cycles"][0]["tries"] == 3
    assert "asks for --checkpoint" in " ".join(found["too_short"].result()["remarks"]).replace("ask for", "asks for")


@pytest.mark.parametrize("sig", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_cancels_the_job(nodes, jobdir, sig):
    c, d = nodes, put(jobdir(), "touch ../up; sleep 300\n")
    pw = pwd.getpwnam(lib.USER)
    argv, cwd = c.lab.enter(["setpriv", f"--reuid={pw.pw_uid}", f"--regid={pw.pw_gid}", "--init-groups", "--", "fsched", "qualify", "job.sh"], str(d))
    p = subprocess.Popen(argv, cwd=cwd, env=c.environment(), text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                         preexec_fn=lambda: [signal.signal(s, signal.SIG_DFL) for s in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)])
    try:
        lib.wait_for(lambda: list(d.glob("fsched-qualify.*/plain/up")), "the script")
        p.send_signal(sig)
        out, err = p.communicate(timeout=lib.DEADLINE)
    finally:
        p.kill()
    assert p.returncode == -sig and "UNFINISHED" in out and "it was interrupted" in out and "cancelled" in err, (p.returncode, out, err)
    job = int(re.search(r"job (\d+): submitted", err).group(1))
    assert c.wait_end(job)[0] == "CANCELLED"


def test_a_limit_ends_it(nodes, jobdir):
    c, d = nodes, put(jobdir(), "sleep 300\n")
    o = verdict(c, d, "unfinished", "--limit=0:04", "job.sh")
    assert "the time of --limit is over" in " ".join(o["reasons"])
    assert c.wait_end(o["runs"][0]["job_id"])[0] == "CANCELLED"


@pytest.mark.parametrize("argv, status, said", [
    ([], 2, "which script?"),
    (["missing.sh"], 2, "cannot read the script missing.sh"),
    (["data"], 2, "is no script"),
    (["--cycles=0", "job.sh"], 2, "--cycles needs a number"),
    (["--seed=-1", "job.sh"], 2, "--seed needs a number"),
    (["--events=crash", "job.sh"], 2, "--events needs"),
    (["--fail=fire", "job.sh"], 2, "--fail needs"),
    (["--fail=node", "job.sh"], 2, "only root"),
    (["--limit=soon", "job.sh"], 2, "--limit needs a time"),
    (["--compare=../x", "job.sh"], 2, "relative"),
    (["--compare-command=/nonexistent", "job.sh"], 2, "there is no program"),
    (["--compare=x", "--compare-command=true", "job.sh"], 2, "either --compare or"),
    (["job.sh", "argument"], 2, "follow behind --"),
    (["job.sh", "--exclusive", "argument"], 2, "follow behind --"),
    (["job.sh", "--array=1-3"], 2, "array"),
    (["array.sh"], 2, "the script's line #SBATCH --array"),
    (["--copy-limit=1K", "job.sh"], 1, "--copy-limit"),
    (["--copy=missing", "job.sh"], 1, "cannot open directory missing"),
    (["--directory=data", "job.sh"], 1, "cannot make directory data"),
    (["--conf=missing.conf", "job.sh"], 1, "missing.conf"),
])
def test_bad_use(nodes, jobdir, argv, status, said):
    c, d = nodes, put(jobdir(), "true\n")
    (d / "data").write_text("x" * 5000)
    put(d, "#SBATCH -n1 --array=1-2\ntrue\n", "array.sh")
    p = qualify(c, d, *argv)
    assert p.returncode == status and said in p.stderr and p.stdout == "" and len(p.stderr.splitlines()) <= 2, p
    assert leftovers(d) == []


def test_what_sbatch_refuses(nodes, jobdir):
    c, d = nodes, put(jobdir(), "true\n")
    o = verdict(c, d, "unfinished", "job.sh", "--partition=nowhere")
    assert "not submitted" in o["reasons"][0] and "partition" in o["reasons"][0]
    p = qualify(c, d, "-Q", "job.sh", "--partition=nowhere")
    assert p.returncode == 1 and p.stderr == "" and p.stdout.startswith("UNFINISHED") and max(map(len, p.stdout.splitlines())) < 100
