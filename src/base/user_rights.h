/* The job's user's rights for a moment: a name that he chose is looked up, or a file of his opened, and then the caller
 * is root again. */
#ifndef FSCHED_BASE_USER_RIGHTS_H
#define FSCHED_BASE_USER_RIGHTS_H

#include <sys/types.h>
#include "base/err.h"

struct user_rights {   /* root's own, to come back to */
	gid_t *groups; /* owned until user_rights_return() */
	int n_groups;
	int death_signal; /* the kernel forgets it with every change of rights */
	pid_t parent;
};

/* For root, and of this thread only. The effective ids, not only those of files (setfsuid): with them go all effective
 * capabilities. CAP_SYS_PTRACE, which setfsuid() leaves, would follow a link to /proc/PID/root or /proc/PID/fd/N of
 * anybody. -1: nothing has changed. */
int user_rights_take(struct user_rights *r, uid_t uid, gid_t gid, const gid_t *groups, int n_groups, struct err *err);
/* Ends the process if root's rights do not come back. errno is kept. */
void user_rights_return(struct user_rights *r);

#endif
