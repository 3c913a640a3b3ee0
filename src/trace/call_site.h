/* Finds where in a process a system call can be injected, and what the return path needs (trace/sigframe.h). */
#ifndef FSCHED_TRACE_CALL_SITE_H
#define FSCHED_TRACE_CALL_SITE_H

#include <stdint.h>
#include <sys/types.h>
#include "base/err.h"
#include "trace/sigframe.h"

/* Fills in the members of w that describe the process host. The process may run; its stopped thread, which is to make
 * the call, has its stack pointer at sp.
 *
 * A return path is found only if sp lies on the stack of the first thread of the process. On any other stack it is not
 * known what lies below sp (stacks of coroutines, an alternate signal stack).
 *
 * Returns -1 with err if the process has no system call instruction, or if it is in seccomp's strict mode (ENOTSUP). */
int call_site_find(pid_t host, uint64_t sp, struct return_path *w, struct err *err);

#endif
