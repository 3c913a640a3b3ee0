#!/bin/sh
# systemd-guest.sh DIR - makes the disk of a machine with Debian 13, systemd and Slurm in DIR, for the guest of tests/systemd.
#
#   DIR/disk              an ext4 file system: the Debian, with the packages that Slurm and fsched need, and in /root/fsched HEAD, the packages
#                         of `make deb` in build/deb, and criu in build/criu; fsched itself is not installed
#   DIR/vmlinuz, initrd   Debian's kernel
#
# What is built is built in the root of scripts/debian-root.sh (build/debian), and the machine's packages are kept in build/systemd. It needs the
# network, as root, and 10 minutes at the first time.
set -eu
export LC_ALL=C
umask 022

SUITE=trixie
SIZE=6G         # sparse
# A server's, without what only a person needs. The kernel brings initramfs-tools.
PACKAGES='systemd-sysv udev dbus kmod procps iproute2 e2fsprogs linux-image-cloud-amd64 munge slurmctld slurmd slurm-client'

say() { printf 'systemd-guest: %s\n' "$*"; }
die() { printf 'systemd-guest: error: %s\n' "$*" >&2; exit 1; }

[ $# -eq 1 ] || { sed -n '2,/^set -eu/{/^set -eu/d;s/^# \{0,1\}//;p;}' "$0" >&2; exit 2; }
dir=$1
tree=$(dirname "$(dirname "$(readlink -f "$0")")")
build=${FSCHED_BUILD:-$tree/build}
builder=$build/debian/$SUITE/root/root/fsched/build
place=$build/systemd/debian/$SUITE
root=$place/root

# logged WHAT COMMAND...
logged() {
	what=$1
	shift
	if ! "$@" >"$build/systemd.log" 2>&1; then
		tail -n 30 "$build/systemd.log" >&2
		die "$what failed; all of it is in $build/systemd.log"
	fi
}

apt='DEBIAN_FRONTEND=noninteractive apt-get -q -y --no-install-recommends'
mkdir -p "$dir" "$place"
say "building fsched's packages on Debian $SUITE"
logged 'building the packages' "$tree/scripts/debian-root.sh" --reuse $SUITE \
	sh -c "apt-get -q update && $apt install git make && make -s deb criu-copy"
[ -d "$place/base" ] || cp -a "$build/debian/$SUITE/base" "$place/base"
# The guest has no network: what fsched's packages depend on is there before, they themselves are installed in the guest.
depends=$(dpkg-deb -f "$builder"/deb/fsched_*.deb Depends)
say "installing a kernel, Slurm and what fsched needs on a Debian $SUITE"
FSCHED_BUILD=$build/systemd logged 'making the root' "$tree/scripts/debian-root.sh" --reuse $SUITE \
	sh -c "apt-get -q update && $apt install $PACKAGES && $apt satisfy '$depends' && apt-get clean"
rm -rf "$root/root/fsched/build"
mkdir -p "$root/root/fsched/build"
cp -a "$builder/deb" "$builder/criu" "$root/root/fsched/build"

cp "$tree/tests/systemd/fsched-test.service" "$root/etc/systemd/system"
mkdir -p "$root/etc/systemd/system/multi-user.target.wants"
ln -sf ../fsched-test.service "$root/etc/systemd/system/multi-user.target.wants"
echo '/dev/vda / ext4 defaults 0 0' >"$root/etc/fstab"
echo guest >"$root/etc/hostname"
printf '127.0.0.1\tlocalhost\n192.0.2.1\tguest\n' >"$root/etc/hosts"
rm -f "$root/etc/resolv.conf"
# Slurm finds no name where the only address is that of the loopback.
printf '[NetDev]\nName=net0\nKind=dummy\n' >"$root/etc/systemd/network/net0.netdev"
printf '[Match]\nName=net0\n[Network]\nAddress=192.0.2.1/24\n' >"$root/etc/systemd/network/net0.network"
mkdir -p "$root/etc/systemd/system/network-online.target.wants"
ln -sf /usr/lib/systemd/system/systemd-networkd.service "$root/etc/systemd/system/multi-user.target.wants"
ln -sf /usr/lib/systemd/system/systemd-networkd-wait-online.service "$root/etc/systemd/system/network-online.target.wants"
cp -L "$root"/boot/vmlinuz-* "$dir/vmlinuz"
cp -L "$root"/boot/initrd.img-* "$dir/initrd"
say 'making the disk'
rm -f "$dir/disk"
logged 'mke2fs' /usr/sbin/mke2fs -q -F -t ext4 -d "$root" "$dir/disk" $SIZE
