/* A process that is made to do system calls, by a tracer that gets SIGKILL at every step of it, and at random moments:
 * it goes on as if nothing had been, and nothing of ours stays. Real processes and, as far as the processor has them,
 * all registers. */
#include "unit.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/futex.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/io.h"
#include "base/clock.h"
#include "base/util.h"
#include "trace/arch.h"
#include "capture/fork.h"
#include "trace/helper_task.h"
#include "trace/stop_threads.h"
#include "trace/tracer.h"
#include "capture/track.h"
#include "trace/inject.h"

#define DEADLINE_US 120000000
#define STEPS_MAX   500
#define MEMORY      (1u << 20)

/* Shared with the target. */
struct shared {
	volatile unsigned rounds, errors;
	volatile uint32_t word; /* a futex */
	volatile int stop;
};

struct target {
	const char *name;
	bool (*round)(struct shared *s); /* false: something is wrong */
	bool blocks;                     /* sleeps until it is woken */
	pid_t pid;
	uint64_t blocked; /* signals */
	int fds;
};

static struct shared *shared;
static int in[2];       /* what a target reads */
static uint8_t *memory; /* of the target's, to be verified */

/* ---- targets ------------------------------------------------------------------ */

static bool rounds_of_read(struct shared *s)
{
	char c = 0;

	(void)s;
	return read(in[0], &c, 1) == 1 && c == 'x';
}

/* An interrupted sleep says so, and how much is left. */
static bool rounds_of_sleep(struct shared *s)
{
	const struct timespec t = { 0, 3000000 };
	struct timespec left = { 0 }, a, b;

	(void)s;
	clock_gettime(CLOCK_MONOTONIC, &a);
	if (nanosleep(&t, &left))
		return errno == EINTR && left.tv_sec == 0 && left.tv_nsec > 0 && left.tv_nsec <= t.tv_nsec;
	clock_gettime(CLOCK_MONOTONIC, &b);
	return (b.tv_sec - a.tv_sec) * 1000000000l + b.tv_nsec - a.tv_nsec >= t.tv_nsec;
}

static bool rounds_of_poll(struct shared *s)
{
	struct pollfd p = { in[0], POLLIN, 0 };
	int n = poll(&p, 1, 100000);
	char c = 0;

	(void)s;
	if (n < 0)
		return errno == EINTR;
	return n == 1 && read(in[0], &c, 1) == 1 && c == 'x';
}

static bool rounds_of_futex(struct shared *s)
{
	static uint32_t had;

	while (s->word == had)
		if (syscall(SYS_futex, &s->word, FUTEX_WAIT, had, NULL, NULL, 0) && errno != EAGAIN)
			return false;
	had = s->word;
	return true;
}

#if defined(__x86_64__)
/* long spin_in_registers(const void *vectors, void *out, long count, long avx512): patterns in all registers and in the
 * red zone; those of the vectors are stored afterwards, the others are compared. 0: they were as they should. */
__asm__(".text\n.globl spin_in_registers\nspin_in_registers:\n"
	"push %rbx; push %rbp; push %r12; push %r13; push %r14; push %r15\n"
	"test %rcx, %rcx; jz 1f\n"
	".irp n,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31\n"
	"vmovdqu64 64*\\n(%rdi), %zmm\\n\n.endr\njmp 2f\n"
	"1:\n.irp n,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15\nvmovdqu 64*\\n(%rdi), %ymm\\n\n.endr\n2:\n"
	"mov $0x1234567, %rbx; lea 1(%rbx), %rbp; lea 2(%rbx), %r8; lea 3(%rbx), %r9; lea 4(%rbx), %r10; lea 5(%rbx), %r11\n"
	"lea 6(%rbx), %r12; lea 7(%rbx), %r13; lea 8(%rbx), %r14; lea 9(%rbx), %r15\n"
	".irp n,8,16,24,32,40,48,56,64,72,80,88,96,104,112,120,128\nmov %rbx, -\\n(%rsp)\n.endr\n"
	"3: sub $1, %rdx; jnz 3b\n"
	"xor %eax, %eax\n"
	".irp n,8,16,24,32,40,48,56,64,72,80,88,96,104,112,120,128\nsub %rbx, -\\n(%rsp); or -\\n(%rsp), %rax\n.endr\n"
	"lea -9(%r15), %r15; sub %rbx, %r15; or %r15, %rax; lea -8(%r14), %r14; sub %rbx, %r14; or %r14, %rax\n"
	"lea -7(%r13), %r13; sub %rbx, %r13; or %r13, %rax; lea -6(%r12), %r12; sub %rbx, %r12; or %r12, %rax\n"
	"lea -5(%r11), %r11; sub %rbx, %r11; or %r11, %rax; lea -4(%r10), %r10; sub %rbx, %r10; or %r10, %rax\n"
	"lea -3(%r9), %r9; sub %rbx, %r9; or %r9, %rax; lea -2(%r8), %r8; sub %rbx, %r8; or %r8, %rax\n"
	"lea -1(%rbp), %rbp; sub %rbx, %rbp; or %rbp, %rax; sub $0x1234567, %rbx; or %rbx, %rax\n"
	"test %rcx, %rcx; jz 1f\n"
	".irp n,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31\n"
	"vmovdqu64 %zmm\\n, 64*\\n(%rsi)\n.endr\njmp 2f\n"
	"1:\n.irp n,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15\nvmovdqu %ymm\\n, 64*\\n(%rsi)\n.endr\n2:\n"
	"vzeroupper\npop %r15; pop %r14; pop %r13; pop %r12; pop %rbp; pop %rbx; ret\n");
long spin_in_registers(const void *vectors, void *out, long count, long avx512);

static bool rounds_of_registers(struct shared *s)
{
	const bool wide = __builtin_cpu_supports("avx512f");
	static uint8_t vectors[32][64], out[32][64];
	const size_t width = wide ? 64 : 32;

	if (!__builtin_cpu_supports("avx"))
		return true;
	for (size_t i = 0; i < sizeof(vectors); i++)
		vectors[i / 64][i % 64] = (uint8_t)(i * 7 + s->rounds + 1);
	memset(out, 0, sizeof(out));
	if (spin_in_registers(vectors, out, 3000000, wide))
		return false;
	for (size_t i = 0; i < (wide ? 32 : 16); i++)
		if (memcmp(vectors[i], out[i], width))
			return false;
	return true;
}
#else
static bool rounds_of_registers(struct shared *s)
{
	(void)s;
	return true;
}
#endif

static void *count(void *arg)
{
	volatile uint64_t n = 0;

	for (uint64_t i = 0; !shared->stop; i++)
		if (n++ != i)
			shared->errors++;
	return arg;
}

/* The first thread sleeps, others count and open descriptors' worth of trouble for whoever counts on them standing
 * still. */
static bool rounds_of_threads(struct shared *s)
{
	static bool begun;
	pthread_t t;

	for (int i = 0; !begun && i < 2; i++)
		if (pthread_create(&t, NULL, count, NULL))
			return false;
	begun = true;
	return rounds_of_sleep(s);
}

static volatile sig_atomic_t ticks;

static void on_tick(int sig)
{
	(void)sig;
	ticks++;
}

/* Signals at any moment. */
static bool rounds_of_signals(struct shared *s)
{
	const struct itimerval every = { { 0, 500 }, { 0, 500 } };
	sig_atomic_t before = ticks;

	signal(SIGALRM, on_tick);
	setitimer(ITIMER_REAL, &every, NULL);
	while (ticks - before < 20)
		if (!rounds_of_registers(s))
			return false;
	return true;
}

static int filter(void)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_close_range, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	const struct sock_fprog program = { ARRAY_SIZE(code), code };

	return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
}

static bool rounds_of_filtered(struct shared *s)
{
	if (!s->rounds && filter())
		return false;
	return rounds_of_read(s);
}

static void on_stack(int sig)
{
	(void)sig;
	while (!shared->stop) {
		shared->errors += !rounds_of_read(shared);
		shared->rounds++;
	}
	_exit(0);
}

/* Never returns: goes its rounds on another stack. */
static bool rounds_of_other_stack(struct shared *s)
{
	const struct sigaction a = { .sa_handler = on_stack, .sa_flags = SA_ONSTACK };

	(void)s;
	return sigaction(SIGUSR1, &a, NULL) == 0 && raise(SIGUSR1) == 0;
}

static bool rounds_of_strict(struct shared *s)
{
	if (!s->rounds && prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT))
		return false;
	return rounds_of_read(s);
}

/* What must not change, whatever is done to the process. */
static bool is_as_it_was(const stack_t *stack)
{
	sigset_t mask;
	stack_t now;
	siginfo_t si = { 0 };

	if (waitid(P_ALL, 0, &si, WEXITED | WNOHANG | __WALL) != -1 || errno != ECHILD)
		return false;
	for (size_t i = 0; i < MEMORY; i++)
		if (memory[i] != (uint8_t)(i * 13))
			return false;
	return sigaltstack(NULL, &now) == 0 && now.ss_sp == stack->ss_sp && now.ss_size == stack->ss_size &&
	       now.ss_flags == stack->ss_flags && sigprocmask(SIG_BLOCK, NULL, &mask) == 0 &&
	       sigismember(&mask, SIGUSR2) == 1 && sigismember(&mask, SIGTERM) == 0;
}

static void be_target(const struct target *t)
{
	const bool bare = t->round == rounds_of_strict, may_have_zombies = t->round == rounds_of_filtered;
	stack_t stack = { .ss_size = 1 << 16 };
	sigset_t mask;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	memory = malloc(MEMORY);
	stack.ss_sp = malloc(stack.ss_size);
	for (size_t i = 0; i < MEMORY; i++)
		memory[i] = (uint8_t)(i * 13);
	sigemptyset(&mask);
	sigaddset(&mask, SIGUSR2);
	sigprocmask(SIG_BLOCK, &mask, NULL);
	sigaltstack(&stack, NULL);
	while (!shared->stop) {
		if (!t->round(shared) || (!bare && !may_have_zombies && !is_as_it_was(&stack)))
			shared->errors++;
		shared->rounds++;
	}
	syscall(SYS_exit_group, 0);
}

/* ---- looking at them ----------------------------------------------------------- */

static char *read_proc(pid_t pid, const char *name)
{
	char path[64], *text = NULL;

	snprintf(path, sizeof(path), "/proc/%d/%s", pid, name);
	return read_file_at(AT_FDCWD, path, 65536, &text) < 0 ? xstrdup("") : text;
}

static uint64_t field(pid_t pid, const char *name, int base)
{
	cleanup_free char *status = read_proc(pid, "status"), *key = xasprintf("\n%s:\t", name);
	const char *p = strstr(status, key);

	return p ? strtoull(p + strlen(key), NULL, base) : UINT64_MAX;
}

static int count_fds(pid_t pid)
{
	cleanup_free char *path = xasprintf("/proc/%d/fd", pid);
	cleanup_dir DIR *d = opendir(path);
	int n = 0;

	while (d && readdir(d))
		n++;
	return n;
}

static bool has_state(pid_t pid, const char *states)
{
	cleanup_free char *stat = read_proc(pid, "stat");
	const char *p = strrchr(stat, ')');

	return p && p[1] && strchr(states, p[2]);
}

#define WAIT_FOR(condition)                                                         \
	do {                                                                        \
		int64_t until = now_us() + DEADLINE_US;                             \
		while (!(condition)) {                                              \
			if (now_us() > until)                                       \
				fail_msg("%s: waited for %s", t->name, #condition); \
			usleep(200);                                                \
		}                                                                   \
	} while (0)

static void wake(const struct target *t)
{
	if (t->round == rounds_of_futex) {
		shared->word++;
		syscall(SYS_futex, &shared->word, FUTEX_WAKE, 1, NULL, NULL, 0);
	} else if (t->blocks) {
		assert_int_equal(write(in[1], "x", 1), 1);
	}
}

/* Rounds that begin now are all right, and there are some. */
static void goes_on(const struct target *t)
{
	for (int i = 0; i < 2; i++) {
		unsigned had = shared->rounds;

		wake(t);
		WAIT_FOR(shared->rounds != had || has_state(t->pid, "ZX"));
		assert_false(has_state(t->pid, "ZX"));
		assert_int_equal(shared->errors, 0);
	}
	if (t->blocks)
		WAIT_FOR(has_state(t->pid, "S"));
}

static void start(struct target *t)
{
	memset(shared, 0, sizeof(*shared));
	assert_int_equal(pipe(in), 0);
	t->pid = fork();
	if (t->pid == 0)
		be_target(t);
	goes_on(t);
	t->blocked = field(t->pid, "SigBlk", 16);
	t->fds = count_fds(t->pid);
}

static void end(struct target *t)
{
	int status;

	shared->stop = 1;
	wake(t);
	assert_int_equal(waitpid(t->pid, &status, 0), t->pid);
	assert_int_equal(status, 0);
	assert_int_equal(shared->errors, 0);
	close(in[0]);
	close(in[1]);
}

/* We are the reaper of all orphans. */
static bool only_child(const struct target *t)
{
	cleanup_free char *path = xasprintf("task/%d/children", getpid()), *children = read_proc(getpid(), path);
	cleanup_free char *alone = xasprintf("%d ", t->pid);
	pid_t pid;

	if (!strcmp(children, alone))
		return true;
	for (char *p = children, *e; (pid = (pid_t)strtol(p, &e, 10)) > 0 && e != p; p = e)
		if (pid != t->pid)
			waitpid(pid, NULL, WNOHANG | __WALL);
	return false;
}

static bool childless(const struct target *t)
{
	cleanup_free char *path = xasprintf("task/%d/children", t->pid), *children = read_proc(t->pid, path);

	return !*children || t->round == rounds_of_filtered;
}

static void untouched(const struct target *t)
{
	WAIT_FOR(has_state(t->pid, "ZX") || field(t->pid, "TracerPid", 10) == 0);
	assert_false(has_state(t->pid, "ZX"));
	WAIT_FOR(only_child(t));
	WAIT_FOR(childless(t));
	/* A thread on its return path has signals blocked. */
	WAIT_FOR(field(t->pid, "SigBlk", 16) == t->blocked || has_state(t->pid, "ZX"));
	goes_on(t);
	assert_int_equal(count_fds(t->pid), t->fds);
}

/* ---- the tracer ------------------------------------------------------------------ */

enum what { FORK, TRACK };

static int fork_it(const struct target *t)
{
	struct stopped_threads stop = { 0 };
	struct mem_fork f;
	int rc;

	if (stop_threads_add(&stop, t->pid, now_us() + DEADLINE_US, NULL))
		return 2;
	rc = mem_fork_make(TRACER_SELF, t->pid, t->pid, &f, NULL);
	stop_threads_end(&stop);
	if (rc)
		return 3;
	mem_fork_end(&f);
	return 0;
}

static int track_it(const struct target *t)
{
	struct mem_track *track = mem_track_new(MEM_TRACK_PROTECT);
	int rc = mem_track_add(track, t->pid, 1, NULL);

	mem_track_free(track);
	return rc ? 4 : 0;
}

static pid_t start_tracer(const struct target *t, enum what what, unsigned step, bool forever)
{
	pid_t pid = fork();
	int rc;

	if (pid)
		return pid;
	inject_kill_at = step;
	do
		rc = what == FORK ? fork_it(t) : track_it(t);
	while (!rc && forever);
	_exit(rc);
}

static int wait_status(pid_t pid)
{
	int status = 0;

	assert_int_equal(waitpid(pid, &status, 0), pid);
	return status;
}

static struct target targets[] = {
	{ .name = "read", .round = rounds_of_read, .blocks = true },
	{ .name = "sleep", .round = rounds_of_sleep },
	{ .name = "poll", .round = rounds_of_poll, .blocks = true },
	{ .name = "futex", .round = rounds_of_futex, .blocks = true },
	{ .name = "registers", .round = rounds_of_registers },
	{ .name = "threads", .round = rounds_of_threads },
	{ .name = "signals", .round = rounds_of_signals },
	{ .name = "filtered", .round = rounds_of_filtered, .blocks = true },
};

/* FSCHED_TEST_EVERY=1: through all of them; else one target does, and the others each through some of them, not the
 * same. */
static void through_steps(unsigned i, enum what what)
{
	const char *wanted = getenv("FSCHED_TEST_EVERY");
	const unsigned every = wanted ? (unsigned)atoi(wanted) : i ? ARRAY_SIZE(targets) : 1;
	struct target *t = &targets[i];
	unsigned step;
	int status = 1;

	start(t);
	for (step = 1 + i % every; step < STEPS_MAX && status; step += every) {
		status = wait_status(start_tracer(t, what, step, false));
		if (status && !(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL))
			fail_msg("%s: step %u ended with %x", t->name, step, (unsigned)status);
		untouched(t);
	}
	assert_in_range(step, 30, STEPS_MAX - 1);
	end(t);
}

static void killed_in_a_fork(void **state)
{
	for (size_t i = 0; i < ARRAY_SIZE(targets); i++)
		through_steps((unsigned)i, FORK);
}

static void killed_when_tracking_begins(void **state)
{
	if (mem_tracking_probe() != MEM_TRACK_PROTECT)
		skip();
	for (size_t i = 0; i < ARRAY_SIZE(targets); i++)
		through_steps((unsigned)i, TRACK);
}

static void killed_at_random(void **state)
{
	const char *wanted = getenv("FSCHED_TEST_KILLS");
	const int kills = wanted ? atoi(wanted) : 48;
	const bool can_track = mem_tracking_probe() == MEM_TRACK_PROTECT;
	unsigned seed = 1;

	for (size_t i = 0; i < ARRAY_SIZE(targets); i++) {
		struct target *t = &targets[i];

		start(t);
		for (int k = 0; k < kills / (int)ARRAY_SIZE(targets); k++) {
			pid_t tracer = start_tracer(t, can_track && k % 2 ? TRACK : FORK, 0, true);
			int status;

			usleep((unsigned)rand_r(&seed) % 8000);
			kill(tracer, SIGKILL);
			status = wait_status(tracer);
			assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
			untouched(t);
		}
		end(t);
	}
}

/* A thread without a return path: the call works there too. */
static void on_another_stack(void **state)
{
	struct target t = { .name = "other stack", .round = rounds_of_other_stack, .blocks = true };

	start(&t);
	assert_int_equal(wait_status(start_tracer(&t, FORK, 0, false)), 0);
	untouched(&t);
	shared->stop = 1;
	end(&t);
}

static void in_strict_mode(void **state)
{
	struct target t = { .name = "strict", .round = rounds_of_strict, .blocks = true };

	start(&t);
	assert_int_equal(WEXITSTATUS(wait_status(start_tracer(&t, FORK, 0, false))), 3);
	untouched(&t);
	kill(t.pid, SIGKILL);
	waitpid(t.pid, NULL, 0);
	close(in[0]);
	close(in[1]);
}

/* ---- a task that shares the memory and was not stopped ------------------------------ */

#if defined(__x86_64__)
/* What it puts in place of the instruction at which a call is to be made. */
enum trick { OTHER_INSTRUCTION, OTHER_NUMBER, OTHER_ARCHITECTURE, TRICKS };

static struct {
	volatile uint64_t at; /* the instruction, when it is known */
	volatile enum trick trick;
	volatile bool done, failed;
	struct timespec now; /* not zero: the call of its choice was made */
	uint8_t stack[65536] __attribute__((aligned(64)));
	uint8_t stub[4096] __attribute__((aligned(4096)));
} * rewriter;

static uint8_t *put(uint8_t *p, const char *code, size_t n, const void *value, size_t len)
{
	memcpy(p, code, n);
	memcpy(p + n, value, len);
	return p + n + len;
}
#define PUT(p, code, value) put(p, code, sizeof(code) - 1, &(value), sizeof(value))

/* clock_gettime(0, &now), by an instruction of its own, or by the expected one. */
static void write_stub(uint64_t at, enum trick trick)
{
	const uint32_t nr = SYS_clock_gettime;
	const uint64_t now = (uint64_t)(uintptr_t)&rewriter->now;
	uint8_t *p = rewriter->stub;

	if (trick == OTHER_NUMBER) { /* mov $at, %rdi; movw $0x050f, (%rdi): as it was */
		p = PUT(p, "\x48\xbf", at);
		p = put(p, "\x66\xc7\x07", 3, "\x0f\x05", 2);
	}
	p = PUT(p, "\x48\xbe", now);      /* mov $now, %rsi */
	p = PUT(p, "\xb8", nr);           /* mov $nr, %eax */
	p = put(p, "\x31\xff", 2, "", 0); /* xor %edi, %edi */
	if (trick == OTHER_NUMBER) {
		p = PUT(p, "\x48\xb9", at); /* mov $at, %rcx; jmp *%rcx */
		put(p, "\xff\xe1", 2, "", 0);
	} else {
		put(p, "\x0f\x05\xc3", 3, "", 0);
	}
}

static int rewrite(void *arg)
{
	const uint64_t stub = (uint64_t)(uintptr_t)rewriter->stub;
	uint8_t *code;

	(void)arg;
	while (!rewriter->at)
		;
	code = (uint8_t *)(uintptr_t)rewriter->at;
	/* 16 bytes, which may lie in two pages */
	rewriter->failed = mprotect((void *)(rewriter->at & ~4095ul), 8192, PROT_READ | PROT_WRITE | PROT_EXEC) &&
			   mprotect((void *)(rewriter->at & ~4095ul), 4096, PROT_READ | PROT_WRITE | PROT_EXEC);
	if (!rewriter->failed) {
		write_stub(rewriter->at, rewriter->trick);
		if (rewriter->trick == OTHER_ARCHITECTURE)
			memcpy(code, "\xcd\x80", 2); /* int $0x80 */
		else
			put(PUT(code, "\x49\xbb", stub), "\x41\xff\xe3", 3, "", 0); /* mov $stub, %r11; jmp *%r11 */
	}
	rewriter->done = true;
	while (!shared->stop)
		__asm__ volatile("pause");
	return 0;
}

static void be_rewritten(void)
{
	static char c;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (clone(rewrite, rewriter->stack + sizeof(rewriter->stack), CLONE_VM | SIGCHLD, NULL) < 0)
		_exit(1);
	shared->rounds++;
	/* Its own instruction, not one that may be rewritten. */
	for (;;)
		__asm__ volatile("syscall" ::"a"(SYS_read), "D"(in[0]), "S"(&c), "d"(1) : "rcx", "r11", "memory");
}

static void refuses(enum trick trick)
{
	const long args[6] = { CLOCK_MONOTONIC };
	struct target target = { .name = "rewritten", .blocks = true }, *t = &target;
	struct stopped_threads stop = { 0 };
	struct helper_task m;
	struct err err = { 0 };
	long result = 0;

	memset(rewriter, 0, sizeof(*rewriter));
	memset(shared, 0, sizeof(*shared));
	rewriter->trick = trick;
	assert_int_equal(pipe(in), 0);
	t->pid = fork();
	if (t->pid == 0)
		be_rewritten();
	WAIT_FOR(shared->rounds);
	assert_int_equal(stop_threads_add(&stop, t->pid, now_us() + DEADLINE_US, NULL), 0);
	if (helper_task_make(&m, TRACER_SELF, t->pid, t->pid, &err))
		fail_msg("%s", err.text);
	/* The window, held open: the call is known, and has not been made. */
	rewriter->at = m.path.call;
	WAIT_FOR(rewriter->done);
	assert_false(rewriter->failed);
	assert_int_equal(helper_task_call(&m, m.pid, "close_range", SYS_close_range, args, &result, NULL, &err), -1);
	/* A kernel without the other architecture takes it for a fault. */
	if (!strstr(err.text, strerror(EPERM)) && (trick != OTHER_ARCHITECTURE || !strstr(err.text, strerror(EFAULT))))
		fail_msg("trick %d: %s", trick, err.text);
	assert_int_equal(rewriter->now.tv_sec, 0);
	helper_task_end(&m, NULL);
	stop_threads_end(&stop);
	/* With its sibling, which is its child. */
	kill(t->pid, SIGKILL);
	assert_int_equal(waitpid(t->pid, NULL, 0), t->pid);
	for (pid_t pid; (pid = waitpid(-1, NULL, WNOHANG | __WALL)) >= 0;)
		if (pid == 0) {
			cleanup_free char *path = xasprintf("task/%d/children", getpid()),
					  *children = read_proc(getpid(), path);

			kill((pid_t)strtol(children, NULL, 10), SIGKILL);
		}
	close(in[0]);
	close(in[1]);
}

static void call_is_changed_by_another_task(void **state)
{
	(void)state;
	rewriter = mmap(NULL, sizeof(*rewriter), PROT_READ | PROT_WRITE | PROT_EXEC, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	assert_true(rewriter != MAP_FAILED);
	for (enum trick trick = 0; trick < TRICKS; trick++)
		refuses(trick);
	munmap(rewriter, sizeof(*rewriter));
}
#else
static void call_is_changed_by_another_task(void **state)
{
	(void)state;
	skip();
}
#endif

static int make_shared(void **state)
{
	(void)state;
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	return shared == MAP_FAILED || prctl(PR_SET_CHILD_SUBREAPER, 1) ? -1 : 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(on_another_stack),
		cmocka_unit_test(in_strict_mode),
		cmocka_unit_test(call_is_changed_by_another_task),
		cmocka_unit_test(killed_in_a_fork),
		cmocka_unit_test(killed_when_tracking_begins),
		cmocka_unit_test(killed_at_random),
	};

	if (!arch_can_inject())
		return 77;
	return cmocka_run_group_tests(tests, make_shared, NULL);
}
