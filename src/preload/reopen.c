/* Part of libfsched-criu.so: files of the job that criu opens again in a dump.
 *
 * criu reads the build-ID of every regular file that is open: it opens /proc/self/fd/N, relative to a descriptor of
 * /proc/self, maps the beginning and closes it again. Opening breaks a lease that the job has on the file (fcntl
 * F_SETLEASE): open() waits up to 45 s for the job, which is stopped, and the job gets a SIGIO, which kills it. Opening
 * also makes inotify events. Duplicating the descriptor does neither, so the library duplicates it. (If the file is not
 * open for reading, it cannot be mapped, and criu continues without a build-ID.)
 *
 * A file without a link has to be opened, because criu reads its content and would move the position of a duplicate. A
 * restore makes a file of the job's user from the content. So root opens it only if the job has it open for reading or
 * the job's user owns it. Otherwise (O_PATH, or open for writing) the rights of the user decide: what the user cannot
 * read must not get into an image.
 *
 * criu also opens each mapped file by /proc/PID/map_files. On NFS with root squash root may not read what only the
 * job's user may, such as a program of mode 0700; then the user opens it. */
#include <linux/fcntl.h>
#include <linux/stat.h>
#include <sys/syscall.h>

#include "preload/preload.h"
#include "trace/raw_syscall.h"
#include "preload/rights.h"

/* True if the job can read the file by its descriptor, whose flags are given, or owns the file. */
static bool reopen_readable_by_job(long flags, const struct statx *st)
{
	const long mode = flags & O_ACCMODE;

	return !rights_on() || st->stx_uid == rights_uid() || (!(flags & O_PATH) && (mode == O_RDONLY || mode == O_RDWR));
}

/* Returns N of path "fd/N"; -1 for other paths. */
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

/* "5608baabe000-5608baabf000" */
static bool reopen_is_mapping(const char *path)
{
	int dashes = 0;

	for (; path && *path; path++) {
		if (*path == '-')
			dashes++;
		else if (!(*path >= '0' && *path <= '9') && !(*path >= 'a' && *path <= 'f'))
			return false;
	}
	return dashes == 1;
}

long reopen_denied_mapping(int dirfd, const char *path, int flags, long ret)
{
	char link[PRELOAD_FD_LINK];
	long found;

	if (ret != -EACCES || !rights_on() || flags & (O_ACCMODE | O_PATH | O_CREAT) || !reopen_is_mapping(path))
		return ret;
	found = raw_syscall(SYS_openat, dirfd, (long)path, O_PATH | O_CLOEXEC, 0, 0, 0);
	if (found < 0)
		return ret;
	preload_fd_link(found, link);
	ret = rights_as_user(SYS_openat, AT_FDCWD, (long)link, flags, 0, 0);
	raw_syscall(SYS_close, found, 0, 0, 0, 0, 0);
	return ret;
}
