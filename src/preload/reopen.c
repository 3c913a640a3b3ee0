/* Part of libfsched-criu.so, which is loaded into criu, and only into criu: files of the job's that criu opens once more in a dump.
 *
 * criu reads the build-ID of every regular file that is open, whatever it is: it opens /proc/self/fd/N, relative to a descriptor of
 * /proc/self, maps the beginning and closes it again. An open breaks a lease that the job has on the file (fcntl F_SETLEASE): it waits
 * for the job, which is stopped, for up to 45 s, and the job gets a SIGIO, which kills it. It also makes inotify events. A duplicate
 * does neither. (If it is not open for reading it cannot be mapped, and criu goes on without a build-ID.)
 *
 * A file without a link is not meant: criu reads it, which would move the job's position. */
#include <linux/fcntl.h>
#include <linux/stat.h>
#include <sys/syscall.h>

#include "preload.h"
#include "raw_syscall.h"

long reopen_job_file(int dirfd, const char *path, int flags)
{
	const char *digits = path && dirfd >= 0 && names_given() ? preload_after(path, "fd/") : NULL;
	struct statx st;
	int n = 0;

	if (!digits || !*digits || (flags & (O_ACCMODE | O_PATH)) != O_RDONLY)
		return -1;
	for (; *digits >= '0' && *digits <= '9' && n < 100000000; digits++)
		n = n * 10 + (*digits - '0');
	if (*digits || raw_syscall(SYS_statx, n, (long)"", AT_EMPTY_PATH, STATX_TYPE | STATX_NLINK, (long)&st, 0) ||
	    (st.stx_mode & 0170000) != 0100000 || st.stx_nlink == 0 || raw_syscall(SYS_fcntl, n, F_GETFL, 0, 0, 0, 0) & O_PATH)
		return -1;
	return raw_syscall(SYS_fcntl, n, F_DUPFD_CLOEXEC, 0, 0, 0, 0);
}
