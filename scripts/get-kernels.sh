#!/bin/sh
# get-kernels.sh DIR SUITE... - fetches Debian's stock cloud kernels of the suites (oldstable, stable, testing) into DIR/SUITE, for QEMU guests.
#
# Nothing is installed, and the system's apt configuration stays as it is (see apt-suite.sh).
#
#   DIR/SUITE/vmlinuz, config
#   DIR/SUITE/lib/modules/RELEASE/   the modules that the guest needs and their dependencies, unpacked
#   DIR/SUITE/MODULES                the list of modules that was asked for
#   DIR/SUITE/VERSION                RELEASE, written last: its presence means complete
#
# A complete DIR/SUITE with the same list is not changed.
set -eu
export LC_ALL=C PATH="$PATH:/usr/sbin:/sbin"
umask 022

# Drivers of QEMU's disk, the modules that criu uses, and client and server of NFS.
MODULES='virtio_pci virtio_blk
	unix_diag inet_diag tcp_diag udp_diag raw_diag af_packet_diag netlink_diag nfnetlink nf_tables nf_conntrack veth tun
	nfs nfsv3 nfsv4 nfsd'

# shellcheck source=scripts/apt-suite.sh
. "$(dirname "$(readlink -f "$0")")/apt-suite.sh"

say() { printf 'get-kernels: %s\n' "$*"; }
die() { printf 'get-kernels: error: %s\n' "$*" >&2; exit 1; }

# Since testing of 2026 a kernel consists of linux-binary-*, linux-modules-* and linux-base-*.
fetch_packages() {
	suite_begin 'no kernel of another suite can be fetched'
	packages=$(suite_closure linux-image-cloud-amd64 | cut -d ' ' -f 1 | grep -E '^linux-[a-z]+-[0-9]') ||
		die "Debian $SUITE has no linux-image-cloud-amd64: $(tail -n 1 "$work/log")"
	# shellcheck disable=SC2086 # names of packages
	suite_unpack $packages
}

# Files of the modules in MODULES, in the order in which they can be loaded. Prints nothing for a module that is built in or missing.
module_files() {
	for module in $MODULES; do
		modprobe -d "$work/root" -S "$release" --show-depends "$module" 2>/dev/null || :
	done | awk '$1 == "insmod" && !seen[$2]++ { print $2 }'
}

lay_out() {
	out=$1
	[ -d "$work/root/lib/modules" ] || ln -s usr/lib "$work/root/lib"
	release=$(ls "$work/root/lib/modules")
	for f in "$work/root/boot/vmlinuz-$release" "$work/root/lib/modules/$release/vmlinuz"; do
		[ ! -f "$f" ] || kernel=$f
	done
	[ -n "${kernel:-}" ] || die "no kernel in $packages"
	for f in "$work/root/boot/config-$release" "$work/root/lib/modules/$release/config"; do
		[ ! -f "$f" ] || config=$f
	done
	mkdir -p "$out/lib/modules/$release"
	cp "$kernel" "$out/vmlinuz"
	cp "${config:?}" "$out/config"
	depmod -b "$work/root" "$release"
	for f in $(module_files); do
		to=$out/lib/modules/$release/$(basename "$f")
		case $f in
		*.xz) xz -dc "$f" >"${to%.xz}" ;;
		*.zst) zstd -dcq "$f" >"${to%.zst}" ;;
		*) cp "$f" "$to" ;;
		esac
	done
	cp "$work/root/lib/modules/$release"/modules.builtin* "$work/root/lib/modules/$release/modules.order" "$out/lib/modules/$release"
	depmod -b "$out" "$release"
	printf '%s\n' "$MODULES" >"$out/MODULES"
	printf '%s\n' "$release" >"$out/VERSION"
}

[ $# -ge 2 ] || { sed -n '2,/^set -eu/{/^set -eu/d;s/^# \{0,1\}//;p;}' "$0"; exit 2; }
mkdir -p "$1"
dir=$(cd "$1" && pwd)
shift
for tool in depmod modprobe xz; do
	command -v "$tool" >/dev/null || die "$tool is missing"
done
work=
trap '[ -z "$work" ] || rm -rf "$work"' EXIT
trap 'exit 130' INT TERM HUP
for SUITE; do
	if [ -s "$dir/$SUITE/VERSION" ] && [ "$(cat "$dir/$SUITE/MODULES" 2>/dev/null)" = "$MODULES" ]; then continue; fi
	work=$dir/$SUITE.tmp.$$
	mkdir "$work"
	fetch_packages
	unset kernel config
	lay_out "$work/out"
	rm -rf "${dir:?}/$SUITE"
	mv "$work/out" "$dir/$SUITE"
	rm -rf "$work"
	say "Debian $SUITE: Linux $(cat "$dir/$SUITE/VERSION")"
done
