"""srun in the script of a job with --checkpoint is fsched's launcher: compared with Slurm's own on the same cluster, and checkpointed."""
import itertools
import os
import re
import shlex
import shutil
from pathlib import Path

import pytest

import lib

# Each is run in a job of 4 tasks under Slurm's srun and under ours; output, messages and exit status must be the same.
COMMANDS = [
    "srun -n3 bash -c 'exit $SLURM_PROCID'",
    "srun -n4 bash -c '[ $SLURM_PROCID -ge 2 ] && exit 3; exit 0'",
    "srun -n2 bash -c 'ulimit -c 0; kill -SEGV $$'",
    "srun -n2 bash -c '[ $SLURM_PROCID = 0 ] && kill -TERM $$; sleep 1'",
    "srun -n1 bash -c 'kill -9 $$'",
    "srun -n3 bash -c 'kill -$((SLURM_PROCID + 6)) $$'",
    "srun -K -n2 bash -c '[ $SLURM_PROCID = 0 ] && exit 5; sleep 20'",
    "srun -W1 -n2 bash -c '[ $SLURM_PROCID = 0 ] && exit 0; sleep 20'",
    "srun --nonsense true", "srun -n 0 true", "srun -n x true", "srun -n 9 true", "srun -n", "srun",
    "srun -N2 -n2 true", "srun -N 2 -n1 echo a", "srun -N 1-2 -n2 echo a",
    "srun nonexistent", "srun -n2 /nonexistent", "srun -n1 /etc/passwd",
    "srun -l -n2 printf 'a\\nb'", "srun -l -n2 bash -c 'echo err >&2'", "srun -n1 printf 'a\\nb'",
    "srun -n1 -D /nonexistent pwd", "srun -D /usr pwd",
    "srun --cpu-bind=foo true", "srun -c 3 -n2 true",
    "srun -n2 --ntasks-per-node=1 true", "SLURM_NTASKS=y srun true", "SLURM_NTASKS=2 SLURM_LABELIO=1 srun echo x",
    "srun -o one.%j.%s.%t.%n.%x -n2 echo hi; cat one.*.0.0.*", "srun -o o%%t%t -n1 echo hi; cat o%t0", "srun -o o%4t-%a -n1 echo hi; cat o0000*",
    # which releases of Slurm know these differs
    "srun -o n.%b.%3r.%%t.%t.%%%%.%2b.%N.%3q.%12q -n2 echo hi; ls n.*; rm n.*", "srun -o n.%3q.%12q.%q.%3 -n1 echo hi; ls n.*; rm n.*",
    "srun -o s.%S -n1 echo hi; for f in s.*; do echo ${f/$SLURM_JOB_SLUID/sluid}; done; rm s.*",
    "srun -n1 -i /dev/null -e e.%r.%b -o /dev/null bash -c 'echo hi >&2'; ls e.*; rm e.*",
    "srun -o 1 -n2 bash -c 'echo $SLURM_PROCID'", "srun -o none -n2 echo no", "srun -o both -n1 bash -c 'echo a; echo b >&2'; cat both",
    "echo x > app; srun --open-mode=append -n1 -o app echo y; cat app; srun --open-mode=truncate -n1 -o app echo z; cat app",
    "srun -t x true", "srun --time=1-2 -n1 echo in time", "srun --wait=x true",
    "srun --multi-prog /nonexistent",
    "printf '0 echo zero %%t %%o\\n1-2 echo rest %%t %%o\\n' > mp; srun -l -n3 --multi-prog mp; srun -n4 --multi-prog mp; srun -n2 --multi-prog mp",
    "printf \"# all\\n* printf '%%%%s|' %%%%t a\\\\\\\\ b 'c  %%%%t'\\n\" > mp; srun -l -n2 --multi-prog mp d e",
    "srun -Q -n2 bash -c 'exit 3'", "echo input | srun -n2 -l cat", "echo input | srun -n2 -l -i 1 cat", "srun -n2 -i none cat",
    "seq 20000 | srun -n2 -l cat | sort -s -k1,1 | md5sum",
    "srun --export=NONE /usr/bin/env | grep -c SLURM_PROCID", "srun -n1 --export=FOO=bar,PATH env | grep -E '^(FOO|HOME)='",
    "srun -n1 --export=ALL,FOO=bar bash -c 'echo $FOO'",
    "srun -n3 --exact ./held sleep 2 & up 3; srun -n2 --exact echo second; wait",
    "srun -n4 ./held sleep 2 & up 4; srun -n1 --overlap echo overlap; wait", "srun -n4 ./held sleep 3 & up 4; srun -n1 --immediate=1 true; echo $?; wait",
    "srun -n2 ./held sleep 5 & up 2; kill -INT $!; sleep 1.5; kill -INT $!; wait $!; echo $?",
    "srun -n2 ./held sleep 20 & up 2; kill -TERM $!; wait $!; echo $?",
    "srun -n2 ./held sleep 20 & up 2; kill -INT $!; sleep 0.2; kill -INT $!; wait $!; echo $?",
    "srun -n2 bash -c 'trap \"echo usr1; exit 4\" USR1; : >trap.$SLURM_PROCID; sleep 20 & wait' & until [ -e trap.0 -a -e trap.1 ]; do sleep 0.1; done; kill -USR1 $!; wait $!; echo $?",
    "srun -n1 --pty tty", "srun -n1 --pty -o x tty",
    # (where the output is no terminal, Slurm's fails to set the terminal back, and says so; fsched's sets it back, before or after cat writes)
    "on_terminal \"stty rows 33 cols 77; srun -n2 --pty bash -c 'tty -s && stty size; env | grep PTY_WIN; echo \\$SLURM_PROCID'; stty -a | grep -wo -e '-*icanon'\"",
    "on_terminal 'srun -n1 --pty tty </dev/null' | sed s/[0-9]/N/", "on_terminal 'srun -n1 --pty tty | cat' | grep -v tcsetattr | tr -d '\\r'", "on_terminal 'srun -n3 --pty /nonexistent'",
    "on_terminal \"srun -n3 -l --pty bash -c 'echo out; echo err >&2; exit 3'\"", "on_terminal \"srun -n1 --pty bash -c 'kill -9 \\$\\$'\"",
    "(up 1; printf 'hello\\n'; sleep 1; printf '\\004') | on_terminal 'srun -n1 --pty ./held cat -A'",
    "on_terminal \"(until [ -e up.0 ]; do sleep 0.1; done; sleep 1; until [ -e sized ]; do ./resize 21; ./resize 22; sleep 0.5; done) & srun -n1 --pty bash -c "
    "'touch up.0; for ((i = 0; i < 300; i++)); do stty size | grep \\\"11 22\\\" && break; sleep 0.1; done; touch sized; exit 7'; rc=\\$?; wait; rm sized up.0; exit \\$rc\"",
    "on_terminal \"srun -n1 --pty bash -c 'trap \\\"exit 4\\\" USR1; : >trapped; while :; do :; done' & until [ -e trapped ]; do sleep 0.1; done; kill -USR1 \\$!; wait \\$!\"",
    "on_terminal \"srun -n1 --pty bash -ic 'echo \\$-; exit 2'\"", "cp /usr/bin/readlink prog; touch -d 2001-01-01 prog; chmod 750 prog; J=$SLURM_JOB_ID; for to in '' =dst =$PWD/dst =$PWD/dir/; do mkdir -p dir; "
    "srun -n2 --bcast$to ./prog /proc/self/exe; ls -l --time-style=+%Y slurm_bcast* dst dir/* 2>/dev/null; rm -rf slurm_bcast* dst dir; done "
    "| sed s/slurm_bcast_$J.[0-9]*/slurm_bcast/",
    "SLURM_BCAST=$PWD/dst srun -n1 readlink /proc/self/exe; rm dst",
    "srun -n1 --gres=none --mem=100 -A none -p batch echo taken",
    "srun -n2 -w t1 echo node", "srun -n2 -w other echo node",
    "srun -n2 -m foo true", "srun -n1 --propagate=FOO true", "srun --open-mode=x true", "srun --hint=foo -n1 true",
    "srun -n1 --version", "srun --usage | md5sum", "srun --kill-on-bad-exit=3 -n1 true",
    "printf '#!/bin/bash\\necho export TP=42; echo print hello' > tp; chmod +x tp; srun -n1 --task-prolog=$PWD/tp bash -c 'echo $TP'",
    "printf '#!/bin/bash\\necho log $SLURM_NTASKS' > pro; chmod +x pro; srun -n2 --prolog=$PWD/pro --epilog=$PWD/pro echo main",
    # which releases of Slurm know these differs
    "srun -n4 ./held sleep 2 & up 4; srun --external-launcher -n1 -c1 bash -c 'echo beside $SLURM_CPUS_ON_NODE $SLURM_CPUS_PER_TASK'; wait",
    "SRUN_OUTPUT=instead SRUN_INPUT=none srun -n1 echo x; cat instead", "srun -n1 --tres-per-task=cpu=0 true", "srun --power=level -n1 echo taken",
    "srun -n1 --segment=1 --stepmgr --extra=a --treewidth=2 echo taken", "srun -n1 --resources=a --spread-segments --mem-update=1@1 echo taken",
    "srun -n1 --pty=0 tty", "on_terminal 'srun -n1 --pty=9 tty 9<&0' | sed s/[0-9]/N/", "on_terminal 'srun -n1 --pty=2 tty 2>/dev/null'",
    "srun -n2 -E bash -c 'echo $SLURM_NTASKS'", "srun -n1 -u bash -c '[ -t 1 ] && echo tty'", "srun -n1 bash -c '[ -t 1 ] || echo pipe'",
]

# For each, the environment of every task is compared.
PROBES = ["srun", "srun -n1", "srun -n2 -c2", "srun -n1 -c1 --exact -J name -l --cpu-bind=none", "srun -n2 -m plane=1", "srun -n2 -m block:cyclic",
          "srun -n2 --ntasks-per-core=1", "srun -n2 --threads-per-core=1", "srun -n2 --hint=nomultithread", "srun -n8 -O",
          "srun -n2 --cpu-bind=verbose,map_cpu:0,1", "srun -n4 --ntasks-per-node=4", "srun -n1 --preserve-env", "srun --export=NONE",
          "SLURM_CPUS_PER_TASK=2 srun -n1", "SRUN_CPUS_PER_TASK=2 srun -n1", "SLURM_NTASKS_PER_CORE=1 srun -n2", "SLURM_TRES_PER_TASK=cpu=2 srun -n1",
          "srun --external-launcher -n1", "srun -c2"]

# What differs, as docs/user.md says, or from run to run.
DIFFER = re.compile(r"^(?:\d+: )?(SLURM_(PTY_PORT|SRUN_COMM_PORT|SRUN_COMM_HOST|STEP_LAUNCHER_PORT|LAUNCH_NODE_IPADDR|TASK_PID|STEP_ID|STEPID|JOB_ID|JOBID|JOB_SLUID|JOB_START_TIME"
                    r"|JOB_END_TIME|MPI_TYPE)|PMI_\w+|_|FSCHED_MPI_LAUNCHER|HYDRA_\w+|I_MPI_HYDRA_\w+|OMPI_MCA_\w+|PRTE_MCA_\w+|SLURM_SPANK\w*|TMPDIR|SHLVL|SLURM_OPEN_MODE|SBATCH_\w+)=")


def _script(commands):
    lines = ["#!/bin/bash", "exec 2>&1 </dev/null", "ulimit -c 0",
             "on_terminal() { /usr/bin/python3 -c 'import os, pty, sys; "
             "sys.exit(os.waitstatus_to_exitcode(pty.spawn([\"bash\", \"-c\", sys.argv[1]])))' \"$1\"; }",
             # srun -n N ./held COMMAND & up N: goes on when all tasks run
             "printf '#!/bin/sh\\ntouch up.$SLURM_PROCID; exec \"$@\"\\n' > held; chmod +x held",
             # ./resize COLUMNS: in one call, when the task runs, and again and again: Slurm's srun does not see a change that comes while it
             # looks at the one before, and none at all after one that comes before slurmstepd's connection
             "printf '#!/usr/bin/python3\\nimport fcntl, struct, sys, termios\\nfcntl.ioctl(2, termios.TIOCSWINSZ, "
             "struct.pack(\"4H\", 11, int(sys.argv[1]), 0, 0))\\n' > resize; chmod +x resize",
             "up() { for ((t = 0; t < $1; t++)); do until [ -e up.$t ]; do sleep 0.1; done; done; rm up.*; }"]
    for i, c in enumerate(commands):
        # in a subshell: a command may leave jobs of its shell, or end it
        lines.append(f"echo '=== {i}'; ( {c} )\nrc=$?; echo; echo \"--- rc $rc\"")
    return "\n".join(lines) + "\n"


def _one_by_one(m):
    ids = [range(int(x.split("-")[0]), int(x.split("-")[-1]) + 1) for x in m[2].split(",")]
    return "\n".join(f"{m[1]}task {i}{m[3]}" for r in ids for i in r)


def _normal(text):
    text = re.sub(r"(?m)^\[[\d:.T-]+\] error: ", "[TIME] error: ", re.sub(r"CANCELLED AT \S+", "CANCELLED AT TIME", text))
    text = re.sub(r"StepId=\d+\.\d+", "StepId=N", re.sub(r"STEP \d+\.\d+", "STEP N", re.sub(r"\b[Jj]ob \d+\b", "job N", text)))
    # Tasks that end together are told of in one line, or not: that depends on the moment.
    text = re.sub(r"(?m)^(srun: error: \S+: )tasks ([\d,-]+)(: .*)$", _one_by_one, text)
    text = re.sub(r"(?m)^.*slurm_script: line \d+: +\d+ ", "script: ", text)
    # Tasks write when they want to.
    return {m[1]: sorted(m[2].splitlines()) for m in re.finditer(r"(?ms)^=== (\d+)\n(.*?^--- rc \d+)$", text)}


def _both(cluster, jobdir, script, *options):
    """Runs a script in a job without and in one with --checkpoint; returns both outputs."""
    outs = []
    jobs = []
    for more in [[], ["--checkpoint=UNLIMITED"]]:
        d = jobdir()
        jobs.append((cluster.sbatch(script, "-n", "4", "-o", "job.out", *options, *more, cwd=d), d))
    for job, d in jobs:
        cluster.wait_end(job, deadline=lib.DEADLINE * 8)
        outs.append((d / "job.out").read_text(errors="replace").replace(str(d), "DIR"))
    return outs


def test_commands_do_what_slurms_do(cluster, jobdir):
    real, ours = _both(cluster, jobdir, _script(COMMANDS))
    a, b = _normal(real), _normal(ours)
    # Slurm frees the CPUs of a step some time after its srun has ended, so that the next may have to wait, and says so.
    waits = {"srun: Step created for job N", "srun: job N step creation temporarily disabled, retrying (Requested nodes are busy)"}
    a = {i: [line for line in lines if line not in waits or line in b.get(i, [])] for i, lines in a.items()}
    differ = [f"{COMMANDS[int(i)]}\n  slurm:  " + "\n          ".join(a.get(i, ["-"])) + "\n  fsched: " + "\n          ".join(b.get(i, ["-"]))
              for i in map(str, range(len(COMMANDS))) if a.get(i) != b.get(i)]
    assert not differ, "\n".join(differ)


def test_tasks_have_slurms_environment(cluster, jobdir):
    script = _script([f"{p} /usr/bin/env" for p in PROBES])
    real, ours = _both(cluster, jobdir, script)
    wrong = []
    for i, p in enumerate(PROBES):
        # Each variable with its values in all tasks: the lines of the tasks may be mixed.
        a, b = ({line for line in _normal(text)[str(i)] if re.match(r"(\d+: )?\w+=", line) and not DIFFER.match(line)} for text in (real, ours))
        wrong += [f"{p}: only with {who}: {line}" for who, lines in (("Slurm's", a - b), ("ours", b - a)) for line in sorted(lines)]
    assert not wrong, "\n".join(wrong)


BINDINGS = ["srun", "srun -n1", "srun -n1 --exact", "srun -n1 -c2", "srun --cpu-bind=none", "srun --cpu-bind=cores", "srun --cpu-bind=threads -n1",
            "srun --cpu-bind=verbose,map_cpu:1,0", "srun --cpu-bind=mask_cpu:3,1", "srun --cpu-bind=rank", "srun -n1 --hint=nomultithread", "srun -O -n4"]


def test_tasks_are_bound_as_slurm_binds_them(new_cluster, jobdir):
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("needs two processors")
    c = new_cluster(cpus=2, slurm_conf=["TaskPlugin=task/affinity"])
    probe = "bash -c 'echo $SLURM_PROCID $(grep Cpus_allowed_list /proc/self/status) $SLURM_CPU_BIND'"
    script = _script([f"{b} {probe}" for b in BINDINGS])
    outs = []
    for more in [[], ["--checkpoint=UNLIMITED"]]:
        d = jobdir()
        c.wait_end(c.sbatch(script, "-n", "2", "-o", "job.out", *more, cwd=d), deadline=lib.DEADLINE * 4)
        outs.append(_normal(re.sub(r"\[\d+\]: mask", "[PID]: mask", (d / "job.out").read_text())))
    for i, b in enumerate(BINDINGS):
        assert outs[0][str(i)] == outs[1][str(i)], b


def test_steps_are_saved(cluster, jobdir):
    """A step with input, labels and files; output after a vacate and a restart is that of an undisturbed run."""
    c, d = cluster, jobdir()
    n = 3000        # more than can be done before the last vacate
    task = f"for ((i = 0; i < {n}; i++)); do echo $SLURM_PROCID $i; [ -e hurry ] || sleep 0.2; done; cat"
    script = (f"echo before; (sleep 3; echo the input) | srun -n3 -l bash -c {shlex.quote(task)} | sort -s -k1,1; echo ${{PIPESTATUS[1]}}\n"
              "srun -n2 -o file.%t bash -c 'echo second step $SLURM_STEP_ID; exit 3'; echo $?\n")
    job = c.sbatch(script, "--checkpoint=UNLIMITED", "-n", "4", "-o", "out", cwd=d)
    c.wait_running(job)
    for _ in range(2):
        lib.wait_for(lambda: any(lib.command(p)[-1:] == [""] and "-l" in lib.command(p) for p in c.pod_pids(job)), "the step")
        c.checkpoint("create", job)
        c.checkpoint("vacate", job)
        c.ok("scontrol", "checkpoint", "restart", job, timeout=lib.DEADLINE * 4)
        c.wait_running(job)
    lib.hurry(d)
    assert c.wait_end(job) == ("COMPLETED", "0:0"), (d / "out").read_text()
    lines = "".join(f"{r}: {r} {i}\n" for r in range(3) for i in range(n)).splitlines()
    wanted = [x for r in range(3) for x in lines[r * n:(r + 1) * n] + [f"{r}: the input"]]
    # tasks that end at the same time are told of in one line
    together = "srun: error: t1: tasks 0-1: Exited with exit code 3"
    out = re.sub(r"srun: error: t1: task ([01]): Exited with exit code 3\nsrun: error: t1: task (?!\1)[01]: Exited with exit code 3", together, (d / "out").read_text())
    assert out.splitlines() == ["before", *wanted, "0", together, "3"], out[-400:]
    assert [(d / f"file.{i}").read_text() for i in (0, 1)] == ["second step 1\n"] * 2


def _steps(c, job, **more):
    """Lines of `fsched show` on the steps, split."""
    lines = c.ok("fsched", "show", job, **more).splitlines()
    if not any(x.startswith("Steps:") for x in lines):
        return None, {}
    at = next(i for i, x in enumerate(lines) if x.startswith("Steps:"))
    rows = [x.split() for x in itertools.takewhile(lambda x: x.split()[:1] and x.split()[0].isdigit(), lines[at + 2:])]
    return lines[at].split(":")[1].strip(), {int(r[0]): r[1:] for r in rows}


def test_steps_are_shown(new_cluster, jobdir):
    """fsched show has what sacct does not: of the owner as of root, over a vacate and a restart, and after a step is undone by an older epoch."""
    c, d = new_cluster(["CRIU_MaxEpochs=5"]), jobdir()
    job = c.sbatch("touch begun; until [ -e first ]; do sleep 0.1; done; srun -n2 true; srun -n3 -J odd$'\\e'name bash -c 'exit 5'; srun -n1 bash -c 'kill -9 $$'\n"
                   "srun -n2 bash -c 'until [ -e go ]; do sleep 0.1; done'\n"
                   "srun -n1 /usr/bin/python3 -c 'x = bytearray(60 << 20)'; touch five; until [ -e end ]; do sleep 0.1; done\n",
                   "--checkpoint=UNLIMITED", "-n", "4", "-o", "out", cwd=d)
    lib.wait_for((d / "begun").exists, "the script")
    c.checkpoint("create", job)
    (d / "first").touch()
    lib.wait_for(lambda: _steps(c, job)[0] == "3 ended, 2 failed, 1 running", "the steps")
    said, rows = _steps(c, job)
    assert _steps(c, job, user="root") == (said, rows)
    assert [(r[0], r[1], r[4:-2]) for r in rows.values()] == [("true", "2", ["0"]), ("odd?name", "3", ["5"]), ("bash", "1", ["signal", "9"])]
    c.checkpoint("create", job)
    lib.wait_for(lambda: c.entry(job).get("steps") == "1", "the entry")
    (d / "go").touch()
    lib.wait_for(lambda: _steps(c, job)[0] == "5 ended, 2 failed, 0 running", "the end of all steps")
    mib = _steps(c, job)[1][4][-2:]
    assert mib[1] == "MiB" and 60 < float(mib[0]) < 100, mib
    c.checkpoint("vacate", job)
    assert _steps(c, job)[0] == "5 ended, 2 failed, 0 running"
    (d / "go").unlink()
    c.ok("scontrol", "checkpoint", "restart", job, "--epoch", "2", timeout=lib.DEADLINE * 4)
    lib.wait_for(lambda: _steps(c, job)[0] == "3 ended, 2 failed, 1 running", "what epoch 2 had")
    (d / "first").unlink()
    c.checkpoint("vacate", job)
    c.ok("scontrol", "checkpoint", "restart", job, "--epoch", "1", timeout=lib.DEADLINE * 4)
    lib.wait_for(lambda: _steps(c, job)[0] is None, "what epoch 1 had")
    (d / "first").touch()
    (d / "go").touch()
    (d / "end").touch()
    assert c.wait_end(job) == ("COMPLETED", "0:0")
    assert _steps(c, job)[0] == "5 ended, 2 failed, 0 running"


@pytest.mark.parametrize("instead", ["ln -s /etc/shadow", "ln -s $PWD/own", "mkfifo", "mkdir", "head -c 9000 /dev/urandom >"])
def test_a_user_writes_about_his_steps_himself(cluster, jobdir, instead):
    """Neither agent nor launcher follows, waits or believes."""
    c, d = cluster, jobdir()
    job = c.sbatch(f"echo mine > own; {instead} /dev/shm/.fsched-steps-ended\nsrun -n2 echo step; cat own; touch made; until [ -e end ]; do sleep 0.1; done\n",
                   "--checkpoint=UNLIMITED", "-n", "2", "-o", "out", cwd=d)
    lib.wait_for((d / "made").exists, "the step")
    c.checkpoint("create", job)
    (d / "end").touch()
    assert c.wait_end(job) == ("COMPLETED", "0:0")
    assert (d / "out").read_text() == "step\nstep\nmine\n"
    for user in ("root", lib.USER):
        said = c.ok("fsched", "show", job, user=user)
        assert said.isprintable() or said.replace("\n", "").isprintable()
        assert "Steps:" not in said or "0 running" in said


def test_a_killed_launcher_takes_its_tasks_along(cluster, jobdir):
    c, d = cluster, jobdir()
    job = c.sbatch("srun -n2 sleep 77 &\nsleep 1; kill -KILL $!; wait; sleep 0.5; pgrep -x sleep || echo none\nsrun -n4 echo next\n",
                   "--checkpoint=UNLIMITED", "-n", "4", "-o", "out", cwd=d)
    assert c.wait_end(job) == ("COMPLETED", "0:0")
    out = (d / "out").read_text()
    assert out.count("next") == 4 and "none" in out, out


def test_slurms_srun_on_wish(cluster, jobdir):
    """It is refused while it runs, as the launcher is not."""
    c, d = cluster, jobdir()
    job = c.sbatch("export FSCHED_SRUN=real\nsrun -n1 bash -c 'touch runs; until [ -e go ]; do sleep 0.1; done; echo $SLURM_STEP_LAUNCHER_PORT'\n",
                   "--checkpoint=UNLIMITED", "-o", "out", cwd=d)
    c.wait_running(job)
    lib.wait_for(lambda: (d / "runs").exists(), "the step")
    assert "Slurm's own srun" in c.fails("scontrol", "checkpoint", "create", job)
    (d / "go").touch()
    assert c.wait_end(job) == ("COMPLETED", "0:0")
    assert int((d / "out").read_text()) > 0


PMI2 = lib.ROOT / "tests" / "workloads" / "pmi2_client.c.txt"


@pytest.fixture
def pmi2_client(cluster, jobdir):
    """A client of PMI-2 by Slurm's own library."""
    if not Path("/usr/include/slurm/pmi2.h").exists():
        pytest.skip("needs libpmi2-0-dev")
    d = jobdir()
    shutil.copy(PMI2, d / "client.c")
    cluster.ok("gcc", "-O1", "-Wall", "-Werror", "-o", "client", "client.c", "-lpmi2", cwd=d)
    return d / "client"


def test_pmi2_is_slurms(cluster, jobdir, pmi2_client):
    real, ours = _both(cluster, jobdir, _script([f"srun -n3 --mpi=pmi2 {pmi2_client} 1", f"srun -n1 --mpi=pmi2 {pmi2_client} 2",
                                                 f"srun -n3 --mpi=pmi2 {pmi2_client} 1 abort | grep -v ^[0-9]; echo ${{PIPESTATUS[0]}}"]))
    a, b = (re.sub(r"(?m)^srun: error: .*(Killed|exit code 1)\n", "", text) for text in (real, ours))  # who is killed, and who ends first
    assert _normal(a) == _normal(b)
    assert "ring 0: 2 of 3, value of 1 | value of 0" in ours and ours.count("finalize ok") == 4


def test_pmi2_is_saved(cluster, jobdir, pmi2_client):
    c, d = cluster, jobdir()
    n = 300
    job = c.sbatch(f"srun -n3 --mpi=pmi2 {pmi2_client} {n} spawn\n", "--checkpoint=UNLIMITED", "-n", "3", "-o", "out", cwd=d)
    c.wait_running(job)
    for i in (0, 10):
        lib.wait_for(lambda i=i: (d / "out").read_text().count(f"round {i}: 0 wrong") == 3, "the rounds")
        c.checkpoint("vacate", job)
        c.ok("scontrol", "checkpoint", "restart", job, timeout=lib.DEADLINE * 4)
        c.wait_running(job)
    lib.hurry(d)
    assert c.wait_end(job) == ("COMPLETED", "0:0"), (d / "out").read_text()
    out = (d / "out").read_text()
    assert out.count(" 0 wrong, last 400 bytes\n") == n / 10 * 3 and out.count("finalize ok") == 3 and "0 spawn fails" in out, out


ABORT = """#include <mpi.h>
#include <unistd.h>
int main(int c, char **v) { int r; MPI_Init(&c, &v); MPI_Comm_rank(MPI_COMM_WORLD, &r); if (r == 1) MPI_Abort(MPI_COMM_WORLD, 7); sleep(60); return 0; }
"""


def _without_tcp(text):
    """Without what Open MPI 5 says of TCP, which it does not need here, where the machine has no network but the loopback."""
    return re.sub(r"\[\S*btl_tcp_proc\S*\] |Unable to find reachable pairing between local and remote interfaces\n", "", text)


@pytest.mark.parametrize("mpi, how", [("mpich", "pmi2"), ("openmpi", "pmix")])
def test_mpi_abort_is_slurms(cluster, jobdir, mpi, how):
    compiler = shutil.which(f"mpicc.{mpi}")
    if not compiler:
        pytest.skip(f"needs mpicc.{mpi}")
    if how not in cluster.run("srun", "--mpi=list").stdout + cluster.run("srun", "--mpi=list").stderr:
        pytest.skip(f"this Slurm has no plugin mpi/{how} to compare with")
    d = jobdir()
    (d / "abort.c").write_text(ABORT)
    cluster.ok(compiler, "-o", "abort", "abort.c", cwd=d)
    real, ours = (re.sub(r"(?m)^srun: error: .*(Killed|exit code 7)\n", "", _without_tcp(text))     # who is killed, and who ends first
                  for text in _both(cluster, jobdir, _script([f"srun -n3 --mpi={how} {d}/abort"])))
    assert _normal(real) == _normal(ours)
    assert "CANCELLED AT" in ours


@pytest.mark.parametrize("mpi, how", [("mpich", "srun"), ("mpich", "srun --mpi=pmi2"), ("mpich", "mpiexec.mpich -np 2"),
                                      ("openmpi", "srun --mpi=pmix"), ("openmpi", "mpirun.openmpi -np 2")])
def test_mpi(cluster, jobdir, mpi, how):
    compiler = shutil.which(f"mpicc.{mpi}")
    if not compiler:
        pytest.skip(f"needs mpicc.{mpi}")
    c, d = cluster, jobdir()
    shutil.copy(lib.ROOT / "tests" / "workloads" / "mpi_ring.c.txt", d / "ring.c")
    c.ok(compiler, "-O1", "-o", "ring", "ring.c", cwd=d)
    job = c.sbatch(f"{how} -n2 ./ring 40\n" if how.startswith("srun") else f"{how} ./ring 40\n", "--checkpoint=UNLIMITED", "-n", "2", "-o", "out", cwd=d)
    c.wait_running(job)
    lib.wait_for(lambda: "step 2 " in (d / "out").read_text(), "the ring to begin")
    c.checkpoint("create", job)
    c.checkpoint("vacate", job)
    c.ok("scontrol", "checkpoint", "restart", job, timeout=lib.DEADLINE * 4)
    lib.hurry(d)
    assert c.wait_end(job) == ("COMPLETED", "0:0"), (d / "out").read_text()
    assert _without_tcp((d / "out").read_text()) == "".join(f"step {i} of 2: sum {sum(k * 1000 + i for k in range(2))}\n" for i in range(40)) + "end\n"
