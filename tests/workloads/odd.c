/* odd WHAT: processes of a kind that no checkpoint can carry. Prints "ready" and goes on until the file "go" is there.
 *
 *   main-ended   main() has ended with pthread_exit(), a thread goes on
 *   no-vvar      the kernel's mapping [vvar] is gone, [vdso] is there
 *   full N       all descriptors that the limit allows are open but N
 *   landlock     confined by Landlock; exit status 77 before "ready" where the kernel has none
 *   landlock-thread   only its second thread is
 *   no-new-privs      as both need it, but not confined; a seccomp filter kills for kcmp()
 *   plain        nothing of that kind: for programs with a set-group-ID bit or capabilities */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/landlock.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
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

static void *confine(void *arg)
{
	struct landlock_ruleset_attr a = { .handled_access_fs = LANDLOCK_ACCESS_FS_MAKE_BLOCK };
	int fd = (int)syscall(SYS_landlock_create_ruleset, &a, sizeof(a), 0);

	if (fd < 0)
		exit(77);
	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	if (syscall(SYS_landlock_restrict_self, fd, 0))
		exit(1);
	close(fd);
	if (arg)
		go_on(NULL);
	return NULL;
}

static void forbid_kcmp(void)
{
	struct sock_filter f[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_kcmp, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog p = { sizeof(f) / sizeof(*f), f };

	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &p, 0, 0))
		exit(1);
}

/* Its call is interrupted and has to go on. */
static void *wait_long(void *arg)
{
	int *ends = arg;
	char c;

	if (read(ends[0], &c, 1) != 1)
		exit(2);
	return NULL;
}

static void with_a_waiting_thread(void)
{
	static int ends[2];
	pthread_t t;

	if (pipe(ends) || pthread_create(&t, NULL, wait_long, ends))
		exit(1);
}

int main(int argc, char **argv)
{
	pthread_t t;

	if (argc > 1 && !strcmp(argv[1], "main-ended")) {
		if (pthread_create(&t, NULL, go_on, NULL) == 0)
			pthread_exit(NULL);
		return 1;
	}
	if (argc > 1 && !strcmp(argv[1], "landlock"))
		confine(NULL);
	if (argc > 1 && !strcmp(argv[1], "landlock-thread") && pthread_create(&t, NULL, confine, argv) == 0)
		for (;;)
			pause();
	if (argc > 1 && !strcmp(argv[1], "no-new-privs")) {
		forbid_kcmp();
		with_a_waiting_thread();
	}
	if (argc > 1 && !strcmp(argv[1], "no-vvar"))
		unmap("[vvar");
	if (argc > 2 && !strcmp(argv[1], "full"))
		fill(atoi(argv[2]));
	go_on(NULL);
	return 0;
}
