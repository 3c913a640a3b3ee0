"""What criu does not save of threads: affinity, priorities, policies (worker/thread_attributes.c)."""
import json
import os
import subprocess

import lib
import pytest

from test_pod import USER, base, pods  # noqa: F401  (fixtures)

CPUS = sorted(os.sched_getaffinity(0))


def looks(work):
    """name -> the states that the process has written"""
    return {name: [json.loads(line) for line in (work / name).read_text().splitlines()] if (work / name).exists() else []
            for name in ("parent", "child")}


def restored(pods, base, checkpoints=1, refused_with=(), refusal="", conf=""):
    """The states before and after the restore, and what the restore said."""
    if conf:
        f = base / "attributes.conf"
        f.write_text((base / "fsched.conf").read_text() + conf)
        pods.env = lambda: {**os.environ, "FSCHED_CONF": str(f)}
    d = pods.place("attributes")
    work, state = d / "work", d / "state"
    pods.start(work, "run", "--dir", state, "--user", USER, "--", "/usr/bin/python3", lib.ROOT / "tests/workloads/attributes.py", "go",
               out=work / "out")
    lib.wait_for(lambda: all(looks(work).values()), "the program")
    for _ in range(checkpoints):
        done = pods.fsched("checkpoint", state)
        assert done.returncode == 0, done.stdout + done.stderr
    assert pods.fsched("kill", state).returncode == 0
    (work / "go").touch()
    restore = lambda *prefix: subprocess.run([*prefix, base / "stage/usr/bin/fsched", "pod", "restore", state], env=pods.env(), cwd=work, text=True,
                                             stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=120)
    if refused_with:
        p = restore(*refused_with)
        assert p.returncode != 0 and refusal in p.stdout, p.stdout
    p = restore()
    assert p.returncode == 0, p.stdout + (work / "out").read_text()
    return looks(work), p.stdout


@pytest.mark.parametrize("engine", ["auto", "criu"])
def test_attributes_come_back(pods, base, engine):
    found, said = restored(pods, base, 2, conf=f"MemoryEngine = {engine}\n")
    for name in ("parent", "child"):
        before, after = found[name]
        assert before == after, (name, said)
    assert found["parent"][0]["timerslack"] == 123456 and found["parent"][0]["affinity"] == CPUS[:1], "the program has set nothing"
    assert "not restored" not in said and "memory policy" not in said, said


@pytest.mark.skipif(len(CPUS) < 2, reason="one CPU")
def test_fewer_cpus_than_bound_threads(pods, base):
    """The first thread is bound to the first CPU, another one to the last. Which CPUs they get otherwise: tests/unit/test_cpu_binding.c."""
    found, said = restored(pods, base, refused_with=("taskset", "-c", str(CPUS[-1])), refusal="bound to 2 CPUs of their own, and the job has got 1")
    parent, child = found["parent"], found["child"]
    assert parent[0]["affinity"] == CPUS[:1] and parent[0]["threads"] == [CPUS, CPUS[-1:]] and child[0]["affinity"] == CPUS
    assert parent[1] == parent[0] and child[1] == child[0], said
    assert "affinity" not in said, said


def test_a_memory_policy_that_the_node_cannot_give(pods, base):
    """An epoch from a node with more NUMA nodes: the job continues with the default policy, and is told."""
    d = pods.place("policy")
    work, state = d / "work", d / "state"
    pods.start(work, "run", "--dir", state, "--user", USER, "--", "/usr/bin/python3", lib.ROOT / "tests/workloads/attributes.py", "go",
               out=work / "out")
    lib.wait_for(lambda: all(looks(work).values()), "the program")
    assert pods.fsched("checkpoint", state).returncode == 0
    assert pods.fsched("kill", state).returncode == 0
    manifest = max(state.glob("epochs/0*")) / "manifest.json"
    text = manifest.read_text()
    if '"interleave:0"' not in text:
        pytest.skip("a kernel without NUMA")
    manifest.write_text(text.replace('"interleave:0"', '"interleave:0,63"'))   # pods outside Slurm have no signature
    (work / "go").touch()
    p = subprocess.run([base / "stage/usr/bin/fsched", "pod", "restore", state], env=pods.env(), cwd=work, text=True, stdin=subprocess.DEVNULL,
                       stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=120)
    assert p.returncode == 0, p.stdout
    assert "memory policy interleave:0,63" in p.stdout, p.stdout
    assert looks(work)["parent"][1]["policy"] == [0, 0]
