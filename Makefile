# fsched: a thin front of meson for people. `make help` lists the targets.

BUILD   ?= build
DESTDIR ?=
B       := $(abspath $(BUILD))
MESON   := $(firstword $(wildcard /usr/bin/meson) meson)
PYTHON  := /usr/bin/python3
CC      ?= cc

export FSCHED_BUILD = $(B)
export PYTHONDONTWRITEBYTECODE = 1

.PHONY: all build examples criu demo lab lab-shell lab-root lab-down test test-unit test-pod test-cluster test-security test-recovery test-memory \
	test-kernels soak test-asan bench bench-freeze check format fuzz install deb clean distclean help deps-build deps-run deps-test deps-deb
.DEFAULT_GOAL := build
.NOTPARALLEL:

all: build examples

help:
	@echo 'make              builds fsched into $(BUILD)/stage (installs missing packages first, needs root then)'
	@echo 'make demo         a real Slurm job checkpointed, vacated, restarted, compared; needs root'
	@echo 'make lab          a private cluster and a shell on it; make lab-shell, lab-root, lab-down'
	@echo 'make lab NODES=3  the same of three simulated hosts; lab/node cuts their power or network'
	@echo 'make test         make check and all tests (test-unit, -pod, -cluster, -security, -recovery for a part; ARGS="-k word" for pytest)'
	@echo 'make test-kernels the memory engine on kernels of Debian oldstable, stable and testing, in QEMU (KERNELS=stable for one)'
	@echo 'make test-asan    the same with programs built with ASan and UBSan'
	@echo 'make test-memory  jobs that verify their memory, CYCLES=50 of checkpoints and restores, as SEED=n has it'
	@echo 'make soak         node failures at random moments, ROUNDS=200 of them; no line of output twice, none missing, no job twice'
	@echo 'make bench        what checkpoints cost beside stock criu, 25 minutes; ARGS=--quick for three, ARGS=--help for parts of it'
	@echo 'make bench-freeze how long a 2 GiB job stands still beside stock criu, and how long a restore takes: a minute'
	@echo 'make format       clang-format over all C files, as .clang-format says'
	@echo 'make check        layers, format, clang, cppcheck, man page lint, a short run of the fuzzers'
	@echo 'make fuzz         parsers of all that is read from disk or comes from users, FUZZ_SECONDS=300 each, or FUZZ_RUNS=10000000'
	@echo 'make install      into DESTDIR (WITH_CRIU=yes adds criu and its libraries)'
	@echo 'make deb          Debian packages into $(BUILD)/deb'
	@echo 'make clean        removes what was built except the downloaded criu, kernels and QEMU; make distclean removes that too'

deps-build deps-run deps-test deps-deb: deps-%:
	@scripts/get-deps.sh $*

# Debian's lib/<triplet>, which meson itself knows only where dpkg-dev is installed.
SETUP = $(MESON) setup --libdir=lib/$$($(CC) -print-multiarch)

# Silent unless it fails. $(2): targets beside what is installed.
ninja = ninja -C $(B)/$(1) $(2) >$(B)/$(1).log 2>&1 || { cat $(B)/$(1).log; exit 1; }

# Without the unit tests, which need cmocka and are for developers: tests-built adds them.
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

criu:
	@test -s $(B)/criu/VERSION || scripts/get-criu.sh $(B)/criu

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

test: build deps-run deps-test criu examples
	@$(MAKE) --no-print-directory -s tests-built
	@checked=0; tested=0; scripts/check.sh $(B) || checked=$$?; scripts/run-tests.sh all $(ARGS) || tested=$$?; \
		[ $$checked = 0 ] || echo 'make test: scripts/check.sh, before the tests, has found something' >&2; \
		[ $$checked = 0 ] && [ $$tested = 0 ]
test-unit: build deps-test
	@$(MAKE) --no-print-directory -s tests-built
	@scripts/run-tests.sh unit $(ARGS)
test-pod: build deps-run deps-test criu
	@scripts/run-tests.sh pod $(ARGS)
test-cluster: build deps-run deps-test criu examples
	@scripts/run-tests.sh cluster $(ARGS)
test-security: build deps-run deps-test criu examples
	@scripts/run-tests.sh security $(ARGS)

test-recovery: build deps-run deps-test criu examples
	@FSCHED_SOAK_ROUNDS=$(or $(ROUNDS),20) scripts/run-tests.sh recovery $(ARGS)
# Failures at random moments, for as long as ROUNDS says; SEED=N for others than the test has.
soak: build deps-run deps-test criu examples
	@FSCHED_SOAK_ROUNDS=$(or $(ROUNDS),200) FSCHED_SOAK_SEED=$(or $(SEED),$$$$) FSCHED_TEST_WORKERS=1 \
		scripts/run-tests.sh soak $(ARGS)

# Jobs that verify their memory, through so many cycles of checkpoints and restores each.
test-memory: build deps-run deps-test criu
	@FSCHED_CYCLES=$(or $(CYCLES),50) FSCHED_SEED=$(or $(SEED),$$$$) scripts/run-tests.sh pod -k test_cycles $(ARGS)

# With kernels of other releases, in guests that QEMU emulates: on an idle machine two minutes each. KERNELS= is the short run
# of the oldest that make test has.
KERNELS ?= oldstable stable testing
test-kernels: build deps-run deps-test criu
	@FSCHED_TEST_KERNELS='$(KERNELS)' FSCHED_TEST_WORKERS=1 FSCHED_TEST_RERUNS=0 scripts/run-tests.sh kernels $(ARGS)

.PHONY: tests-built
tests-built:
	@$(MESON) configure $(B)/meson -Dtests=true && $(call ninja,meson,all unit-tests)

# Plugins and the library that criu loads live in processes of others, which are not built with ASan: those stay as they are.
test-asan: build deps-run deps-test criu examples
	@$(SETUP) $(if $(wildcard $(B)/asan/build.ninja),--reconfigure) $(B)/asan . -Dtests=true -Db_sanitize=address,undefined -Db_lundef=false \
		-Dsanitizer_log=$(B)/asan-reports/report >$(B)/setup.log 2>&1 || \
		{ cat $(B)/setup.log; exit 1; }
	@$(call ninja,asan,all unit-tests)
	@scripts/stage-asan.sh $(B)
	@mkdir -p $(B)/asan-reports && chmod 1777 $(B)/asan-reports
	@FSCHED_MESON=$(B)/asan FSCHED_STAGE=$(B)/asan-stage FSCHED_SANITIZER_LOG=$(B)/asan-reports/report \
		scripts/run-tests.sh all --ignore=tests/kernels --deselect cluster/test_admin.py::test_agent_is_small_and_quiet \
		--deselect pod/test_targets.py::test_near_the_limit_of_memory $(ARGS)

bench: build deps-run deps-test criu examples
	@bench/run $(ARGS)

bench-freeze: build deps-run criu
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

clean:
	@if [ -e $(B)/lab ]; then echo 'a lab is up: make lab-down first' >&2; exit 1; fi
	@if [ -d $(B) ]; then find $(B) -mindepth 1 -maxdepth 1 ! -name criu ! -name kernels ! -name qemu -exec rm -rf {} +; fi
distclean: clean
	@rm -rf $(B)
