/* Part of libfsched-criu.so, which is loaded into criu, and only into criu: files of the job's that criu opens once
 * more in a dump.
 *
 * criu reads the build-ID of every regular file that is open, whatever it is: it opens /proc/self/fd/N, relative to a
 * descriptor of /proc/self, maps the beginning and closes it again. An open breaks a lease that the job has on the file
 * (fcntl F_SETLEASE): it waits for the job, which is stopped, for up to 45 s, and the job gets a SIGIO, which kills it.
 * It also makes inotify events. A duplicate does neither. (If it is not open for reading it cannot be mapped, and criu
 * goes on without a build-ID.)
 *
 * A file without a link is read, which would move the job's position: criu saves its content, and a restore makes a
 * file of the job's user from it. So root opens it only if the job has it open for reading or its user owns it. Else,
 * with O_PATH or for writing, the user's rights decide: what he could not read must not get into an image. */
#include <linux/fcntl.h>
#include <linux/stat.h>
#include <sys/syscall.h>

#include "preload/preload.h"
#include "trace/raw_syscall.h"
#include "preload/rights.h"

/* flags: of the job's descriptor. */
static bool reopen_readable_by_job(long flags, const struct statx *st)
{
	const long mode = flags & O_ACCMODE;

	return !rights_on() || st->stx_uid == rights_uid() || (!(flags & O_PATH) && (mode == O_RDONLY || mode == O_RDWR));
}

/* Descriptor N of path "fd/N"; -1: it is none. */
static int reopen_fd_of_path(const char *path)
{
	const char *digits = preload_after(path, "fd/");
	int n = digits ? (int)preload_number(&digits, 1 << 30) : -1;

	return n < 0 || *digits ? -1 : n;
}

bool reopen_job_file(int dirfd, const char *path, int flags, long *ret)
{
	const int fd = path && dirfd >= 0 && unlinked_names_given() && (flags & (O_ACCMODE | O_PATH)) == O_RDONLY
			       ? reopen_fd_of_path(path)
			       : -1;
	struct statx st;
	long mode;

	if (fd < 0 ||
	    raw_syscall(SYS_statx, fd, (long)"", AT_EMPTY_PATH, STATX_TYPE | STATX_NLINK | STATX_UID, (long)&st, 0) ||
	    (st.stx_mode & 0170000) != 0100000)
		return false;
	mode = raw_syscall(SYS_fcntl, fd, F_GETFL, 0, 0, 0, 0);
	*ret = mode < 0 ? mode : -EACCES;
	if ((st.stx_nlink == 0 || mode & O_PATH) && *ret == -EACCES) {
		if (reopen_readable_by_job(mode, &st))
			return false;
		*ret = rights_as_user(SYS_openat, dirfd, (long)path, flags, 0, 0);
	}
	if (*ret == -EACCES && st.stx_nlink > 0)
		*ret = raw_syscall(SYS_fcntl, fd, F_DUPFD_CLOEXEC, 0, 0, 0, 0);
	return true;
}
