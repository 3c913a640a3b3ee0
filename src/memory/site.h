/* Where in a process a system call can be made. */
#ifndef FSCHED_MEMORY_SITE_H
#define FSCHED_MEMORY_SITE_H

#include <stdint.h>
#include <sys/types.h>
#include "common/err.h"

/* Address of an instruction that makes a system call; 0 with err if there is none. host: the process, running or not. */
uint64_t mem_site_find(pid_t host, struct err *err);

#endif
