"""A seccomp filter that kills for the calls with which the attributes of memory are looked for and restored."""
import json
import subprocess

import lib
import pytest

from test_pod import USER, base, pods  # noqa: F401  (fixtures)


@pytest.mark.parametrize("engine", ["auto", "criu"])
def test_attributes_of_memory_under_a_filter(pods, base, engine, monkeypatch):
    """Checkpoints and the restore make these calls in the process, and the filter neither kills it nor loses them. Where criu writes the memory,
    nobody can ask for mlockall(), and that is said."""
    ours = engine == "auto"
    conf = base / "filtered.conf"
    conf.write_text((base / "fsched.conf").read_text() + f"MemoryEngine = {engine}\n")
    env = {**pods.env(), "FSCHED_CONF": str(conf)}
    monkeypatch.setattr(pods, "env", lambda: env)
    d = pods.place("filtered")
    work, state = d / "work", d / "state"
    pods.start(work, "run", "--dir", state, "--user", USER, "--", base / "filtered", out=work / "out")
    lib.wait_for(lambda: "ready\n" in (work / "out").read_text(), "the program")
    for _ in range(2):
        done = pods.fsched("checkpoint", state)
        assert done.returncode == 0, done.stderr
        assert ours or "mlockall(MCL_FUTURE) is not known and not restored: that cannot be asked while criu writes the memory itself" in done.stderr, done.stderr
        assert done.stderr.count("warning") == (not ours), done.stderr
    assert (work / "out").read_text() == "ready\n"
    m = json.loads(max(state.glob("epochs/*/manifest.json")).read_text())
    assert [(s.get("future"), len(s["on_fault"]), [p[2] for p in s["policies"]]) for s in m["spaces"]] == [(2 if ours else None, 1, ["bind:0"])]
    assert [t["policy"] for t in m["threads"]["list"] if "policy" in t] == ["bind:0"]
    assert pods.fsched("kill", state).returncode == 0
    (work / "go").touch()
    p = subprocess.run([base / "stage/usr/bin/fsched", "pod", "restore", state], env=env, cwd=work, text=True, stdin=subprocess.DEVNULL,
                       stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=120)
    assert p.returncode == 0 and "not restored" not in p.stdout and "warning" not in p.stdout, p.stdout
    assert (work / "out").read_text() == ("ready\nlocked\n" if ours else "ready\nnot locked\n")
