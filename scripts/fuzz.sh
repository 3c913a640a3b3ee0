#!/bin/sh
# fuzz.sh SECONDS [TARGET...] - runs the fuzzers of tests/fuzz (all_targets, below) for SECONDS each.
#
# FUZZ_RUNS  number of inputs for each fuzzer, in place of SECONDS
#
# The fuzzers are built by clang with ASan and UBSan in build/fuzz. The corpus is kept in build/fuzz/corpus. An input that crashes a
# fuzzer is written to build/fuzz/<target>-crash-*; `build/fuzz/tests/fuzz/fuzz_<target> FILE` repeats the crash.
set -eu
cd "$(dirname "$0")/.."
build=${FSCHED_BUILD:-$PWD/build}/fuzz
seconds=${1:?$(sed -n 2p "$0")}
shift
all_targets='image chunk pagemap ghost manifest status option record lease steps history journal names request event mailbox remote_call'
# shellcheck disable=SC2086 # names without blanks
[ $# -gt 0 ] || set -- $all_targets
limit=-max_total_time=$seconds
[ -z "${FUZZ_RUNS:-}" ] || limit=-runs=$FUZZ_RUNS

# Long texts are slow and find nothing more than short ones.
max_len() {
	case $1 in
	option) echo 256 ;;
	event | mailbox) echo 512 ;;
	chunk | remote_call) echo 1024 ;;
	status | record | lease | history | journal | names | request) echo 2048 ;;
	*) echo 16384 ;;
	esac
}

mkdir -p "$build"
quietly() {
	"$@" >"$build/log" 2>&1 || { cat "$build/log"; exit 1; }
}
if [ ! -f "$build/build.ninja" ]; then
	quietly env CC=clang meson setup "$build" . -Dtests=false -Dfuzz=true -Db_sanitize=address,undefined -Db_lundef=false
fi
quietly ninja -C "$build" fuzzers
quietly "$build/tests/fuzz/fuzz_seeds" "$build/corpus"

bad=0
export UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1
for target; do
	out=$build/$target.log
	if "$build/tests/fuzz/fuzz_$target" "$limit" -max_len="$(max_len "$target")" -timeout=20 -rss_limit_mb=2048 -print_final_stats=1 \
		-artifact_prefix="$build/$target-" "$build/corpus/$target" >"$out" 2>&1; then
		echo "ok      fuzz $target: $(sed -n 's/^stat::number_of_executed_units: *//p' "$out") inputs"
	else
		echo "failed  fuzz $target"
		tail -n 40 "$out"
		bad=1
	fi
done
exit $bad
