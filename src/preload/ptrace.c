/* Part of libfsched-criu.so: criu's ptrace().
 *
 * - The registers of threads that a dump has interrupted in a system call: interrupted_call.h.
 *
 * - Threads that end while criu detaches from a process. criu detaches from the threads of a process one after the
 *   other. The first thread runs then, and may end the process before criu detaches from the next one, which fails with
 *   ESRCH. criu takes that for a failure; after a restore it kills all processes of the job. But there is nothing to
 *   detach from any more, so the library reports success. If detaching fails for another reason, the kernel detaches
 * the tracee when criu ends. */
#include <linux/elf.h>
#include <linux/ptrace.h>
#include <linux/uio.h>
#include <stdbool.h>
#include <sys/syscall.h>

#include "preload/interrupted_call.h"
#include "trace/raw_syscall.h"

EXPORT long ptrace(int request, int pid, void *addr, void *data);

static long ptrace_set_registers(int pid, void *set, const struct iovec *v)
{
	const struct iovec as = { (void *)(unsigned long)interrupted_call_set(pid, v->iov_base, v->iov_len), v->iov_len };

	return raw_syscall(SYS_ptrace, PTRACE_SETREGSET, pid, (long)set, (long)&as, 0, 0);
}

/* As in the C library, the result of a PEEK request is the word that was read. */
long ptrace(int request, int pid, void *addr, void *data)
{
	const bool peeks = request == PTRACE_PEEKTEXT || request == PTRACE_PEEKDATA || request == PTRACE_PEEKUSR;
	const bool registers = (long)addr == NT_PRSTATUS;
	const struct iovec *v = data;
	long word = 0, ret;

	if (request == PTRACE_SETREGSET && registers)
		return errno_result(ptrace_set_registers(pid, addr, v));
	ret = raw_syscall(SYS_ptrace, request, pid, (long)addr, peeks ? (long)&word : (long)data, 0, 0);
	if (request == PTRACE_GETREGSET && registers && ret >= 0)
		interrupted_call_read(pid, v->iov_base, v->iov_len);
	if (request == PTRACE_DETACH && ret == -ESRCH)
		return 0;
	if (peeks && ret >= 0) {
		errno = 0;
		return word;
	}
	return errno_result(ret);
}
