/* Part of libfsched-criu.so, which is loaded into criu, and only into criu: threads that end while criu lets a process
 * go.
 *
 * criu detaches from the threads of a process one after the other. The first one runs then, and may end the process
 * before criu comes to the next: that one is gone (ESRCH), and criu takes it for a failure, after a restore it kills
 * all processes of the job. There is nothing left to be detached from. A tracee that cannot be detached from for
 * another reason is let go by the kernel when criu ends. */
#include <linux/ptrace.h>
#include <sys/syscall.h>

#include "trace/raw_syscall.h"

EXPORT long ptrace(int request, int pid, void *addr, void *data);

/* As the C library's: what is peeked at is the result. */
long ptrace(int request, int pid, void *addr, void *data)
{
	const int peeks = request == PTRACE_PEEKTEXT || request == PTRACE_PEEKDATA || request == PTRACE_PEEKUSR;
	long word = 0, ret = raw_syscall(SYS_ptrace, request, pid, (long)addr, peeks ? (long)&word : (long)data, 0, 0);

	if (request == PTRACE_DETACH && ret == -ESRCH)
		return 0;
	if (peeks && ret >= 0) {
		errno = 0;
		return word;
	}
	return errno_result(ret);
}
