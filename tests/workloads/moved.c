/* moved NS...: traces pid 2 of its pod and takes it, and follows it, to a user namespace and the other namespaces that
 * are named (mnt, net, uts, cgroup). Neither has a capability afterwards. Prints "ready" and goes on until the file
 * "go" is there. x86_64 only. */
#define _GNU_SOURCE
#include <err.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#define LEADER 2

static const struct {
	const char *name;
	int flag;
} kinds[] = {
	{ "user", CLONE_NEWUSER }, { "mnt", CLONE_NEWNS },        { "net", CLONE_NEWNET },
	{ "uts", CLONE_NEWUTS },   { "cgroup", CLONE_NEWCGROUP },
};
#define KINDS (sizeof(kinds) / sizeof(kinds[0]))

#if defined(__x86_64__)
static struct user_regs_struct own;

/* It waits in a system call, so the instruction before its next one is `syscall`. */
static void make_call(long nr, long a, long b)
{
	struct user_regs_struct r = own;

	r.rip -= 2;
	r.rax = (unsigned long)nr;
	r.orig_rax = -1ul;
	r.rdi = (unsigned long)a;
	r.rsi = (unsigned long)b;
	if (ptrace(PTRACE_SETREGS, LEADER, 0, &r) || ptrace(PTRACE_SINGLESTEP, LEADER, 0, 0) ||
	    waitpid(LEADER, NULL, 0) != LEADER || ptrace(PTRACE_GETREGS, LEADER, 0, &r))
		err(1, "ptrace");
	if (r.rax)
		errx(1, "call %ld of the leader: %s", nr, strerror(-(int)r.rax));
}

static void drop_capabilities_of_leader(void)
{
	const unsigned long at = (own.rsp - 4096) & ~15ul;

	ptrace(PTRACE_POKEDATA, LEADER, at, _LINUX_CAPABILITY_VERSION_3);
	for (unsigned long i = 0; i < sizeof(struct __user_cap_data_struct[2]); i += 8)
		ptrace(PTRACE_POKEDATA, LEADER, at + 16 + i, 0);
	make_call(SYS_capset, (long)at, (long)at + 16);
}

/* Just after the start of this program it may still be on its way to the call in which it waits. */
static void wait_until_it_sleeps(void)
{
	char state = 0;

	while (state != 'S') {
		FILE *f = fopen("/proc/2/stat", "re");

		usleep(1000);
		if (!f || fscanf(f, "%*d (%*[^)]) %c", &state) != 1)
			err(1, "/proc/2/stat");
		fclose(f);
	}
}

static void begin(void)
{
	wait_until_it_sleeps();
	if (ptrace(PTRACE_ATTACH, LEADER, 0, 0) || waitpid(LEADER, NULL, 0) != LEADER ||
	    ptrace(PTRACE_GETREGS, LEADER, 0, &own))
		err(1, "ptrace");
}

static void end(void)
{
	drop_capabilities_of_leader();
	if (ptrace(PTRACE_SETREGS, LEADER, 0, &own) || ptrace(PTRACE_DETACH, LEADER, 0, 0))
		err(1, "ptrace");
}
#else
static void make_call(long nr, long a, long b)
{
	(void)nr;
	(void)a;
	(void)b;
	errx(77, "another machine");
}
static void begin(void)
{
}
static void end(void)
{
}
#endif

static void put(const char *file, const char *format, unsigned id)
{
	char path[64], text[64];
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/%s", LEADER, file);
	snprintf(text, sizeof(text), format, id, id);
	fd = open(path, O_WRONLY);
	if (fd < 0 || write(fd, text, strlen(text)) < 0)
		err(1, "%s", path);
	close(fd);
}

static void follow(int flags)
{
	const struct __user_cap_data_struct none[2] = { { 0 } };
	struct __user_cap_header_struct self = { .version = _LINUX_CAPABILITY_VERSION_3 };
	int fds[KINDS];
	char path[64], work[4096];

	for (size_t i = 0; i < KINDS; i++) {
		snprintf(path, sizeof(path), "/proc/%d/ns/%s", LEADER, kinds[i].name);
		fds[i] = open(path, O_RDONLY | O_CLOEXEC);
	}
	/* A mount namespace is entered at its root. */
	if (!getcwd(work, sizeof(work)))
		err(1, "getcwd");
	for (size_t i = 0; i < KINDS; i++) {
		if (flags & kinds[i].flag && setns(fds[i], kinds[i].flag))
			err(1, "setns %s", kinds[i].name);
		close(fds[i]);
	}
	if (chdir(work) || syscall(SYS_capset, &self, none))
		err(1, "chdir or capset");
}

int main(int argc, char **argv)
{
	int flags = CLONE_NEWUSER;

	for (int a = 1; a < argc; a++)
		for (size_t i = 0; i < KINDS; i++)
			flags |= strcmp(argv[a], kinds[i].name) ? 0 : kinds[i].flag;
	begin();
	make_call(SYS_unshare, flags, 0);
	put("setgroups", "deny", 0);
	put("uid_map", "%u %u 1", getuid());
	put("gid_map", "%u %u 1", getgid());
	follow(flags);
	end();
	printf("ready\n");
	fflush(stdout);
	while (access("go", F_OK))
		usleep(20000);
	return 0;
}
