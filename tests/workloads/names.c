/* names: has files open whose names are gone while they have others, writes a line with the number of the step to each
 * of them, and looks whether the other name still leads to the same file. When the file "stop" is there it compares
 * what is in them, and prints "errors N". */
#define _GNU_SOURCE
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include "workload.h"

enum { LINKED, UNNAMED, ELSEWHERE, REUSED, FILES };

static const char *const finals[FILES] = { "final-linked", "final-unnamed", "sub/below/final-elsewhere", "final-reused" };
static int fds[FILES], errors;

static int rename_slowly(const char *final, const char *part, int flags)
{
	int fd = open(part, flags | O_CREAT, 0640);

	if (fd < 0 || link(part, final) || unlink(part))
		die(part);
	return fd;
}

static void open_all(void)
{
	char link[40];

	if (mkdir("sub", 0755) || mkdir("sub/below", 0755))
		die("mkdir");
	fds[LINKED] = rename_slowly(finals[LINKED], "part", O_WRONLY);
	fds[ELSEWHERE] = rename_slowly(finals[ELSEWHERE], "part", O_WRONLY);
	fds[REUSED] = rename_slowly(finals[REUSED], "reused", O_WRONLY | O_APPEND);
	close(open("reused", O_WRONLY | O_CREAT, 0640));
	fds[UNNAMED] = open(".", O_TMPFILE | O_WRONLY, 0640);
	snprintf(link, sizeof(link), "/proc/self/fd/%d", fds[UNNAMED]);
	if (fds[UNNAMED] < 0 || linkat(AT_FDCWD, link, AT_FDCWD, finals[UNNAMED], AT_SYMLINK_FOLLOW))
		die("O_TMPFILE");
}

static int *map_counter(void)
{
	int fd = rename_slowly("final-mapped", "mapped", O_RDWR);
	int *p;

	if (ftruncate(fd, 4096))
		die("ftruncate");
	p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (p == MAP_FAILED)
		die("mmap");
	close(fd);
	return p;
}

static void look(int i)
{
	struct stat a, b;

	if (fstat(fds[i], &a) || stat(finals[i], &b) || a.st_ino != b.st_ino || a.st_dev != b.st_dev) {
		printf("%s is another file\n", finals[i]);
		errors++;
	}
}

static void compare(const char *name, int steps)
{
	FILE *f = fopen(name, "r");
	int n, want = 0;

	while (f && fscanf(f, "%d", &n) == 1)
		errors += n != ++want;
	if (!f || want != steps) {
		printf("%s has %d lines of %d\n", name, want, steps);
		errors++;
	}
}

int main(void)
{
	int step = 0, *counter, fd;

	open_all();
	counter = map_counter();
	puts("ready");
	while (access("stop", F_OK)) {
		step++;
		for (int i = 0; i < FILES; i++) {
			dprintf(fds[i], "%d\n", step);
			look(i);
		}
		errors += ++*counter != step;
		printf("step %d\n", step);
		fflush(stdout);
		pace();
	}
	for (int i = 0; i < FILES; i++)
		compare(finals[i], step);
	fd = open("final-mapped", O_RDONLY);
	if (fd < 0 || read(fd, counter, sizeof(*counter)) != sizeof(*counter) || *counter != step)
		errors++;
	printf("errors %d\n", errors);
	return errors != 0;
}
