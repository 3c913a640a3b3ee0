"""srun in a pod is fsched's launcher: its steps are saved with the rest, without Slurm."""
import os
import pwd
import re
import shutil
import subprocess
import sys

import pytest

import lib
from test_pod import USER, base, lines, pods  # noqa: F401  (fixtures)

pytestmark = pytest.mark.skipif(not shutil.which("srun"), reason="needs Slurm's srun, whose place the launcher takes")
JOB = ["env", "SLURM_JOB_ID=7", "SLURMD_NODENAME=node", "SLURM_JOB_CPUS_PER_NODE=4"]
STEPS = 5000        # more than can be done before the last checkpoint
TASK = f"for ((i = 0; i < {STEPS}; i++)); do echo $i; [ -e hurry ] || sleep 0.05; done; read x; echo $x; exit $SLURM_PROCID"


@pytest.mark.parametrize("cycles", [1, 3])
def test_a_step_is_saved(pods, base, cycles):
    d = pods.place("step")
    script = f"(sleep 2; echo the input) | srun -n3 -l bash -c '{TASK}'; echo $?; srun -n2 bash -c 'echo step $SLURM_STEP_ID'"
    p = pods.start(d / "work", "run", "--dir", d / "state", "--user", USER, "--", *JOB, "bash", "-c", script, out=d / "work/out")
    for _ in range(cycles):
        n = lines(d / "work/out")
        lib.wait_for(lambda: lines(d / "work/out") > n + 5, "output")
        done = pods.fsched("checkpoint", d / "state", "--kill")
        assert done.returncode == 0, done.stdout + done.stderr + (d / "work/out").read_text()
        p.wait(30)
        p = pods.start(d / "work", "restore", d / "state", out=d / "work/restore.out")
    lib.hurry(d / "work")
    assert p.wait(60) == 0, (d / "work/restore.out").read_text()
    out = (d / "work/out").read_text().splitlines()
    for task in "012":
        assert [x for x in out if x.startswith(f"{task}: ")] == [f"{task}: {i}" for i in range(STEPS)] + [f"{task}: the input"]
    for task in "12":
        assert f"srun: error: node: task {task}: Exited with exit code {task}" in out
    assert out[-3:] == ["2", "step 1", "step 1"]


# Somebody at a terminal: starts a command there, changes its size when there is a file "resize", and types when there is "hurry".
TYPIST = """
import fcntl, os, pty, select, struct, sys, termios
pid, fd = pty.fork()
if pid == 0:
    os.execvp(sys.argv[1], sys.argv[1:])
todo = {"resize": lambda: fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("4H", 20, 60, 0, 0)), "hurry": lambda: os.write(fd, b"typed\\n")}
while True:
    for name in [n for n in todo if os.path.exists(n)]:
        todo.pop(name)()
    if select.select([fd], [], [], 0.05)[0]:
        try:
            os.write(1, os.read(fd, 4096))
        except OSError:
            break
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""


def test_a_terminal_of_a_step_is_saved(pods, base):
    """--pty: what is written and typed, the size, and who leads the session."""
    d = pods.place("pty")
    task = ('stty -echo; trap "echo size \\$(stty size)" WINCH; '
            f"for ((i = 0; i < {STEPS}; i++)); do echo $i; [ -e hurry ] || sleep 0.05; done; read x </dev/tty || exit 0; echo got $x; "
            "set -- $(ps -o sid=,pgid=,tpgid= -p $$); echo $(($1 == $$)) $(($2 == $$)) $(($3 == $$)); exit 3")
    (d / "work/task.sh").write_text(task)
    p = pods.start(d / "work", "run", "--dir", d / "state", "--user", USER, "--", *JOB, sys.executable, "-c", TYPIST, "sh", "-c",
                   "stty rows 33 cols 77; srun -n2 --pty bash -c 'stty size; exec bash task.sh'; rc=$?; stty -a | grep -wo -e '-*icanon' -e '-*opost'; exit $rc",
                   out=d / "work/out")
    out = lambda: (d / "work/out").read_bytes().decode().split("\r\n")
    for _ in range(2):
        n = lines(d / "work/out")
        lib.wait_for(lambda: lines(d / "work/out") > n + 5, "output")
        done = pods.fsched("checkpoint", d / "state", "--kill")
        assert done.returncode == 0, done.stdout + done.stderr + (d / "work/out").read_text()
        p.wait(30)
        p = pods.start(d / "work", "restore", d / "state", out=d / "work/restore.out")
    (d / "work/resize").touch()
    lib.wait_for(lambda: "size 20 60" in out(), "the new size")
    lib.hurry(d / "work")
    assert p.wait(60) == 3, (d / "work/restore.out").read_text()
    end = ["got typed", "1 1 1", "srun: error: node: task 0: Exited with exit code 3", "opost", "icanon", ""]
    # Task 1 has no terminal, and ends where it wants to read from one.
    assert [x for x in out() if x != "size 20 60"] == ["33 77"] + [str(i) for i in range(STEPS)] + end


def test_cpus_are_shared_over_a_restore(pods, base):
    """A step that waits for CPUs gets them after the restore; a step begun before the checkpoint still has its own."""
    d = pods.place("share")
    script = ("srun -n3 --exact bash -c 'echo first; until [ -e go ]; do sleep 0.1; done' & sleep 1; srun -n2 --exact echo second & "
              "sleep 1; srun -n1 --exact echo third; wait; echo end")
    p = pods.start(d / "work", "run", "--dir", d / "state", "--user", USER, "--", *JOB, "bash", "-c", script, out=d / "work/out")
    lib.wait_for(lambda: "third" in (d / "work/out").read_text(), "the step that fits in")
    done = pods.fsched("checkpoint", d / "state", "--kill")
    assert done.returncode == 0, done.stdout + done.stderr
    p.wait(30)
    assert "second" not in (d / "work/out").read_text()
    p = pods.start(d / "work", "restore", d / "state", out=d / "work/restore.out")
    (d / "work/go").touch()
    assert p.wait(60) == 0, (d / "work/restore.out").read_text()
    # From 23.11 on srun says only after minutes that a step waits.
    waits = "srun: Job 7 step creation temporarily disabled, retrying (Requested nodes are busy)"
    out = [re.sub(r"StepId=7\.\d$", "job 7", x) for x in (d / "work/out").read_text().splitlines() if x != waits]
    assert out == ["first"] * 3 + ["third", "srun: Step created for job 7", "second", "second", "end"]


def test_the_end_of_output_is_that_of_all_writers(pods, base):
    """As with Slurm: a step ends when nobody can write any more; what has no output ends with it."""
    d = pods.place("rest")
    script = ("srun -n1 bash -c 'sleep 1; (sleep 1; echo late) & echo early'; echo then; "
              "srun -n1 bash -c 'setsid sleep 88 >/dev/null 2>&1 </dev/null &'; pgrep -x sleep || echo gone")
    p = pods.start(d / "work", "run", "--dir", d / "state", "--user", USER, "--", *JOB, "bash", "-c", script, out=d / "work/out")
    assert p.wait(60) == 0
    assert (d / "work/out").read_text().splitlines() == ["early", "late", "then", "gone"]


def test_every_end_of_a_task_is_seen(pods, base):
    """Tasks that end while the launcher passes on what others have written: one in ten steps waited for such a task for ever."""
    d = pods.place("ends")
    script = "for ((i = 0; i < 30; i++)); do srun -n64 -O true && echo $i; done"
    p = pods.start(d / "work", "run", "--dir", d / "state", "--user", USER, "--", *JOB, "bash", "-c", script, out=d / "work/out")
    assert p.wait(120) == 0
    assert (d / "work/out").read_text().split() == [str(i) for i in range(30)]


# Makes what libpmix would, for all pids that come next, with links to the file given.
SQUAT = """
import os, sys
os.umask(0)
last = int(open("/proc/sys/kernel/ns_last_pid").read())
for pid in range(last, last + 300):
    for kind in ("ds12", "ds21"):
        d = f"pmix_dstor_{kind}_{pid}"
        os.mkdir(d, 0o777)
        for name in ("initial-pmix_shared-segment-0", "dstore_sm.lock", "smlockseg-slurm.pmix.7.0"):
            os.symlink(sys.argv[1], f"{d}/{name}")
"""


def test_another_user_in_the_directory_of_pmix(pods, base):
    """Where TMPDIR is everybody's, he can neither choose which files PMIx overwrites, nor keep it from its work."""
    launcher = base / "stage/usr/libexec/fsched/fsched-srun"
    if not (launcher.parent / "fsched-pmix.so").exists():
        pytest.skip("built without libpmix")
    d = pods.place("squat")
    shared, own = d / "shared", d / "work/own"
    shared.mkdir()
    shared.chmod(0o1777)
    own.write_text("mine\n")
    user = pwd.getpwnam(USER)
    os.chown(own, user.pw_uid, user.pw_gid)
    subprocess.run([sys.executable, "-c", SQUAT, own], cwd=shared, user="nobody", group="nogroup", extra_groups=[], check=True)
    p = subprocess.run([*JOB, f"TMPDIR={shared}", launcher, "--mpi=pmix", "-n2", "sh", "-c", "echo $PMIX_RANK"], cwd=d / "work", user=user.pw_uid,
                       group=user.pw_gid, extra_groups=[], text=True, stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=60)
    os.unlink("/dev/shm/.fsched-steps")     # of a launcher outside of a pod
    assert own.read_text() == "mine\n"
    assert (sorted(p.stdout.split()), p.stderr) == (["0", "1"], "")
    assert not [f for f in shared.iterdir() if not f.name.startswith("pmix_dstor_")]
