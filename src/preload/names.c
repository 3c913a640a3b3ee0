/* Part of libfsched-criu.so, which is loaded into criu, and only into criu: the names of open files.
 *
 * A file may have lost the name by which it was opened and still have another (a hard link). criu would make a link of its own beside it
 * in the user's directory and remove that again when the job goes on, and the images could not be restored. Instead it reads,
 * as the name of such a file, one that leads to it (names.h), and saves it like any other file.
 *
 * criu reads names by readlink() of /proc/self/fd/N. What it makes links for all the same is not known to the worker: that fails. (On NFS, where a deleted file has such a
 * name, the worker allows it to a job that stops.) */
#include <linux/fcntl.h>
#include <linux/magic.h>
#include <linux/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>

#include "names.h"
#include "preload.h"
#include "raw_syscall.h"

EXPORT long readlink(const char *path, char *buf, size_t size);
EXPORT long __readlink_chk(const char *path, char *buf, size_t size, size_t room);

static int names_fd = -1;

static bool number_of(const char *text, int *n)
{
	for (*n = 0; *text >= '0' && *text <= '9' && *n < 100000000; text++)
		*n = *n * 10 + (*text - '0');
	return !*text;
}

__attribute__((constructor)) static void find_names(int argc, char **argv, char **envp)
{
	const char *value;

	(void)argc;
	(void)argv;
	for (; *envp; envp++)
		if ((value = preload_after(*envp, "FSCHED_NAMES=")) && !number_of(value, &names_fd))
			names_fd = -1;
}

static bool is_deleted(const char *name, long len)
{
	static const char mark[] = " (deleted)";
	const long n = sizeof(mark) - 1;

	for (long i = 0; i < n; i++)
		if (len <= n || name[len - n + i] != mark[i])
			return false;
	return true;
}

/* Returns the length of the name put into buf, 0 if there is none. */
static long other_name(const struct statx *st, char *buf, size_t size)
{
	struct name_entry e;
	long at = 0;

	while (raw_syscall(SYS_pread64, names_fd, (long)&e, sizeof(e), at, 0, 0) == (long)sizeof(e)) {
		at += (long)sizeof(e);
		if (e.ino == st->stx_ino && e.major == st->stx_dev_major && e.minor == st->stx_dev_minor && e.len <= size)
			return raw_syscall(SYS_pread64, names_fd, (long)buf, e.len, at, 0, 0) == (long)e.len ? (long)e.len : 0;
		at += e.len;
	}
	return 0;
}

long readlink(const char *path, char *buf, size_t size)
{
	long ret = raw_syscall(SYS_readlinkat, AT_FDCWD, (long)path, (long)buf, (long)size, 0, 0), len;
	const char *fd = preload_after(path, "/proc/self/fd/");
	struct statx st;
	int n;

	if (names_fd >= 0 && ret > 0 && fd && number_of(fd, &n) && is_deleted(buf, ret) &&
	    raw_syscall(SYS_statx, n, (long)"", AT_EMPTY_PATH, STATX_NLINK | STATX_INO, (long)&st, 0) == 0 && st.stx_nlink > 0 &&
	    (len = other_name(&st, buf, size)) > 0)
		ret = len;
	return errno_result(ret);
}

long __readlink_chk(const char *path, char *buf, size_t size, size_t room)
{
	return readlink(path, buf, size < room ? size : room);
}

bool names_own_link(int fd, const char *path)
{
	const char *name = path, *digits;
	struct statfs fs;
	int n;

	for (; *path; path++)
		if (*path == '/')
			name = path + 1;
	digits = preload_after(name, "link_remap.");
	return digits && number_of(digits, &n) && raw_syscall(SYS_fstatfs, fd, (long)&fs, 0, 0, 0, 0) == 0 && fs.f_type != NFS_SUPER_MAGIC;
}
