#!/bin/sh
# stage-asan.sh BUILD - makes BUILD/asan-stage: the installed fsched with programs built with ASan and UBSan.
#
# Not replaced: shared objects, which other programs load, and fsched-leader and fsched-init, which run in the pod, since a dump cannot
# hold the terabytes of address space that ASan reserves.
set -eu
build=$1
rm -rf "$build/asan-stage" "$build/asan-all"
cp -a "$build/stage" "$build/asan-stage"
DESTDIR=$build/asan-all meson install -C "$build/asan" --no-rebuild --quiet
cd "$build/asan-all"
find usr/bin usr/sbin usr/libexec -type f -perm -u+x 2>/dev/null | while read -r program; do
	case $program in
	*.so | */fsched-leader | */fsched-init) continue ;;
	esac
	cp "$program" "$build/asan-stage/$program"
done
rm -rf "$build/asan-all"
