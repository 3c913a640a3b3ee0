/* leases: has files open on which it has leases, and watches its directory. When the file "stop" is there it prints how
 * many leases were broken, and what happened to which of the files ("EVENT NAME"), and ends, status 1 if a lease was.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include "workload.h"

static volatile sig_atomic_t broken;

static void on_io(int sig)
{
	(void)sig;
	broken++;
}

static int leased(const char *name, int flags, int lease)
{
	int fd = open(name, O_WRONLY | O_CREAT, 0640);

	if (fd < 0 || write(fd, "some text\n", 10) != 10 || close(fd))
		die(name);
	fd = open(name, flags);
	if (fd < 0 || fcntl(fd, F_SETLEASE, lease))
		die("F_SETLEASE");
	return fd;
}

static int has(int fd, int lease, const char *name)
{
	if (fcntl(fd, F_GETLEASE) == lease)
		return 0;
	printf("no lease on %s\n", name);
	return 1;
}

static void tell(int watch)
{
	static const struct {
		unsigned mask;
		const char *name;
	} kinds[] = {
		{ IN_OPEN, "open" },           { IN_ACCESS, "access" },
		{ IN_CLOSE_NOWRITE, "close" }, { IN_CLOSE_WRITE, "close-write" },
		{ IN_MODIFY, "modify" },       { IN_CREATE, "create" },
		{ IN_DELETE, "delete" },       { IN_ATTRIB, "attrib" },
		{ IN_MOVED_FROM, "from" },     { IN_MOVED_TO, "to" },
	};
	_Alignas(8) char buf[4096];
	ssize_t n;

	while ((n = read(watch, buf, sizeof(buf))) > 0)
		for (char *p = buf; p < buf + n;) {
			struct inotify_event *e = (void *)p;

			for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
				if (e->mask & kinds[i].mask)
					printf("%s %s\n", kinds[i].name, e->len ? e->name : ".");
			p += sizeof(*e) + e->len;
		}
}

int main(void)
{
	struct timespec nap = { .tv_nsec = 50000000 };
	int reading, both, writing, watch, bad;

	signal(SIGIO, on_io);
	if (mkdir("watched", 0755) || chdir("watched"))
		die("watched");
	reading = leased("reading", O_RDONLY, F_RDLCK);
	both = leased("both", O_RDWR, F_WRLCK);
	writing = leased("writing", O_WRONLY | O_APPEND, F_WRLCK);
	if (lseek(both, 3, SEEK_SET) != 3)
		die("lseek");
	watch = inotify_init1(IN_NONBLOCK);
	if (watch < 0 || inotify_add_watch(watch, ".", IN_ALL_EVENTS) < 0)
		die("inotify");
	puts("ready");
	fflush(stdout);
	while (access("../stop", F_OK))
		nanosleep(&nap, NULL);
	bad = broken + has(reading, F_RDLCK, "reading") + has(both, F_WRLCK, "both") + has(writing, F_WRLCK, "writing");
	bad += lseek(both, 0, SEEK_CUR) != 3;
	printf("broken %d\n", (int)broken);
	tell(watch);
	printf("errors %d\n", bad);
	return bad != 0;
}
