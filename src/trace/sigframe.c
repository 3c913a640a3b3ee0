#include "trace/sigframe.h"

#include "trace/raw_syscall.h"

#if defined(__x86_64__)
#include <asm/sigcontext.h>
#include <linux/wait.h>
#include <sys/syscall.h>
#include <sys/user.h>

#define PT_GETREGSET  0x4204
#define XSTATE        0x202 /* NT_X86_XSTATE */
#define SHADOW_STACK  0x204 /* NT_X86_SHSTK */

#define RED_ZONE      128         /* bytes below the stack pointer that are the program's */
#define HANDLER_ROOM  (16u << 10) /* bytes of stack for the handler of a signal that comes on the return path */
#define NO_PID        0x7fffffff
#define RESTARTSYS    512 /* results of interrupted calls that only the kernel and tracers see */
#define RESTARTNOINTR 513
#define RESTARTNOHAND 514
#define RESTART_BLOCK 516

#define UC_FLAGS      (1 | 2 | 4) /* UC_FP_XSTATE, UC_SIGCONTEXT_SS, UC_STRICT_RESTORE_SS */
/* A mode of an alternate signal stack that does not exist. rt_sigreturn() ignores that the kernel refuses it, so the
 * thread keeps its alternate stack. */
#define NO_SUCH_MODE  0x40

#define FP_SW         464          /* offset in the FPU state of the bytes for software */
#define FP_FEATURES   512          /* offset in the FPU state of the bit mask of parts in use */
#define FP_LEGACY     576          /* bytes of the FPU state that CPUID does not describe */
#define FP_TILES      (3ull << 17) /* AMX: a frame has room for it only after the thread was permitted to use it */

/* The kernel's struct rt_sigframe, without the siginfo. */
struct frame {
	uint64_t restore;
	uint64_t flags, link;
	uint64_t stack, stack_mode, stack_size;
	struct sigcontext context;
	uint64_t mask;
};

#define FRAME    320 /* distance of frames */
#define AT_CHILD 0
#define AT_REAP  (1 * FRAME)
#define AT_LAST  (2 * FRAME)
#define AT_FP    (3 * FRAME)
#define FP_MAX   (16u << 10)
_Static_assert(sizeof(struct frame) == 312 && AT_FP % 64 == 0, "what rt_sigreturn() reads");

static _Alignas(64) unsigned char block[AT_FP + FP_MAX];

struct vector {
	void *base;
	size_t len;
};

static long sigframe_get_regset(int pid, long what, void *buf, size_t *len)
{
	struct vector v = { buf, *len };
	long ret = raw_syscall(SYS_ptrace, PT_GETREGSET, pid, what, (long)&v, 0, 0);

	*len = v.len;
	return ret;
}

/* Returns the size in bytes of the FPU state with these features. */
static uint32_t sigframe_fp_size(uint64_t features)
{
	uint32_t size = FP_LEGACY;

	for (uint32_t i = 2; i < 63; i++) {
		uint32_t len = 0xd, at, c = i, d;

		if (!(features >> i & 1))
			continue;
		__asm__ volatile("cpuid" : "+a"(len), "=b"(at), "+c"(c), "=d"(d));
		if (len && at + len > size)
			size = at + len;
	}
	return size;
}

/* Puts the FPU state after the frames, with the marks that the kernel writes in a frame. Returns its length or -errno.
 */
static long sigframe_save_fp(int pid)
{
	unsigned char *fp = block + AT_FP;
	struct _fpx_sw_bytes *sw = (void *)(fp + FP_SW);
	size_t len = FP_MAX - sizeof(uint64_t); /* the kernel accepts multiples of 8 only */
	uint64_t features, used;
	uint32_t size;
	long ret = sigframe_get_regset(pid, XSTATE, fp, &len);

	if (ret < 0)
		return ret;
	if (len < FP_LEGACY)
		return -ENOTSUP;
	features = *(uint64_t *)(void *)(fp + FP_SW);
	used = *(uint64_t *)(void *)(fp + FP_FEATURES);
	if (!(used & FP_TILES))
		features &= ~FP_TILES;
	size = sigframe_fp_size(features);
	if (size > len)
		return -ENOTSUP;
	*sw = (struct _fpx_sw_bytes){ .magic1 = FP_XSTATE_MAGIC1,
				      .extended_size = size + FP_XSTATE_MAGIC2_SIZE,
				      .xfeatures = features,
				      .xstate_size = size };
	*(uint32_t *)(void *)(fp + size) = FP_XSTATE_MAGIC2;
	return size + FP_XSTATE_MAGIC2_SIZE;
}

static struct frame *sigframe_put(unsigned at, const struct user_regs_struct *r, const struct return_path *w,
				  uint64_t mask, uint64_t fp)
{
	struct frame *f = (void *)(block + at);

	*f = (struct frame){
		.restore = w->restore, .flags = UC_FLAGS, .stack_mode = NO_SUCH_MODE, .mask = mask,
		.context = {
			.r8 = r->r8, .r9 = r->r9, .r10 = r->r10, .r11 = r->r11, .r12 = r->r12, .r13 = r->r13, .r14 = r->r14, .r15 = r->r15,
			.rdi = r->rdi, .rsi = r->rsi, .rbp = r->rbp, .rbx = r->rbx, .rdx = r->rdx, .rax = r->rax, .rcx = r->rcx, .rsp = r->rsp,
			.rip = r->rip, .eflags = r->eflags, .cs = (uint16_t)r->cs, .ss = (uint16_t)r->ss,
			.fpstate = (struct _fpstate *)fp,
		},
	};
	return f;
}

static void sigframe_put_call(unsigned at, struct user_regs_struct r, const struct return_path *w, long nr,
			      uint64_t arg, uint64_t stack)
{
	r.rip = w->call;
	r.rsp = stack;
	r.rax = (uint64_t)nr;
	r.rdi = arg;
	r.rsi = r.r10 = 0;
	r.rdx = __WALL; /* wait4's options; _exit() has no such argument */
	sigframe_put(at, &r, w, ~0ull, 0);
}

/* Changes the registers as the kernel does for an interrupted call when its thread is resumed. */
static void sigframe_restart_call(struct user_regs_struct *r)
{
	if ((int)r->orig_rax < 0)
		return;
	switch (-(long)r->rax) {
	case RESTARTSYS:
	case RESTARTNOINTR:
	case RESTARTNOHAND:
		r->rax = r->orig_rax;
		r->rip -= 2;
		break;
	case RESTART_BLOCK: /* rt_sigreturn() discards it */ r->rax = (uint64_t)-EINTR; break;
	default: break;
	}
}

static long sigframe_copy_out(int pid, uint64_t to, size_t len)
{
	const struct vector here = { block, len }, there = { (void *)to, len };
	long ret = raw_syscall(SYS_process_vm_writev, pid, (long)&here, 1, (long)&there, 1, 0);

	return ret == (long)len ? 0 : ret < 0 ? ret : -EFAULT;
}

long sigframe_write(int pid, const void *regs, size_t len, uint64_t mask, struct return_path *w, void *home)
{
	struct user_regs_struct r = *(const struct user_regs_struct *)regs;
	size_t none = sizeof(uint64_t);
	uint64_t base, first, ignored;
	long fp;

	if (!w->restore || len != sizeof(r))
		return -ENOTSUP;
	if (sigframe_get_regset(pid, SHADOW_STACK, &ignored, &none) >= 0)
		return -ENOTSUP; /* with a shadow stack, `ret` returns only to the caller */
	fp = sigframe_save_fp(pid);
	if (fp < 0)
		return fp;
	base = (r.rsp - RED_ZONE - AT_FP - (uint64_t)fp) & ~63ull;
	if (r.rsp < w->low || base < w->low + HANDLER_ROOM || base > r.rsp)
		return -ENOTSUP;
	first = base + (w->reap ? AT_REAP : AT_LAST);
	sigframe_put_call(AT_CHILD, r, w, SYS_exit, 0, base + AT_CHILD);
	sigframe_put_call(AT_REAP, r, w, SYS_wait4, NO_PID, base + AT_LAST);
	sigframe_restart_call(&r);
	sigframe_put(AT_LAST, &r, w, mask, base + AT_FP);
	fp = sigframe_copy_out(pid, base, AT_FP + (size_t)fp);
	if (fp < 0)
		return fp;
	w->child_stack = base + AT_CHILD;
	w->child_pid = base + AT_REAP + offsetof(struct frame, context.rdi);
	r.rip = w->call + 2;
	r.rsp = first;
	r.rax = 0;
	r.orig_rax = ~0ull;
	*(struct user_regs_struct *)home = r;
	return 0;
}

#else

long sigframe_write(int pid, const void *regs, size_t len, uint64_t mask, struct return_path *w, void *home)
{
	(void)pid;
	(void)regs;
	(void)len;
	(void)mask;
	(void)w;
	(void)home;
	return -ENOTSUP;
}

#endif
