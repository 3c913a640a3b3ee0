#!/bin/sh
# debian-root.sh [--reuse] SUITE [COMMAND ...] - runs fsched on another Debian than this machine's, as a newcomer would.
#
# It makes a fresh root of that Debian with debootstrap, copies HEAD to /root/fsched in it, and runs COMMAND there.
#
#   SUITE     bookworm, trixie, forky, ...; downloaded once into build/debian/SUITE/base
#   COMMAND   without it: make demo, make check and make test-unit; with FULL=yes: make demo and make test; with TARGETS,
#             names of targets: make of each of them
#   --reuse   uses the root of the last run with its packages and build directory, and brings HEAD up to date there
#
# The root has mount, PID and UTS namespaces of its own and is entered by pivot_root, because fsched and criu look at
# the mount table, which a chroot leaves as it is. Its host name resolves to 127.0.1.1, as Debian's installer writes it.
# Kernel and network are those of this machine. Mirror, key and proxy are those of its apt configuration; its packages
# and lists are not changed. FSCHED_TEST_WORKERS, _RERUNS and _SLOWNESS (scripts/run-tests.sh), CYCLES and SEED are passed
# on, and ARGS to the tests.
set -eu
export LC_ALL=C
umask 022

# shellcheck source=scripts/apt-suite.sh
. "$(dirname "$(readlink -f "$0")")/apt-suite.sh"

say() { printf 'debian-root: %s\n' "$*"; }
die() { printf 'debian-root: error: %s\n' "$*" >&2; exit 1; }

# The settings of apt that decide whether a mirror can be used from this machine.
acquire_settings() { apt-config dump | grep -E '^Acquire::(http|https|Check-|Retries|Languages|AllowInsecure)' || :; }

# debootstrap calls wget, which does not know apt's proxy.
export_proxy() {
	eval "$(apt-config shell proxy Acquire::http::Proxy)"
	if [ -n "${proxy:-}" ] && [ "$proxy" != DIRECT ]; then export http_proxy="$proxy"; fi
}

# Makes $place/base. debootstrap is the suite's own: it is a set of shell scripts, and those of older releases do not
# know newer suites.
make_base() {
	work=$place/base.tmp.$$
	trap 'rm -rf "$work"' EXIT
	trap 'exit 130' INT TERM HUP
	mkdir -p "$work"
	command -v wget >/dev/null || die "wget is missing, debootstrap needs it"
	suite_begin "make the root by hand in $place/base"
	suite_unpack debootstrap
	uri=$(sed -n 's/^URIs:[[:space:]]*\([^[:space:]]*\).*/\1/p' "$work/etc/suite.sources")
	key=$(sed -n 's/^Signed-By:[[:space:]]*\(\/[^[:space:]]*\).*/\1/p' "$work/etc/suite.sources")
	: "${key:=/usr/share/keyrings/debian-archive-keyring.gpg}"
	[ -r "$key" ] || die "the key of Debian's archive is not in $key: install debian-archive-keyring"
	export_proxy
	say "making a root of Debian $SUITE with debootstrap"
	run_logged "debootstrap $SUITE" env DEBOOTSTRAP_DIR="$work/root/usr/share/debootstrap" \
		PATH=/usr/sbin:/usr/bin:/sbin:/bin sh "$work/root/usr/sbin/debootstrap" --variant=minbase --include=make \
		--keyring="$key" "$SUITE" "$work/base" "$uri"
	rm -f "$work/base/etc/apt/sources.list" "$work/base"/etc/apt/sources.list.d/*
	cp "$work/etc/suite.sources" "$work/base/etc/apt/sources.list.d/debian.sources"
	acquire_settings >"$work/base/etc/apt/apt.conf.d/99machine"
	echo "fsched-$SUITE" >"$work/base/etc/hostname"
	printf '127.0.0.1\tlocalhost\n127.0.1.1\tfsched-%s\n' "$SUITE" >"$work/base/etc/hosts"
	mv "$work/base" "$place/base"
	rm -rf "$work"
	trap - EXIT
}

# Packages are downloaded once: their directory is moved from the root of the last run to that of this one.
fresh_root() {
	archives=var/cache/apt/archives
	if [ -d "$root/$archives" ]; then rm -rf "$place/archives" && mv "$root/$archives" "$place/archives"; fi
	rm -rf "$root" "$root.new"
	cp -a "$place/base" "$root.new"
	if [ -d "$place/archives" ]; then rm -rf "${root:?}.new/$archives" && mv "$place/archives" "$root.new/$archives"; fi
	mv "$root.new" "$root"
}

# Files whose content is unchanged keep their time, so that --reuse builds only what has changed.
copy_tree() {
	new=$root/root/fsched.new
	rm -rf "$new" && mkdir -p "$new" "$root/root/fsched"
	git -C "$tree" archive HEAD | tar -x -C "$new"
	(cd "$root/root/fsched" && find . -path ./build -prune -o -type f -print) | while read -r f; do
		if [ ! -e "$new/$f" ]; then rm -f "$root/root/fsched/$f"
		elif cmp -s "$new/$f" "$root/root/fsched/$f"; then touch -r "$root/root/fsched/$f" "$new/$f"
		else touch "$new/$f"; fi
	done
	cp -a "$new/." "$root/root/fsched/"
	rm -rf "$new"
}

# The part in the namespaces: mounts, then the root itself.
inside() {
	root=$1
	shift
	# The lock is held by unshare, which waits outside. A program that inherits it from here could not be checkpointed: the
	# file is in no mount of the root.
	exec 9>&-
	hostname "$(cat "$root/etc/hostname")"
	mount --bind "$root" "$root"
	mount -t proc proc "$root/proc"
	mount --rbind /sys "$root/sys"
	mount --bind /dev "$root/dev"
	mount -t devpts -o newinstance,ptmxmode=0666,mode=620,gid=5 devpts "$root/dev/pts"
	mount --bind "$root/dev/pts/ptmx" "$root/dev/ptmx"
	mount -t tmpfs -o mode=1777 tmpfs "$root/dev/shm"
	mount -t tmpfs -o mode=755 tmpfs "$root/run"
	mkdir -m 1777 "$root/run/lock"
	# Labs of this machine and of the root use one network: they choose their ports under one lock.
	: >"$root/run/fsched-lab.lock"
	mount --bind /run/fsched-lab.lock "$root/run/fsched-lab.lock"
	cd "$root"
	pivot_root . mnt
	cd /
	umount -l /mnt
	cd /root/fsched
	# A session of its own: the number of a process group that was made outside is 0 in here, and a signal to "the group" of
	# a program would end this script and its caller. This shell is process 1 and stays to reap; its end ends all others.
	trap 'exit 130' INT TERM HUP
	exec 3<&0
	setsid "$@" <&3 3<&- &
	wait $!
}

# What a newcomer runs. A step that fails does not keep the next ones from running.
newcomer() {
	failed=
	for step; do
		say "$SUITE: make $step"
		began=$(date +%s)
		# shellcheck disable=SC2086 # targets and variables
		if make $step ARGS="${ARGS:-}"; then result=ok; else result=failed failed="$failed$step; "; fi
		say "$SUITE: make $step: $result after $(($(date +%s) - began)) s"
	done
	dpkg-query -W -f='${Package} ${Version}\n' libc6 gcc clang clang-format libcmocka-dev cppcheck meson mandoc slurmctld \
		munge criu python3 python3-pytest 2>/dev/null | grep ' .' | sed "s/^/debian-root: $SUITE: /"
	if [ -s build/criu/VERSION ]; then say "$SUITE: criu $(cat build/criu/VERSION)"; fi
	[ -z "$failed" ] || die "$SUITE: failed: ${failed%; }"
	say "$SUITE: all passed"
}

case ${1:-} in
--inside)
	shift
	inside "$@"
	exit
	;;
--newcomer)
	SUITE=$2
	shift 2
	newcomer "$@"
	exit
	;;
esac

reuse=no
if [ "${1:-}" = --reuse ]; then reuse=yes && shift; fi
case ${1:-} in
''|-*|*/*) sed -n '2,/^set -eu/{/^set -eu/d;s/^# \{0,1\}//;p;}' "$0" >&2; exit 2 ;;
esac
SUITE=$1
shift
[ "$(id -u)" = 0 ] || die 'not root: namespaces, mounts and debootstrap need it'
for tool in git tar unshare pivot_root mount; do
	command -v "$tool" >/dev/null || die "$tool is missing"
done
tree=$(dirname "$(dirname "$(readlink -f "$0")")")
place=${FSCHED_BUILD:-$tree/build}/debian/$SUITE
root=$place/root
mkdir -p "$place"

# Two runs in one root would take each other's packages.
exec 9>"$place/lock"
flock -n 9 || die "another run uses $place: wait for its end"
[ -d "$place/base" ] || make_base
if [ $reuse = no ] || [ ! -d "$root" ]; then fresh_root; fi
copy_tree
cp -L /etc/resolv.conf "$root/etc/resolv.conf"
(umask 077 && : >>/run/fsched-lab.lock)

if [ $# -eq 0 ]; then
	# shellcheck disable=SC2086 # targets
	if [ -n "${TARGETS:-}" ]; then set -- $TARGETS
	elif [ "${FULL:-}" = yes ]; then set -- demo test
	else set -- demo check test-unit; fi
	set -- sh scripts/debian-root.sh --newcomer "$SUITE" "$@"
fi
set -- "$tree/scripts/debian-root.sh" --inside "$root" "$@"
for name in FSCHED_TEST_WORKERS FSCHED_TEST_RERUNS FSCHED_TEST_SLOWNESS CYCLES SEED ARGS; do
	eval "value=\${$name:-}"
	[ -z "$value" ] || set -- "$name=$value" "$@"
done
exec env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TERM="${TERM:-dumb}" LC_ALL=C \
	unshare --mount --uts --pid --fork --kill-child --propagation private env "$@"
