/* Where in a process a system call can be made, and what it finds there for its way home (trace/sigframe.h). */
#ifndef FSCHED_TRACE_CALL_SITE_H
#define FSCHED_TRACE_CALL_SITE_H

#include <stdint.h>
#include <sys/types.h>
#include "base/err.h"
#include "trace/sigframe.h"

/* Fills in what w says of the process host, running or not, whose stopped thread has its stack at sp. There is a way
 * home only on the stack of the process's first thread: of another nobody knows what lies below it (stacks of
 * coroutines, an alternate stack for signals). -1 with err if it has no instruction that makes a system call, or may
 * make none but its own. */
int call_site_find(pid_t host, uint64_t sp, struct return_path *w, struct err *err);

#endif
