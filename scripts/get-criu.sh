#!/bin/sh
# get-criu.sh DESTDIR - puts a criu that is new enough for fsched into DESTDIR.
#
# Debian 12 has criu 3.17, Debian 13 has 4.1: both too old for the C libraries
# and kernels that fsched meets. This takes criu with exactly the libraries
# that it needs from Debian testing, by an apt of its own: the system's package
# lists, sources and packages stay as they are. The mirror and the signing key
# are those of this machine's own apt configuration.
#
#   DESTDIR/criu      the program
#   DESTDIR/ld.so     its dynamic loader: ld.so --library-path lib criu ...
#   DESTDIR/lib/      its libraries
#   DESTDIR/VERSION   e.g. 4.2.1; written last, its presence means complete
#
# If the system's own criu is new enough and `criu check` is content, nothing
# is fetched. A complete DESTDIR is left alone. fsched.conf: CriuPath = DESTDIR.
# Options: --force  fetch even if the system's criu would do
#          --clean  throw an existing DESTDIR away first
set -eu
export LC_ALL=C
umask 022

MIN_VERSION=4.2
SUITE=testing

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

# The machine's apt sources, one-line and deb822 alike: prints one deb822 stanza
# for $SUITE made from the first entry that serves this Debian's main archive.
testing_source() {
	codename=$1
	eval "$(apt-config shell etc Dir::Etc/d list Dir::Etc::sourcelist/f parts Dir::Etc::sourceparts/d)"
	: "${etc:=/etc/apt/}" "${list:=/etc/apt/sources.list}" "${parts:=/etc/apt/sources.list.d/}"
	for f in "$parts"/*.sources "$list" "$parts"/*.list; do
		[ -r "$f" ] || continue
		case $f in
		*.sources) deb822_source "$codename" "$f" ;;
		*)         oneline_source "$codename" "$f" ;;
		esac
	done | awk 'NF == 0 { if (n) exit; next } { print; n++ }'
}

deb822_source() {
	awk -v codename="$1" -v suite="$SUITE" '
	function has(list, word,   a, n, i) {
		n = split(list, a, /[ \t\n]+/)
		for (i = 1; i <= n; i++) if (a[i] == word) return 1
		return 0
	}
	function flush_stanza() {
		if (f["uris"] != "" && has(f["types"], "deb") && has(f["components"], "main") &&
		    (has(f["suites"], codename) || has(f["suites"], "stable") || has(f["suites"], suite)) &&
		    tolower(f["enabled"]) !~ /^[ \t]*no/) {
			print "Types: deb\nURIs:" f["uris"] "\nSuites: " suite "\nComponents: main"
			if (f["signed-by"] != "") print "Signed-By:" f["signed-by"]
			if (f["trusted"] != "") print "Trusted:" f["trusted"]
			print ""
		}
		split("", f); field = ""
	}
	/^#/ { next }
	/^[ \t]*$/ { flush_stanza(); next }
	/^[ \t]/ { if (field != "") f[field] = f[field] "\n" $0; next }
	{ field = tolower(substr($0, 1, index($0, ":") - 1)); f[field] = substr($0, index($0, ":") + 1) }
	END { flush_stanza() }' "$2"
}

oneline_source() {
	awk -v codename="$1" -v suite="$SUITE" '
	$1 != "deb" { next }
	{
		sub(/#.*/, ""); opts = ""; line = $0; sub(/^[ \t]*deb[ \t]+/, "", line)
		if (match(line, /^\[[^]]*\][ \t]*/)) {
			opts = substr(line, 2, RLENGTH - 2); sub(/\].*/, "", opts)
			line = substr(line, RLENGTH + 1)
		}
		n = split(line, w, /[ \t]+/); main = 0
		for (i = 3; i <= n; i++) if (w[i] == "main") main = 1
		if (!main || (w[2] != codename && w[2] != "stable" && w[2] != suite)) next
		print "Types: deb\nURIs: " w[1] "\nSuites: " suite "\nComponents: main"
		n = split(opts, o, /[ \t]+/)
		for (i = 1; i <= n; i++) {
			if (o[i] ~ /^signed-by=/) { sub(/^signed-by=/, "", o[i]); gsub(/,/, " ", o[i]); print "Signed-By: " o[i] }
			if (o[i] ~ /^trusted=/) { sub(/^trusted=/, "", o[i]); print "Trusted: " o[i] }
		}
		print ""
	}' "$2"
}

# An apt whose lists, cache and package status are all below $work.
own_apt() {
	cmd=$1
	shift
	"$cmd" -q -o Dir::Etc::sourcelist=/dev/null -o Dir::Etc::sourceparts="$work/etc" \
		-o Dir::Etc::preferences=/dev/null -o Dir::Etc::preferencesparts=/dev/null \
		-o Dir::State::Lists="$work/lists" -o Dir::State::status=/dev/null \
		-o Dir::State::extended_states="$work/extended_states" \
		-o Dir::Cache="$work/cache" -o Dir::Cache::archives="$work/cache/archives" \
		-o Dir::Log="$work" -o APT::Sandbox::User=root -o APT::Get::List-Cleanup=false \
		-o APT::Default-Release= -o Acquire::Languages=none -o Acquire::Retries=2 "$@"
}

run_logged() {
	what=$1
	shift
	if ! "$@" >"$work/log" 2>&1; then
		tail -n 12 "$work/log" >&2
		if grep -q -i -E 'Could not resolve|Could not connect|Connection (refused|timed out)|Unable to connect|Network is unreachable|Temporary failure' "$work/log"; then
			die "$what: the package mirror cannot be reached; is there a network (or a proxy in apt's configuration)?"
		fi
		die "$what failed, see above"
	fi
}

fetch_packages() {
	mkdir -p "$work/etc" "$work/lists/partial" "$work/cache/archives/partial" "$work/debs" "$work/root"
	testing_source "$VERSION_CODENAME" >"$work/etc/testing.sources"
	[ -s "$work/etc/testing.sources" ] ||
		die "no entry for Debian's main archive ($VERSION_CODENAME or stable, component main) in apt's sources; add one, or install criu >= $MIN_VERSION and set CriuPath"

	say "reading the package list of Debian $SUITE (kept apart from the system's)"
	run_logged "reading the package list of Debian $SUITE" own_apt apt-get -o APT::Update::Error-Mode=any update
	own_apt apt-get -s --no-install-recommends install criu >"$work/plan" 2>"$work/log" || {
		cat "$work/log" >&2
		die "Debian $SUITE has no installable criu at the moment; try again later, or install criu >= $MIN_VERSION and set CriuPath"
	}
	pkgs=$(awk '$1 == "Inst" { print $2 }' "$work/plan")
	version=$(awk '$1 == "Inst" && $2 == "criu" { sub(/^\(/, "", $3); sub(/^[0-9]+:/, "", $3); print $3 }' "$work/plan")
	version_ok "${version%%-*}" || die "Debian $SUITE offers criu ${version:-?}, but $MIN_VERSION or newer is needed"

	say "fetching criu $version and $(($(echo "$pkgs" | wc -w) - 1)) packages that it depends on"
	# shellcheck disable=SC2086 # a list of package names
	run_logged "fetching criu's packages" in_dir "$work/debs" own_apt apt-get download $pkgs
	for deb in "$work"/debs/*.deb; do
		dpkg-deb -x "$deb" "$work/root" || die "cannot unpack $(basename "$deb"): disk full?"
	done
}

in_dir() { (cd "$1" && shift && "$@"); }

# Copies criu, its loader and the libraries that the loader really uses.
lay_out() {
	root=$work/root out=$1
	criu=
	for f in "$root/usr/sbin/criu" "$root/usr/bin/criu" "$root/sbin/criu"; do
		[ -x "$f" ] && criu=$f && break
	done
	[ -n "$criu" ] || die "no criu program in the fetched package"
	loader=$(find "$root" -name 'ld-linux*.so.*' | head -n 1)
	[ -n "$loader" ] || die "no dynamic loader in the fetched libc6"
	path=
	for d in "$root"/usr/lib/*-linux-gnu* "$root"/lib/*-linux-gnu* "$root/usr/lib" "$root/lib"; do
		[ -d "$d" ] && path=$path${path:+:}$d
	done
	mkdir -p "$out/lib"
	"$loader" --library-path "$path" --list "$criu" >"$work/closure" || die "criu's libraries cannot be resolved: $(tail -n 1 "$work/closure")"
	while read -r name arrow file _; do
		case $name in linux-vdso*|linux-gate*) continue ;; esac
		[ "$arrow" = "=>" ] || continue
		case $file in
		"$root"/*) ;;
		*) die "criu needs $name, which is in none of the fetched packages" ;;
		esac
		case $name in */ld-linux*) continue ;; esac
		cp -L "$file" "$out/lib/$(basename "$name")"
	done <"$work/closure"
	cp -L "$loader" "$out/ld.so"
	cp -L "$criu" "$out/criu"
	chmod 0755 "$out/ld.so" "$out/criu"
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
	say "the system's $(command -v criu) $system_version will do, nothing fetched"
	exit 0
fi

# Anything at DESTDIR that is not ours stays: it would be deleted below.
if [ -e "$dest" ] && [ ! -d "$dest" ]; then
	die "$dest exists and is not a directory"
fi
if [ -d "$dest" ] && [ ! -e "$dest/VERSION" ] && [ -n "$(ls -A "$dest")" ]; then
	die "$dest is not empty and was not made by get-criu; give another directory"
fi

# shellcheck source=/dev/null
. /etc/os-release
if [ "${ID:-}" != debian ] || [ -z "${VERSION_CODENAME:-}" ]; then
	die "this is ${PRETTY_NAME:-not Debian}: install criu >= $MIN_VERSION yourself and set CriuPath in fsched.conf"
fi
for tool in apt-get apt-config dpkg-deb awk find sort timeout; do
	command -v "$tool" >/dev/null || die "$tool is missing"
done

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
