#!/bin/sh
# Pid 1 of the guest: what a system has when jobs start, then the steps, then the end.
export PATH=/usr/sbin:/usr/bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t tmpfs tmpfs /run
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
mount -t tmpfs tmpfs /dev/shm
chmod 1777 /tmp /var/tmp
ln -s /proc/self/fd /dev/fd
ip link set lo up
hostname guest
modprobe -a $(cat /test/modules) 2>/dev/null
stty -F /dev/ttyS1 raw
# Memory of jobs may be limited.
echo +memory >/sys/fs/cgroup/cgroup.subtree_control
for step in $(cat /test/steps); do
	/test/steps.sh "$step"
done
echo done >/dev/ttyS1
sync
poweroff -f
