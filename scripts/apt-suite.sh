#!/bin/sh
# apt-suite.sh - functions that fetch packages of another Debian suite without installing them. get-criu, get-kernels and get-qemu source
# it; it is not a command.
#
# The functions use an apt with lists, sources and cache of its own, and leave those of the system as they are. Mirror and signing key
# are those of the system's apt configuration. The script that sources this file sets
#
#   SUITE   e.g. testing
#   work    a directory that exists: debs/ gets the packages, root/ what is in them, log the output of the last step
#
# and defines say() and die() for messages.

# Reads the machine's apt sources, one-line and deb822 alike: prints one deb822 stanza
# for $SUITE made from the first entry that serves this Debian's (CODENAME's) main archive.
suite_source() {
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

in_dir() { (cd "$1" && shift && "$@"); }

# Prepares the apt of $work for $SUITE: directories, source, package list. $1: advice for the user if there is no source.
suite_begin() {
	needs=$1
	# shellcheck source=/dev/null
	. /etc/os-release
	if [ "${ID:-}" != debian ] || [ -z "${VERSION_CODENAME:-}" ]; then
		die "this is ${PRETTY_NAME:-not Debian}: $needs"
	fi
	for tool in apt-get apt-config dpkg-deb awk find sort timeout; do
		command -v "$tool" >/dev/null || die "$tool is missing"
	done
	mkdir -p "$work/etc" "$work/lists/partial" "$work/cache/archives/partial" "$work/debs" "$work/root"
	suite_source "$VERSION_CODENAME" >"$work/etc/suite.sources"
	[ -s "$work/etc/suite.sources" ] ||
		die "no entry for Debian's main archive ($VERSION_CODENAME or stable, component main) in apt's sources; add one, or $needs"
	say "reading the package list of Debian $SUITE (kept apart from the system's)"
	run_logged "reading the package list of Debian $SUITE" own_apt apt-get -o APT::Update::Error-Mode=any update
}

# Prints "NAME VERSION" of a package and of all packages that it depends on; nothing if it cannot be installed.
suite_closure() {
	own_apt apt-get -s --no-install-recommends install "$1" 2>"$work/log" |
		awk '$1 == "Inst" { sub(/^\(/, "", $3); sub(/^[0-9]+:/, "", $3); print $2, $3 }'
}

# Fetches the packages of these names and unpacks them below $work/root.
suite_unpack() {
	run_logged "fetching packages of Debian $SUITE" in_dir "$work/debs" own_apt apt-get download "$@"
	for deb in "$work"/debs/*.deb; do
		dpkg-deb -x "$deb" "$work/root" || die "cannot unpack $(basename "$deb"): disk full?"
	done
}

# suite_program NAME OUT: copies the unpacked program, its loader and the libraries that the loader uses to OUT/NAME, OUT/ld.so and
# OUT/lib. `ld.so --library-path lib NAME ...` then runs it with any C library of the system.
suite_program() {
	name=$1 out=$2 root=$work/root program=
	for f in "$root/usr/sbin/$name" "$root/usr/bin/$name" "$root/sbin/$name"; do
		[ -x "$f" ] && program=$f && break
	done
	[ -n "$program" ] || die "no program $name in the fetched packages"
	loader=$(find "$root" -name 'ld-linux*.so.*' | head -n 1)
	[ -n "$loader" ] || die "no dynamic loader in the fetched libc6"
	path=
	for d in "$root"/usr/lib/*-linux-gnu* "$root"/lib/*-linux-gnu* "$root/usr/lib" "$root/lib"; do
		[ -d "$d" ] && path=$path${path:+:}$d
	done
	mkdir -p "$out/lib"
	"$loader" --library-path "$path" --list "$program" >"$work/closure" || die "the libraries of $name cannot be resolved: $(tail -n 1 "$work/closure")"
	while read -r library arrow file _; do
		case $library in linux-vdso*|linux-gate*) continue ;; esac
		[ "$arrow" = "=>" ] || continue
		case $file in
		"$root"/*) ;;
		*) die "$name needs $library, which is in none of the fetched packages" ;;
		esac
		case $library in */ld-linux*) continue ;; esac
		cp -L "$file" "$out/lib/$(basename "$library")"
	done <"$work/closure"
	cp -L "$loader" "$out/ld.so"
	cp -L "$program" "$out/$name"
	chmod 0755 "$out/ld.so" "$out/$name"
}
