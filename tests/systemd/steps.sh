#!/bin/sh
# steps.sh [STEP] - the test in the guest: fsched is installed and configured by its README, and used. What is found goes to the second serial
# port as in tests/kernels: begun STEP; doctor LINE; ok STEP SECONDS; failed STEP with said STEP LINE; at the end done.
#
# The steps build on each other, and the first that fails is the last. They go on after a reboot.
set -eu
STEPS='install doctor life limits cancel memory slurmd reboot rebooted'
PORT=/dev/ttyS1
STATE=/var/lib/fsched-test
WORK=/home/alice
TREE=/root/fsched
DEADLINE=300    # s; the machine is emulated

tell() { printf '%s\n' "$*" >$PORT; }
fail() { echo "FAILED: $*"; exit 1; }

# wait_for WHAT COMMAND...
wait_for() {
	end=$(($(date +%s) + DEADLINE)) what=$1
	shift
	until "$@"; do
		[ "$(date +%s)" -lt "$end" ] || fail "waited for $what"
		sleep 0.5
	done
}

alice() { runuser -u alice -- "$@"; }
state_is() { [ "$(scontrol show job "$job" | sed -n 's/.*JobState=\([A-Z_]*\).*/\1/p')" = "$1" ]; }
is_restarted() { scontrol show job "$job" | grep -q 'Restarts=1'; }
is_restored() { scontrol show job "$job" | grep -q 'state=running .*restored=1'; }
nodes_are_idle() { [ "$(sinfo -h -o %t)" = idle ]; }
lines() { [ "$(wc -l <"$out")" -ge "$1" ]; }

# job NAME [OPTION...]: counts to 100 in a file of its own. With NAME.hurry it counts without a rest, with NAME.eat it takes 300 MB first.
job() {
	name=$1 out=$WORK/$1.out
	shift
	cat >"$WORK/$name.sh" <<END
#!/bin/bash
for i in {1..100}; do
	echo "line \$i"
	if [ -e $name.eat ]; then all=\$(head -c 300000000 /dev/zero | tr '\\0' x); echo "\${#all} bytes"; fi
	[ -e $name.hurry ] || sleep 0.5
done
END
	chown alice "$WORK/$name.sh"
	job=$(cd $WORK && alice sbatch --parsable --checkpoint=UNLIMITED -o "$name.out" "$@" "$name.sh")
	alice touch "$out"
	wait_for "job $job to run" state_is RUNNING
	wait_for 'its output' lines 3
}

finish() {
	alice touch "$WORK/$name.hurry"
	wait_for "the end of job $job" state_is COMPLETED
	seq -f 'line %g' 100 | cmp - "$out" || fail 'the output differs'
}

checkpoint() { alice scontrol checkpoint "$@" "$job"; }

# Held, without a node and with an epoch.
vacate() {
	checkpoint vacate
	state_is PENDING || fail "$(scontrol show job "$job")"
	scontrol show job "$job" | grep -q Priority=0 || fail "$(scontrol show job "$job")"
}

restart() {
	n=$(wc -l <"$out")
	checkpoint restart
	wait_for "job $job to run" state_is RUNNING
	wait_for 'more output' lines $((n + 2))
}

# Each process of the job is in the cgroup that Slurm made for it, and in none beside.
in_its_cgroup() {
	pids=$(pgrep -u alice) || fail 'no process of the job'
	for pid in $pids; do
		cgroup=$(cat "/proc/$pid/cgroup") || continue     # it has just ended
		case $cgroup in
		*/job_$job/*) ;;
		*) fail "process $pid ($(cat "/proc/$pid/comm")) of job $job is in $cgroup" ;;
		esac
	done
}

# Nothing of the job is left on the node; $left says what is.
is_gone() {
	left=$(pgrep -a -u alice || :
		pgrep -a 'fsched-(agent|work|init)' || :
		find /sys/fs/cgroup -type d -name "job_$job"
		grep -F /var/lib/fsched/pod /proc/mounts || :
		ip -o link show type veth)
	[ -z "$left" ]
}

expect_gone() {
	(wait_for 'nothing of the job to be left' is_gone) || { is_gone || echo "left: $left"; exit 1; }
}

# ---- steps

# README.md "Install" and docs/admin.md "Install"; slurm.conf is what a site has before.
step_install() {
	useradd -m -s /bin/bash alice
	mkdir -p /shared/checkpoint
	cat >/etc/slurm/slurm.conf <<'END'
ClusterName=guest
SlurmctldHost=guest
SlurmUser=slurm
StateSaveLocation=/var/lib/slurm/slurmctld
SlurmdSpoolDir=/var/lib/slurm/slurmd
SlurmctldLogFile=/var/log/slurm/slurmctld.log
SlurmdLogFile=/var/log/slurm/slurmd.log
ProctrackType=proctrack/cgroup
TaskPlugin=task/cgroup,task/affinity
JobAcctGatherType=jobacct_gather/cgroup
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
DefMemPerNode=200
ReturnToService=2
KillWait=5
NodeName=guest CPUs=2 RealMemory=900
PartitionName=main Nodes=ALL Default=YES State=UP
END
	printf '%s\n' ConstrainCores=yes ConstrainRAMSpace=yes >/etc/slurm/cgroup.conf
	mkdir -p /var/log/slurm /var/lib/slurm/slurmctld
	chown slurm /var/log/slurm /var/lib/slurm/slurmctld
	apt-get install -q -y --no-install-recommends $TREE/build/deb/fsched_*.deb $TREE/build/deb/fsched-slurmctld_*.deb
	cp -a $TREE/build/criu /usr/libexec/fsched/criu
	echo JobSubmitPlugins=fsched >>/etc/slurm/slurm.conf
	echo required spank_fsched.so >/etc/slurm/plugstack.conf
	printf '%s\n' 'CheckpointType = checkpoint/criu' 'JobCheckpointDir = /shared/checkpoint' >/etc/slurm/fsched.conf
	echo net.ipv4.ip_forward=1 >/etc/sysctl.d/90-fsched.conf
	sysctl -q --system
	systemctl enable munge slurmctld slurmd
	systemctl restart munge slurmctld slurmd
	wait_for 'an idle node' nodes_are_idle
}

step_doctor() {
	status=0
	fsched doctor >findings || status=$?
	sed 's/^/doctor /' findings >$PORT
	cat findings
	[ $status = 0 ] || fail "fsched doctor: status $status"
}

step_life() {
	job life
	in_its_cgroup
	checkpoint create
	vacate
	expect_gone
	restart
	in_its_cgroup
	checkpoint create
	in_its_cgroup
	finish
}

# What ConstrainCores and ConstrainRAMSpace give a job holds for a restored one.
step_limits() {
	job limits --mem=150
	seen() {
		for pid in $(pgrep -u alice -f slurm_script); do
			grep Cpus_allowed_list "/proc/$pid/status"
			group=/sys/fs/cgroup$(sed -n 's/^0:://p' "/proc/$pid/cgroup")
			while [ "$group" != /sys/fs/cgroup ]; do
				case $group in *job_$job*) sed "s|^|${group##*/job_"$job"} memory.max |" "$group/memory.max" ;; esac
				group=${group%/*}
			done
		done | sort -u
	}
	seen >before
	cat before
	grep -q 'memory.max 157286400' before || fail 'no limit of memory before the checkpoint'
	vacate
	restart
	seen >after
	diff before after || fail 'the limits differ'
	finish
}

step_cancel() {
	job cancel
	checkpoint create
	alice scancel "$job"
	wait_for 'the end' state_is CANCELLED
	expect_gone
}

step_memory() {
	job memory --mem=120
	vacate
	restart
	alice touch $WORK/memory.eat
	wait_for 'OUT_OF_MEMORY' state_is OUT_OF_MEMORY
	expect_gone
	job next
	finish
}

# A new slurmd, as after its configuration was changed, or an upgrade.
step_slurmd() {
	job slurmd
	systemctl restart slurmd
	checkpoint create
	n=$(wc -l <"$out")
	wait_for 'more output' lines $((n + 2))
	systemctl restart slurmctld
	wait_for 'slurmctld' state_is RUNNING
	vacate
	restart
	finish
}

# The rest of it is after the reboot.
step_reboot() {
	job reboot
	checkpoint create
	lines_before=$(wc -l <"$out")
	wait_for 'output after the checkpoint' lines $((lines_before + 3))
	echo "$job" >$STATE/job
}

step_rebooted() {
	job=$(cat $STATE/job) name=reboot out=$WORK/reboot.out
	wait_for 'slurmctld' scontrol ping
	wait_for 'the restart of the job' is_restarted      # slurmctld calls it RUNNING until the node has registered
	wait_for 'the job to be restored' is_restored       # its output is there before
	scontrol show job "$job"
	grep -q 'the node is being shut down' "/shared/checkpoint/$job/checkpoint.log" || fail 'the job did not notice the shutdown'
	in_its_cgroup
	finish
	fsched show "$job"
	expect_gone
}

said_when_failed() {
	scontrol show job || :
	sinfo -R || :
	systemctl --no-pager --lines=30 status slurmctld slurmd munge || :
	tail -n 40 /var/log/slurm/*.log || :
	find /shared/checkpoint -name checkpoint.log -exec tail -n 40 {} + || :
}

if [ $# -gt 0 ]; then
	"step_$1"
	exit
fi
mkdir -p $STATE
cd $STATE
stty -F $PORT raw
for step in $STEPS; do
	[ ! -e "$step.done" ] || continue
	began=$(date +%s)
	tell "begun $step"
	if ! "$0" "$step" >"$step.log" 2>&1; then
		tell "failed $step"
		# why, at the end, of which the report has the most
		{ said_when_failed 2>&1; cat "$step.log"; } | sed "s/^/said $step /" >$PORT
		break
	fi
	tell "ok $step $(($(date +%s) - began))"
	touch "$step.done"
	if [ "$step" = reboot ]; then
		sync
		systemctl reboot
		exit
	fi
done
tell 'done'
sync
systemctl poweroff
