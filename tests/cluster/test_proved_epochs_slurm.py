"""CheckpointProve and `fsched verify --restore` of a Slurm job, whose names have changed since its epoch."""
import os
import socket
import subprocess
from pathlib import Path

import leftovers
import lib
from test_names_undone import SCRIPT
from test_numbers import check
from test_written import progress


def of_proof(c, job):
    """Processes of the restored script. In their mount namespace they have another root directory than we have."""
    found = []
    for p in leftovers.pids():
        try:
            if b"/slurm_script" in Path(f"/proc/{p}/cmdline").read_bytes() and \
                    os.stat(f"/proc/{p}/root").st_dev != os.stat("/").st_dev:
                found.append(p)
        except OSError:
            continue
    return found


def reached(pid, path):
    """What connect() says to a process that sees the files as pid does."""
    r, w = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.chroot(f"/proc/{pid}/root")
            s = socket.socket(socket.AF_UNIX)
            s.connect(path)
            os.write(w, b"connected")
        except OSError as e:
            os.write(w, e.strerror.encode())
        os._exit(0)
    os.waitpid(child, 0)
    os.close(w)
    with os.fdopen(r) as f:
        return f.read()


def test_epochs_are_proved(new_cluster, jobdir):
    c = new_cluster(conf=["CheckpointProve = first", "CRIU_MaxEpochs = 3"])
    d = jobdir()
    job = c.sbatch(SCRIPT.format(steps=100000), "--checkpoint=UNLIMITED", "-o", "out", cwd=d)
    c.wait_running(job)
    progress(d, 17)
    c.checkpoint("create", job)
    # The agent proves the first epoch by itself, and no other.
    lib.wait_for(lambda: "epoch 1 proved by restore" in c.log(job) or "epoch 1 was" in c.log(job), "the proof")
    assert "epoch 1 proved by restore: " in c.log(job), c.log(job)
    assert "Proved:    epoch 1 by restore on t1 at 20" in c.ok("fsched", "show", job)
    progress(d, 45)
    c.checkpoint("create", job)
    for user in (lib.USER, "root"):
        o = check(c.ok("fsched", "show", job, "--json", user=user), "fsched.show 1", ["jobs[].steps."])
        assert [e["proof"] and e["proof"]["restored"] for e in o["jobs"][0]["epochs"]] == [True, None]
    assert "no restore has been tried" in c.ok("fsched", "show", job, 2, user="root")
    # By hand, of the oldest epoch: the proof goes on from there, in a tree of names as it was. What a running job changed would show through.
    progress(d, 60)
    c.checkpoint("vacate", job)
    was = (d / "log").read_text().splitlines()
    argv = ["fsched", "verify", f"{job}:1", "--restore", "--run", "100"]
    with subprocess.Popen(argv, env=c.environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as p:
        lib.wait_for(lambda: of_proof(c, job) or p.poll() is not None, "the proof")
        assert p.poll() is None, p.communicate()
        pid = min(of_proof(c, job))
        seen = Path(f"/proc/{pid}/root{d}/log")
        lib.wait_for(lambda: seen.read_text().count("\n") > 50, "the restored job")
        assert seen.read_text().splitlines()[:50] == was[:50] and (d / "log").read_text().splitlines() == was
        assert reached(pid, str(c.munge_socket())) == "Connection refused"
        p.terminate()
        assert p.wait(60) == 1
    lib.wait_for(lambda: not of_proof(c, job), "the end of the proof")
    said = c.run("fsched", "verify", f"{job}:2", "--restore", "--json", user="root")
    o = check(said.stdout, "fsched.verify 1", [])
    assert said.returncode == 0 and o["epochs"][0]["proof"]["outcome"] == "proved", said.stdout + said.stderr
    assert "root only" in c.fails("fsched", "verify", job, "--restore")
    c.ok("scancel", job)
    c.wait_end(job)
    image = next((c.ckpt_dir(job) / "epochs/000002/criu").glob("core-*.img"))
    data = bytearray(image.read_bytes())
    data[-1] ^= 1
    image.write_bytes(data)
    assert "restore failed" in c.run("fsched", "verify", f"{job}:2", "--restore", user="root").stdout
    text = c.ok("fsched", "show", job, 2, user="root")
    assert "Proved:    no: restore failed on " in text and image.name in text, text
    assert 'fsched_proved_epochs{outcome="failed"} 1' in c.ok("fsched", "metrics", user="root")
    page = c.ok("fsched", "report", job, "-o", "-")
    assert '<span class="bad">proved: no: restore failed on ' in page and '<span class="good">proved: by restore on ' in page
    assert not list(Path(c.lab.pod_dir).glob("prove-*"))
