#!/bin/sh
# steps.sh STEP - one step of the test in the guest. What it finds goes to the second serial port, a line each:
#
#   begun STEP
#   doctor LINE               of fsched doctor
#   manifest STEP/NAME JSON   of an epoch
#   ok STEP SECONDS
#   failed STEP; said STEP LINE, with all that was printed
set -eu
export FSCHED_CONF=/test/fsched.conf
# Memory that is verified and rewritten without a rest leaves the emulated processor to nobody: what writes checkpoints is niced.
export WORKLOAD_STEP_US=200000
PORT=/dev/ttyS1
USER=nobody
JOBS=/var/job
MORE= # arguments of the programs of `identical'

tell() { printf '%s\n' "$*" >$PORT; }
fail() { echo "FAILED: $*"; exit 1; }

# wait_for SECONDS WHAT COMMAND...
wait_for() {
	end=$(($(date +%s) + $1)) what=$2
	shift 2
	until "$@"; do
		[ "$(date +%s)" -lt "$end" ] || fail "waited for $what"
		sleep 0.1
	done
}

# ---- a job

ready() { [ "$(grep -c ready out)" -ge "$1" ]; }

# job READY NAME COMMAND...: starts it in a pod of its own, in a new directory; READY: how many of its processes say so.
job() {
	dir=$JOBS/$step.$2 n=$1
	shift 2
	mkdir -p "$dir/work"
	cd "$dir/work"
	: >out
	chown -R $USER .
	fsched pod run --dir "$dir/state" --user $USER -- "$@" >>out 2>&1 &
	pod=$!
	wait_for 600 'the job' ready "$n"
}

# For a step with several jobs.
job_of() {
	dir=$JOBS/$step.$1
	cd "$dir/work"
	eval "pod=\$pod_$1"
}

# save NAME FAULT [OPTION...]: a checkpoint, and its manifest
save() {
	name=$1 fault=$2
	shift 2
	echo "checkpoint $name"
	FSCHED_FAULT=$fault fsched pod checkpoint "$@" "$dir/state" || { cat "$dir/state/dump.log"; fail "no checkpoint"; }
	tell "manifest $step/$name $(tr -d '\n' <"$(ls -d "$dir"/state/epochs/0* | tail -n 1)/manifest.json")"
}

is_back() { grep -q 'restored from epoch' "$dir/restore.$restores" || ! kill -0 $pod; }

# back STATUS [FAULT]: the pod ends with that status, and the job comes back from its newest epoch.
back() {
	status=0
	wait $pod || status=$?
	[ $status = "$1" ] || fail "the pod ended with status $status"
	restores=$((${restores:-0} + 1))
	FSCHED_FAULT=${2:-} fsched pod restore "$dir/state" >"$dir/restore.$restores" 2>&1 &
	pod=$!
	wait_for 600 'the restore' is_back
	cat "$dir/restore.$restores"
	grep -q 'restored from epoch' "$dir/restore.$restores" || fail 'not restored'
	sleep 0.5
}

VACATED=75 KILLED=137
kill_job() { fsched pod kill "$dir/state"; }

# The job looks at all of its memory once more, and ends.
finish() {
	touch stop
	wait $pod || { cat out; fail "the job ended with status $?"; }
	cat out
}

# ---- steps

step_doctor() {
	fsched doctor >doctor || : # there is no Slurm
	sed 's/^/doctor /' doctor >$PORT
}

# The least that shows it: a pre-dump and a fork, an increment of it that is restored, a stop.
step_short() {
	FSCHED_CONF=/test/pre-dump.conf
	job 1 waiter /test/waiter 8
	save fork force-fork
	save increment force-staged
	kill_job
	back $KILLED
	save vacate '' --kill
	back $VACATED
	finish
}

# Each way of taking memory, and the restore of what it has taken. The job verifies every page of every generation.
step_ways() {
	job 1 memory /test/memory 8 2 1
	for way in fork staged direct; do
		save $way force-$way
		kill_job
		back $KILLED
	done
	save auto ''
	save vacate '' --kill
	back $VACATED
	finish
}

# Every third epoch is full; of a heap that stays as it is an increment writes little.
step_increments() {
	FSCHED_CONF=/test/incremental.conf
	job 1 waiter /test/waiter 24
	for n in 1 2 3 4; do
		save $n force-fork
	done
	save 5 '' --kill
	back $VACATED
	save 6 force-staged
	kill_job
	back $KILLED
	finish
}

# From one epoch to the next the kernel tells what was written, if it can.
step_tracked() {
	FSCHED_CONF=/test/incremental.conf
	job 1 memory /test/memory 4 2 1
	for n in 1 2 3 4; do
		save $n force-tracking,force-staged
	done
	kill_job
	back $KILLED
	save 5 force-tracking,force-fork --kill
	back $VACATED
	finish
}

# The same of processes that rewrite and verify all of it.
step_processes() {
	FSCHED_CONF=/test/incremental.conf
	job 2 memory /test/memory 4 1 2
	for n in 1 2; do
		save $n-fork force-fork
		save $n-staged force-staged
		kill_job
		back $KILLED
	done
	finish
}

# What the kernel tracks writes with, and the other way where it has two.
step_pre_dump() {
	FSCHED_CONF=/test/pre-dump.conf
	job 1 waiter /test/waiter 24
	save probed ''
	kill_job
	back $KILLED
	save soft-dirty force-soft-dirty
	kill_job
	back $KILLED
	finish
	job 1 memory /test/memory 4 2 1
	save verified ''
	kill_job
	back $KILLED
	save verified-soft-dirty force-soft-dirty
	kill_job
	back $KILLED
	finish
}

# A filter forbids what a snapshot makes a process do.
step_seccomp() {
	job 1 waiter /test/waiter 16 seccomp
	save fork force-fork
	kill_job
	back $KILLED
	finish
}

# leave vacated: the job is saved and ends. leave killed: it is saved, writes on, and dies: what it wrote is put back.
leave() {
	if [ "$1" = vacated ]; then
		save $program '' --kill
		back $VACATED
	else
		save $program ''
		wait_for 600 'more output' lines $(($(wc -l <out) + 3))
		kill_job
		back $KILLED
	fi
}

# identical HOW PROGRAM...: output and files are those of a run that nobody disturbed (/test/reference). The jobs run at once, and
# hurry when they are back. HOW: see leave.
identical() {
	how=$1
	shift
	for program; do
		job 0 $program "/test/$program" $(cat /test/reference/$program.arguments) $MORE
		eval "pod_$program=$pod"
	done
	for program; do
		job_of $program
		wait_for 600 output lines 3
		leave $how
		touch hurry
		eval "pod_$program=$pod"
	done
	for program; do
		job_of $program
		compare $program .
	done
}
lines() { [ "$(wc -l <out)" -gt "$1" ]; }

step_identical() { identical vacated threads files; }

# compare PROGRAM DIR: its status, its output here, and its files in DIR
compare() {
	status=0
	wait $pod || status=$?
	echo "$1 ended with $status"
	[ $status = "$(cat /test/reference/$1.status)" ]
	for f in /test/reference/$1/*; do
		case $f in
		*/out) cmp "$f" out ;;
		*) cmp "$f" "$2/$(basename "$f")" ;;
		esac
	done
}

# An NFS 4.2 server in the kernel, exporting /var/export to this machine, and /var/nfs as its client. What rpc.mountd answers to the
# kernel's questions is told to it before: who 127.0.0.1 is, what is exported to him, and where the root of NFS 4 (fsid 0) is.
NFSEXP_INSECURE_PORT=0x2 NFSEXP_ROOTSQUASH=0x4 NFSEXP_NOSUBTREECHECK=0x400 NFSEXP_FSID=0x2000
for_ever=2147483647
nfs_export() { echo "guest /var/export $for_ever $(($1 + NFSEXP_INSECURE_PORT + NFSEXP_NOSUBTREECHECK + NFSEXP_FSID)) 65533 65533 0" >/proc/net/rpc/nfsd.export/channel; }
nfs_mount() {
	modprobe -a nfsd nfsv4
	mkdir -p /var/export/job /var/nfs
	mount -t nfsd nfsd /proc/fs/nfsd
	echo "nfsd 127.0.0.1 $for_ever guest" >/proc/net/rpc/auth.unix.ip/channel
	nfs_export 0
	echo "guest 1 \\x00000000 $for_ever /var/export" >/proc/net/rpc/nfsd.fh/channel
	echo '-3 +4 +4.1 +4.2' >/proc/fs/nfsd/versions
	echo 10 >/proc/fs/nfsd/nfsv4gracetime
	echo 'tcp 2049' >/proc/fs/nfsd/portlist
	echo 2 >/proc/fs/nfsd/threads
	mount -t nfs4 -o vers=4.2,addr=127.0.0.1,clientaddr=127.0.0.1,proto=tcp,port=2049 127.0.0.1:/ /var/nfs
}

# Working directory, checkpoint directory and /tmp of a program that looks what the agent notes, all on NFS.
step_nfs() {
	nfs_mount
	mkdir -m 1777 /var/export/tmp
	FSCHED_NEEDS_BPF=1 unshare -m sh -c 'mount --bind /var/nfs/tmp /tmp && /test/test_open_watch'
	JOBS=/var/nfs/job/vacated
	identical vacated files
	# There a deleted file that is open can be saved only with the end of the job.
	JOBS=/var/nfs/job/killed MORE=named
	identical killed files
}

# The job's program and files are in a home directory on NFS that root may not enter.
step_nfs_squashed() {
	grep -q ' /var/nfs ' /proc/mounts || nfs_mount
	nfs_export $NFSEXP_ROOTSQUASH
	home=/var/export/home program=files
	mkdir -m 700 $home
	cp /test/$program $home/program
	chmod 700 $home/program
	chown $USER $home $home/program
	# shellcheck disable=SC2016 # for the job's shell
	job 0 $program sh -c 'cd /var/nfs/home && exec ./program "$@"' sh $(cat /test/reference/$program.arguments) named
	wait_for 600 output lines 3
	leave killed
	leave vacated
	touch $home/hurry
	compare $program $home
}


step_criu() {
	job 1 memory /test/memory 8 1 1
	save taken snapshot-fails --kill
	back $VACATED
	save ours '' --kill
	back $VACATED fill-fails
	finish
}

# A job near the limit of its memory cgroup is not forked, and not copied in that cgroup.
step_limit() {
	mkdir /sys/fs/cgroup/job
	echo $((180 << 20)) >/sys/fs/cgroup/job/memory.max
	echo $$ >/sys/fs/cgroup/job/cgroup.procs
	job 1 waiter /test/waiter 80
	save inside ''
	kill_job
	back $KILLED
	echo $$ >/sys/fs/cgroup/cgroup.procs
	save outside ''
	finish
}

if [ "${2:-}" = really ]; then
	step=$1
	"step_$step"
	exit
fi
log=/var/log.$1
cd /var
began=$(date +%s)
tell "begun $1"
if "$0" "$1" really >"$log" 2>&1; then
	tell "ok $1 $(($(date +%s) - began))"
else
	tell "failed $1"
	sed "s/^/said $1 /" "$log" >$PORT
fi
