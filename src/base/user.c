#include "base/user.h"

#include <errno.h>
#include <grp.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

int user_set_ids(uid_t uid, gid_t gid, const gid_t *groups, int n_groups)
{
	if (setgroups((size_t)n_groups, groups) < 0 || setresgid(gid, gid, gid) < 0 || setresuid(uid, uid, uid) < 0)
		return -1;
	/* The process must not be able to become root again. */
	if (uid != 0 && (setuid(0) == 0 || getuid() != uid || geteuid() != uid)) {
		errno = EPERM;
		return -1;
	}
	return 0;
}

int user_become(uid_t uid, gid_t gid, const gid_t *groups, int n_groups)
{
	if (user_set_ids(uid, gid, groups, n_groups) < 0)
		return -1;
	/* The memory of this process was root's. The kernel clears the flag itself when the ids change, but
	 * fs.suid_dumpable can keep it set. */
	if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
		return -1;
	return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
}

#define STOPS_MAX 20 /* stops of a child after which it is killed */

bool user_child_ended(struct user_child *c, bool wait)
{
	for (;;) {
		pid_t got = waitpid(c->pid, &c->status, WUNTRACED | (wait ? 0 : WNOHANG));

		if (got < 0 && errno == EINTR)
			continue;
		if (got == 0)
			return false;
		if (got < 0 || !WIFSTOPPED(c->status))
			return true;
		c->given_up = ++c->stops > STOPS_MAX;
		kill(c->pid, c->given_up ? SIGKILL : SIGCONT);
	}
}
