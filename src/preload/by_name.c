/* Part of libfsched-criu.so: the calls that criu itself makes with a path name.
 *
 * criu is root and uses path names that the job's user has chosen: in a dump it links and unlinks them, after a failed
 * restore it removes what it has made. The user can replace a directory of the user by a symbolic link at any moment
 * during or between a dump and a restore. So every call with a name is made with the job's user and groups and without
 * a capability (rights.h). Root's rights are used only for criu's own files:
 *
 * - /proc and /sys by an absolute name
 *
 * - files in criu's working directory
 *
 * - criu's cache
 *
 * - names relative to a directory that criu has opened for itself (images, /proc)
 *
 * Restored tasks have only the job's rights: restored_task.c.
 *
 * The library makes arguments of criu that begin with '@' usable ("@/proc/…" becomes a path, "@12" a number). Without
 * the library criu ends before it does anything. */
#include <linux/fcntl.h>
#include <linux/stat.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/syscall.h>

#include "preload/preload.h"
#include "trace/raw_syscall.h"
#include "preload/restored_task.h"
#include "preload/rights.h"

__attribute__((constructor)) static void by_name_begin(int argc, char **argv, char **envp)
{
	(void)envp;
	for (int i = 1; i < argc; i++)
		if (argv[i][0] == '@')
			argv[i][0] = argv[i][1] >= '0' && argv[i][1] <= '9' ? '0' : '/';
	for (int i = 1; i + 1 < argc; i++)
		if (preload_equal(argv[i], "--images-dir"))
			restored_task_images(argv[i + 1]);
}

/* ---- whose path is it? ------------------------------------------------- */

/* Advances *p to the next component of a path. Returns the length of the component, 0 at the end. */
static size_t path_component(const char **p)
{
	size_t n = 0;

	while (**p == '/')
		(*p)++;
	while ((*p)[n] && (*p)[n] != '/')
		n++;
	return n;
}

static bool component_is(const char *p, size_t n, const char *word)
{
	size_t i = 0;

	while (i < n && word[i] && p[i] == word[i])
		i++;
	return i == n && !word[i];
}

static bool path_begins_with_dir(const char *p, const char *word)
{
	size_t n = path_component(&p);

	while (component_is(p, n, ".")) {
		p += n;
		n = path_component(&p);
	}
	return component_is(p, n, word);
}

/* True for a path that stays below /proc or /sys: a link of /proc (root, cwd, fd/N) may only be the last component. */
static bool path_is_kernel_file(const char *p)
{
	bool passed_fd = false, link = false;
	size_t n;

	if (!path_begins_with_dir(p, "proc") && !path_begins_with_dir(p, "sys"))
		return false;
	for (; (n = path_component(&p)) > 0; p += n) {
		if (link || component_is(p, n, ".."))
			return false;
		link = passed_fd || component_is(p, n, "root") || component_is(p, n, "cwd") || component_is(p, n, "exe");
		passed_fd = component_is(p, n, "fd") || component_is(p, n, "map_files");
	}
	return true;
}

static bool by_name_is_root_dir(int dirfd)
{
	struct statx a, b;

	return preload_stat(dirfd, "", &a) && preload_stat(AT_FDCWD, "/", &b) && preload_same_file(&a, &b);
}

/* criu's working directory, to which criu changes by /proc/self/fd/N. */
static struct statx work_dir;

/* True for a name in the working directory, where criu writes its log and its statistics. */
static bool by_name_in_work_dir(const char *path)
{
	struct statx here;

	for (const char *p = path; *p; p++)
		if (*p == '/')
			return false;
	return preload_stat(AT_FDCWD, ".", &here) && preload_same_file(&here, &work_dir);
}

/* False for a name relative to a directory other than /: a name of an image or in /proc. */
static bool by_name_from_root(int dirfd, const char *path)
{
	return path[0] == '/' || (dirfd != AT_FDCWD && path[0] && by_name_is_root_dir(dirfd));
}

/* True if criu must use the rights of the job's user for this name. */
static bool by_name_needs_user(int dirfd, const char *path)
{
	return rights_on() && !rights_of_job() && path && (dirfd == AT_FDCWD || by_name_from_root(dirfd, path));
}

/* The same for a name that is opened. These names are criu's own: files in its working directory, its cache, the
 * directory to which it returns, /proc and /sys by an absolute name, and the device with which it probes the kernel
 * (criu opens the job's devices relative to a descriptor of /). */
static bool by_name_open_needs_user(int dirfd, const char *path)
{
	if (!by_name_needs_user(dirfd, path))
		return false;
	if (path[0] == '/')
		return !path_is_kernel_file(path) && !preload_after(path, "/run/criu") &&
		       !preload_equal(path, "/dev/net/tun");
	return dirfd != AT_FDCWD || (!preload_equal(path, ".") && !by_name_in_work_dir(path));
}

/* ---- calls ------------------------------------------------------------- */

/* A fifo in place of a file must not block criu. criu itself reports it when it has a descriptor. */
static long by_name_open_nonblocking(long (*open_call)(int dirfd, const char *path, int flags, unsigned mode),
				     int dirfd, const char *path, int flags, unsigned mode)
{
	long ret;

	if (flags & (O_PATH | O_NONBLOCK))
		return open_call(dirfd, path, flags, mode);
	ret = open_call(dirfd, path, flags | O_NONBLOCK, mode);
	if (ret >= 0)
		raw_syscall(SYS_fcntl, ret, F_SETFL, flags, 0, 0, 0);
	else if (ret == -EAGAIN) /* a process has a lease on the file: wait until it gives it up or the kernel breaks it
				  */
		ret = open_call(dirfd, path, flags, mode);
	return ret;
}

static long by_name_open_as_user(int dirfd, const char *path, int flags, unsigned mode)
{
	return rights_as_user(SYS_openat, dirfd, (long)path, flags, mode, 0);
}

static int by_name_open(int dirfd, const char *path, int flags, unsigned mode)
{
	char apart[ELIDE_PATH_MAX];
	long ret;

	path = elide_path(path, apart);
	if (terminals_open(path, &ret))
		return (int)errno_result(ret);
	if (rights_of_job())
		return (int)errno_result(dirfd == AT_FDCWD || by_name_from_root(dirfd, path)
						 ? by_name_open_nonblocking(restored_task_open, dirfd, path, flags, mode)
						 : restored_task_open_own(dirfd, path, flags, mode));
	if (reopen_job_file(dirfd, path, flags, &ret) || due_timer_info(dirfd, path, flags, &ret))
		return (int)errno_result(ret);
	if (by_name_open_needs_user(dirfd, path))
		return (int)errno_result(by_name_open_nonblocking(by_name_open_as_user, dirfd, path, flags, mode));
	ret = raw_syscall(SYS_openat, dirfd, (long)path, flags, mode, 0, 0);
	ret = reopen_denied_mapping(dirfd, path, flags, ret);
	return (int)errno_result(elide_open_parent(dirfd, path, flags, ret));
}

/* A call that changes the entry path of a directory: nr(dirfd, path, a, b). */
static int by_name_change(long nr, int dirfd, const char *path, long a, long b)
{
	return (int)errno_result(by_name_needs_user(dirfd, path) ? rights_as_user(nr, dirfd, (long)path, a, b, 0)
								 : raw_syscall(nr, dirfd, (long)path, a, b, 0, 0));
}

/* ---- what criu calls --------------------------------------------------- */

/* Declared here for the same reason as in prlimit.c. If the caller passes no mode, open() and openat() read it from a
 * register with any value, and it is not used. */
EXPORT int open(const char *path, int flags, unsigned mode);
EXPORT int open64(const char *path, int flags, unsigned mode);
EXPORT int __open_2(const char *path, int flags);
EXPORT int __open64_2(const char *path, int flags);
EXPORT int openat(int dirfd, const char *path, int flags, unsigned mode);
EXPORT int openat64(int dirfd, const char *path, int flags, unsigned mode);
EXPORT int __openat_2(int dirfd, const char *path, int flags);
EXPORT int __openat64_2(int dirfd, const char *path, int flags);
EXPORT int creat(const char *path, unsigned mode);
EXPORT int creat64(const char *path, unsigned mode);
EXPORT int unlink(const char *path);
EXPORT int unlinkat(int dirfd, const char *path, int flags);
EXPORT int rmdir(const char *path);
EXPORT int mkdirat(int dirfd, const char *path, unsigned mode);
EXPORT int mknod(const char *path, unsigned mode, unsigned long dev);
EXPORT int mknodat(int dirfd, const char *path, unsigned mode, unsigned long dev);
EXPORT int symlink(const char *target, const char *path);
EXPORT int linkat(int from, const char *old, int to, const char *new, int flags);
EXPORT int rename(const char *old, const char *new);
EXPORT int fchownat(int dirfd, const char *path, unsigned uid, unsigned gid, int flags);
EXPORT int chown(const char *path, unsigned uid, unsigned gid);
EXPORT int lchown(const char *path, unsigned uid, unsigned gid);
EXPORT int fchmodat(int dirfd, const char *path, unsigned mode, int flags);
EXPORT int chmod(const char *path, unsigned mode);
EXPORT int lutimes(const char *path, const long tv[4]);
EXPORT int chdir(const char *path);

int open(const char *path, int flags, unsigned mode)
{
	return by_name_open(AT_FDCWD, path, flags, mode);
}

int open64(const char *path, int flags, unsigned mode)
{
	return by_name_open(AT_FDCWD, path, flags, mode);
}

int __open_2(const char *path, int flags)
{
	return by_name_open(AT_FDCWD, path, flags, 0);
}

int __open64_2(const char *path, int flags)
{
	return by_name_open(AT_FDCWD, path, flags, 0);
}

int openat(int dirfd, const char *path, int flags, unsigned mode)
{
	return by_name_open(dirfd, path, flags, mode);
}

int openat64(int dirfd, const char *path, int flags, unsigned mode)
{
	return by_name_open(dirfd, path, flags, mode);
}

int __openat_2(int dirfd, const char *path, int flags)
{
	return by_name_open(dirfd, path, flags, 0);
}

int __openat64_2(int dirfd, const char *path, int flags)
{
	return by_name_open(dirfd, path, flags, 0);
}

int creat(const char *path, unsigned mode)
{
	return by_name_open(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode);
}

int creat64(const char *path, unsigned mode)
{
	return creat(path, mode);
}

int unlink(const char *path)
{
	char apart[ELIDE_PATH_MAX];

	return by_name_change(SYS_unlinkat, AT_FDCWD, elide_path(path, apart), 0, 0);
}

int unlinkat(int dirfd, const char *path, int flags)
{
	return by_name_change(SYS_unlinkat, dirfd, path, flags, 0);
}

/* True for a directory that criu makes with mkdtemp() as root, to probe the kernel. */
static bool by_name_is_probe_dir(const char *path)
{
	const char *rest = preload_after(path, "/tmp/.criu.");

	while (rest && *rest && *rest != '/')
		rest++;
	return rest && !*rest;
}

int rmdir(const char *path)
{
	if (by_name_is_probe_dir(path))
		return (int)errno_result(raw_syscall(SYS_unlinkat, AT_FDCWD, (long)path, AT_REMOVEDIR, 0, 0, 0));
	return by_name_change(SYS_unlinkat, AT_FDCWD, path, AT_REMOVEDIR, 0);
}

int mkdirat(int dirfd, const char *path, unsigned mode)
{
	return by_name_change(SYS_mkdirat, dirfd, path, (long)mode, 0);
}

int mknodat(int dirfd, const char *path, unsigned mode, unsigned long dev)
{
	return by_name_change(SYS_mknodat, dirfd, path, (long)mode, (long)dev);
}

int mknod(const char *path, unsigned mode, unsigned long dev)
{
	return mknodat(AT_FDCWD, path, mode, dev);
}

int symlink(const char *target, const char *path)
{
	return (int)errno_result(by_name_needs_user(AT_FDCWD, path)
					 ? rights_as_user(SYS_symlinkat, (long)target, AT_FDCWD, (long)path, 0, 0)
					 : raw_syscall(SYS_symlinkat, (long)target, AT_FDCWD, (long)path, 0, 0, 0));
}

int linkat(int from, const char *old, int to, const char *new, int flags)
{
	char link[PRELOAD_FD_LINK];

	if (!rights_on() || (!rights_of_job() && !by_name_needs_user(to, new)))
		return (int)errno_result(raw_syscall(SYS_linkat, from, (long)old, to, (long)new, flags, 0));
	if (!old[0] && !rights_of_job() && unlinked_names_own_link(from, new))
		return (int)errno_result(-ENOENT);
	/* An empty name would need a capability. */
	if (!old[0] && flags & AT_EMPTY_PATH) {
		preload_fd_link(from, link);
		from = AT_FDCWD;
		old = link;
		flags = AT_SYMLINK_FOLLOW;
	}
	return (int)errno_result(rights_of_job() ? raw_syscall(SYS_linkat, from, (long)old, to, (long)new, flags, 0)
						 : rights_as_user(SYS_linkat, from, (long)old, to, (long)new, flags));
}

int rename(const char *old, const char *new)
{
	char a[ELIDE_PATH_MAX], b[ELIDE_PATH_MAX];

	old = elide_path(old, a);
	new = elide_path(new, b);
	if (!by_name_needs_user(AT_FDCWD, old) || preload_after(old, "/run/criu"))
		return (int)errno_result(raw_syscall(SYS_renameat2, AT_FDCWD, (long)old, AT_FDCWD, (long)new, 0, 0));
	return (int)errno_result(rights_as_user(SYS_renameat2, AT_FDCWD, (long)old, AT_FDCWD, (long)new, 0));
}

static int by_name_chown(int dirfd, const char *path, unsigned uid, unsigned gid, int flags)
{
	return (int)errno_result(by_name_needs_user(dirfd, path)
					 ? rights_as_user(SYS_fchownat, dirfd, (long)path, uid, gid, flags)
					 : raw_syscall(SYS_fchownat, dirfd, (long)path, uid, gid, flags, 0));
}

int fchownat(int dirfd, const char *path, unsigned uid, unsigned gid, int flags)
{
	return by_name_chown(dirfd, path, uid, gid, flags);
}

int chown(const char *path, unsigned uid, unsigned gid)
{
	return by_name_chown(AT_FDCWD, path, uid, gid, 0);
}

int lchown(const char *path, unsigned uid, unsigned gid)
{
	return by_name_chown(AT_FDCWD, path, uid, gid, AT_SYMLINK_NOFOLLOW);
}

int fchmodat(int dirfd, const char *path, unsigned mode, int flags)
{
	(void)flags;
	return by_name_change(SYS_fchmodat, dirfd, path, (long)mode, 0);
}

int chmod(const char *path, unsigned mode)
{
	return fchmodat(AT_FDCWD, path, mode, 0);
}

int lutimes(const char *path, const long tv[4])
{
	const long ts[4] = { tv[0], tv[1] * 1000, tv[2], tv[3] * 1000 };

	return by_name_change(SYS_utimensat, AT_FDCWD, path, (long)ts, AT_SYMLINK_NOFOLLOW);
}

int chdir(const char *path)
{
	long ret;

	if (by_name_needs_user(AT_FDCWD, path) && !path_is_kernel_file(path))
		return (int)errno_result(rights_as_user(SYS_chdir, (long)path, 0, 0, 0, 0));
	ret = raw_syscall(SYS_chdir, (long)path, 0, 0, 0, 0, 0);
	if (ret == 0 && !rights_of_job() && !preload_stat(AT_FDCWD, ".", &work_dir))
		work_dir = (struct statx){ 0 };
	return (int)errno_result(ret);
}
