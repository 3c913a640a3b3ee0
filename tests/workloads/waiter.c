/* waiter MIB [seccomp]: waits for children that it does not have, counts SIGCHLD and fork handlers, and looks that a
 * sleep is as long as it was asked for: what a snapshot does to a process must not be seen by it. A little of its
 * memory is rewritten all the time; at the end each word of it must be what it was made. With "seccomp" a filter
 * forbids what a snapshot makes it do (clone, close_range, wait4 kill the process). Runs until the file "stop" exists,
 * prints what it saw, exits with 0 if that is nothing. */
#define _GNU_SOURCE
#include <dirent.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "workload.h"

static volatile int children, forks;

static void on_child(int sig)
{
	(void)sig;
	children++;
}

static void on_fork(void)
{
	forks++;
}

static void forbid(void)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_clone, 3, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 436 /* close_range */, 2, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_wait4, 1, 0),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
	};
	const struct sock_fprog program = { sizeof(code) / sizeof(code[0]), code };

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program))
		die("seccomp");
}

static int count_fds(void)
{
	DIR *d = opendir("/proc/self/fd");
	int n = 0;

	while (d && readdir(d))
		n++;
	if (d)
		closedir(d);
	return n;
}

#define WORDS 512u /* of a page */
#define HOT   64u  /* pages that are rewritten in turn */

static void fill_page(uint64_t *heap, size_t page, uint64_t generation)
{
	for (size_t i = 0; i < WORDS; i++)
		heap[page * WORDS + i] = mix(page * WORDS + i, generation);
}

/* Words that are not what they were made, when so many pages have been rewritten. */
static size_t count_spoiled(const uint64_t *heap, size_t pages, uint64_t rewritten)
{
	size_t spoiled = 0;

	for (size_t page = 0; page < pages; page++)
		for (size_t i = 0; i < WORDS; i++)
			spoiled += heap[page * WORDS + i] !=
				   mix(page * WORDS + i, page < HOT ? (rewritten + HOT - 1 - page) / HOT : 0);
	return spoiled;
}

int main(int argc, char **argv)
{
	const size_t pages = ((size_t)atol(argv[1]) << 20) / WORDS / sizeof(uint64_t);
	const struct timespec nap = { 0, 20000000 };
	struct timespec rest, a, b;
	long got = 0, short_naps = 0;
	int fds, filtered = argc > 2;
	uint64_t *heap, rewritten = 0;
	size_t spoiled;

	signal(SIGCHLD, on_child);
	pthread_atfork(on_fork, on_fork, on_fork);
	heap = malloc(pages * WORDS * sizeof(*heap));
	if (!heap)
		die("malloc");
	for (size_t page = 0; page < pages; page++)
		fill_page(heap, page, 0);
	fds = count_fds();
	if (filtered)
		forbid();
	printf("ready\n");
	fflush(stdout);
	while (access("stop", F_OK)) {
		siginfo_t si = { 0 };

		fill_page(heap, rewritten % HOT, rewritten / HOT + 1);
		rewritten++;
		/* Every child, whatever signal its end sends: -1 and ECHILD, or something is there. */
		if (waitid(P_ALL, 0, &si, WEXITED | WNOHANG | __WALL) != -1 || errno != ECHILD)
			got++;
		clock_gettime(CLOCK_MONOTONIC, &a);
		/* criu itself interrupts a sleep now and then; it must say so. */
		if (nanosleep(&nap, &rest))
			continue;
		clock_gettime(CLOCK_MONOTONIC, &b);
		if ((b.tv_sec - a.tv_sec) * 1000000000l + b.tv_nsec - a.tv_nsec < nap.tv_nsec)
			short_naps++;
	}
	spoiled = count_spoiled(heap, pages, rewritten);
	if (spoiled)
		printf("%zu words of the heap are spoiled\n", spoiled);
	printf("children %ld signals %d handlers %d short %ld descriptors %d\n", got, children, forks, short_naps,
	       count_fds() - fds);
	return spoiled || got || children || forks || short_naps || count_fds() != fds;
}
