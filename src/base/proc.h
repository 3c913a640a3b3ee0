/* What /proc says of a process. */
#ifndef FSCHED_BASE_PROC_H
#define FSCHED_BASE_PROC_H

#include <stddef.h>
#include <sys/types.h>

/* Opens /proc/PID/NAME; flags without O_CLOEXEC, which is added. A descriptor, or -1 with errno. */
int open_proc(pid_t pid, const char *name, int flags);
/* The number behind "KEY:" in the text of /proc/PID/status, the last one where there are several: NSpid's is the pid in
 * the innermost namespace. missing if there is no such line. */
long proc_status_number(const char *status, const char *key, long missing);
/* The same of a process; missing also if it is gone. */
long proc_number(pid_t pid, const char *key, long missing);
/* "process 17 (python3)": with the pid that the process has in the innermost namespace. Returns buf. */
#define PROC_DESCRIBED 160
const char *proc_describe(pid_t pid, char *buf, size_t len);

#endif
