/* Turns: of the processes of a node that want to do something at the same time, a few may, in the order in which they
 * came. No daemon keeps the order, but a directory:
 *
 *   DIR/          root 0700, on a disk of the node
 *     lock        flock()ed for the moment in which one of these functions reads or changes the directory
 *     17          a ticket: its process holds flock() on it, from before its turn until its end
 *
 * The ticket with the smaller number came first. The kernel releases the lock of a process that dies, however it dies,
 * and whoever finds a ticket without a lock removes it. flock() belongs to the open file: a child of the process that
 * outlives it would keep its turn.
 *
 * Only root calls these. Functions that return int return 0, or -1 with err. They wait for each other for TURN_LOCK_MS
 * at most.
 */
#ifndef FSCHED_BASE_TURN_H
#define FSCHED_BASE_TURN_H

#include <stdint.h>
#include "base/err.h"

#define TURN_LOCK_MS 5000

struct turn {
	int dirfd, fd; /* owned; -1: no ticket */
	uint64_t number;
};

/* Takes a ticket. Makes the directory if it is not there; its parent must be. The turn is to be given back by
 * turn_end(), or by the process's end. */
int turn_take(const char *dir, struct turn *t, struct err *err);
/* The number of living processes whose tickets came before. */
int turn_ahead(const struct turn *t, unsigned *n, struct err *err);
/* Does nothing without a ticket. */
void turn_end(struct turn *t);

#endif
