/* System calls of the job that a dump interrupts, so that the job notices nothing (interrupted_call.c).
 *
 * Both functions look at the registers of a thread that criu reads or writes by ptrace (NT_PRSTATUS, len bytes). They
 * change them in regs, and do nothing in a restore, for a thread in another state, or on another processor than x86_64.
 */
#ifndef FSCHED_PRELOAD_INTERRUPTED_CALL_H
#define FSCHED_PRELOAD_INTERRUPTED_CALL_H

#include <stddef.h>

/* Must be called after criu has read the registers of the stopped thread tid. */
void interrupted_call_read(int tid, void *regs, size_t len);
/* Must be called before criu sets the registers of the stopped thread tid. Returns the registers to set: regs itself or
 * others of the same length. */
const void *interrupted_call_set(int tid, const void *regs, size_t len);

#endif
