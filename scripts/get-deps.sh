#!/bin/sh
# get-deps.sh SET... - installs the Debian packages that fsched needs.
#
#   build   compiler, meson, libraries
#   run     Slurm, MUNGE and what the lab needs
#   test    pytest, cmocka, clang, the static checkers, and tools that make guests for QEMU
#   mpi     MPI programs that make test-mpi runs
#   deb     tools that make Debian packages
#   rpm     tools that make RPM packages
#
# Calls apt only if a package is missing, and upgrades no installed package.
# Services of new packages are not started (the lab runs daemons of its own).
# For Debian 12 and later.
# Option: --list  prints what is missing and installs nothing.
set -eu
export LC_ALL=C

BUILD='gcc libc6-dev make meson ninja-build pkg-config libslurm-dev libmunge-dev
	libjansson-dev nettle-dev libarchive-dev liblz4-dev libzstd-dev libxxhash-dev libprotobuf-c-dev protobuf-c-compiler uuid-dev
	libnl-route-3-dev libnftables-dev libpmix-dev libbpf-dev'
RUN='munge slurmctld slurmd slurm-client slurm-wlm-basic-plugins python3
	util-linux mount procps iproute2 passwd coreutils e2fsprogs'
TEST='libcmocka-dev python3-pytest python3-pytest-xdist python3-pytest-rerunfailures clang clang-format libclang-rt-dev cppcheck mandoc nftables libfuse3-dev fuse3
	busybox-static kmod cpio xz-utils expect screen tmux mpich libmpich-dev openmpi-bin libopenmpi-dev libpmi2-0-dev xfsprogs chromium'
MPI='openmpi-bin lammps gromacs quantum-espresso hpcc python3-mpi4py'
RPM='rpm rpmlint'
DEB='build-essential clang debhelper dpkg-dev fakeroot lintian libcmocka-dev munge e2fsprogs'

POLICY=/usr/sbin/policy-rc.d
SAVED=$POLICY.before-fsched

say() { printf 'get-deps: %s\n' "$*"; }
die() { printf 'get-deps: error: %s\n' "$*" >&2; exit 1; }

# Prints the packages of the arguments that are not installed.
missing_of() {
	installed=$(dpkg-query -W -f='${Package} ${db:Status-Status}\n' "$@" 2>/dev/null | sed -n 's/ installed$//p') || :
	for package; do
		printf '%s\n' "$installed" | grep -qxF -e "$package" || printf '%s ' "$package"
	done
}

# invoke-rc.d and deb-systemd-invoke ask policy-rc.d before they start anything.
forbid_services() {
	[ ! -e "$SAVED" ] || mv "$SAVED" "$POLICY"
	trap restore_services EXIT
	trap 'exit 130' INT TERM HUP
	[ ! -e "$POLICY" ] || cp -p "$POLICY" "$SAVED"
	printf '#!/bin/sh\nexit 101\n' >"$POLICY.new"
	chmod 755 "$POLICY.new"
	mv "$POLICY.new" "$POLICY"
}

restore_services() {
	if [ -e "$SAVED" ]; then mv "$SAVED" "$POLICY"; else rm -f "$POLICY"; fi
}

# Quiet unless it fails.
apt() {
	if ! DEBIAN_FRONTEND=noninteractive apt-get -q -o Dpkg::Use-Pty=0 -o DPkg::Lock::Timeout=300 "$@" >"$log" 2>&1; then
		tail -n 20 "$log" >&2
		rm -f "$log"
		die "apt-get $1 failed (above: its last lines)"
	fi
}

[ $# -gt 0 ] || { sed -n '2,/^set -eu/{/^set -eu/d;s/^# \{0,1\}//;p;}' "$0"; exit 2; }
command -v dpkg-query >/dev/null || die 'this is not Debian: install the packages named in this script by hand'

only_list=no
wanted=
for set; do
	case $set in
	--list) only_list=yes ;;
	build) wanted="$wanted $BUILD" ;;
	run) wanted="$wanted $RUN" ;;
	test) wanted="$wanted $TEST" ;;
	mpi) wanted="$wanted $MPI" ;;
	deb) wanted="$wanted $DEB" ;;
	rpm) wanted="$wanted $RPM" ;;
	*) die "unknown set \"$set\" (build, run, test, mpi, deb, rpm)" ;;
	esac
done

# shellcheck disable=SC2086 # package names are words
missing=$(missing_of $wanted)
[ -n "$missing" ] || exit 0
if [ $only_list = yes ]; then
	printf '%s\n' "$missing"
	exit 0
fi
[ "$(id -u)" = 0 ] || die "not root; as root: apt-get install $missing"

say "installing: $missing"
log=$(mktemp)
forbid_services
apt update
# shellcheck disable=SC2086
apt install --yes --no-install-recommends --no-upgrade $missing
rm -f "$log"
