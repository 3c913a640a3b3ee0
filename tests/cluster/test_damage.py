"""Damaged epochs: a changed, cut or missing file is detected before any process runs, and an older epoch is restored instead."""
import json
import re

import pytest

import lib

SCRIPT = "for ((i = 0; i < {n}; i++)); do echo \"step $i\"; [ -e hurry ] || sleep 0.1; done; echo end\n"


def verify(c, job, epoch):
    """fsched verify of an epoch: (exit status, what it says of it)."""
    p = c.run("fsched", "verify", "--json", f"{job}:{epoch}", user="root")
    [said] = json.loads(p.stdout)["epochs"]
    assert said["job"] == str(job) and said["epoch"] == epoch and said["intact"] == (p.returncode == 0), p.stdout
    return p.returncode, said


def damages(path):
    """Each way to damage a file, and how to undo it."""
    data = path.read_bytes()

    def flip(at):
        def do():
            path.write_bytes(data[:at] + bytes([data[at] ^ 0x10]) + data[at + 1:])
        return do
    places = sorted({0, len(data) // 2, len(data) - 1} if data else set())
    ways = [(f"byte {at} flipped", flip(at)) for at in places]
    if data:
        ways.append(("cut by one byte", lambda: path.write_bytes(data[:-1])))
        ways.append(("emptied", lambda: path.write_bytes(b"")))
    ways.append(("longer by one byte", lambda: path.write_bytes(data + b"\0")))
    ways.append(("deleted", path.unlink))
    return ways, lambda: path.write_bytes(data)


@pytest.fixture
def saved(new_cluster, jobdir, workloads):
    """A job with files of every kind, vacated."""
    c = new_cluster(conf=["CRIU_MaxEpochs=3"])
    d = jobdir()
    script = f"echo $$ > /tmp/private; echo x > /dev/shm/shared; {workloads}/threads 6000 16 > threads.out & {workloads}/files 6000 .; wait\n"
    job = c.sbatch(script, "--checkpoint=UNLIMITED", "-o", "out", cwd=d)
    c.wait_running(job)
    lib.wait_for((d / "append.log").exists, "the job's files")
    c.checkpoint("create", job)
    c.checkpoint("vacate", job)
    return c, job, d


def test_every_file_of_an_epoch(saved):
    c, job, _ = saved
    assert verify(c, job, 2)[0] == 0
    assert re.fullmatch(rf"job {job}, epoch 1: .* MiB, every byte is as it was written\njob {job}, epoch 2: .* as it was written\n",
                        c.ok("fsched", "verify", job, user="root"))
    epoch = c.ckpt_dir(job) / "epochs" / "000002"
    files = sorted(p for p in epoch.rglob("*") if p.is_file())
    kinds = {re.sub(r"[-0-9].*", "", str(p.relative_to(epoch))) for p in files}
    assert {"manifest.json", "manifest.cred"} <= kinds and any(k.startswith("criu/core") for k in kinds) and \
        any(k.startswith("criu/pages") for k in kinds) and any(k.startswith("files/") for k in kinds) and any(k.startswith("memory/") for k in kinds), kinds
    for path in files:
        ways, undo = damages(path)
        if path.stat().st_nlink > 1:        # a copy that epochs share must not be damaged for both at once
            ways = [w for w in ways if w[0] == "deleted"]
        for name, damage in ways:
            damage()
            status, said = verify(c, job, 2)
            undo()
            if path.name == "manifest.cred" and status == 0:
                # MUNGE ignores what stands behind the credential, and bits of its base64 that carry nothing
                assert name in ("longer by one byte", f"byte {path.stat().st_size - 1} flipped", "cut by one byte"), name
                continue
            assert status != 0, f"{path.name}, {name}: not noticed: {said}"
            assert said["error"] and said["bytes"] is None, said
    (epoch / "stranger").write_text("x")
    assert verify(c, job, 2)[0] != 0
    assert "stranger does not belong to the checkpoint" in c.fails("fsched", "verify", f"{job}:2", user="root")
    (epoch / "stranger").unlink()
    assert "root only" in c.fails("fsched", "verify", job)
    assert "cannot open" in c.fails("fsched", "verify", f"{job}:77", user="root")
    assert c.run("fsched", "verify", user="root").returncode == 2


def damage_newest(c, job, pattern):
    newest = c.ckpt_dir(job) / "epochs" / f"{max(c.epochs(job)):06d}"
    path = sorted(newest.glob(pattern))[0]
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0x40
    path.write_bytes(data)
    return path


def requeue_by_failure(c, job):
    """Requeues the job as after a node failure, on a cluster with one node."""
    c.ok("scontrol", "update", "nodename=t1", "state=down", "reason=test", user="root")
    lib.wait_for(lambda: c.state(job) == "PENDING", "the job to be requeued")
    # a node that has answered meanwhile is back by itself, and refuses
    lib.wait_for(lambda: c.run("scontrol", "update", "nodename=t1", "state=resume", user="root").returncode == 0 or
                 c.ok("sinfo", "-h", "-o", "%T").strip() in ("idle", "mixed", "completing"), "the node to be usable")


@pytest.mark.parametrize("pattern", ["criu/pages-*.img", "criu/core-*.img", "memory/chunks-*", "manifest.json"])
def test_the_epoch_before_is_taken(new_cluster, jobdir, workloads, pattern):
    c = new_cluster(conf=["CRIU_MaxEpochs=3"])
    d = jobdir()
    script = SCRIPT.format(n=3000) if "memory" not in pattern else \
        f"(cd / && exec {workloads}/threads 6000 16) > threads.out &\n" + SCRIPT.format(n=3000) + "kill %1; wait\n"
    job = c.sbatch(script, "--checkpoint=UNLIMITED", "-o", "out", cwd=d)
    c.wait_running(job)
    c.checkpoint("create", job)
    c.checkpoint("create", job)
    damage_newest(c, job, pattern)
    requeue_by_failure(c, job)
    e = c.wait_entry(job, lambda e: e["state"] == "running" and e.get("restored"), "the job to be restored", lib.DEADLINE * 3)
    assert e["restored"] == "1"
    assert e["error"].startswith("restored from epoch 1; epoch 2 cannot be restored: "), e
    assert "epoch 2 cannot be restored" in c.log(job) and "restored from epoch 1" in c.log(job)
    lib.hurry(d)
    assert c.wait_end(job) == ("COMPLETED", "0:0")
    assert (d / "out").read_text() == "".join(f"step {i}\n" for i in range(3000)) + "end\n"


@pytest.mark.parametrize("policy", ["requeue_fresh", "hold"])
def test_no_epoch_is_left(new_cluster, jobdir, policy):
    c = new_cluster(conf=[f"CheckpointOnRestoreFailure={policy}"])
    d = jobdir()
    job = c.sbatch(SCRIPT.format(n=3000), "--checkpoint=UNLIMITED", "-o", "out", cwd=d)
    c.wait_running(job)
    c.checkpoint("create", job)
    path = damage_newest(c, job, "criu/pages-*.img")
    requeue_by_failure(c, job)
    if policy == "hold":
        e = c.wait_entry(job, lambda e: e["state"] == "held", "the job to be held", lib.DEADLINE * 3)
        assert "epoch 1 cannot be restored" in e["error"]
        lib.wait_for(lambda: c.state(job) == "PENDING", "the job to be in the queue")
        assert c.job(job)["Priority"] == "0" and path.exists()
        return
    e = c.wait_entry(job, lambda e: e["state"] == "running" and "started over" in e.get("error", ""), "a fresh start", lib.DEADLINE * 3)
    assert "epoch 1 cannot be restored" in e["error"]
    assert "is kept beside as out.run-1" in e["error"] and (d / "out.run-1").read_text().startswith("step 0\n")
    lib.hurry(d)
    assert c.wait_end(job) == ("COMPLETED", "0:0")
    assert (d / "out").read_text() == "".join(f"step {i}\n" for i in range(3000)) + "end\n"


def test_after_a_broken_link_the_next_epoch_is_full(new_cluster, jobdir, workloads):
    """Increments: if a file of an epoch is damaged, the earlier epoch is restored, and no later epoch refers to the damage."""
    c = new_cluster(conf=["CRIU_Incremental=YES", "CRIU_MaxEpochs=3"])
    d = jobdir()
    job = c.sbatch(f"exec {workloads}/threads 6000 16", "--checkpoint=UNLIMITED", "-o", "out", cwd=d)
    c.wait_running(job)
    lib.wait_for(lambda: (d / "out").read_text(), "output")
    for _ in range(2):
        c.checkpoint("create", job)
    listed = c.ok("fsched", "list", job)         # by the user
    assert "SHARED" in listed
    damage_newest(c, job, "memory/chunks-000002-*")
    requeue_by_failure(c, job)
    e = c.wait_entry(job, lambda e: e["state"] == "running" and e.get("restored"), "the job to be restored", lib.DEADLINE * 3)
    assert e["restored"] == "1"
    c.checkpoint("create", job)
    assert "epoch 3: warning: the memory is saved in full" in c.log(job), c.log(job)
    files = {p.name.split("-")[1] for p in (c.ckpt_dir(job) / "epochs/000003/memory").glob("chunks-*")}
    assert files == {"000003"}
    c.checkpoint("create", job)
    files = {p.name.split("-")[1] for p in (c.ckpt_dir(job) / "epochs/000004/memory").glob("chunks-*")}
    assert files == {"000003", "000004"}
    lib.wait_for(lambda: re.search(r"^ +4 .*[KM]iB +[\d.]+ [KM]iB +", c.ok("fsched", "list", job), re.M), "what is shared in the list")
    c.ok("scancel", job)
    c.wait_end(job)
