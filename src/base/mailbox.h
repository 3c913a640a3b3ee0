/* Where a process leaves open descriptors for one that comes after it: messages in a pair of sockets that a third
 * process keeps open, and never reads. They last as long as that process does; whatever becomes of those who put or
 * took them, nothing is left behind. */
#ifndef FSCHED_BASE_MAILBOX_H
#define FSCHED_BASE_MAILBOX_H

#include <stddef.h>
#include <sys/types.h>
#include <jansson.h>

#define MAILBOX_FDS 128 /* in one message */

struct mailbox {
	int in, out;
}; /* -1, -1: there is none */

/* 0 or -1 with errno, then there is none. Both ends are closed by exec. */
int mailbox_make(struct mailbox *m);
/* Opens that of another process, which has these descriptors for it. Root's. 0 or -1 with errno: EBADF if that process
 * has something else there. */
int mailbox_open(struct mailbox *m, pid_t keeper, int in, int out);
/* What another process, the worker, needs for mailbox_open(): {"pid", "in", "out"}. keeper: the process that holds m.
 */
json_t *mailbox_describe(const struct mailbox *m, pid_t keeper);
/* Never blocks. 0 or -1 with errno, EAGAIN: it is full. fds stay the caller's. */
int mailbox_put(const struct mailbox *m, const void *data, size_t len, const int *fds, size_t n_fds);
/* The oldest message: its length, 0 if there is none, -1 with errno if it does not fit. fds: room for MAILBOX_FDS, the
 * caller's from now on. */
ssize_t mailbox_take(const struct mailbox *m, void *data, size_t len, int *fds, size_t *n_fds);
void mailbox_close(struct mailbox *m);

#endif
