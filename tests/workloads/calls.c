/* calls KIND MS: makes a blocking system call with a timeout of MS milliseconds again and again, in two threads, until
 * the file "stop" exists. Each call must last at least as long as it was asked for, and must not return EINTR: nobody
 * sends a signal. Each thread prints "ready" before its first call, "WHO BEGIN END" after each one (WHO: main or
 * thread; CLOCK_MONOTONIC in ms), and "done" at the end; or what was wrong, and exits with 1. */
#define _GNU_SOURCE
#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/select.h>
#include <sys/syscall.h>

#include "workload.h"

enum { EARLY_MS = 2 }; /* timeouts of poll() are rounded to milliseconds */

static int pipe_ends[2];
static int word;
static const char *kind;
static long ms;

static struct timespec span(void)
{
	return (struct timespec){ ms / 1000, ms % 1000 * 1000000 };
}

static struct timespec until(clockid_t clock)
{
	struct timespec t;

	clock_gettime(clock, &t);
	t.tv_nsec += ms % 1000 * 1000000;
	t.tv_sec += ms / 1000 + t.tv_nsec / 1000000000;
	t.tv_nsec %= 1000000000;
	return t;
}

static int sleep_simply(void)
{
	struct timespec t = span();

	return (int)syscall(SYS_nanosleep, &t, NULL);
}

static int sleep_with_rest(void)
{
	struct timespec t = span();

	return nanosleep(&t, &t);
}

static int sleep_by_clock(void)
{
	struct timespec t = span();

	errno = clock_nanosleep(CLOCK_MONOTONIC, 0, &t, NULL);
	return errno ? -1 : 0;
}

static int sleep_until(void)
{
	struct timespec t = until(CLOCK_MONOTONIC);

	errno = clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL);
	return errno ? -1 : 0;
}

static int wait_poll(void)
{
	struct pollfd p = { pipe_ends[0], POLLIN, 0 };

	return poll(&p, 1, (int)ms);
}

static int wait_ppoll(void)
{
	struct pollfd p = { pipe_ends[0], POLLIN, 0 };
	struct timespec t = span();

	return ppoll(&p, 1, &t, NULL);
}

static int wait_select(void)
{
	struct timeval t = { ms / 1000, ms % 1000 * 1000 };
	fd_set set;

	FD_ZERO(&set);
	FD_SET(pipe_ends[0], &set);
	return select(pipe_ends[0] + 1, &set, NULL, NULL, &t);
}

static int timed_out(long ret)
{
	return ret < 0 && errno == ETIMEDOUT ? 0 : -1;
}

static int wait_futex(void)
{
	struct timespec t = span();

	return timed_out(syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, 0, &t, NULL, 0));
}

static int wait_futex_until(void)
{
	struct timespec t = until(CLOCK_MONOTONIC);

	return timed_out(syscall(SYS_futex, &word, FUTEX_WAIT_BITSET_PRIVATE, 0, &t, NULL, FUTEX_BITSET_MATCH_ANY));
}

static const struct {
	const char *name;
	int (*call)(void);
} kinds[] = {
	{ "nanosleep", sleep_simply },
	{ "nanosleep_rest", sleep_with_rest },
	{ "clock_nanosleep", sleep_by_clock },
	{ "sleep_until", sleep_until },
	{ "poll", wait_poll },
	{ "ppoll", wait_ppoll },
	{ "select", wait_select },
	{ "futex", wait_futex },
	{ "futex_until", wait_futex_until },
};

static long now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static void *work(void *arg)
{
	const char *who = arg;
	int (*call)(void) = NULL;
	long began, end;
	double number = 0.5; /* in a register of the FPU across the calls */
	int ret;

	for (unsigned i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
		if (!strcmp(kinds[i].name, kind))
			call = kinds[i].call;
	if (!call)
		die(kind);
	puts("ready");
	fflush(stdout);
	for (int i = 1; access("stop", F_OK); i++) {
		began = now_ms();
		ret = call();
		end = now_ms();
		number += 1;
		if (ret || end - began < ms - EARLY_MS || number != i + 0.5) {
			printf("%s %d: returned %d (%s) after %ld of %ld ms, number %g\n", kind, i, ret,
			       strerror(errno), end - began, ms, number);
			exit(1);
		}
		printf("%s %ld %ld\n", who, began, end);
		fflush(stdout);
	}
	puts("done");
	return NULL;
}

int main(int argc, char **argv)
{
	pthread_t t;

	if (argc != 3 || pipe(pipe_ends))
		return 2;
	kind = argv[1];
	ms = atol(argv[2]);
	if (pthread_create(&t, NULL, work, (void *)"thread"))
		die("pthread_create");
	work((void *)"main");
	pthread_join(t, NULL);
	return 0;
}
