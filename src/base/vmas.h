/* The mappings of a process, from /proc/PID/maps or smaps. */
#ifndef FSCHED_BASE_VMAS_H
#define FSCHED_BASE_VMAS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include "base/err.h"

struct vma {
	uint64_t start, end;
	uint64_t anon, huge; /* bytes of anonymous memory in it, of that in huge pages; vmas_read_filled() only */
	bool plain; /* anonymous, private, readable and writable, and no stack that grows: process_vm_writev() can fill
		       it */
	bool executable;
	bool vdso;
	bool stack; /* that of the first thread; it grows */
	bool aio;   /* where the kernel tells of asynchronous reads and writes: io_setup() */
};

struct vmas {
	struct vma *v;
	size_t n;
}; /* ascending; owned */

int vmas_read(pid_t pid, struct vmas *m, struct err *err);
/* Walks the page tables of the process: not during a freeze. */
int vmas_read_filled(pid_t pid, struct vmas *m, struct err *err);
void vmas_free(struct vmas *m);
/* The one that holds addr, or the next one above; NULL behind the last. */
const struct vma *vmas_find(const struct vmas *m, uint64_t addr);

#endif
