/* Becoming another user for good, and waiting for children that have done so. */
#ifndef FSCHED_BASE_USER_H
#define FSCHED_BASE_USER_H

#include <stdbool.h>
#include <sys/types.h>

/* Sets all uids and gids and the groups of the calling process, which must be root's. Unless uid is 0, the process
 * loses all capabilities and cannot become root again. Returns 0 or -1 with errno; after a failure the process must
 * end. For a process that is going to exec the user's program: setuid programs work in it. */
int user_set_ids(uid_t uid, gid_t gid, const gid_t *groups, int n_groups);

/* Like user_set_ids(), for a process that keeps running fsched's code: exec cannot give it privileges
 * (PR_SET_NO_NEW_PRIVS), and only root can trace it. */
int user_become(uid_t uid, gid_t gid, const gid_t *groups, int n_groups);

/* A child that runs with a user's rights. The user may send it signals. A child that is stopped by a signal is resumed,
 * and killed if it is stopped again and again, so that the caller waits no longer than the work of the child takes. */
struct user_child {
	pid_t pid;
	unsigned stops; /* how often it was stopped so far */
	bool given_up;  /* it was killed because it was stopped too often */
	int status;     /* wait status, when it has ended */
};
/* Returns true if the child has ended. With wait it returns only then. */
bool user_child_ended(struct user_child *c, bool wait);

#endif
