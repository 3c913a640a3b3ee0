/* objects: two processes that send each other numbers over a Unix stream socket, datagrams, pipes and a
 * pseudo-terminal, and check each that comes back; beside that a timer that has to go on (setitimer) and a directory
 * that is watched (inotify). Runs until the file "stop" exists; prints "ready" and, at the end, how many errors there
 * were; exits with 0 if there were none. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/inotify.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <termios.h>

#include "workload.h"

struct line {
	const char *name;
	int in, out;
};

static volatile int errors, alarms;

static void wrong(const char *name, const char *what)
{
	printf("connection %s: %s: %s\n", name, what, strerror(errno));
	fflush(stdout);
	__atomic_add_fetch(&errors, 1, __ATOMIC_SEQ_CST);
}

static bool stopped(void)
{
	return access("stop", F_OK) == 0;
}

static void on_alarm(int sig)
{
	(void)sig;
	alarms++;
}

static ssize_t get(int fd, void *p, size_t len)
{
	size_t done = 0;
	ssize_t n = 1;

	while (done < len && (n = read(fd, (char *)p + done, len - done)) > 0)
		done += (size_t)n;
	return done == len ? (ssize_t)len : n;
}

/* The child: gives back what comes. */
static void *echo(void *arg)
{
	const struct line *l = arg;
	uint32_t n;

	while (get(l->in, &n, sizeof(n)) == sizeof(n) && n)
		if (write(l->out, &n, sizeof(n)) != sizeof(n))
			wrong(l->name, "write of the echo");
	return NULL;
}

static void *ask(void *arg)
{
	const struct line *l = arg;
	uint32_t n, back;
	static const uint32_t end;

	for (n = 1; !stopped(); n++) {
		if (write(l->out, &n, sizeof(n)) != sizeof(n) || get(l->in, &back, sizeof(back)) != sizeof(back)) {
			wrong(l->name, "write or read");
			break;
		}
		if (back != n)
			wrong(l->name, "another number");
		if (n % 8 == 0)
			usleep(1000);
	}
	if (write(l->out, &end, sizeof(end)) < 0)
		wrong(l->name, "end");
	return NULL;
}

static void *watch(void *arg)
{
	_Alignas(8) char buf[4096];
	int fd = inotify_init1(IN_CLOEXEC), file;

	(void)arg;
	if (fd < 0 || inotify_add_watch(fd, ".", IN_CREATE) < 0)
		die("inotify");
	while (!stopped()) {
		const struct inotify_event *e = (void *)buf;

		unlink("watched"); /* a restore may find one that is newer than the epoch */
		file = open("watched", O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0600);
		if (file < 0)
			die("watched");
		close(file);
		do
			if (read(fd, buf, sizeof(buf)) <= 0) {
				wrong("inotify", "read");
				return NULL;
			}
		while (strcmp(e->name, "watched") && strcmp(e->name, "stop"));
		unlink("watched");
		usleep(5000);
	}
	return NULL;
}

static void *tick(void *arg)
{
	int before;

	(void)arg;
	while (!stopped()) {
		before = alarms;
		for (int i = 0; i < 6000 && alarms == before; i++)
			usleep(10000);
		if (alarms == before)
			wrong("setitimer", "no alarm in a minute");
	}
	return NULL;
}

static void make_pty(int *master, int *slave)
{
	struct termios t;
	char name[64];

	*master = posix_openpt(O_RDWR | O_NOCTTY);
	if (*master < 0 || grantpt(*master) || unlockpt(*master) || ptsname_r(*master, name, sizeof(name)) ||
	    (*slave = open(name, O_RDWR | O_NOCTTY)) < 0 || tcgetattr(*slave, &t))
		die("pty");
	cfmakeraw(&t);
	if (tcsetattr(*slave, TCSANOW, &t))
		die("tcsetattr");
}

int main(void)
{
	const struct sigaction sa = { .sa_handler = on_alarm, .sa_flags = SA_RESTART };
	const struct itimerval every = { { 0, 20000 }, { 0, 20000 } };
	struct line parent[4] = { { "stream", -1, -1 }, { "datagrams", -1, -1 }, { "pipes", -1, -1 }, { "pty", -1, -1 } },
		    child[4];
	pthread_t threads[6];
	int sv[2], there[2], back[2], status = 0, n = 0;
	pid_t pid;

	memcpy(child, parent, sizeof(child));
	for (int i = 0; i < 2; i++) {
		if (socketpair(AF_UNIX, i ? SOCK_DGRAM : SOCK_STREAM, 0, sv))
			die("socketpair");
		parent[i].in = parent[i].out = sv[0];
		child[i].in = child[i].out = sv[1];
	}
	if (pipe(there) || pipe(back))
		die("pipe");
	parent[2].out = there[1];
	child[2].in = there[0];
	parent[2].in = back[0];
	child[2].out = back[1];
	make_pty(&parent[3].in, &child[3].in);
	parent[3].out = parent[3].in;
	child[3].out = child[3].in;
	pid = fork();
	if (pid == 0)
		for (; n < 4; n++)
			pthread_create(&threads[n], NULL, echo, &child[n]);
	else
		for (; n < 4; n++)
			pthread_create(&threads[n], NULL, ask, &parent[n]);
	if (pid) {
		pthread_create(&threads[n++], NULL, watch, NULL);
		pthread_create(&threads[n++], NULL, tick, NULL);
		sigaction(SIGALRM, &sa, NULL);
		setitimer(ITIMER_REAL, &every, NULL);
	}
	printf("ready\n");
	fflush(stdout);
	for (int i = 0; i < n; i++)
		pthread_join(threads[i], NULL);
	if (!pid)
		return errors != 0;
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	errors += status != 0;
	printf("errors %d\n", errors);
	return errors != 0;
}
