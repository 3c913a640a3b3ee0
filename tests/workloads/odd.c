/* odd WHAT: processes of a kind that no checkpoint can carry. Prints "ready" and goes on until the file "go" is there.
 *
 *   main-ended   main() has ended with pthread_exit(), a thread goes on
 *   no-vvar      the kernel's mapping [vvar] is gone, [vdso] is there
 *   full N       all descriptors that the limit allows are open but N
 *   plain        nothing of that kind: for programs with a set-group-ID bit or capabilities */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

static void *go_on(void *arg)
{
	printf("ready\n");
	fflush(stdout);
	while (access("go", F_OK))
		usleep(20000);
	exit(0);
	return arg;
}

static void unmap(const char *name)
{
	FILE *f = fopen("/proc/self/maps", "r");
	char line[512];
	unsigned long start, end;

	while (f && fgets(line, sizeof(line), f))
		if (strstr(line, name) && sscanf(line, "%lx-%lx", &start, &end) == 2)
			munmap((void *)start, end - start);
	fclose(f);
}

static void fill(int left)
{
	struct rlimit r = { 64, 64 };
	int fd, last = 0;

	setrlimit(RLIMIT_NOFILE, &r);
	while ((fd = open("/dev/zero", O_RDONLY)) >= 0)
		last = fd;
	while (left-- > 0)
		close(last--);
}

int main(int argc, char **argv)
{
	pthread_t t;

	if (argc > 1 && !strcmp(argv[1], "main-ended")) {
		if (pthread_create(&t, NULL, go_on, NULL) == 0)
			pthread_exit(NULL);
		return 1;
	}
	if (argc > 1 && !strcmp(argv[1], "no-vvar"))
		unmap("[vvar");
	if (argc > 2 && !strcmp(argv[1], "full"))
		fill(atoi(argv[2]));
	go_on(NULL);
	return 0;
}
