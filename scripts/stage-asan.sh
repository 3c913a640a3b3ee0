#!/bin/sh
# stage-asan.sh BUILD - BUILD/asan-stage: the installed fsched with our programs built with ASan and UBSan.
#
# Left as they are: shared objects, which are loaded into programs of others, and fsched-leader and fsched-init, which
# are in the pod: ASan's terabytes of address space have no place in a dump.
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
