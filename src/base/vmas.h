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
	uint64_t anon; /* bytes of anonymous memory in it; vmas_read_filled() only */
	uint64_t huge; /* bytes of anon in huge pages; vmas_read_filled() only */
	bool on_fault; /* locked in memory page by page, as they are used (MLOCK_ONFAULT); vmas_read_filled() only */
	/* Anonymous, private, readable and writable, and no growing stack: process_vm_writev() can fill it. */
	bool plain;
	bool executable;
	bool vdso;
	bool stack; /* of the first thread; it grows */
	bool aio;   /* the ring of io_setup(), to which the kernel writes completed asynchronous I/O */
};

struct vmas {
	struct vma *v; /* owned; ascending */
	size_t n;
};

/* Reads /proc/PID/maps. Returns 0 or -1 with err. The caller must call vmas_free(). */
int vmas_read(pid_t pid, struct vmas *m, struct err *err);
/* Reads /proc/PID/smaps. The kernel walks the page tables of the process for it, so it is not for use in a freeze. */
int vmas_read_filled(pid_t pid, struct vmas *m, struct err *err);
void vmas_free(struct vmas *m);
/* Returns the mapping that contains addr, or else the next mapping above addr; NULL if there is none. */
const struct vma *vmas_find(const struct vmas *m, uint64_t addr);

#endif
