#include "unit.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/dir_tree.h"
#include "base/io.h"
#include "base/util.h"
#include "policy/load.h"
#include "agent/load_sample.h"

static void near(double is, double want)
{
	if (is < want - 0.001 || is > want + 0.001)
		fail_msg("%g instead of %g", is, want);
}

/* ---- the formula ------------------------------------------------------- */

/* CPU load of n CPUs of which busy were busy, in a window of 10 s at 100 ticks. */
static double cpu(unsigned n, double busy, const struct load_job *jobs, size_t n_jobs)
{
	struct load_counters a = { .at = 0, .cpus = n, .psi_full = -1, .mem_total = 100 }, b = a;
	struct load l;

	b.at = 10000000;
	b.busy = (uint64_t)(busy * 1000 + 0.5);
	b.idle = n * 1000 - b.busy;
	load_compute(&a, &b, jobs, n_jobs, &l);
	return l.cpu;
}

static void without_jobs_it_is_the_utilisation(void **state)
{
	near(cpu(64, 0, NULL, 0), 0.0);
	near(cpu(64, 32, NULL, 0), 0.5);
	near(cpu(64, 64, NULL, 0), 1.0);
	near(cpu(1, 1, NULL, 0), 1.0);
}

static void a_full_node_of_well_behaved_jobs_is_not_loaded(void **state)
{
	struct load_job big[] = { { 31.9, 32 }, { 31.8, 32 } }, small = { 1.9, 2 }, one = { 0.98, 1 };

	assert_true(cpu(64, 64, big, 2) < 0.2);
	assert_true(cpu(2, 2, &small, 1) < 0.3);
	assert_true(cpu(1, 1, &one, 1) < 0.3);
}

static void a_hog_beside_the_jobs_counts(void **state)
{
	struct load_job half = { 32, 32 }, full = { 1.34, 2 }, single = { 1, 1 };

	near(cpu(64, 64, &half, 1), 1.0);
	near(cpu(64, 48, &half, 1), 0.5);
	near(cpu(2, 2, &full, 1), 1.0);
	near(cpu(2, 2, &single, 1), 1.0);
	near(cpu(2, 1, &single, 1), 0.0);
}

static void what_a_job_takes_beyond_its_allocation_counts(void **state)
{
	struct load_job greedy = { 64, 4 }, idle = { 0, 60 };

	near(cpu(64, 64, &greedy, 1), 1.0);
	near(cpu(64, 34, &greedy, 1), 0.5);
	near(cpu(64, 0, &idle, 1), 0.0);
	/* CPUs that were given to a job but are not used are there for the checkpoint. */
	near(cpu(64, 16, &idle, 1), 0.25);
}

static void odd_figures(void **state)
{
	struct load_job forged = { 1e9, 1e9 };
	struct load_counters a = { .at = 5, .cpus = 2, .busy = 10, .idle = 10, .iowait = 50, .psi_full = -1 }, b = a;
	struct load l;

	near(cpu(64, 64, &forged, 1), 0.0);
	load_compute(&a, &b, NULL, 0, &l); /* no time has passed */
	near(l.cpu, 0.0);
	near(l.io, 0.0);
	near(l.memory, 0.0);
	b.at += 1000000;
	b.busy += 100;
	b.idle += 100;
	b.iowait = 0; /* ran backwards */
	load_compute(&a, &b, NULL, 0, &l);
	near(l.cpu, 0.5);
	near(l.io, 0.0);
}

static void stolen_time_is_no_capacity(void **state)
{
	struct load_counters a = { .at = 0, .cpus = 4, .psi_full = -1 }, b = a;
	struct load l;

	b = (struct load_counters){ .at = 1000000, .cpus = 4, .busy = 200, .steal = 200, .psi_full = -1 };
	load_compute(&a, &b, NULL, 0, &l);
	near(l.cpu, 1.0);
	b = (struct load_counters){ .at = 1000000, .cpus = 4, .idle = 200, .steal = 200, .psi_full = -1 };
	load_compute(&a, &b, NULL, 0, &l);
	near(l.cpu, 0.0);
}

static void io_and_memory(void **state)
{
	struct load_counters a = { .at = 0, .cpus = 2, .psi_full = 1000, .mem_total = 1000, .mem_available = 900 };
	struct load_counters b = {
		.at = 500000, .cpus = 2, .idle = 60, .iowait = 40, .psi_full = 101000, .mem_total = 1000, .mem_available = 100
	};
	struct load l;

	load_compute(&a, &b, NULL, 0, &l);
	near(l.cpu, 0.0); /* waiting for the disk is not being busy */
	near(l.io, 0.4);
	near(l.memory, 0.9);
	b.psi_full = 1000 + 350000;
	load_compute(&a, &b, NULL, 0, &l);
	near(l.io, 0.7);
	b.psi_full = -1;
	load_compute(&a, &b, NULL, 0, &l);
	near(l.io, 0.4);
}

/* ---- parsing ----------------------------------------------------------- */

static void parsing(void **state)
{
	struct load_counters c = { 0 };

	assert_int_equal(load_parse_stat("cpu  10 20 30 400 50 6 7 8 9 10\ncpu0 1 2 3\ncpu1 1 2 3\nintr 5\n", &c), 0);
	assert_int_equal(c.busy, 10 + 20 + 30 + 6 + 7);
	assert_int_equal(c.idle, 400);
	assert_int_equal(c.iowait, 50);
	assert_int_equal(c.steal, 8);
	assert_int_equal(c.cpus, 2);
	assert_int_equal(load_parse_stat("", &c), -1);
	assert_int_equal(load_parse_stat("cpu  1 2\ncpu0 1\n", &c), -1);
	assert_int_equal(load_parse_stat("cpu  1 2 3 4\n", &c), -1);
	assert_int_equal(load_parse_meminfo("MemTotal:  100 kB\nMemFree: 5 kB\nMemAvailable:   30 kB\n", &c), 0);
	assert_int_equal(c.mem_total, 100);
	assert_int_equal(c.mem_available, 30);
	assert_int_equal(load_parse_meminfo("MemTotal: 100 kB\n", &c), -1);
	assert_int_equal(load_parse_pressure("some avg10=0.00 avg60=0.00 avg300=0.00 total=99\n"
					     "full avg10=0.00 avg60=0.00 avg300=0.00 total=77\n",
					     &c),
			 0);
	assert_int_equal(c.psi_full, 77);
	assert_int_equal(load_parse_pressure("some total=9\n", &c), -1);
	assert_int_equal(c.psi_full, -1);
}

/* ---- the verdict ------------------------------------------------------- */

static void verdict(void **state)
{
	const struct load_thresholds t = { 0.95, 0.5, 0.85 };
	char text[256];

	assert_int_equal(load_decide(&t, &(struct load){ 0.95, 0.5, 0.85 }, text, sizeof(text)), LOAD_GO);
	assert_string_equal(text, "");
	assert_int_equal(load_decide(&t, &(struct load){ 0.97, 0, 0 }, text, sizeof(text)), LOAD_HIGH_CPU);
	assert_string_equal(text, "CPU load 0.97 above CRIU_LoadThresholdCPU 0.95");
	assert_int_equal(load_decide(&t, &(struct load){ 0, 0.6, 0.9 }, text, sizeof(text)), LOAD_HIGH_IO);
	assert_string_equal(
		text, "I/O wait 0.6 above CRIU_LoadThresholdIO 0.5, memory use 0.9 above CRIU_LoadThresholdMemory 0.85");
	assert_int_equal(load_decide(&t, &(struct load){ 1, 1, 1 }, text, 10), LOAD_HIGH_CPU);
	assert_string_equal(text, "CPU load ");
	assert_int_equal(load_decide(&(struct load_thresholds){ 1, 1, 1 }, &(struct load){ 1, 1, 1 }, text, sizeof(text)),
			 LOAD_GO);
}

/* ---- sampling: a /proc of our own -------------------------------------- */

static char dir[] = "/tmp/test_load.XXXXXX";

static void put(const char *name, const void *text, size_t len)
{
	cleanup_free char *path = xasprintf("%s/%s", dir, name);
	cleanup_close int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(write_all(fd, text, len), 0);
}

static void machine(unsigned busy, unsigned idle)
{
	cleanup_free char *stat = xasprintf("cpu  %u 0 0 %u 0 0 0 0 0 0\ncpu0 0\ncpu1 0\ncpu2 0\ncpu3 0\nctxt 1\n",
					    busy, idle);

	put("stat", stat, strlen(stat));
	put("meminfo", "MemTotal: 100 kB\nMemAvailable: 80 kB\n", 37);
}

/* ticks: utime; children: cutime */
static void process(int pid, const char *comm, int ppid, int sid, unsigned uid, unsigned start, unsigned ticks,
		    unsigned children)
{
	cleanup_free char *path = xasprintf("%s/%d", dir, pid);
	cleanup_free char *stat = xasprintf("%d (%s) S %d %d %d 0 -1 4194560 1 2 3 4 %u 0 %u 0 20 0 1 0 %u 0 0\n", pid,
					    comm, ppid, pid, sid, ticks, children, start);
	cleanup_free char *status = xasprintf("Name:\tx\nUid:\t%u\t%u\t%u\t%u\nGid:\t0\n", uid, uid, uid, uid);
	cleanup_free char *name = xasprintf("%d/stat", pid), *name2 = xasprintf("%d/status", pid);

	if (mkdir(path, 0700) < 0)
		assert_int_equal(access(path, F_OK), 0);
	put(name, stat, strlen(stat));
	put(name2, status, strlen(status));
}

static void gone(int pid)
{
	cleanup_free char *path = xasprintf("%s/%d", dir, pid);

	assert_int_equal(remove_tree_at(AT_FDCWD, path), 0);
}

static void environment(int pid, const char *a, const char *b)
{
	cleanup_free char *name = xasprintf("%d/environ", pid), *text = xasprintf("HOME=/root%c%s%c%s%c", 0, a, 0, b, 0);
	size_t len = 10 + 1 + strlen(a) + 1 + strlen(b) + 1;

	put(name, text, len);
}

#define TICKS 20 /* of one CPU in the window: that is what the clock of our /proc says */

static double sample(const struct load_known *known, size_t n_known, void (*change)(void))
{
	struct err err = { 0 };
	struct load l;
	struct load_sampler *s = load_sample_begin(dir, known, n_known, &err);

	if (!s)
		fail_msg("%s", err.text);
	change();
	usleep(1000);
	if (load_sample_end(s, &l, &err) < 0)
		fail_msg("%s", err.text);
	near(l.memory, 0.2);
	return l.cpu;
}

/* 4 CPUs: a job with 2 CPUs that uses 2, and nothing else. */
static void start_job(void)
{
	machine(0, 0);
	process(1, "init", 0, 1, 0, 1, 0, 0);
	process(100, "slurmstepd", 1, 99, 0, 10, 0, 0);
	process(101, "slurm_script", 100, 99, 1000, 11, 100, 50);
	process(102, "a) S 1 (b", 101, 99, 1000, 12, 300, 0);
	environment(101, "SLURM_JOB_ID=7", "SLURM_CPUS_ON_NODE=2");
	environment(102, "A=1", "B=2");
}

static void job_works(void)
{
	machine(2 * TICKS, 2 * TICKS);
	process(102, "a) S 1 (b", 101, 99, 1000, 12, 300 + 2 * TICKS, 0);
}

static void a_job_within_its_allocation(void **state)
{
	start_job();
	assert_true(sample(NULL, 0, job_works) < 0.1);
}

static void job_is_greedy(void)
{
	machine(4 * TICKS, 0);
	process(102, "a) S 1 (b", 101, 99, 1000, 12, 300 + 4 * TICKS, 0);
}

static void a_job_beyond_its_allocation(void **state)
{
	start_job();
	assert_true(sample(NULL, 0, job_is_greedy) > 0.9);
}

/* A child of 300 ticks that is reaped must not be taken for 300 ticks of work
 * in the window, and new ones that came and went must be. */
static void children_come_and_go(void)
{
	machine(2 * TICKS, 2 * TICKS);
	gone(102);
	process(101, "slurm_script", 100, 99, 1000, 11, 100, 50 + 300 + TICKS);
	process(103, "new", 101, 99, 1000, 5000, TICKS, 0);
}

static void greedy_with_a_reaped_child(void)
{
	children_come_and_go();
	machine(4 * TICKS, 0);
}

static void reaped_children(void **state)
{
	start_job();
	assert_true(sample(NULL, 0, children_come_and_go) < 0.1);
	gone(103);
	start_job();
	/* Two CPUs by the job, two by somebody else. */
	assert_true(sample(NULL, 0, greedy_with_a_reaped_child) > 0.9);
	gone(103);
}

/* A child whose parent ignores SIGCHLD leaves no trace: what the others did still counts. */
static void child_vanishes(void)
{
	machine(2 * TICKS, 2 * TICKS);
	gone(102);
	process(101, "slurm_script", 100, 99, 1000, 11, 100 + 2 * TICKS, 50);
}

static void vanished_children(void **state)
{
	start_job();
	assert_true(sample(NULL, 0, child_vanishes) < 0.1);
}

static void pid_is_reused(void)
{
	machine(2 * TICKS, 2 * TICKS);
	process(102, "other", 101, 99, 1000, 7777, 2 * TICKS, 0);
}

static void reused_pid(void **state)
{
	start_job();
	assert_true(sample(NULL, 0, pid_is_reused) < 0.1);
}

static void orphan_works(void)
{
	machine(2 * TICKS, 2 * TICKS);
	process(102, "daemon", 1, 99, 1000, 12, 300 + 2 * TICKS, 0);
}

static void orphans_are_found_by_their_session(void **state)
{
	start_job();
	process(102, "daemon", 1, 99, 1000, 12, 300, 0);
	assert_true(sample(NULL, 0, orphan_works) < 0.1);
}

static void impostor_works(void)
{
	machine(4 * TICKS, 0);
	process(102, "hog", 101, 99, 1000, 12, 300 + 4 * TICKS, 0);
}

static void a_users_slurmstepd_is_none(void **state)
{
	start_job();
	process(100, "slurmstepd", 1, 99, 1000, 10, 0, 0);
	assert_true(sample(NULL, 0, impostor_works) > 0.9);
	start_job();
}

/* The tree of another job under fsched: the direct child has no job environment. */
static void environment_further_down(void **state)
{
	start_job();
	environment(101, "A=1", "B=1");
	environment(102, "SLURM_JOB_ID=9", "SLURM_JOB_CPUS_PER_NODE=2(x4),1");
	assert_true(sample(NULL, 0, job_works) < 0.1);
	start_job();
	environment(101, "A=1", "B=1");
	environment(102, "A=1", "SLURM_JOB_ID=9");
	assert_true(sample(NULL, 0, job_works) > 0.4);
}

static void known_trees_need_no_environment(void **state)
{
	struct load_known own = { .root = 101, .job_id = 7, .cpus = 2 };

	start_job();
	environment(101, "A=1", "B=1");
	assert_true(sample(&own, 1, job_works) < 0.1);
	start_job();
	environment(101, "A=1", "B=1");
	own.cpus = 0;
	assert_true(sample(&own, 1, job_works) > 0.4);
}

static void step_works(void)
{
	machine(4 * TICKS, 0);
	process(102, "x", 101, 99, 1000, 12, 300 + 2 * TICKS, 0);
	process(202, "y", 201, 199, 1000, 12, 2 * TICKS, 0);
}

static void steps_of_one_job_share_its_allocation(void **state)
{
	start_job();
	process(200, "slurmstepd", 1, 199, 0, 10, 0, 0);
	process(201, "task", 200, 199, 1000, 11, 0, 0);
	process(202, "y", 201, 199, 1000, 12, 0, 0);
	environment(201, "SLURM_JOB_ID=7", "SLURM_CPUS_ON_NODE=1");
	assert_true(sample(NULL, 0, step_works) > 0.9);
	start_job();
	process(202, "y", 201, 199, 1000, 12, 0, 0);
	environment(201, "SLURM_JOB_ID=8", "SLURM_CPUS_ON_NODE=2");
	assert_true(sample(NULL, 0, step_works) < 0.1);
	gone(200);
	gone(201);
	gone(202);
}

static void ring(void)
{
	job_works();
}

/* While /proc is read pids can be reused so that parents form a ring. */
static void a_ring_of_parents_ends(void **state)
{
	start_job();
	process(301, "a", 302, 5, 0, 1, 0, 0);
	process(302, "b", 301, 5, 0, 1, 0, 0);
	process(303, "c", 303, 5, 0, 1, 0, 0);
	assert_true(sample(NULL, 0, ring) < 0.1);
	gone(301);
	gone(302);
	gone(303);
}

static void broken_proc(void **state)
{
	struct err err = { 0 };

	assert_null(load_sample_begin("/nonexistent", NULL, 0, &err));
	assert_non_null(strstr(err.text, "/nonexistent"));
	put("stat", "nonsense", 8);
	assert_null(load_sample_begin(dir, NULL, 0, &err));
	load_sample_cancel(NULL);
}

static void the_real_one(void **state)
{
	struct err err = { 0 };
	struct load l;
	struct load_sampler *s = load_sample_begin("/proc", NULL, 0, &err);

	if (!s)
		fail_msg("%s", err.text);
	usleep(200000);
	if (load_sample_end(s, &l, &err) < 0)
		fail_msg("%s", err.text);
	assert_true(l.cpu >= 0 && l.cpu <= 1);
	assert_true(l.memory > 0 && l.memory < 1);
	s = load_sample_begin("/proc", NULL, 0, &err);
	load_sample_cancel(s);
}

static int setup(void **state)
{
	return mkdtemp(dir) ? 0 : -1;
}

static int teardown(void **state)
{
	return remove_tree_at(AT_FDCWD, dir);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(without_jobs_it_is_the_utilisation),
		cmocka_unit_test(a_full_node_of_well_behaved_jobs_is_not_loaded),
		cmocka_unit_test(a_hog_beside_the_jobs_counts),
		cmocka_unit_test(what_a_job_takes_beyond_its_allocation_counts),
		cmocka_unit_test(odd_figures),
		cmocka_unit_test(stolen_time_is_no_capacity),
		cmocka_unit_test(io_and_memory),
		cmocka_unit_test(parsing),
		cmocka_unit_test(verdict),
		cmocka_unit_test(a_job_within_its_allocation),
		cmocka_unit_test(a_job_beyond_its_allocation),
		cmocka_unit_test(reaped_children),
		cmocka_unit_test(vanished_children),
		cmocka_unit_test(reused_pid),
		cmocka_unit_test(orphans_are_found_by_their_session),
		cmocka_unit_test(a_users_slurmstepd_is_none),
		cmocka_unit_test(environment_further_down),
		cmocka_unit_test(known_trees_need_no_environment),
		cmocka_unit_test(steps_of_one_job_share_its_allocation),
		cmocka_unit_test(a_ring_of_parents_ends),
		cmocka_unit_test(broken_proc),
		cmocka_unit_test(the_real_one),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
