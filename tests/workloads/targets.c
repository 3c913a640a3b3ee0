/* targets WHAT [N]: processes that are odd to take a snapshot of. Each verifies its memory until the file "stop"
 * exists, prints "errors N" and exits with 0 if N is 0. many N    N processes with a little memory each strict    a
 * process under SECCOMP_MODE_STRICT, which can do nothing but read and write vfork N   vfork at any moment; the child
 * takes N milliseconds until it is gone exits     processes with memory that come and go at any moment direct O_DIRECT
 * reads into memory at any moment, by two threads */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "workload.h"

#define PAGE  4096ul
#define WORDS (PAGE / 8)

static long errors;

static uint64_t *map(size_t pages)
{
	void *p = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		die("mmap");
	return p;
}

/* Verifies that all is of one generation, and makes it the next one. */
static void step(uint64_t *p, size_t pages, uint64_t id, uint64_t generation)
{
	for (size_t i = 0; i < pages * WORDS; i++) {
		if (p[i] != (generation ? mix(mix(id, i), generation) : 0))
			__atomic_add_fetch(&errors, 1, __ATOMIC_SEQ_CST);
		p[i] = mix(mix(id, i), generation + 1);
	}
}

static int going(void)
{
	return access("stop", F_OK) != 0;
}

static void ready(void)
{
	printf("ready\n");
	fflush(stdout);
}

static int member(uint64_t id)
{
	uint64_t *p = map(32);

	for (uint64_t g = 0; going(); g++) {
		step(p, 32, id, g);
		usleep(100000);
	}
	return errors != 0;
}

static void many(int n)
{
	int status;

	for (int i = 0; i < n; i++)
		if (fork() == 0)
			_exit(member((uint64_t)i));
	ready();
	for (int i = 0; i < n; i++)
		errors += wait(&status) < 0 || status;
}

/* The parent says when a step is due; what the child may call ends with the number of errors. */
static void strict(void)
{
	int to[2], from[2], status;
	char word = 1;

	if (pipe(to) || pipe(from))
		die("pipe");
	if (fork() == 0) {
		uint64_t *p = map(4096);

		close(to[1]);
		if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT))
			_exit(1);
		for (uint64_t g = 0; read(to[0], &word, 1) == 1; g++) {
			step(p, 4096, 1, g);
			if (write(from[1], &word, 1) != 1)
				break;
		}
		syscall(SYS_exit, errors != 0);
	}
	close(to[0]);
	close(from[1]);
	ready();
	while (going()) {
		if (write(to[1], &word, 1) != 1 || read(from[0], &word, 1) != 1)
			die("pipe");
		usleep(10000);
	}
	close(to[1]);
	errors += wait(&status) < 0 || status;
}

static void vforks(int ms)
{
	uint64_t *p = map(4096);
	const struct timespec t = { ms / 1000, ms % 1000 * 1000000l };
	int status;
	pid_t pid;

	ready();
	for (uint64_t g = 0; going(); g++) {
		step(p, 4096, 2, g);
		pid = vfork();
		if (pid == 0) {
			syscall(SYS_nanosleep, &t, NULL);
			_exit(3);
		}
		errors += waitpid(pid, &status, 0) != pid || !WIFEXITED(status) || WEXITSTATUS(status) != 3;
	}
}

static int short_lived(uint64_t id)
{
	uint64_t *p = map(1024);

	for (uint64_t g = 0; g < 4; g++) {
		step(p, 1024, id, g);
		usleep(5000);
	}
	return errors != 0;
}

/* That one of them is killed is no error; that its memory is wrong is one. */
static void exits(void)
{
	int status;

	ready();
	for (uint64_t n = 0; going(); n++) {
		if (fork() == 0)
			_exit(short_lived(n));
		if (n >= 4 && wait(&status) > 0)
			errors += WIFEXITED(status) && WEXITSTATUS(status);
		usleep(2000);
	}
	while (wait(&status) > 0)
		errors += WIFEXITED(status) && WEXITSTATUS(status);
}

#define BLOCKS 256 /* pages of the file */

static void *reader(void *arg)
{
	uint64_t *p = map(16);
	int fd = open("direct.bin", O_RDONLY | O_DIRECT);

	if (fd < 0)
		die("O_DIRECT");
	for (size_t n = (size_t)(uintptr_t)arg; going(); n++) {
		size_t first = n % (BLOCKS / 16) * 16;
		ssize_t got;

		memset(p, 0xee, 16 * PAGE);
		do
			got = pread(fd, p, 16 * PAGE, (off_t)(first * PAGE));
		while (got < 0 && errno == EINTR);
		for (size_t i = 0; i < 16 * WORDS; i++)
			if (got != (ssize_t)(16 * PAGE) || p[i] != mix(7, first * WORDS + i))
				__atomic_add_fetch(&errors, 1, __ATOMIC_SEQ_CST);
	}
	return NULL;
}

static void direct(void)
{
	uint64_t *p = map(BLOCKS);
	int fd = open("direct.bin", O_RDWR | O_CREAT | O_TRUNC, 0600);
	pthread_t t[2];

	for (size_t i = 0; i < BLOCKS * WORDS; i++)
		p[i] = mix(7, i);
	if (fd < 0 || write(fd, p, BLOCKS * PAGE) != (ssize_t)(BLOCKS * PAGE) || fsync(fd))
		die("direct.bin");
	close(fd);
	for (uintptr_t i = 0; i < 2; i++)
		if (pthread_create(&t[i], NULL, reader, (void *)(i * 3)))
			die("pthread_create");
	ready();
	for (int i = 0; i < 2; i++)
		pthread_join(t[i], NULL);
}

int main(int argc, char **argv)
{
	const char *what = argc > 1 ? argv[1] : "";
	int n = argc > 2 ? atoi(argv[2]) : 0;

	if (!strcmp(what, "many"))
		many(n);
	else if (!strcmp(what, "strict"))
		strict();
	else if (!strcmp(what, "vfork"))
		vforks(n);
	else if (!strcmp(what, "exits"))
		exits();
	else if (!strcmp(what, "direct"))
		direct();
	else
		return 2;
	printf("errors %ld\n", errors);
	fflush(stdout);
	return errors != 0;
}
