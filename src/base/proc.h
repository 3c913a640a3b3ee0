/* Reads what /proc says of a process. */
#ifndef FSCHED_BASE_PROC_H
#define FSCHED_BASE_PROC_H

#include <stddef.h>
#include <sys/types.h>

/* Opens /proc/PID/NAME with flags and O_CLOEXEC. Returns a descriptor, or -1 with errno. */
int open_proc(pid_t pid, const char *name, int flags);
/* Returns the number after "KEY:" in status, the text of /proc/PID/status; the last number if there are several (of
 * NSpid it is the pid in the innermost namespace). Returns missing if there is no such line. */
long proc_status_number(const char *status, const char *key, long missing);
/* Like proc_status_number(), for a process. Returns missing also if the process has ended. */
long proc_number(pid_t pid, const char *key, long missing);
/* Writes "process 17 (python3)" to buf, with the pid that the process has in its innermost namespace. Returns buf. */
#define PROC_DESCRIBED 160
const char *proc_describe(pid_t pid, char *buf, size_t len);

#endif
