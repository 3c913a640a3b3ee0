# fsched: a thin layer over meson. `make help` lists the targets.

BUILD   ?= build
DESTDIR ?=
B       := $(abspath $(BUILD))
MESON   := $(firstword $(wildcard /usr/bin/meson) meson)
PYTHON  := /usr/bin/python3
CC      ?= cc

export FSCHED_BUILD = $(B)
export PYTHONDONTWRITEBYTECODE = 1

.PHONY: all build examples criu criu-copy demo lab lab-shell lab-root lab-down test test-long test-unit test-pod test-cluster test-security test-mpi \
	test-recovery test-memory test-names test-zdtm test-kernels test-systemd test-debian soak test-asan bench bench-plot bench-freeze check format fuzz install deb rpm clean \
	distclean help deps-build deps-run deps-test deps-mpi deps-deb
.DEFAULT_GOAL := build
.NOTPARALLEL:

all: build examples

help:
	@echo 'make              builds fsched into $(BUILD)/stage (installs missing packages first, needs root then)'
	@echo 'make demo         runs a real Slurm job, saves, vacates and restarts it, and compares its output; needs root'
	@echo 'make lab          starts a private cluster with a shell; make lab-shell, lab-root: another shell, make lab-down: ends it'
	@echo 'make lab NODES=3  the same with three simulated hosts; lab/node cuts their power or network'
	@echo 'make test         make check and the tests, under 25 minutes; one set: make test-unit, test-pod, test-cluster, test-security, test-recovery'
	@echo '                  (ARGS="-k word" for pytest)'
	@echo 'make test-long    the tests that take longest (tests/long.txt), half an hour'
	@echo 'make test-kernels tests the memory engine on kernels of Debian oldstable, stable and testing, in QEMU (KERNELS=stable: one)'
	@echo 'make test-systemd tests the packages on a Debian 13 with systemd and the cgroup plugins of Slurm, in QEMU'
	@echo 'make test-debian  SUITE=trixie: make demo, check and test-unit on that Debian, in a root of its own (FULL=yes: demo and test;'
	@echo '                  TARGETS=test-cluster ARGS="-k srun": these tests; REUSE=yes: in the root of the last run)'
	@echo 'make test-asan    all tests except test-kernels, with programs built with ASan and UBSan'
	@echo 'make test-mpi     LAMMPS, GROMACS, Quantum ESPRESSO, HPCC, mpi4py under srun and mpirun (CYCLES=3 SEED=n); installs them'
	@echo 'make test-memory  CYCLES=50 checkpoints and restores of jobs that verify their memory; SEED=n repeats a run'
	@echo 'make test-names   SEEDS=500 random jobs that change names, on each of ext4, tmpfs and xfs; SEED=n is the first one'
	@echo 'make test-zdtm    ZDTM=DIR: the static tests (ZDTM) of the checkout of criu in DIR, through plain criu and through pods (ARGS=--help)'
	@echo 'make soak         ROUNDS=200 node failures at random moments; checks that no line of output is missing or repeated'
	@echo 'make bench        measures checkpoints against stock criu, 25 minutes (ARGS=--quick: three minutes, ARGS=--help: options)'
	@echo 'make bench-plot   plots the ratios of all runs of make bench so far into $(BUILD)/bench.svg'
	@echo 'make bench-freeze measures the freeze and the restore of a 2 GiB job against stock criu, one minute'
	@echo 'make format       formats all C files by .clang-format (clang-format 14)'
	@echo 'make check        layers, format, clang, cppcheck, man pages, scripts, 3 s of each fuzzer'
	@echo 'make fuzz         fuzzes the parsers of data from disk and from users, FUZZ_SECONDS=300 each, or FUZZ_RUNS=10000000'
	@echo 'make install      installs into DESTDIR (WITH_CRIU=yes adds criu and its libraries)'
	@echo 'make deb          builds Debian packages in $(BUILD)/deb'
	@echo 'make rpm          checks the RPM spec file by a build on Debian; leaves its sources and packages in $(BUILD)/rpm'
	@echo 'make clean        removes what was built, except downloaded criu, kernels, QEMU and roots of Debian; make distclean removes these too'

deps-build deps-run deps-test deps-mpi deps-deb deps-rpm: deps-%:
	@scripts/get-deps.sh $*

# Debian's lib/<triplet>. meson itself knows it only if dpkg-dev is installed.
SETUP = $(MESON) setup --libdir=lib/$$($(CC) -print-multiarch)

# Silent unless it fails. $(2): targets in addition to what is installed.
ninja = ninja -C $(B)/$(1) $(2) >$(B)/$(1).log 2>&1 || { cat $(B)/$(1).log; exit 1; }

# Without the unit tests, which need cmocka; the target tests-built adds them.
$(B)/meson/build.ninja:
	@$(SETUP) $(B)/meson . -Dtests=false >$(B)/setup.log 2>&1 || { cat $(B)/setup.log; exit 1; }

$(B):
	@mkdir -p $@

build: deps-build | $(B)
	@$(MAKE) --no-print-directory -s $(B)/meson/build.ninja
	@$(call ninja,meson)
	@rm -rf $(B)/stage && DESTDIR=$(B)/stage $(MESON) install -C $(B)/meson --no-rebuild --quiet

examples: $(B)/examples/heat2d
$(B)/examples/heat2d: examples/heat2d.c | deps-build
	@mkdir -p $(@D)
	@$(CC) -O2 -ffp-contract=off -Wall -Wextra -Werror -o $@ $<

# A usable criu of the system will do for a lab. Tests and benchmarks start criu in ways of their own, and need a copy.
criu:
	@test -s $(B)/criu/VERSION || scripts/get-criu.sh $(B)/criu
criu-copy:
	@test -s $(B)/criu/VERSION || scripts/get-criu.sh --force $(B)/criu

demo: build deps-run criu examples
	@lab/demo

lab: build deps-run criu examples
	@lab/up $(if $(filter-out 1,$(NODES)),--hosts $(NODES))
	@if [ -t 0 ]; then lab/shell || :; else echo 'make lab-shell gives a shell on it, make lab-down ends it'; fi
lab-shell:
	@lab/shell || :
lab-root:
	@lab/shell --user root || :
lab-down:
	@lab/down

test: build deps-run deps-test criu-copy examples
	@$(MAKE) --no-print-directory -s tests-built
	@checked=0; tested=0; scripts/check.sh $(B) || checked=$$?; scripts/run-tests.sh all $(ARGS) || tested=$$?; \
		[ $$checked = 0 ] || echo 'make test: scripts/check.sh failed, see above the tests' >&2; \
		[ $$checked = 0 ] && [ $$tested = 0 ]
# What make test leaves out, half an hour.
test-long: build deps-run deps-test criu-copy examples
	@$(MAKE) --no-print-directory -s tests-built
	@scripts/run-tests.sh long $(ARGS)
test-unit: build deps-test
	@$(MAKE) --no-print-directory -s tests-built
	@scripts/run-tests.sh unit $(ARGS)
test-pod: build deps-run deps-test criu-copy
	@$(MAKE) --no-print-directory -s tests-built
	@scripts/run-tests.sh pod $(ARGS)
test-cluster: build deps-run deps-test criu-copy examples
	@scripts/run-tests.sh cluster $(ARGS)
test-security: build deps-run deps-test criu-copy examples
	@scripts/run-tests.sh security $(ARGS)

# Programs that people run, as Debian packages them: CYCLES checkpoints of each under srun and mpirun.
test-mpi: build deps-run deps-test deps-mpi criu-copy
	@FSCHED_CYCLES=$(or $(CYCLES),3) FSCHED_SEED=$(or $(SEED),$$$$) FSCHED_TEST_WORKERS=1 scripts/run-tests.sh mpi $(ARGS)

test-recovery: build deps-run deps-test criu-copy examples
	@FSCHED_SOAK_ROUNDS=$(or $(ROUNDS),20) scripts/run-tests.sh recovery $(ARGS)
# Node failures at random moments, ROUNDS times. SEED=N chooses other moments.
soak: build deps-run deps-test criu-copy examples
	@FSCHED_SOAK_ROUNDS=$(or $(ROUNDS),200) FSCHED_SOAK_SEED=$(or $(SEED),$$$$) FSCHED_TEST_WORKERS=1 \
		scripts/run-tests.sh soak $(ARGS)

# Jobs that verify their memory, CYCLES checkpoints and restores each.
test-memory: build deps-run deps-test criu-copy
	@FSCHED_CYCLES=$(or $(CYCLES),50) FSCHED_SEED=$(or $(SEED),$$$$) scripts/run-tests.sh pod -k test_cycles $(ARGS)

# Random jobs that make, move and delete names, SEEDS on each file system. SEED=n is the first one.
test-names: build deps-run deps-test
	@$(MAKE) --no-print-directory -s tests-built
	@FSCHED_SEEDS=$(or $(SEEDS),500) FSCHED_SEED=$(or $(SEED),1) FSCHED_TEST_RERUNS=0 scripts/run-tests.sh pod -k test_names_random $(ARGS)

# criu's own tests, of a checkout of criu that somebody has.
test-zdtm: build deps-run criu-copy
	@$(if $(ZDTM),,echo 'make test-zdtm ZDTM=DIR: in which directory is a checkout of criu?' >&2; exit 2;) tests/zdtm/run $(ARGS) $(ZDTM)

# Kernels of other releases in emulated guests of QEMU: two minutes each on an idle machine. KERNELS= is the short run of the oldest
# kernel, which is part of make test-long.
KERNELS ?= oldstable stable testing
test-kernels: build deps-run deps-test criu-copy
	@FSCHED_TEST_KERNELS='$(KERNELS)' FSCHED_TEST_WORKERS=1 FSCHED_TEST_RERUNS=0 scripts/run-tests.sh kernels $(ARGS)

# A Debian 13 with systemd in an emulated guest: installed and configured as README says. It needs the network for packages.
test-systemd: build deps-run deps-test
	@FSCHED_TEST_WORKERS=1 FSCHED_TEST_RERUNS=0 scripts/run-tests.sh systemd -s $(ARGS)

# On another Debian, in build/debian/SUITE; see the head of the script. It needs the network and takes 15 minutes.
test-debian: | $(B)
	@$(if $(SUITE),,echo 'make test-debian SUITE=trixie (or bookworm, forky): which Debian?' >&2; exit 2;) \
		FULL=$(FULL) TARGETS='$(TARGETS)' ARGS='$(ARGS)' scripts/debian-root.sh $(if $(REUSE),--reuse) $(SUITE)

.PHONY: tests-built
tests-built:
	@$(MESON) configure $(B)/meson -Dtests=true && $(call ninja,meson,all unit-tests)

# The plugins and the library in criu are loaded into processes that are not built with ASan, so they are not built with it either.
test-asan: build deps-run deps-test criu-copy examples
	@$(SETUP) $(if $(wildcard $(B)/asan/build.ninja),--reconfigure) $(B)/asan . -Dtests=true -Db_sanitize=address,undefined -Db_lundef=false \
		-Dsanitizer_log=$(B)/asan-reports/report >$(B)/setup.log 2>&1 || \
		{ cat $(B)/setup.log; exit 1; }
	@$(call ninja,asan,all unit-tests)
	@scripts/stage-asan.sh $(B)
	@mkdir -p $(B)/asan-reports && chmod 1777 $(B)/asan-reports
	@FSCHED_MESON=$(B)/asan FSCHED_STAGE=$(B)/asan-stage FSCHED_SANITIZER_LOG=$(B)/asan-reports/report \
		scripts/run-tests.sh all --ignore=tests/kernels --deselect cluster/test_admin.py::test_agent_is_small_and_quiet \
		--deselect pod/test_targets.py::test_near_the_limit_of_memory $(ARGS)

bench: build deps-run deps-test criu-copy examples
	@bench/run $(ARGS)

bench-plot:
	@bench/plot $(ARGS)

bench-freeze: build deps-run criu-copy
	@bench/freeze $(ARGS)

check: deps-build deps-test
	@scripts/check.sh $(B)

format:
	@git ls-files '*.c' '*.h' | xargs clang-format -i

FUZZ_SECONDS ?= 300
fuzz: deps-build deps-test
	@FUZZ_RUNS=$(FUZZ_RUNS) scripts/fuzz.sh $(FUZZ_SECONDS)

install: build
	@DESTDIR=$(DESTDIR) $(MESON) install -C $(B)/meson --no-rebuild --quiet
	@if [ '$(WITH_CRIU)' = yes ]; then scripts/get-criu.sh $(abspath $(DESTDIR)/usr/libexec/fsched/criu); fi

deb: deps-build deps-deb
	@scripts/make-deb.sh $(B)/deb

# Shows that the spec file is complete; what is built here is linked to Debian's Slurm and is not for Enterprise Linux.
rpm: deps-build deps-rpm criu
	@scripts/make-rpm.sh $(B)/rpm $(B)/criu

clean:
	@if [ -e $(B)/lab ]; then echo 'a lab is up: make lab-down first' >&2; exit 1; fi
	@if [ -d $(B) ]; then find $(B) -mindepth 1 -maxdepth 1 ! -name criu ! -name kernels ! -name qemu ! -name debian ! -name systemd -exec rm -rf {} +; fi
distclean: clean
	@rm -rf $(B)
