/* Part of libfsched-criu.so: system calls that a dump interrupts (interrupted_call.h).
 *
 * A stop interrupts the system call in which a thread blocks. When the thread is resumed, the kernel makes most calls
 * again by itself. For poll(), nanosleep(), clock_nanosleep() and futex() with a relative timeout it keeps a restart
 * block with the time at which the call ends (ERESTART_RESTARTBLOCK; restart_syscall(2)). criu turns these into EINTR
 * (compel_get_task_regs()), also in a job that only runs on.
 *
 * - A job that runs on goes on by its restart block: the thread gets back its registers as the stop left them. The
 *   rt_sigreturn() with which criu's parasite ends discards the restart block. So it is skipped, and the FPU state is
 *   set here; criu itself sets the other registers and the signal mask afterwards.
 *
 * - A restored job makes the call again from its beginning. For that criu is shown the registers of a call that can
 *   be repeated (ERESTARTSYS).
 *
 * The second interruption of the same call shows restart_syscall() in place of the call's number. The number is kept in
 * the thread's own stack, below the red zone: nothing else lasts exactly as long as the blocked thread, through failed
 * dumps and dead workers. The job can forge it. Then a restored thread of the job makes another call of its own choice.
 *
 * Where something of this cannot be done, the call ends with EINTR as with criu alone. */
#include "preload/interrupted_call.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/syscall.h>

#include "preload/preload.h"
#include "trace/raw_syscall.h"

#if defined(__x86_64__)
#include <asm/prctl.h>
#include <sys/user.h>

#define PT_POKEUSER      6
#define PT_ARCH_PRCTL    30
#define PT_GETREGSET     0x4204
#define PT_SETREGSET     0x4205
#define XSTATE           0x202  /* NT_X86_XSTATE */
#define SHSTK_STATUS     0x5005 /* ARCH_SHSTK_STATUS, Linux 6.6 */
#define RESTARTSYS       512    /* results of interrupted calls that only the kernel and tracers see */
#define RESTART_BLOCK    516
#define SYSCALL_INSN     2 /* length of the instruction in bytes */
#define RED_ZONE         128
#define PROT_RW          3
#define MAP_PRIVATE_ANON 0x22
#define XSTATE_MAX       (12u << 10) /* with AMX: 11008 bytes */
#define SLOTS            (1u << 16)  /* threads; a power of two */
#define SLOTS_USED_MAX   (SLOTS / 4 * 3)

struct saved_call {
	int tid;
	uint32_t xstate_len;
	struct user_regs_struct regs; /* as the stop left them */
	_Alignas(64) unsigned char xstate[XSTATE_MAX];
};

/* In the thread's stack: the call with these arguments that blocks at ip has this number. */
struct call_mark {
	uint64_t magic, ip, number;
	uint64_t args[6];
};
#define CALL_MARK 0x66736368656401ull /* "fsched", version 1 */

static struct saved_call **slots; /* by tid, with linear probing */
static unsigned n_saved;

struct vector {
	void *base;
	size_t len;
};

static void *saved_call_map(size_t len)
{
	long at = raw_syscall(SYS_mmap, 0, (long)len, PROT_RW, MAP_PRIVATE_ANON, -1, 0);

	return at < 0 && at > -4096 ? NULL : (void *)at;
}

static struct saved_call **saved_call_slot(int tid)
{
	unsigned i = (unsigned)tid & (SLOTS - 1);

	while (slots[i] && slots[i]->tid != tid)
		i = (i + 1) & (SLOTS - 1);
	return &slots[i];
}

static struct saved_call *saved_call_find(int tid)
{
	return slots ? *saved_call_slot(tid) : NULL;
}

/* Returns the entry of the thread, a new one if it has none. NULL: no memory, or too many threads. */
static struct saved_call *saved_call_get(int tid)
{
	struct saved_call **slot;

	if (!slots)
		slots = saved_call_map(SLOTS * sizeof(*slots));
	if (!slots)
		return NULL;
	slot = saved_call_slot(tid);
	if (*slot || n_saved >= SLOTS_USED_MAX)
		return *slot;
	*slot = saved_call_map(sizeof(**slot));
	if (*slot) {
		(*slot)->tid = tid;
		n_saved++;
	}
	return *slot;
}

static void interrupted_call_copy(void *to, const void *from, size_t len)
{
	uint64_t *t = to;
	const uint64_t *f = from;

	for (size_t i = 0; i < len / sizeof(*t); i++)
		t[i] = f[i];
}

static bool interrupted_call_equal(const void *a, const void *b, size_t len)
{
	const uint64_t *x = a, *y = b;

	for (size_t i = 0; i < len / sizeof(*x); i++)
		if (x[i] != y[i])
			return false;
	return true;
}

static void call_mark_fill(struct call_mark *m, const struct user_regs_struct *r, uint64_t number)
{
	*m = (struct call_mark){
		.magic = CALL_MARK,
		.ip = r->rip,
		.number = number,
		.args = { r->rdi, r->rsi, r->rdx, r->r10, r->r8, r->r9 },
	};
}

static bool call_mark_move(long nr, int tid, const struct user_regs_struct *r, struct call_mark *m)
{
	const struct vector here = { m, sizeof(*m) };
	const struct vector there = { (void *)((r->rsp - RED_ZONE - sizeof(*m)) & ~7ull), sizeof(*m) };

	return raw_syscall(nr, tid, (long)&here, 1, (long)&there, 1, 0) == (long)sizeof(*m);
}

/* Sets *number to the number of the interrupted call. Returns false if it cannot be known. */
static bool interrupted_call_number(int tid, const struct user_regs_struct *r, uint64_t *number)
{
	struct call_mark found, expected;

	if (r->orig_rax != SYS_restart_syscall) {
		*number = r->orig_rax;
		call_mark_fill(&expected, r, *number);
		call_mark_move(SYS_process_vm_writev, tid, r, &expected);
		return true;
	}
	if (!call_mark_move(SYS_process_vm_readv, tid, r, &found))
		return false;
	call_mark_fill(&expected, r, found.number);
	*number = found.number;
	return interrupted_call_equal(&found, &expected, sizeof(found));
}

static bool interrupted_call_has_shadow_stack(int tid)
{
	unsigned long features = 0;

	return raw_syscall(SYS_ptrace, PT_ARCH_PRCTL, tid, (long)&features, SHSTK_STATUS, 0, 0) >= 0 && features;
}

/* Saves the state of the thread before criu changes it. */
static bool interrupted_call_save(int tid, const struct user_regs_struct *r)
{
	struct saved_call *s = saved_call_get(tid);
	struct vector v;

	if (!s)
		return false;
	if (s->xstate_len && interrupted_call_equal(&s->regs, r, sizeof(*r)))
		return true; /* saved before; the FPU state may be that of the parasite now */
	v = (struct vector){ s->xstate, sizeof(s->xstate) };
	s->xstate_len = 0;
	if (interrupted_call_has_shadow_stack(tid) ||
	    raw_syscall(SYS_ptrace, PT_GETREGSET, tid, XSTATE, (long)&v, 0, 0) < 0 || v.len >= sizeof(s->xstate))
		return false;
	interrupted_call_copy(&s->regs, r, sizeof(*r));
	s->xstate_len = (uint32_t)v.len;
	return true;
}

/* The thread is at the entry of the parasite's rt_sigreturn(): the kernel makes no call of the number -1. */
static void interrupted_call_skip_sigreturn(int tid, struct saved_call *s)
{
	struct vector v = { s->xstate, s->xstate_len };

	if (raw_syscall(SYS_ptrace, PT_SETREGSET, tid, XSTATE, (long)&v, 0, 0) >= 0)
		raw_syscall(SYS_ptrace, PT_POKEUSER, tid, offsetof(struct user_regs_struct, orig_rax), -1, 0, 0);
}

void interrupted_call_read(int tid, void *regs, size_t len)
{
	struct user_regs_struct *r = regs;
	struct saved_call *s;
	uint64_t number;

	if (!unlinked_names_given() || len != sizeof(*r))
		return;
	if (r->orig_rax == SYS_rt_sigreturn && (long)r->rax == -ENOSYS && (s = saved_call_find(tid)) && s->xstate_len)
		interrupted_call_skip_sigreturn(tid, s);
	if ((int)r->orig_rax < 0 || (long)r->rax != -RESTART_BLOCK || !interrupted_call_save(tid, r) ||
	    !interrupted_call_number(tid, r, &number))
		return;
	r->orig_rax = number;
	r->rax = (uint64_t)-RESTARTSYS;
}

/* criu runs its parasite with orig_rax = -1, and otherwise sets the registers that it took for those of the thread. */
const void *interrupted_call_set(int tid, const void *regs, size_t len)
{
	const struct user_regs_struct *r = regs;
	const struct saved_call *s = len == sizeof(*r) ? saved_call_find(tid) : NULL;

	if (!s || !s->xstate_len || (int)r->orig_rax < 0 || r->rsp != s->regs.rsp || s->regs.rip - r->rip > SYSCALL_INSN)
		return regs;
	return &s->regs;
}

#else

void interrupted_call_read(int tid, void *regs, size_t len)
{
	(void)tid;
	(void)regs;
	(void)len;
}

const void *interrupted_call_set(int tid, const void *regs, size_t len)
{
	(void)tid;
	(void)len;
	return regs;
}

#endif
