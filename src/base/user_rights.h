/* The rights of the job's user for a short time, to look up a name that the user has chosen or to open a file of the
 * user. Afterwards the caller is root again. */
#ifndef FSCHED_BASE_USER_RIGHTS_H
#define FSCHED_BASE_USER_RIGHTS_H

#include <sys/types.h>
#include "base/err.h"

/* The rights of root, to return to. */
struct user_rights {
	gid_t *groups; /* owned until user_rights_return() */
	int n_groups;
	int death_signal; /* PR_SET_PDEATHSIG: the kernel clears it with every change of ids */
	pid_t parent;
};

/* Takes the rights of a user. The caller must be root; only the calling thread is affected. The effective ids change,
 * and with them the thread loses all effective capabilities. setfsuid() would not be enough: it leaves CAP_SYS_PTRACE,
 * with which the kernel follows a link to /proc/PID/root or /proc/PID/fd/N of any process. After -1 with err nothing
 * has changed. */
int user_rights_take(struct user_rights *r, uid_t uid, gid_t gid, const gid_t *groups, int n_groups, struct err *err);
/* Takes root's rights back, and keeps errno. Aborts the process if that fails. */
void user_rights_return(struct user_rights *r);

#endif
