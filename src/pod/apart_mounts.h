/* The mounts of the node as a process that is apart (apart.h) is to see them. */
#ifndef FSCHED_POD_APART_MOUNTS_H
#define FSCHED_POD_APART_MOUNTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/err.h"

enum apart_kind {
	APART_OVERLAY,   /* a directory of a file system: through an overlay */
	APART_READ_ONLY, /* itself, but read-only */
	APART_NODE,      /* itself */
	APART_MISSING,   /* not at all */
};

struct apart_mount {
	uint64_t id; /* as statx() tells it */
	char *at;    /* owned */
	char type[64];
	unsigned long flags; /* of MS_RDONLY, MS_NODEV, MS_NOEXEC */
	enum apart_kind kind;
	bool directory;
};

/* Lists the mounts of this process except the root, parents first. 0: to be freed with apart_free_mounts(). -1 with
 * err. */
int apart_list_mounts(struct apart_mount **v, size_t *n, struct err *err);
void apart_free_mounts(struct apart_mount *v, size_t n);
/* Opens (O_PATH) the root of a mount, and sets m->directory. -1: another mount covers it, its path leads elsewhere by
 * now, or it is neither a directory nor a regular file, and m->kind wants one. */
int apart_open_mount(struct apart_mount *m);

/* Which kind a mount has by a line of /proc/PID/mountinfo; at: where it is mounted. */
enum apart_kind apart_kind_of(const char *line, const char *type, const char *at);
/* Whether this kernel gives every overlay file handles that identify a file (Linux 6.6). */
bool apart_has_handles(void);

#endif
