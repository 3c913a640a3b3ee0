/* family STEPS DIR: three children that exchange a token with the parent over
 * pipes and a socketpair, and an orphan (double fork, own session) that appends
 * to DIR/orphan.log until its parent closes a pipe. Exit status 3. */
#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#include "workload.h"

#define CHILDREN 3

static void exact_read(int fd, void *buf, size_t n)
{
	size_t done = 0;

	while (done < n) {
		ssize_t r = read(fd, (char *)buf + done, n - done);

		if (r == 0)
			_exit(0);
		if (r < 0 && errno != EINTR)
			_exit(98);
		if (r > 0)
			done += (size_t)r;
	}
}

static int child(uint64_t salt)
{
	int sv[2];

	if (socketpair(AF_UNIX, SOCK_STREAM, 0, sv))
		die("socketpair");
	if (fork() == 0) {
		close(sv[0]);
		for (;;) {
			uint64_t v;

			exact_read(sv[1], &v, sizeof(v));
			v = mix(v, salt);
			if (write(sv[1], &v, sizeof(v)) != sizeof(v))
				_exit(97);
		}
	}
	close(sv[1]);
	return sv[0];
}

static int orphan(const char *dir)
{
	int to[2], st;
	pid_t p;

	if (pipe(to))
		die("pipe");
	p = fork();
	if (p == 0) {
		char path[4096];
		FILE *log;
		uint64_t v;

		setsid();
		if (fork())
			_exit(0);
		close(to[1]);
		snprintf(path, sizeof(path), "%s/orphan.log", dir);
		log = fopen(path, "w");
		if (!log)
			_exit(96);
		for (;;) {
			if (read(to[0], &v, sizeof(v)) != sizeof(v))
				break;
			fprintf(log, "%016llx\n", (unsigned long long)v);
			fflush(log);
		}
		fprintf(log, "end\n");
		fclose(log);
		_exit(0);
	}
	close(to[0]);
	waitpid(p, &st, 0);
	return to[1];
}

int main(int argc, char **argv)
{
	int fd[CHILDREN], out, st;
	uint64_t h = 1;

	if (argc != 3)
		return 2;
	out = orphan(argv[2]);
	for (int i = 0; i < CHILDREN; i++)
		fd[i] = child((uint64_t)i + 7);
	for (int k = 0; k < atoi(argv[1]); k++) {
		for (int i = 0; i < CHILDREN; i++) {
			if (write(fd[i], &h, sizeof(h)) != sizeof(h))
				die("write");
			exact_read(fd[i], &h, sizeof(h));
		}
		if (write(out, &h, sizeof(h)) != sizeof(h))
			die("write orphan");
		step_line(k, h);
		pace();
	}
	for (int i = 0; i < CHILDREN; i++)
		close(fd[i]);
	while (wait(&st) > 0)
		;
	close(out);
	return 3;
}
