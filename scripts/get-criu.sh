#!/bin/sh
# get-criu.sh DESTDIR - puts a criu that is new enough for fsched into DESTDIR.
#
# Debian 12 has criu 3.17 and Debian 13 has 4.1. Both are too old for recent C
# libraries and kernels. This script fetches criu and the libraries that it
# needs from Debian testing, by an apt with lists of its own. It does not change
# the system's package lists, sources and packages. Mirror and signing key are
# those of the system's apt configuration.
#
#   DESTDIR/criu      the program
#   DESTDIR/ld.so     its dynamic loader: ld.so --library-path lib criu ...
#   DESTDIR/lib/      its libraries
#   DESTDIR/VERSION   e.g. 4.2.1; written last, its presence means complete
#
# If the system's criu is new enough and `criu check` succeeds, nothing is
# fetched. A complete DESTDIR is not changed. fsched.conf: CriuPath = DESTDIR.
# Options: --force  fetch even if the system's criu is usable
#          --clean  remove an existing DESTDIR first
set -eu
export LC_ALL=C
umask 022

MIN_VERSION=4.2
SUITE=testing

# shellcheck source=scripts/apt-suite.sh
. "$(dirname "$(readlink -f "$0")")/apt-suite.sh"

say() { printf 'get-criu: %s\n' "$*"; }
die() { printf 'get-criu: error: %s\n' "$*" >&2; exit 1; }

usage() {
	sed -n '2,/^set -eu/{/^set -eu/d;s/^# \{0,1\}//;p;}' "$0"
	exit "$1"
}

# version_ok VERSION: at least MIN_VERSION?
version_ok() {
	[ "$(printf '%s\n%s\n' "$MIN_VERSION" "$1" | sort -V | head -n 1)" = "$MIN_VERSION" ]
}

# Reads "Version: 4.2.1" from criu's standard output.
parse_version() { sed -n 's/^Version: *\([0-9][0-9.]*\).*/\1/p' | head -n 1; }

prefix_version() {
	"$1/ld.so" --library-path "$1/lib" "$1/criu" --version 2>/dev/null | parse_version
}

prefix_complete() {
	[ -s "$1/VERSION" ] && [ -x "$1/criu" ] && [ -x "$1/ld.so" ] && [ -d "$1/lib" ] &&
		[ "$(prefix_version "$1")" = "$(cat "$1/VERSION")" ]
}

system_criu_usable() {
	command -v criu >/dev/null || return 1
	system_version=$(criu --version 2>/dev/null | parse_version)
	[ -n "$system_version" ] && version_ok "$system_version" || return 1
	timeout 30 criu check >/dev/null 2>&1
}

fetch_packages() {
	suite_begin "install criu >= $MIN_VERSION yourself and set CriuPath in fsched.conf"
	suite_closure criu >"$work/plan"
	version=$(awk '$1 == "criu" { print $2 }' "$work/plan")
	if [ -z "$version" ]; then
		cat "$work/log" >&2
		die "Debian $SUITE has no installable criu at the moment; try again later, or install criu >= $MIN_VERSION and set CriuPath"
	fi
	version_ok "${version%%-*}" || die "Debian $SUITE offers criu $version, but $MIN_VERSION or newer is needed"
	say "fetching criu $version and $(($(wc -l <"$work/plan") - 1)) packages that it depends on"
	# shellcheck disable=SC2046 # names of packages
	suite_unpack $(cut -d ' ' -f 1 "$work/plan")
}

lay_out() {
	out=$1
	suite_program criu "$out"
	v=$(prefix_version "$out")
	[ -n "$v" ] || die "the fetched criu does not start: $("$out/ld.so" --library-path "$out/lib" "$out/criu" --version 2>&1 | head -n 1)"
	printf '%s\n' "$v" >"$out/VERSION"
}

force=no clean=no
while [ $# -gt 0 ]; do
	case $1 in
	--force) force=yes ;;
	--clean) clean=yes ;;
	-h|--help) usage 0 ;;
	-*) usage 1 >&2 ;;
	*) break ;;
	esac
	shift
done
[ $# -eq 1 ] || usage 1 >&2
case $1 in /*) dest=${1%/} ;; *) dest=$(pwd)/${1%/} ;; esac
[ -n "$dest" ] || die "DESTDIR must not be /"

if [ $clean = no ] && prefix_complete "$dest"; then
	say "$dest has criu $(cat "$dest/VERSION") already"
	exit 0
fi
if [ $force = no ] && system_criu_usable; then
	say "the system's $(command -v criu) $system_version is usable, nothing fetched"
	exit 0
fi

# Refuse a DESTDIR that get-criu did not make: it would be deleted below.
if [ -e "$dest" ] && [ ! -d "$dest" ]; then
	die "$dest exists and is not a directory"
fi
if [ -d "$dest" ] && [ ! -e "$dest/VERSION" ] && [ -n "$(ls -A "$dest")" ]; then
	die "$dest is not empty and was not made by get-criu; give another directory"
fi

mkdir -p "$(dirname "$dest")"
work=$dest.tmp.$$
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM HUP
mkdir "$work" || die "cannot write to $(dirname "$dest")"

fetch_packages
lay_out "$work/out"
rm -rf "$dest"
mv "$work/out" "$dest"
say "criu $(cat "$dest/VERSION") is in $dest ($(du -sm "$dest" | cut -f 1) MB); set CriuPath = $dest in fsched.conf if it is not <libexec>/fsched/criu"
