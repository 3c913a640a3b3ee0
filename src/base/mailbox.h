/* A mailbox keeps open descriptors of a process for a later process. The messages are in the queue of a pair of sockets
 * which a third process, the keeper, keeps open and never reads. They exist as long as the keeper: nothing is left
 * behind if the process that has put them, or the one that takes them, is killed. */
#ifndef FSCHED_BASE_MAILBOX_H
#define FSCHED_BASE_MAILBOX_H

#include <stddef.h>
#include <sys/types.h>
#include <jansson.h>

#define MAILBOX_FDS 128 /* descriptors in one message */

struct mailbox {
	int in, out; /* -1, -1 = there is none */
};

/* Makes a mailbox. Both ends are close-on-exec. Returns 0, or -1 with errno and m = { -1, -1 }. */
int mailbox_make(struct mailbox *m);
/* Opens the mailbox of the process keeper, which has it on the descriptors in and out. Needs root. Returns 0 or -1 with
 * errno; EBADF if the keeper has something else there. */
int mailbox_open(struct mailbox *m, pid_t keeper, int in, int out);
/* What another process, the worker, needs for mailbox_open(): {"pid", "in", "out"}. keeper: the process that holds m.
 */
json_t *mailbox_describe(const struct mailbox *m, pid_t keeper);
/* Puts a message. Never blocks. The caller keeps fds. Returns 0 or -1 with errno; EAGAIN: the mailbox is full,
 * EINVAL: too many fds, or no data. */
int mailbox_put(const struct mailbox *m, const void *data, size_t len, const int *fds, size_t n_fds);
/* Takes the oldest message. Returns its length, 0 if there is none, -1 with errno (EMSGSIZE: it does not fit, or has
 * descriptors and no data; it is dropped). fds has room for MAILBOX_FDS descriptors, which the caller then owns. */
ssize_t mailbox_take(const struct mailbox *m, void *data, size_t len, int *fds, size_t *n_fds);
void mailbox_close(struct mailbox *m);

#endif
