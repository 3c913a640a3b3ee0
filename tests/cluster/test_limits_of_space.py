"""What bounds checkpoints: CheckpointMinInterval."""


def refused(c, d, interval):
    (d / "job.sh").write_text("#!/bin/bash\ntrue\n")
    return c.fails("sbatch", f"--checkpoint={interval}", d / "job.sh", cwd=d)


def test_an_interval_below_the_shortest_is_refused(new_cluster, jobdir):
    c, d = new_cluster(conf=["CheckpointMinInterval=1:00"]), jobdir()
    said = refused(c, d, "0:59")
    assert "00:00:59 is shorter than this cluster allows: the shortest is 00:01:00 (CheckpointMinInterval" in said, said
    # The plugin of sbatch is for an early message. slurmctld refuses by itself: here the submit host has another file.
    other = d / "fsched.conf"
    other.write_text("CheckpointType = checkpoint/criu\nCheckpointMinInterval = 0:01\n")
    stack = d / "plugstack.conf"
    plugstack = next(line.split("=", 1)[1] for line in open(c.slurm_conf) if line.startswith("PlugStackConfig="))
    text = open(plugstack.strip()).read()
    stack.write_text("".join(f"{' '.join(w if not w.startswith('conf=') else f'conf={other}' for w in line.split())}\n" for line in text.splitlines()))
    conf = d / "slurm.conf"
    conf.write_text("".join(f"PlugStackConfig={stack}\n" if line.startswith("PlugStackConfig=") else line for line in open(c.slurm_conf)))
    p = c.run("sbatch", "--checkpoint=0:59", d / "job.sh", cwd=d, env={"SLURM_CONF": str(conf)})
    assert p.returncode and "CheckpointMinInterval" in p.stderr and "Batch job submission failed" in p.stderr, p
    for interval in "1:00", "UNLIMITED":
        c.sbatch("true", "--hold", f"--checkpoint={interval}", cwd=d)
