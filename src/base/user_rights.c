#include "base/user_rights.h"

#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/fsuid.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/util.h"

/* System calls, because glibc's functions change all threads of the process. */
static int user_rights_set_groups(int n, const gid_t *groups)
{
	return (int)syscall(SYS_setgroups, (size_t)n, groups);
}

static int user_rights_set_effective(uid_t uid, gid_t gid)
{
	/* The group can be changed only while the user is root: first on the way to a user, last on the way back. */
	if (geteuid() == 0 && syscall(SYS_setresgid, -1, gid, -1) < 0)
		return -1;
	if (syscall(SYS_setresuid, -1, uid, -1) < 0)
		return -1;
	return getegid() == gid ? 0 : (int)syscall(SYS_setresgid, -1, gid, -1);
}

/* True if the thread has exactly these effective and file system ids. setfsuid(-1) and setfsgid(-1) change nothing and
 * return the current id. */
static bool user_rights_are(uid_t uid, gid_t gid)
{
	return geteuid() == uid && getegid() == gid && setfsuid((uid_t)-1) == (int)uid && setfsgid((gid_t)-1) == (int)gid;
}

static void user_rights_restore(const struct user_rights *r)
{
	if (user_rights_set_effective(0, 0) < 0 || !user_rights_are(0, 0) ||
	    user_rights_set_groups(r->n_groups, r->groups) < 0 || prctl(PR_SET_PDEATHSIG, r->death_signal) < 0)
		abort();
	/* The parent died while the death signal was cleared. */
	if (r->death_signal && getppid() != r->parent)
		raise(r->death_signal);
}

static void user_rights_free_groups(struct user_rights *r)
{
	free(r->groups);
	r->groups = NULL;
}

int user_rights_take(struct user_rights *r, uid_t uid, gid_t gid, const gid_t *groups, int n_groups, struct err *err)
{
	int saved;

	if (geteuid() != 0)
		return err_set(err, EPERM, "cannot take the rights of uid %u: this process is not root", (unsigned)uid);
	*r = (struct user_rights){ .parent = getppid() };
	r->n_groups = getgroups(0, NULL);
	r->groups = xcalloc((size_t)(r->n_groups > 0 ? r->n_groups : 0) + 1, sizeof(*r->groups));
	if (r->n_groups < 0 || getgroups(r->n_groups, r->groups) < 0 || prctl(PR_GET_PDEATHSIG, &r->death_signal) < 0) {
		err_sys(err, errno, "cannot read the rights of this process");
		user_rights_free_groups(r);
		return -1;
	}
	if (user_rights_set_groups(n_groups, groups) == 0 && user_rights_set_effective(uid, gid) == 0 &&
	    user_rights_are(uid, gid))
		return 0;
	saved = errno ? errno : EPERM;
	user_rights_restore(r);
	user_rights_free_groups(r);
	return err_sys(err, saved, "cannot take the rights of uid %u, gid %u", (unsigned)uid, (unsigned)gid);
}

void user_rights_return(struct user_rights *r)
{
	int saved = errno;

	user_rights_restore(r);
	user_rights_free_groups(r);
	errno = saved;
}
