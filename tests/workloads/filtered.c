/* filtered: has a memory policy of a mapping and of a thread, a mapping locked on fault and mlockall(MCL_FUTURE), and
 * then a seccomp filter that kills for every call with which these are looked for or restored. Says "ready", waits for
 * the file "go", and tells whether new memory of its heap is locked. */
#define _GNU_SOURCE
#include <linux/filter.h>
#include <linux/mempolicy.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include "workload.h"

#define SIZE 65536

static const int forbidden[] = { SYS_mmap,     SYS_munmap,        SYS_mbind, SYS_mlock, SYS_mlock2,
				 SYS_mlockall, SYS_set_mempolicy, SYS_prctl, SYS_clone, SYS_wait4 };

#define N (sizeof(forbidden) / sizeof(forbidden[0]))

static void *thread(void *arg)
{
	static const unsigned long node = 1;

	if (syscall(SYS_set_mempolicy, MPOL_BIND, &node, 64))
		perror("set_mempolicy");
	*(volatile int *)arg = 1;
	for (;;)
		pause();
}

static void forbid(void)
{
	struct sock_filter code[N + 3] = { BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)) };
	const struct sock_fprog program = { N + 3, code };

	for (unsigned i = 0; i < N; i++)
		code[i + 1] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)forbidden[i],
							   (unsigned char)(N - i), 0);
	code[N + 1] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
	code[N + 2] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS);
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ||
	    syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &program))
		perror("seccomp");
}

static void say(const char *text)
{
	if (write(1, text, strlen(text)) < 0)
		_exit(1);
}

static long locked(void)
{
	static char text[8192];
	FILE *f = fopen("/proc/self/status", "r");
	long kib = -1;

	while (f && fgets(text, sizeof(text), f))
		sscanf(text, "VmLck: %ld", &kib);
	if (f)
		fclose(f);
	return kib;
}

int main(void)
{
	static const unsigned long node = 1;
	static volatile int up;
	char *p = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	char *q = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	pthread_t t;
	long before;

	memset(p, 1, SIZE);
	if (syscall(SYS_mbind, p, SIZE / 2, MPOL_BIND, &node, 64, 0) || syscall(SYS_mlock2, q, SIZE / 4, 1))
		perror("mbind or mlock2");
	pthread_create(&t, NULL, thread, (void *)&up);
	while (!up)
		usleep(1000);
	before = locked(); /* the buffers of stdio are there now */
	if (mlockall(MCL_FUTURE))
		perror("mlockall");
	forbid();
	say("ready\n");
	while (access("go", F_OK))
		usleep(20000);
	before = locked();
	memset(sbrk(SIZE * 4), 1, 1);
	say(locked() > before ? "locked\n" : "not locked\n");
	_exit(0);
}
