#!/bin/sh
# check.sh BUILD - checks the layers of src, the format, warnings of clang, cppcheck, man pages and scripts, and runs each fuzzer for
# 3 s. Prints one line per check, and the output of checks that fail.
set -eu
cd "$(dirname "$0")/.."
build=$1
bad=0
mkdir -p "$build"

part() {
	if output=$("$@" 2>&1); then
		echo "ok      $name"
	else
		echo "failed  $name"
		printf '%s\n' "$output" | tail -n 60
		bad=1
	fi
}

clang_build() {
	if [ ! -f "$build/clang/build.ninja" ]; then
		CC=clang meson setup "$build/clang" . -Dtests=true || return 1
	fi
	ninja -C "$build/clang" all unit-tests
}

# Versions 2.10 to 2.22 report different things; the suppressions are for wrong reports of all of them. cppcheck does not know cleanup
# attributes (leaks), that read() fills a buffer (legacyUninitvar), mmap() with descriptor -1 (invalidFunctionArg), that mmap() never
# returns NULL (OutOfMemory), and the macros below.
# Programs for BPF are not C to it. Its "portability" checks ask for readdir_r and the like, which programs with one thread do not need.
cppcheck_all() {
	# Older versions do not report what the suppression of a file is for, so they do not show that the file was renamed.
	for f in $(sed -n 's/^[^#]*--suppress=/&/p' scripts/check.sh | grep -o 'suppress=[A-Za-z]*:[^ ]*' | cut -d : -f 2); do
		[ -e "$f" ] || { echo "scripts/check.sh: a suppression names $f, which does not exist"; return 1; }
	done
	cppcheck --quiet --error-exitcode=1 --std=c11 --language=c --library=posix \
		--enable=warning,performance --inline-suppr \
		--suppress=missingIncludeSystem --suppress=resourceLeak --suppress=memleak --suppress=legacyUninitvar --suppress=invalidFunctionArg --suppress=invalidFunctionArgBool \
		--suppress=leakReturnValNotUsed:src/cli/doctor/doctor_slurm.c --suppress=normalCheckLevelMaxBranches --suppress=leakNoVarFunctionCall \
		--suppress=uninitvar:src/agent/job.c --suppress=arrayIndexOutOfBoundsCond:src/cli/pod/pod_checkpoint.c \
		--suppress=nullPointerOutOfMemory:src/capture/pagemap.c --suppress=nullPointerOutOfMemory:src/pod/preflight_access.c \
		--suppress=nullPointerArithmeticOutOfMemory:src/capture/probe.c \
		--suppress=syntaxError:src/trace/raw_syscall.h -D'SLURM_VERSION_NUM(a,b,c)=0' -DFSCHED_BINDIR='"/x"' -DFSCHED_SANITIZER_LOG='"/x"' \
		-D_GNU_SOURCE -D__x86_64__ -DFSCHED_VERSION='"0"' -DFSCHED_LIBEXECDIR='"/x"' \
		-D'SPANK_PLUGIN(a,b)=' -D'steal_ptr(p)=(*(p))' -D'json_array_foreach(a,i,v)=while ((v = json_array_get(a, (i = 0))))' \
		-D'json_object_foreach(o,k,v)=while ((v = json_object_iter_value(k = o)))' -Isrc -j "$(nproc)" -i src/agent/open_watch.bpf.c src examples
}

man_pages() {
	found=$(find docs/man -name '*.[1-8]')
	[ -n "$found" ] || return 0
	# shellcheck disable=SC2086 # names of ours without blanks
	mandoc -T lint -W warning $found || return 1
	for key in $(sed -n 's/^\t{ "\([A-Za-z_]*\)",  *TYPE_.*/\1/p' src/base/conf.c); do
		grep -q "^\.It Cm $key Cm =" docs/man/fsched.conf.5 || { echo "docs/man/fsched.conf.5 does not explain $key"; return 1; }
	done
}

scripts() {
	for f in scripts/*.sh tests/kernels/*.sh tests/systemd/*.sh tests/zdtm/*.sh .ci/run; do sh -n "$f" || return 1; done
	for f in lab/*.py scripts/*.py lab/up lab/down lab/env lab/shell lab/node lab/demo bench/*.py bench/run bench/freeze tests/*.py tests/*/*.py tests/zdtm/run; do
		/usr/bin/python3 -c 'import ast, sys; ast.parse(open(sys.argv[1]).read(), sys.argv[1])' "$f" || return 1
	done
}

# pytest imports a file by its name alone, and leaves out a second file of the same name.
names_of_tests() {
	twice=$(find tests -name 'test_*.py' | sed 's,.*/,,' | sort | uniq -d)
	[ -z "$twice" ] || { echo "two directories below tests have a file of this name:" "$twice"; return 1; }
}

format() { git ls-files '*.c' '*.h' | xargs clang-format --dry-run -Werror; }

# Other versions of clang-format differ in details, so only version 14 decides.
format_if_14() {
	case $(clang-format --version) in
	*'version 14.'*) part format ;;
	*) echo "skipped $name: only clang-format 14 decides" ;;
	esac
}

name='layers of src' part scripts/check-layers.py
name='names of static functions' part scripts/check-names.py
name='names of test files' part names_of_tests
name='tables of compatibility.md' part scripts/compatibility.py
if [ -d .git ] || [ -f .git ]; then name='format (make format corrects it)' format_if_14; fi
name='clang, warnings are errors' part clang_build
name='symbols of plugins' part scripts/check-plugins.sh "$build/clang"
name='cppcheck' part cppcheck_all
name='man pages' part man_pages
name='syntax of scripts' part scripts
name='fuzzers, 3 s each' part env FSCHED_BUILD="$(realpath "$build")" scripts/fuzz.sh 3
exit $bad
