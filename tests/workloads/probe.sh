#!/bin/bash
# What a batch script can see of its surroundings. The same job with and
# without --checkpoint has to print the same, so nothing here depends on pid,
# time or job id (those are left out).
{
	echo "args: $0 $# $*" | sed -E 's/job[0-9]+/jobN/'
	echo "cwd: $PWD umask: $(umask) nice: $(nice)"
	echo "id: $(id)"
	echo "soft:"; ulimit -S -a
	echo "hard:"; ulimit -H -a
	echo "affinity: $(taskset -cp $$ | sed 's/.*: //')"
	echo "scheduling: $(chrt -p $$ | sed 's/.*: //' | tr '\n' ' ')"
	echo "oom: $(cat /proc/$$/oom_score_adj)"
	grep -E '^(SigBlk|SigIgn|SigCgt|NoNewPrivs|Seccomp|CapInh|CapPrm|CapEff|CapAmb|Groups|Umask):' /proc/$$/status
	for fd in /proc/$$/fd/*; do
		n=${fd##*/}
		[ "$n" = 255 ] && continue
		target=$(readlink "$fd") || continue
		flags=$(awk '/^flags/{print $2}' "/proc/$$/fdinfo/$n" 2>/dev/null)
		case $target in *pipe:*) continue ;; esac
		echo "fd $n -> ${target##*/} $flags"
	done
	echo "own group: $([ "$(ps -o pgid= -p $$ | tr -d ' ')" = "$$" ] && echo yes || echo no)"
	echo "tty: $(ps -o tty= -p $$)"
	echo "task pid is mine: $([ "$SLURM_TASK_PID" = "$$" ] && echo yes || echo no)"
	echo "env:"
	env -0 | tr '\n\0' ' \n' | grep -v -E '^(_|SHLVL|SLURM_JOB_(START|END)_TIME|SLURM_JOB_?ID|SLURM_JOB_NAME|SLURM_TASK_PID|PROBE_.*)=' | sort
} 2>&1
