#!/bin/sh
# run-tests.sh all|long|unit|pod|cluster|security|mpi|recovery|soak|kernels|systemd [PYTEST OPTION ...] - runs the tests; pytest's closing line comes last.
#
# FSCHED_STAGE   the installed programs to test (build/stage)
# FSCHED_MESON   meson's build directory that holds the unit tests (build/meson)
# FSCHED_TEST_SLOWNESS   factor for all deadlines, for slow machines (1)
# FSCHED_TEST_RERUNS     how often a failed test is run again (2); "R" in the summary names the tests that were
# FSCHED_TEST_WORKERS    number of test files that run at once (one more than processors, since tests mostly wait for Slurm)
# FSCHED_TEST_LONG       with all: no leaves out the tests in tests/long.txt (the default), only runs these, yes all (no)
# FSCHED_TEST_KERNELS    suites of Debian whose kernels are tested in full; empty: a short test of the oldest one
set -eu
cd "$(dirname "$0")/.."
build=${FSCHED_BUILD:-$PWD/build}
export FSCHED_STAGE="${FSCHED_STAGE:-$build/stage}"
export FSCHED_MESON="${FSCHED_MESON:-$build/meson}"
export PYTHONDONTWRITEBYTECODE=1

set_of_tests=${1:-all}
dist=loadfile
[ $# -eq 0 ] || shift
every='tests/test_unit.py tests/pod tests/kernels tests/cluster tests/security'
case $set_of_tests in
all) where=$every; export FSCHED_TEST_LONG="${FSCHED_TEST_LONG:-no}" ;;
long) where=$every; export FSCHED_TEST_LONG=only ;;
unit) where=tests/test_unit.py ;;
pod | cluster | security | mpi) where=tests/$set_of_tests ;;
kernels) where=tests/kernels ;;
systemd) where=tests/systemd ;;
soak) where=tests/cluster/test_soak.py ;;
recovery) dist=load where='tests/cluster/test_recovery.py tests/cluster/test_soak.py tests/cluster/test_damage.py tests/cluster/test_notice.py' ;;
*) sed -n 2p "$0" >&2; exit 2 ;;
esac
# Debian's Python by its full path, since another one in PATH may have no pytest.
workers=${FSCHED_TEST_WORKERS:-$(($(nproc) + 1))}
parallel=
if [ "$workers" -gt 1 ]; then parallel="-n $workers --dist $dist"; fi
# Machines are shared: a deadline missed for want of a processor must not fail the whole run.
reruns=${FSCHED_TEST_RERUNS:-2}
# shellcheck disable=SC2086 # names of ours without blanks
exec /usr/bin/python3 -m pytest -c tests/pytest.ini --rootdir=tests -p no:cacheprovider -rfER --reruns "$reruns" $parallel "$@" $where
