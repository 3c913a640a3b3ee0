"""Mails about checkpoints, by Slurm's MailProg."""
import tempfile
from pathlib import Path

import lib

WAIT = "until [ -e go ]; do sleep 0.1; done\n"


def test_the_user_is_told(new_cluster, base_dir, jobdir):
    """Who has not asked for mails about requeues gets none, and a text that is no address is none."""
    where = Path(tempfile.mkdtemp(prefix="mails.", dir=base_dir))
    where.chmod(0o755)
    sent, program = where / "mails", where / "mailprog"
    program.write_text(f'#!/bin/sh\n[ "$1" = -s ] && echo "$3: $2 ($SLURM_JOB_ID, $SLURM_JOB_USER)" >> {sent}\n')
    program.chmod(0o755)
    c = new_cluster(slurm_conf=[f"MailProg={program}", "MailDomain=example.org"])
    d = jobdir()
    job = c.sbatch(WAIT, "--checkpoint=UNLIMITED", "--mail-type=REQUEUE", "-J", "a $(name)", cwd=d)
    others = [c.sbatch(WAIT, "--checkpoint=UNLIMITED", *more, cwd=d)
              for more in ([], ["--mail-type=REQUEUE", "--mail-user=|touch /tmp/x"], ["--mail-type=ALL", "--mail-user=bob@x.org"])]
    for j in job, *others:
        c.wait_running(j)
        c.checkpoint("vacate", j)

    def mails(*words):
        text = sent.read_text() if sent.exists() else ""
        return [line for line in text.splitlines() if "Checkpoint" in line and all(w in line for w in words)]
    lib.wait_for(lambda: len(mails("Vacated")) == 2, lambda: "the mails: " + (sent.read_text() if sent.exists() else "none"), lib.DEADLINE)
    assert mails(f"Job_id={job} ") == [f"{lib.USER}@example.org: Slurm Job_id={job} Name=a $(name) Checkpoint: Vacated at epoch 1, held ({job}, {lib.USER})"]
    assert mails("bob@x.org: ", f"Job_id={others[2]} ")
    c.checkpoint("restart", job)
    lib.wait_for(lambda: mails(f"Job_id={job} ", "Restored from epoch 1"), "the mail", lib.DEADLINE * 3)
    assert len(mails()) == 3
    (d / "go").touch()
    assert c.wait_end(job) == ("COMPLETED", "0:0")
