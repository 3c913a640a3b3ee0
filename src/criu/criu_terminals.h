/* The pseudo-terminals in criu's images of which the job has the master end open. */
#ifndef FSCHED_CRIU_CRIU_TERMINALS_H
#define FSCHED_CRIU_CRIU_TERMINALS_H

#include <stddef.h>
#include <stdint.h>
#include "base/err.h"

struct criu_terminal {
	int index;              /* N of /dev/pts/N */
	char *name;             /* of the master: /dev/ptmx or /dev/pts/ptmx */
	uint32_t flags;         /* with which the master is open */
	int owner;              /* pid in the pod of the process in which criu opens the master */
	uint32_t owner_fd;      /* and its descriptor */
	int leader;             /* pid of the session leader whose controlling terminal it is; 0: of none */
	unsigned short size[4]; /* rows, columns, and in pixels its width and height */
};

struct criu_terminals {
	struct criu_terminal *v; /* ascending by owner and owner_fd, the order in which criu opens them */
	size_t n, room;
};

/* Reads them. To be freed also after a failure. 0 or -1. */
int criu_terminals_read(int images_fd, struct criu_terminals *t, struct err *err);
void criu_terminals_free(struct criu_terminals *t);

#endif
