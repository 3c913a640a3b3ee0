#!/bin/sh
# make-deb.sh DIR - builds the Debian packages of the working tree into DIR.
set -eu
cd "$(dirname "$0")/.."
mkdir -p "$1"
out=$(cd "$1" && pwd)
work=$out/work
rm -rf "$work" "$out"/*.deb
mkdir -p "$work/fsched"
tar -c --exclude=./build --exclude='./build?*' --exclude=./.git --exclude=__pycache__ . | tar -x -C "$work/fsched"
cp -a "$work/fsched/dist/debian" "$work/fsched/debian"
if ! (cd "$work/fsched" && dpkg-buildpackage --build=binary --no-sign --jobs="$(nproc)") >"$out/build.log" 2>&1; then
	tail -n 40 "$out/build.log" >&2
	exit 1
fi
mv "$work"/*.deb "$out"
rm -rf "$work"
# The maintainer's address is a placeholder. Put a real one into dist/debian before you publish the packages.
lintian --allow-root --fail-on error,warning \
	--suppress-tags bogus-mail-host,bogus-mail-host-in-debian-changelog,initial-upload-closes-no-bugs "$out"/*.deb
ls "$out"/*.deb
