/* Part of libfsched-criu.so: the names of open files that have lost theirs (unlinked_names.h).
 *
 * A file may have lost the name by which it was opened and still have another one (a hard link). criu would make a link
 * of its own in the user's directory and remove it when the job continues, and the images could not be restored.
 * Therefore the library gives criu another name that leads to the file, and criu saves it like any other file. If criu
 * makes such a link nevertheless, the worker does not know the file, and the call fails. (On NFS a deleted file has a
 * name; there the worker permits the link for a job that stops.)
 *
 * criu saves the content of a deleted file, and a restore makes the file again, under the name and with the owner that
 * criu has read. If the job's user may not make a file where it was, the library gives criu another name, and the user
 * as the owner.
 *
 * criu reads names with readlink() of /proc/self/fd/N, and owners with fstat(). */
#include <asm/stat.h>
#include <linux/fcntl.h>
#include <linux/magic.h>
#include <linux/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>

#include "preload/unlinked_names.h"
#include "preload/preload.h"
#include "trace/raw_syscall.h"

/* Declared here for the same reason as in prlimit.c. */
EXPORT long readlink(const char *path, char *buf, size_t size);
EXPORT long __readlink_chk(const char *path, char *buf, size_t size, size_t room);
EXPORT int fstat(int fd, struct stat *st);
EXPORT int fstat64(int fd, struct stat *st);
EXPORT int __fxstat(int version, int fd, struct stat *st);
EXPORT int __fxstat64(int version, int fd, struct stat *st);

static int names_fd = -1;

static bool unlinked_names_number(const char *text, int *n)
{
	*n = (int)preload_number(&text, 1 << 30);
	return *n >= 0 && !*text;
}

__attribute__((constructor)) static void unlinked_names_begin(int argc, char **argv, char **envp)
{
	const char *value;

	(void)argc;
	(void)argv;
	for (; *envp; envp++)
		if ((value = preload_after(*envp, "FSCHED_NAMES=")) && !unlinked_names_number(value, &names_fd))
			names_fd = -1;
}

static bool unlinked_names_is_deleted(const char *name, long len)
{
	static const char mark[] = " (deleted)";
	const long n = sizeof(mark) - 1;

	for (long i = 0; i < n; i++)
		if (len <= n || name[len - n + i] != mark[i])
			return false;
	return true;
}

/* Finds the entry of an open file; *at is the offset of its name. Returns false if there is none. */
static bool unlinked_names_find(int fd, struct unlinked_name *e, long *at)
{
	struct statx st;

	if (names_fd < 0 || raw_syscall(SYS_statx, fd, (long)"", AT_EMPTY_PATH, STATX_NLINK | STATX_INO, (long)&st, 0))
		return false;
	for (*at = 0; raw_syscall(SYS_pread64, names_fd, (long)e, sizeof(*e), *at, 0, 0) == (long)sizeof(*e);
	     *at += e->len) {
		*at += (long)sizeof(*e);
		if (e->deleted < UNLINKED_NAME_MOVED && e->ino == st.stx_ino && e->major == st.stx_dev_major &&
		    e->minor == st.stx_dev_minor && !e->deleted == !!st.stx_nlink)
			return true;
	}
	return false;
}

long readlink(const char *path, char *buf, size_t size)
{
	long ret = raw_syscall(SYS_readlinkat, AT_FDCWD, (long)path, (long)buf, (long)size, 0, 0), at;
	const char *fd = preload_after(path, "/proc/self/fd/");
	struct unlinked_name e;
	int n;

	if (ret > 0 && fd && unlinked_names_number(fd, &n) && unlinked_names_is_deleted(buf, ret) &&
	    unlinked_names_find(n, &e, &at) && e.len <= size)
		ret = raw_syscall(SYS_pread64, names_fd, (long)buf, e.len, at, 0, 0);
	else if (ret > 0 && fd && unlinked_names_number(fd, &n))
		ret = moved_sockets_name(n, buf, ret, size);
	return errno_result(ret);
}

long __readlink_chk(const char *path, char *buf, size_t size, size_t room)
{
	return readlink(path, buf, size < room ? size : room);
}

/* struct stat of the C libraries is that of the kernel. */
static int unlinked_names_fstat(int fd, struct stat *st)
{
	long ret = raw_syscall(SYS_fstat, fd, (long)st, 0, 0, 0, 0), at;
	struct unlinked_name e;

	if (ret == 0 && st->st_nlink == 0 && unlinked_names_find(fd, &e, &at)) {
		st->st_uid = e.uid;
		st->st_gid = e.gid;
	}
	return (int)errno_result(ret);
}

int fstat(int fd, struct stat *st)
{
	return unlinked_names_fstat(fd, st);
}

int fstat64(int fd, struct stat *st)
{
	return unlinked_names_fstat(fd, st);
}

int __fxstat(int version, int fd, struct stat *st)
{
	(void)version;
	return unlinked_names_fstat(fd, st);
}

int __fxstat64(int version, int fd, struct stat *st)
{
	(void)version;
	return unlinked_names_fstat(fd, st);
}

bool unlinked_names_given(void)
{
	return names_fd >= 0;
}

bool unlinked_names_own_link(int fd, const char *path)
{
	const char *name = path, *digits;
	struct statfs fs;
	int n;

	for (; *path; path++)
		if (*path == '/')
			name = path + 1;
	digits = preload_after(name, "link_remap.");
	return digits && unlinked_names_number(digits, &n) &&
	       raw_syscall(SYS_fstatfs, fd, (long)&fs, 0, 0, 0, 0) == 0 && fs.f_type != NFS_SUPER_MAGIC;
}
