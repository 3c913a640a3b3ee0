#!/bin/sh
# get-qemu.sh DIR - fetches QEMU for x86_64 from Debian stable into DIR, for the guests of tests/kernels.
#
# In QEMU 7.2 of Debian 12 kernels from 6.12 on crash at random, with half of a pointer in the flags register. Nothing is installed
# (see apt-suite.sh).
#
#   DIR/qemu-system-x86_64, ld.so, lib/
#   DIR/share/     its firmware
#   DIR/VERSION    written last: its presence means complete
#
# A complete DIR is not changed.
set -eu
export LC_ALL=C
umask 022

SUITE=stable

# shellcheck source=scripts/apt-suite.sh
. "$(dirname "$(readlink -f "$0")")/apt-suite.sh"

say() { printf 'get-qemu: %s\n' "$*"; }
die() { printf 'get-qemu: error: %s\n' "$*" >&2; exit 1; }

[ $# -eq 1 ] || { sed -n '2,/^set -eu/{/^set -eu/d;s/^# \{0,1\}//;p;}' "$0"; exit 2; }
[ ! -s "$1/VERSION" ] || exit 0
mkdir -p "$(dirname "$1")"
dir=$(cd "$(dirname "$1")" && pwd)/$(basename "$1")
work=$dir.tmp.$$
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM HUP
mkdir "$work"

suite_begin 'QEMU cannot be fetched'
suite_closure qemu-system-x86 >"$work/plan"
version=$(awk '$1 == "qemu-system-x86" { print $2 }' "$work/plan")
[ -n "$version" ] || die "Debian $SUITE has no installable qemu-system-x86 at the moment: $(tail -n 1 "$work/log")"
say "fetching QEMU $version and $(($(wc -l <"$work/plan") - 1)) packages that it depends on"
# shellcheck disable=SC2046 # names of packages
suite_unpack $(cut -d ' ' -f 1 "$work/plan")
suite_program qemu-system-x86_64 "$work/out"
mkdir "$work/out/share"
# These three files are the firmware that an x86_64 guest needs; seabios has a directory of its own.
cp -L "$work"/root/usr/share/seabios/bios-256k.bin "$work"/root/usr/share/qemu/linuxboot_dma.bin "$work"/root/usr/share/qemu/kvmvapic.bin \
	"$work/out/share"
"$work/out/ld.so" --library-path "$work/out/lib" "$work/out/qemu-system-x86_64" --version >"$work/log" || die 'the fetched QEMU does not start'
printf '%s\n' "$version" >"$work/out/VERSION"
rm -rf "$dir"
mv "$work/out" "$dir"
say "QEMU $version is in $dir"
