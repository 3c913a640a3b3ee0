"""An export is for people: they hand it on, and change it. The epoch must not change with it."""
import os
import pwd
import shutil

import pytest

import lib

WAIT = "echo ready; while [ ! -e go ]; do sleep 0.1; done; echo end"


@pytest.mark.parametrize("engine", ["auto", "criu"])
def test_who_gets_an_export_gets_no_file_of_the_epoch(new_cluster, base_dir, jobdir, engine):
    """root exports an epoch beside it, gives the directory to the job's user, and he writes to every file."""
    c, d = new_cluster([f"MemoryEngine={engine}"]), jobdir()
    job = c.sbatch(WAIT, "--checkpoint=UNLIMITED", "-o", d / "out", cwd=d)
    c.wait_running(job)
    lib.wait_for(lambda: (d / "out").exists() and "ready" in (d / "out").read_text(), "the job to be ready")
    c.checkpoint("vacate", job)
    c.wait_state(job, "PENDING")
    out = base_dir / f"export_{engine}"
    c.ok("fsched", "export", job, 1, out, user="root")
    user = pwd.getpwnam(lib.USER)
    images = list(out.iterdir())
    assert any(f.name.startswith("pages-") for f in images)
    for f in [out, *images]:
        os.chown(f, user.pw_uid, user.pw_gid)
    for f in images:
        f.write_bytes(b"anything")
    epoch = c.ckpt_dir(job) / "epochs" / "000001"
    for f in epoch.rglob("*"):
        assert f.stat().st_uid == 0, f
    c.checkpoint("restart", job)
    (d / "go").touch()
    assert c.wait_end(job) == ("COMPLETED", "0:0")
    shutil.rmtree(out)
