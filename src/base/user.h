/* Becoming another user for good, and children that have done so. */
#ifndef FSCHED_BASE_USER_H
#define FSCHED_BASE_USER_H

#include <stdbool.h>
#include <sys/types.h>

/* The calling process, which has one thread, gets the uid, gid and groups and, unless uid is 0, loses all capabilities.
 * It cannot come back and gains nothing by exec. Nobody but root may trace it. 0 or -1 with errno: it must not go on
 * then. */
int user_become(uid_t uid, gid_t gid, const gid_t *groups, int n_groups);

/* A child that runs with a user's rights. He may send it signals: one that is stopped is made to go on, and ended if
 * that happens again and again, so that nobody waits for it longer than for its work. */
struct user_child {
	pid_t pid;
	unsigned stops; /* so far */
	bool given_up;  /* ended for that */
	int status;     /* as of wait(), when it has ended */
};
/* Whether it has ended; with wait not before. */
bool user_child_ended(struct user_child *c, bool wait);

#endif
