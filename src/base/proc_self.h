/* Identity of the running kernel and of processes, read from /proc. A boot id, a PID namespace, a pid and a start time
 * together name one process for good. */
#ifndef FSCHED_BASE_PROC_SELF_H
#define FSCHED_BASE_PROC_SELF_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include "base/err.h"

/* The id that the kernel chose at this boot (a UUID as text, without line feed), from
 * /proc/sys/kernel/random/boot_id. buf of at least 40 bytes. 0, or -1 with buf "". */
int proc_boot_id(char *buf, size_t len, struct err *err);

/* Start time of the process in clock ticks since boot, field 22 of /proc/PID/stat. 0 if there is no such process or it
 * is a zombie. */
uint64_t proc_start_time(pid_t pid);

/* Inode number of the caller's PID namespace. 0 if it cannot be read. */
uint64_t proc_own_pid_ns(void);

#endif
