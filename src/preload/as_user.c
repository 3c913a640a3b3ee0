/* Part of libfsched-criu.so, which is loaded into criu, and only into criu: the job's files with the job's rights.
 *
 * criu is root and goes by path names that the job's user chose: it opens, links, unlinks, binds and chowns them. Between checkpoint
 * and restore, and at any moment of a restore, the user can put a symbolic link in place of a directory of his; a job that had
 * DIR/secret open would then get root's file of that name, and one that listens on DIR/socket would replace a daemon's socket. So every
 * call by name is made with the job's user as file system user (setfsuid: root's capabilities over files are off meanwhile).
 *
 * Three things stay root's: criu's own files; files of the job's own that their mode forbids to open again, since their owner could
 * change that; and names in directories that root alone can change, none of them reached over a symbolic link, where the name still
 * means what it meant when the kernel reported it (a library that an upgrade has replaced, a directory that may be entered but not
 * read). Devices never.
 *
 * FSCHED_JOB=UID:GID:GROUP,GROUP… in criu's environment turns this on. Arguments of criu that begin with '@' are made usable here
 * ("@/proc/…" a path, "@12" a number): without this library criu ends before it does anything. */
#include <linux/fcntl.h>
#include <linux/prctl.h>
#include <linux/stat.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/syscall.h>

#include "preload.h"
#include "raw_syscall.h"

#define GROUPS_MAX 65536

static struct { bool on; uint32_t uid, gid; } job;

/* ---- environment and arguments ----------------------------------------- */

static _Noreturn void give_up(void)
{
	static const char text[] = "Error (fsched): criu cannot take on the rights of the job's user\n";

	raw_syscall(SYS_write, 2, (long)text, sizeof(text) - 1, 0, 0, 0);
	for (;;)
		raw_syscall(SYS_exit_group, 1, 0, 0, 0, 0, 0);
}

static uint32_t number(const char **p)
{
	uint64_t n = 0;

	if (**p < '0' || **p > '9')
		give_up();
	for (; **p >= '0' && **p <= '9'; (*p)++) {
		n = n * 10 + (uint64_t)(**p - '0');
		if (n >= UINT32_MAX)
			give_up();
	}
	return (uint32_t)n;
}

static void take_credentials(const char *p)
{
	static uint32_t groups[GROUPS_MAX];
	long n = 0;

	job.uid = number(&p);
	if (*p++ != ':')
		give_up();
	job.gid = number(&p);
	if (*p++ != ':')
		give_up();
	while (*p && n < GROUPS_MAX) {
		groups[n++] = number(&p);
		p += *p == ',';
	}
	if (*p)
		give_up();
	job.on = job.uid != 0;
	/* For good: root has no need of groups, and restored tasks get their own from the image. */
	if (job.on && raw_syscall(SYS_setgroups, n, (long)groups, 0, 0, 0, 0) < 0)
		give_up();
}

__attribute__((constructor)) static void begin(int argc, char **argv, char **envp)
{
	const char *value;

	for (; *envp; envp++)
		if ((value = preload_after(*envp, "FSCHED_JOB=")))
			take_credentials(value);
	for (int i = 1; i < argc; i++)
		if (argv[i][0] == '@')
			argv[i][0] = argv[i][1] >= '0' && argv[i][1] <= '9' ? '0' : '/';
}

/* ---- whose path is it? ------------------------------------------------- */

/* The next component of a path, without it being cut out. Returns its length, 0 at the end. */
static size_t component(const char **p)
{
	size_t n = 0;

	while (**p == '/')
		(*p)++;
	while ((*p)[n] && (*p)[n] != '/')
		n++;
	return n;
}

static bool is(const char *p, size_t n, const char *word)
{
	size_t i = 0;

	while (i < n && word[i] && p[i] == word[i])
		i++;
	return i == n && !word[i];
}

static bool begins_with_dir(const char *p, const char *word)
{
	size_t n = component(&p);

	while (is(p, n, ".")) {
		p += n;
		n = component(&p);
	}
	return is(p, n, word);
}

/* Below /proc or /sys and nowhere else: a link of /proc (root, cwd, fd/N) may stand at the end only. */
static bool is_kernels(const char *p)
{
	bool passed_fd = false, link = false;
	size_t n;

	if (!begins_with_dir(p, "proc") && !begins_with_dir(p, "sys"))
		return false;
	for (; (n = component(&p)) > 0; p += n) {
		if (link || is(p, n, ".."))
			return false;
		link = passed_fd || is(p, n, "root") || is(p, n, "cwd") || is(p, n, "exe");
		passed_fd = is(p, n, "fd") || is(p, n, "map_files");
	}
	return true;
}

static bool look(int dirfd, const char *path, struct statx *st)
{
	return raw_syscall(SYS_statx, dirfd, (long)path, path[0] ? 0 : AT_EMPTY_PATH, STATX_INO, (long)st, 0) == 0;
}

static bool same(const struct statx *a, const struct statx *b)
{
	return a->stx_ino == b->stx_ino && a->stx_dev_major == b->stx_dev_major && a->stx_dev_minor == b->stx_dev_minor;
}

static bool is_root_dir(int dirfd)
{
	struct statx a, b;

	return look(dirfd, "", &a) && look(AT_FDCWD, "/", &b) && same(&a, &b);
}

/* criu's working directory, which it enters as /proc/self/fd/N. */
static struct statx work_dir;

/* A name in it, where criu writes its log and its statistics. */
static bool in_work_dir(const char *path)
{
	struct statx here;

	for (const char *p = path; *p; p++)
		if (*p == '/')
			return false;
	return look(AT_FDCWD, ".", &here) && same(&here, &work_dir);
}

/* Names relative to other directories than / are those of images and of /proc. */
static bool from_the_root(int dirfd, const char *path)
{
	return path[0] == '/' || (dirfd != AT_FDCWD && path[0] && is_root_dir(dirfd));
}

static bool users(int dirfd, const char *path)
{
	return job.on && path && (dirfd == AT_FDCWD || from_the_root(dirfd, path));
}

/* criu's own among the names that are opened: what lies in its working directory, its cache, the directory to which it comes back,
 * and the device by which it finds out about the kernel (the job's go by a descriptor of /). */
static bool opened_by_user(int dirfd, const char *path)
{
	if (!users(dirfd, path))
		return false;
	if (from_the_root(dirfd, path))
		return !is_kernels(path) && !preload_after(path, "/run/criu") && !preload_equal(path, "/dev/net/tun");
	return !preload_equal(path, ".") && !in_work_dir(path);
}

/* ---- calls ------------------------------------------------------------- */

/* A change of rights makes the kernel forget that criu is to die with its parent. */
static int death_signal(void)
{
	int sig = 0;

	raw_syscall(SYS_prctl, PR_GET_PDEATHSIG, (long)&sig, 0, 0, 0, 0);
	return sig;
}

static void set_death_signal(int sig)
{
	if (sig)
		raw_syscall(SYS_prctl, PR_SET_PDEATHSIG, sig, 0, 0, 0, 0);
}

static long as_user(long nr, long a, long b, long c, long d, long e)
{
	int sig = death_signal();
	long ret;

	raw_syscall(SYS_setfsgid, job.gid, 0, 0, 0, 0, 0);
	raw_syscall(SYS_setfsuid, job.uid, 0, 0, 0, 0, 0);
	ret = raw_syscall(nr, a, b, c, d, e, 0);
	raw_syscall(SYS_setfsuid, 0, 0, 0, 0, 0, 0);
	raw_syscall(SYS_setfsgid, 0, 0, 0, 0, 0, 0);
	set_death_signal(sig);
	return ret;
}

/* Where the kernel notes who did it: SO_PEERCRED of a restored socket must not say root. */
static long as_effective_user(long nr, long a, long b, long c, long d)
{
	int sig = death_signal();
	long ret;

	raw_syscall(SYS_setresgid, -1, job.gid, -1, 0, 0, 0);
	raw_syscall(SYS_setresuid, -1, job.uid, -1, 0, 0, 0);
	ret = raw_syscall(nr, a, b, c, d, 0, 0);
	raw_syscall(SYS_setresuid, -1, 0, -1, 0, 0, 0);
	raw_syscall(SYS_setresgid, -1, 0, -1, 0, 0, 0);
	set_death_signal(sig);
	return ret;
}

static bool denied(long ret)
{
	return ret == -EACCES || ret == -EPERM;
}

static long open_dir(int dirfd, const char *name)
{
	return raw_syscall(SYS_openat, dirfd, (long)name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC, 0, 0, 0);
}

static bool roots_alone(int fd)
{
	struct statx st;

	return raw_syscall(SYS_statx, fd, (long)"", AT_EMPTY_PATH, STATX_UID | STATX_MODE, (long)&st, 0) == 0 &&
	       st.stx_uid == 0 && !(st.stx_mode & 022);
}

/* The directory of a path from / on if root alone can change it and all above it, none a symbolic link; else negative.
 * name: room for the last component. */
static long trusted_dir(const char *path, char name[256])
{
	long fd = open_dir(AT_FDCWD, "/"), next;
	size_t n = component(&path), i;

	while (n > 0 && n < 256 && fd >= 0 && roots_alone((int)fd)) {
		const char *rest = path + n;

		for (i = 0; i < n; i++)
			name[i] = path[i];
		name[n] = '\0';
		n = component(&rest);
		if (n == 0)
			return is(name, i, "..") || is(name, i, ".") ? -EACCES : fd;
		/* "." is entered, ".." ends at a directory that is looked at like any other */
		next = open_dir((int)fd, name);
		raw_syscall(SYS_close, fd, 0, 0, 0, 0, 0);
		fd = next;
		path = rest;
	}
	if (fd >= 0)
		raw_syscall(SYS_close, fd, 0, 0, 0, 0, 0);
	return -EACCES;
}

static void proc_link(long fd, char out[32])
{
	const char *head = "/proc/self/fd/";
	char digits[12];
	int n = 0, k = 0;

	while (*head)
		out[k++] = *head++;
	do
		digits[n++] = (char)('0' + fd % 10);
	while ((fd /= 10) > 0);
	while (n > 0)
		out[k++] = digits[--n];
	out[k] = '\0';
}

/* Opens what an O_PATH descriptor stands for, as root: a file or directory, with owner that of the job if asked. */
static long open_found(long found, int flags, bool owned)
{
	struct statx st;
	char link[32];
	long ret = -EACCES;

	if (found < 0)
		return ret;
	if (raw_syscall(SYS_statx, found, (long)"", AT_EMPTY_PATH, STATX_TYPE | STATX_UID, (long)&st, 0) == 0 &&
	    ((st.stx_mode & 0170000) == 0100000 || (st.stx_mode & 0170000) == 0040000) && (!owned || st.stx_uid == job.uid)) {
		proc_link(found, link);
		ret = raw_syscall(SYS_openat, AT_FDCWD, (long)link, flags & ~(O_NOFOLLOW | O_TRUNC), 0, 0, 0);
	}
	raw_syscall(SYS_close, found, 0, 0, 0, 0, 0);
	return ret;
}

/* Neither is a way to what the user could not have. */
static long open_otherwise(int dirfd, const char *path, int flags, unsigned mode)
{
	char name[256];
	long dir, ret;

	ret = flags & O_CREAT ? -EACCES : open_found(as_user(SYS_openat, dirfd, (long)path, O_PATH | O_CLOEXEC, 0, 0), flags, true);
	if (ret >= 0 || !from_the_root(dirfd, path))
		return ret;
	dir = trusted_dir(path, name);
	if (dir < 0)
		return ret;
	if (flags & O_CREAT && flags & O_EXCL)
		ret = raw_syscall(SYS_openat, dir, (long)name, flags | O_NOFOLLOW, mode, 0, 0);
	else if (!(flags & O_CREAT))
		ret = open_found(raw_syscall(SYS_openat, dir, (long)name, O_PATH | O_NOFOLLOW | O_CLOEXEC, 0, 0, 0), flags, false);
	raw_syscall(SYS_close, dir, 0, 0, 0, 0, 0);
	return ret;
}

static long open_users(int dirfd, const char *path, int flags, unsigned mode)
{
	long ret = as_user(SYS_openat, dirfd, (long)path, flags, mode, 0), other;

	if (denied(ret) && (other = open_otherwise(dirfd, path, flags, mode)) >= 0)
		ret = other;
	return ret;
}

static int open_as(int dirfd, const char *path, int flags, unsigned mode)
{
	char apart[ELIDE_PATH_MAX];
	long ret;

	path = elide_path(path, apart);
	if (!opened_by_user(dirfd, path)) {
		ret = raw_syscall(SYS_openat, dirfd, (long)path, flags, mode, 0, 0);
		return (int)errno_result(elide_open_parent(dirfd, path, flags, ret));
	}
	if (flags & (O_PATH | O_NONBLOCK))
		return (int)errno_result(open_users(dirfd, path, flags, mode));
	/* A fifo in place of the file must not stop criu. It says so itself once it has a descriptor. */
	ret = open_users(dirfd, path, flags | O_NONBLOCK, mode);
	if (ret >= 0)
		raw_syscall(SYS_fcntl, ret, F_SETFL, flags, 0, 0, 0);
	else if (ret == -EAGAIN) /* somebody has a lease on it, and gets the time that the kernel gives him */
		ret = open_users(dirfd, path, flags, mode);
	return (int)errno_result(ret);
}

/* A call that changes the entry path of a directory: nr(dirfd, path, a, b). */
static int change(long nr, int dirfd, const char *path, long a, long b, bool trust)
{
	char name[256];
	long ret, dir;

	if (!users(dirfd, path))
		return (int)errno_result(raw_syscall(nr, dirfd, (long)path, a, b, 0, 0));
	ret = as_user(nr, dirfd, (long)path, a, b, 0);
	if (denied(ret) && trust && from_the_root(dirfd, path) && (dir = trusted_dir(path, name)) >= 0) {
		ret = raw_syscall(nr, dir, (long)name, a, b, 0, 0);
		raw_syscall(SYS_close, dir, 0, 0, 0, 0, 0);
	}
	return (int)errno_result(ret);
}

/* A ghost (a file that was deleted while open) in the directories of the system, e.g. a library before an upgrade. */
static long link_trusted(int from, const char *old, int to, const char *new)
{
	char old_name[256], new_name[256];
	long a, b, ret = -EACCES;

	if (!from_the_root(from, old) || !from_the_root(to, new))
		return ret;
	a = trusted_dir(old, old_name);
	b = trusted_dir(new, new_name);
	if (a >= 0 && b >= 0)
		ret = raw_syscall(SYS_linkat, a, (long)old_name, b, (long)new_name, 0, 0);
	if (a >= 0)
		raw_syscall(SYS_close, a, 0, 0, 0, 0, 0);
	if (b >= 0)
		raw_syscall(SYS_close, b, 0, 0, 0, 0, 0);
	return ret;
}

/* ---- what criu calls --------------------------------------------------- */

/* Declared here for the same reason as in prlimit.c. open() and openat() take their mode from where it lies or, without one, from
 * a register that nobody looks at then. */
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
EXPORT int bind(int sk, const void *addr, unsigned len);
EXPORT int connect(int sk, const void *addr, unsigned len);
EXPORT int listen(int sk, int backlog);
EXPORT int socketpair(int domain, int type, int protocol, int sv[2]);

int open(const char *path, int flags, unsigned mode)
{
	return open_as(AT_FDCWD, path, flags, mode);
}

int open64(const char *path, int flags, unsigned mode)
{
	return open_as(AT_FDCWD, path, flags, mode);
}

int __open_2(const char *path, int flags)
{
	return open_as(AT_FDCWD, path, flags, 0);
}

int __open64_2(const char *path, int flags)
{
	return open_as(AT_FDCWD, path, flags, 0);
}

int openat(int dirfd, const char *path, int flags, unsigned mode)
{
	return open_as(dirfd, path, flags, mode);
}

int openat64(int dirfd, const char *path, int flags, unsigned mode)
{
	return open_as(dirfd, path, flags, mode);
}

int __openat_2(int dirfd, const char *path, int flags)
{
	return open_as(dirfd, path, flags, 0);
}

int __openat64_2(int dirfd, const char *path, int flags)
{
	return open_as(dirfd, path, flags, 0);
}

int creat(const char *path, unsigned mode)
{
	return open_as(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode);
}

int creat64(const char *path, unsigned mode)
{
	return creat(path, mode);
}

int unlink(const char *path)
{
	char apart[ELIDE_PATH_MAX];

	return change(SYS_unlinkat, AT_FDCWD, elide_path(path, apart), 0, 0, true);
}

int unlinkat(int dirfd, const char *path, int flags)
{
	/* Sockets go by names of the user's own making, without a descriptor: they say nothing about what was there. */
	return change(SYS_unlinkat, dirfd, path, flags, 0, dirfd != AT_FDCWD);
}

/* Made by mkdtemp() as root, to find out about the kernel. */
static bool is_probe(const char *path)
{
	const char *rest = preload_after(path, "/tmp/.criu.");

	while (rest && *rest && *rest != '/')
		rest++;
	return rest && !*rest;
}

int rmdir(const char *path)
{
	if (is_probe(path))
		return (int)errno_result(raw_syscall(SYS_unlinkat, AT_FDCWD, (long)path, AT_REMOVEDIR, 0, 0, 0));
	return change(SYS_unlinkat, AT_FDCWD, path, AT_REMOVEDIR, 0, false);
}

int mkdirat(int dirfd, const char *path, unsigned mode)
{
	return change(SYS_mkdirat, dirfd, path, (long)mode, 0, false);
}

int mknodat(int dirfd, const char *path, unsigned mode, unsigned long dev)
{
	return change(SYS_mknodat, dirfd, path, (long)mode, (long)dev, false);
}

int mknod(const char *path, unsigned mode, unsigned long dev)
{
	return mknodat(AT_FDCWD, path, mode, dev);
}

int symlink(const char *target, const char *path)
{
	if (!users(AT_FDCWD, path))
		return (int)errno_result(raw_syscall(SYS_symlinkat, (long)target, AT_FDCWD, (long)path, 0, 0, 0));
	return (int)errno_result(as_user(SYS_symlinkat, (long)target, AT_FDCWD, (long)path, 0, 0));
}

int linkat(int from, const char *old, int to, const char *new, int flags)
{
	char link[32];
	long ret;

	if (!users(to, new))
		return (int)errno_result(raw_syscall(SYS_linkat, from, (long)old, to, (long)new, flags, 0));
	/* An empty name would need the capability that is off. */
	if (!old[0] && flags & AT_EMPTY_PATH) {
		proc_link(from, link);
		return (int)errno_result(as_user(SYS_linkat, AT_FDCWD, (long)link, to, (long)new, AT_SYMLINK_FOLLOW));
	}
	ret = as_user(SYS_linkat, from, (long)old, to, (long)new, flags);
	if (denied(ret))
		ret = link_trusted(from, old, to, new);
	return (int)errno_result(ret);
}

int rename(const char *old, const char *new)
{
	char a[ELIDE_PATH_MAX], b[ELIDE_PATH_MAX];
	const int fresh = 0;

	old = elide_path(old, a);
	new = elide_path(new, b);
	if (!job.on || preload_after(old, "/run/criu"))
		return (int)errno_result(raw_syscall(SYS_renameat2, AT_FDCWD, (long)old, AT_FDCWD, (long)new, fresh, 0));
	return (int)errno_result(as_user(SYS_renameat2, AT_FDCWD, (long)old, AT_FDCWD, (long)new, fresh));
}

static int chown_at(int dirfd, const char *path, unsigned uid, unsigned gid, int flags)
{
	char name[256];
	long ret, dir;

	if (!users(dirfd, path))
		return (int)errno_result(raw_syscall(SYS_fchownat, dirfd, (long)path, uid, gid, flags, 0));
	ret = as_user(SYS_fchownat, dirfd, (long)path, uid, gid, flags);
	/* Only ghosts have NOFOLLOW here, sockets do not. */
	if (denied(ret) && flags & AT_SYMLINK_NOFOLLOW && (dir = trusted_dir(path, name)) >= 0) {
		ret = raw_syscall(SYS_fchownat, dir, (long)name, uid, gid, AT_SYMLINK_NOFOLLOW, 0);
		raw_syscall(SYS_close, dir, 0, 0, 0, 0, 0);
	}
	return (int)errno_result(ret);
}

int fchownat(int dirfd, const char *path, unsigned uid, unsigned gid, int flags)
{
	return chown_at(dirfd, path, uid, gid, flags);
}

int chown(const char *path, unsigned uid, unsigned gid)
{
	return chown_at(AT_FDCWD, path, uid, gid, 0);
}

int lchown(const char *path, unsigned uid, unsigned gid)
{
	return chown_at(AT_FDCWD, path, uid, gid, AT_SYMLINK_NOFOLLOW);
}

int fchmodat(int dirfd, const char *path, unsigned mode, int flags)
{
	(void)flags;
	return change(SYS_fchmodat, dirfd, path, (long)mode, 0, true);
}

int chmod(const char *path, unsigned mode)
{
	return fchmodat(AT_FDCWD, path, mode, 0);
}

int lutimes(const char *path, const long tv[4])
{
	const long ts[4] = { tv[0], tv[1] * 1000, tv[2], tv[3] * 1000 };

	return change(SYS_utimensat, AT_FDCWD, path, (long)ts, AT_SYMLINK_NOFOLLOW, true);
}

int chdir(const char *path)
{
	long ret;

	if (job.on && !is_kernels(path))
		return (int)errno_result(as_user(SYS_chdir, (long)path, 0, 0, 0, 0));
	ret = raw_syscall(SYS_chdir, (long)path, 0, 0, 0, 0, 0);
	if (ret == 0 && !look(AT_FDCWD, ".", &work_dir))
		work_dir = (struct statx){ 0 };
	return (int)errno_result(ret);
}

/* A UNIX socket with a name in the file system. */
static bool has_path(const void *addr, unsigned len)
{
	const struct { unsigned short family; char path[1]; } *un = addr;

	return job.on && addr && len > 2 && un->family == 1 && un->path[0];
}

int bind(int sk, const void *addr, unsigned len)
{
	return (int)errno_result(has_path(addr, len) ? as_user(SYS_bind, sk, (long)addr, len, 0, 0)
						     : raw_syscall(SYS_bind, sk, (long)addr, len, 0, 0, 0));
}

static bool is_unix(const void *addr, unsigned len)
{
	return job.on && addr && len >= 2 && *(const unsigned short *)addr == 1;
}

int connect(int sk, const void *addr, unsigned len)
{
	return (int)errno_result(is_unix(addr, len) ? as_effective_user(SYS_connect, sk, (long)addr, len, 0)
						    : raw_syscall(SYS_connect, sk, (long)addr, len, 0, 0, 0));
}

int listen(int sk, int backlog)
{
	return (int)errno_result(job.on ? as_effective_user(SYS_listen, sk, backlog, 0, 0)
					: raw_syscall(SYS_listen, sk, backlog, 0, 0, 0, 0));
}

int socketpair(int domain, int type, int protocol, int sv[2])
{
	return (int)errno_result(job.on ? as_effective_user(SYS_socketpair, domain, type, protocol, (long)sv)
					: raw_syscall(SYS_socketpair, domain, type, protocol, (long)sv, 0, 0));
}
