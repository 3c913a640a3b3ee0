/* Part of libfsched-criu.so: threads that end while criu detaches from a process.
 *
 * criu detaches from the threads of a process one after the other. The first thread runs then, and may end the process
 * before criu detaches from the next one, which fails with ESRCH. criu takes that for a failure; after a restore it
 * kills all processes of the job. But there is nothing to detach from any more, so the library reports success. If
 * detaching fails for another reason, the kernel detaches the tracee when criu ends. */
#include <linux/ptrace.h>
#include <sys/syscall.h>

#include "trace/raw_syscall.h"

EXPORT long ptrace(int request, int pid, void *addr, void *data);

/* As in the C library, the result of a PEEK request is the word that was read. */
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
