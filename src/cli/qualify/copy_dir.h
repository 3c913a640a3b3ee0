/* Copies the content of a directory: what a run begins with. */
#ifndef FSCHED_CLI_QUALIFY_COPY_DIR_H
#define FSCHED_CLI_QUALIFY_COPY_DIR_H

#include <stdint.h>
#include <sys/types.h>
#include "base/err.h"

#define COPY_ENTRIES_MAX 100000

struct copy_dir {
	uint64_t left;    /* bytes that may still be copied */
	unsigned entries; /* that were copied */
	unsigned skipped; /* sockets and devices */
	const char *skip; /* names at the top that begin so are left out; NULL = none */
	dev_t skip_dev;   /* and this directory, wherever it is; skip_ino 0 = none */
	ino_t skip_ino;
};

/* Copies everything below from into the empty directory to, with modes (without set-user-ID and the like) and times of
 * modification. Files belong to the caller. Symbolic links are copied, not followed. from: its name, for messages. 0,
 * or -1 with err; err.num EFBIG: there is more than the limits allow. */
int copy_dir(struct copy_dir *c, int fromfd, int tofd, const char *from, struct err *err);

#endif
