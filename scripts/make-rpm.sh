#!/bin/sh
# make-rpm.sh DIR CRIU - builds the RPM packages of the working tree into DIR, with the private copy of criu in the directory CRIU,
# which get-criu has made, and checks the spec file for each release of Enterprise Linux.
#
# On Debian, whose packages rpmbuild does not know: requirements are not checked, and the programs are linked to Debian's libraries.
# The sources in DIR are for rpmbuild on Enterprise Linux: dist/rpm/fsched.spec.
set -eu
cd "$(dirname "$0")/.."
rm -rf "$1"
mkdir -p "$1/work"
out=$(cd "$1" && pwd)
criu=$(cd "$2" && pwd)
spec=dist/rpm/fsched.spec
version=$(sed -n 's/^Version: *//p' $spec)
meson=$(sed -n "s/^ *version: '\(.*\)',/\1/p" meson.build | head -n 1)
[ "$version" = "$meson" ] || { echo "make-rpm: $spec has version $version, meson.build has $meson" >&2; exit 1; }

tar -c -z --exclude=./build --exclude='./build?*' --exclude=./.git --exclude=__pycache__ --transform="s,^\.,fsched-$version," . >"$out/fsched-$version.tar.gz"
tar -c -z -C "$(dirname "$criu")" --transform='s,^[^/]*,criu,' "$(basename "$criu")" >"$out/fsched-criu-$version.tar.gz"
cp $spec "$out"

# run NAME COMMAND... - quiet unless it fails
run() {
	name=$1
	shift
	if ! "$@" >"$out/$name.log" 2>&1; then
		tail -n 40 "$out/$name.log" >&2
		echo "make-rpm: $name failed" >&2
		exit 1
	fi
}

for el in 9 10; do
	for criu in with without; do
		run "parse-$el-$criu" rpmspec --parse --define "rhel $el" --define "dist .el$el" --define "_sourcedir $out" "--$criu" criu $spec
	done
done
run build rpmbuild -ba --nodeps --define "_topdir $out/work" --define "_sourcedir $out" --define "_rpmdir $out" --define "_srcrpmdir $out" \
	--define '_build_name_fmt %%{NAME}-%%{VERSION}-%%{RELEASE}.%%{ARCH}.rpm' --define 'rhel 10' --define 'dist .el10' $spec
rm -rf "$out/work"
run lint rpmlint --strict --config dist/rpm/rpmlint.toml $spec "$out"/*.rpm
grep '[0-9]* packages and' "$out/lint.log"
ls "$out"/*.rpm
