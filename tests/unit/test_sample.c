/* How fast other processes rewrite their memory. They go on until they are killed. */
#include "unit.h"

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "capture/usage.h"
#include "capture/sample.h"

#define PAGE  4096ul
#define PAGES (32ul << 20 >> 12)

/* In the child: rewrites the first n pages of its memory forever, without a pause. */
static _Noreturn void rewrite(char *p, size_t n)
{
	while (!n)
		pause();
	for (unsigned round = 0;; round++)
		for (size_t i = 0; i < n; i++)
			memcpy(p + i * PAGE + round % 1024 * sizeof(round), &round, sizeof(round));
}

/* Fills its memory, tells, and waits or rewrites. */
static pid_t start(size_t n)
{
	pid_t parent = getpid(), pid;
	int ready[2];
	char c;

	assert_int_equal(pipe(ready), 0);
	pid = fork();
	if (pid == 0) {
		char *p = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		/* Reserved and never touched: nothing of it is to be looked at, or there would be pages. */
		void *hole = mmap(NULL, 64ul << 30, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
				  -1, 0);

		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (p == MAP_FAILED || hole == MAP_FAILED || getppid() != parent)
			_exit(1);
		memset(p, 1, PAGES * PAGE);
		if (write(ready[1], "", 1) != 1)
			_exit(1);
		rewrite(p, n);
	}
	close(ready[1]);
	assert_int_equal(read(ready[0], &c, 1), 1);
	close(ready[0]);
	return pid;
}

static uint64_t anon_of(pid_t pid)
{
	struct mem_usage u;

	assert_int_equal(mem_usage_read(pid, &u), 0);
	return u.anon;
}

static void end(pid_t pid)
{
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

static void test_shares(void **state)
{
	pid_t pids[3] = { start(0), start(PAGES / 4), start(PAGES) };
	uint64_t anon[3], before = anon_of(pids[0]);
	bool some = false, most = false;
	struct mem_rewriting r[3];

	for (int i = 0; i < 3; i++)
		anon[i] = anon_of(pids[i]);
	/* A busy machine may not let them run while they are watched, and hardly ever both. */
	for (int64_t until = now_us() + 40000000; !(some && most) && now_us() < until;) {
		mem_sample(pids, anon, 3, r);
		assert_true(r[0].hot >= 0 && r[0].hot < 0.02);
		assert_true(r[1].hot >= 0 && r[1].hot < 0.4);
		some |= r[1].hot > 0.1;
		most |= r[2].hot > 0.9;
	}
	assert_true(some);
	assert_true(most);
	/* What is rewritten again does not spread. */
	assert_true(r[0].spread < 0.5);
	assert_true(anon_of(pids[0]) < before + (1 << 20));
	for (int i = 0; i < 3; i++)
		end(pids[i]);
}

static void test_a_small_one_and_a_dead_one_are_not_known(void **state)
{
	pid_t pids[2] = { start(0), getpid() };
	uint64_t anon[2] = { MEM_SAMPLE_BYTES, MEM_SAMPLE_BYTES - 1 };
	struct mem_rewriting r[2];

	end(pids[0]);
	mem_sample(pids, anon, 2, r);
	assert_true(r[0].hot < 0 && r[1].hot < 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_shares),
		cmocka_unit_test(test_a_small_one_and_a_dead_one_are_not_known),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
