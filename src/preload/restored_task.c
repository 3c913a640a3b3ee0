/* Part of libfsched-criu.so: restored_task.h.
 *
 * A restored task makes every call that is not named here with only the rights of the job's user. A version of criu
 * that needs a capability for another call fails with EPERM, and cannot gain access by it. */
#include "preload/restored_task.h"

#include <linux/fcntl.h>
#include <linux/magic.h>
#include <linux/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>

#include "preload/preload.h"
#include "trace/raw_syscall.h"
#include "preload/rights.h"

/* Defined here, because the headers with these numbers cannot be included beside those of the kernel. */
#define LEVEL_SOCKET           1
#define OPT_SNDBUFFORCE        32
#define OPT_RCVBUFFORCE        33
#define OPT_TYPE               3
#define OPT_MARK               36
#define TYPE_RAW               3 /* SOCK_RAW */
#define TYPE_BITS              0xfu
#define PROTOCOL_RAW           255 /* IPPROTO_RAW */
#define LEVEL_TCP              6
#define OPT_TCP_REPAIR         19
#define NAMESPACE_NAME_MAX     20
#define NAMESPACE_LINK         (sizeof("/proc/self/ns/") + NAMESPACE_NAME_MAX)
#define TTY_SET_LOCKED_TERMIOS 0x5457 /* TIOCSLCKTRMIOS */

/* The directory of criu's images, and the directory of their parent images in it. */
static struct statx images, parents;

void restored_task_images(const char *path)
{
	if (!preload_stat(AT_FDCWD, path, &images))
		images = (struct statx){ 0 };
}

static bool restored_task_is_images(int dirfd)
{
	struct statx st;

	return preload_stat(dirfd, "", &st) && (preload_same_file(&images, &st) || preload_same_file(&parents, &st));
}

/* Images are root's. A capability would do on a local file system, but an NFS server looks only at the user id. */
static long restored_task_open_image(int dirfd, const char *path, int flags)
{
	long fd = rights_as_root(SYS_openat, dirfd, (long)path, flags, 0, 0);

	if (fd >= 0 && preload_equal(path, "parent") && !preload_stat((int)fd, "", &parents))
		parents = (struct statx){ 0 };
	return fd;
}

static bool restored_task_is_proc(int dirfd)
{
	struct statfs fs;

	return raw_syscall(SYS_fstatfs, dirfd, (long)&fs, 0, 0, 0, 0) == 0 && fs.f_type == PROC_SUPER_MAGIC;
}

/* ---- the job's files ------------------------------------------------------ */

#define TYPE_MASK 0170000u
#define IS_DIR    0040000u
#define IS_FILE   0100000u

/* Opens a file whose mode forbids it to its owner, the job's user. found: an O_PATH descriptor of the file. */
static long restored_task_open_as_owner(long found, const struct statx *st, int flags)
{
	const unsigned was = st->stx_mode & 07777u, more = (st->stx_mode & TYPE_MASK) == IS_DIR ? 0700u : 0600u;
	char link[PRELOAD_FD_LINK];
	long ret;

	preload_fd_link(found, link);
	ret = raw_syscall(SYS_fchmodat, AT_FDCWD, (long)link, was | more, 0, 0, 0);
	if (ret < 0)
		return ret;
	ret = raw_syscall(SYS_openat, AT_FDCWD, (long)link, flags & ~(O_NOFOLLOW | O_TRUNC), 0, 0, 0);
	raw_syscall(SYS_fchmodat, AT_FDCWD, (long)link, was, 0, 0, 0);
	return ret;
}

static long restored_task_open_denied(int dirfd, const char *path, int flags)
{
	long found = raw_syscall(SYS_openat, dirfd, (long)path, O_PATH | O_CLOEXEC | (flags & O_NOFOLLOW), 0, 0, 0),
	     ret = -EACCES;
	struct statx st;
	unsigned type;

	if (found < 0)
		return found;
	if (!preload_stat((int)found, "", &st))
		st.stx_mode = 0;
	type = st.stx_mode & TYPE_MASK;
	if (st.stx_uid == rights_uid() && (type == IS_FILE || type == IS_DIR))
		ret = restored_task_open_as_owner(found, &st, flags);
	else if (type == IS_DIR)
		return found;
	raw_syscall(SYS_close, found, 0, 0, 0, 0, 0);
	return ret;
}

/* criu opens the file of a namespace as /proc/PID/ns/NAME, by any process that is in it; only that process may do so.
 * All processes of a job are in the same namespaces, so this returns the name of the task's own file, in buf. Other
 * paths are returned as they are. */
static const char *restored_task_namespace(const char *path, char buf[NAMESPACE_LINK])
{
	const char *rest = preload_after(path, "/proc/"), *name = NULL, *p;
	char *to = buf;

	if (rest && preload_number(&rest, 1L << 30) >= 0)
		name = preload_after(rest, "/ns/");
	for (p = name; p && *p && *p != '/'; p++)
		;
	if (!p || *p || p - name > NAMESPACE_NAME_MAX)
		return path;
	preload_put(&to, "/proc/self/ns/");
	preload_put(&to, name);
	*to = '\0';
	return buf;
}

long restored_task_open(int dirfd, const char *path, int flags, unsigned mode)
{
	char own[NAMESPACE_LINK];
	long ret;

	path = restored_task_namespace(path, own);
	ret = raw_syscall(SYS_openat, dirfd, (long)path, flags, mode, 0, 0);

	return ret == -EACCES && !(flags & O_CREAT) ? restored_task_open_denied(dirfd, path, flags) : ret;
}

/* ---- criu's own files ------------------------------------------------------ */

/* A sysctl of the IPC namespace. The kernel checks the effective user id of the caller at open and at every write. */
static int sysctl = -1;

static bool has_part(const char *path, const char *part)
{
	for (; *path; path++)
		if (preload_after(path, part))
			return true;
	return false;
}

static long restored_task_open_proc(int dirfd, const char *path, int flags, unsigned mode)
{
	long fd;

	if ((preload_after(path, "sys/kernel/") || preload_after(path, "sys/fs/mqueue/")) &&
	    (flags & O_ACCMODE) != O_RDONLY) {
		fd = rights_as_root(SYS_openat, dirfd, (long)path, flags, mode, 0);
		sysctl = (int)fd;
		return fd;
	}
	/* The kernel checks the capabilities of the opener when the clock offsets are written. */
	if (preload_after(path, "self/timens_offsets") || preload_equal(path, "timens_offsets"))
		return rights_with(CAP(SYS_TIME), SYS_openat, dirfd, (long)path, flags, mode, 0, 0);
	/* A mapping of the task itself, by which criu opens anonymous shared memory again. */
	if (has_part(path, "map_files/"))
		return rights_with(CAP(CHECKPOINT_RESTORE), SYS_openat, dirfd, (long)path, flags, mode, 0, 0);
	return raw_syscall(SYS_openat, dirfd, (long)path, flags, mode, 0, 0);
}

long restored_task_open_own(int dirfd, const char *path, int flags, unsigned mode)
{
	if ((flags & (O_ACCMODE | O_CREAT)) == O_RDONLY && restored_task_is_images(dirfd))
		return restored_task_open_image(dirfd, path, flags);
	if (restored_task_is_proc(dirfd))
		return restored_task_open_proc(dirfd, path, flags, mode);
	return raw_syscall(SYS_openat, dirfd, (long)path, flags, mode, 0, 0);
}

bool restored_task_write(int fd, const void *buf, size_t n, long *ret)
{
	if (sysctl < 0 || fd != sysctl || !rights_of_job())
		return false;
	*ret = rights_as_root(SYS_write, fd, (long)buf, (long)n, 0, 0);
	sysctl = -1; /* criu writes each once */
	return true;
}

EXPORT int fstatat(int dirfd, const char *path, void *st, int flags);
EXPORT int fstatat64(int dirfd, const char *path, void *st, int flags);

/* On 64-bit machines struct stat of the C library is that of the kernel. criu checks by this call if its images have a
 * parent, and in a dump if a name leads to the job's file. In a home directory on NFS only its owner may look, and not
 * root. */
int fstatat(int dirfd, const char *path, void *st, int flags)
{
	long ret;

	if (rights_of_job() && restored_task_is_images(dirfd))
		return (int)errno_result(rights_as_root(SYS_newfstatat, dirfd, (long)path, (long)st, flags, 0));
	ret = raw_syscall(SYS_newfstatat, dirfd, (long)path, (long)st, flags, 0, 0);
	if (ret == -EACCES && rights_on() && !rights_of_job())
		ret = rights_as_user(SYS_newfstatat, dirfd, (long)path, (long)st, flags, 0);
	return (int)errno_result(ret);
}

int fstatat64(int dirfd, const char *path, void *st, int flags)
{
	return fstatat(dirfd, path, st, flags);
}

/* ---- calls without a name --------------------------------------------------- */

uint64_t restored_task_ioctl_caps(unsigned long request)
{
	return request == TTY_SET_LOCKED_TERMIOS ? CAP(CHECKPOINT_RESTORE) | CAP(SYS_ADMIN) : 0;
}

uint64_t restored_task_syscall_caps(long nr)
{
	switch (nr) {
	case SYS_clone3: /* with a pid of criu's choice, however many processes the user has */
		return CAP(CHECKPOINT_RESTORE) | CAP(SYS_RESOURCE);
	case SYS_fsopen: /* criu's own /proc, which is mounted nowhere */
	case SYS_fsconfig:
	case SYS_fsmount: return CAP(SYS_ADMIN);
	default: return 0;
	}
}

EXPORT unsigned getuid(void);
EXPORT unsigned umask(unsigned mask);
EXPORT int chroot(const char *path);
EXPORT int unshare(int flags);
EXPORT int setns(int fd, int type);
EXPORT int socket(int family, int type, int protocol);
EXPORT int setsockopt(int fd, int level, int name, const void *value, unsigned len);
EXPORT void *shmat(int id, const void *addr, int flags);
EXPORT int shmctl(int id, int cmd, void *buf);
EXPORT int semctl(int id, int n, int cmd, long arg);
EXPORT int msgctl(int id, int cmd, void *buf);
EXPORT int msgsnd(int id, const void *msg, size_t n, int flags);

/* criu checks if it has to become root first. */
unsigned getuid(void)
{
	return rights_of_job() ? 0 : (unsigned)raw_syscall(SYS_getuid, 0, 0, 0, 0, 0, 0);
}

/* criu's last step before its restorer takes over is to close descriptors. The step before sets the working directory
 * and the umask. */
unsigned umask(unsigned mask)
{
	unsigned old = (unsigned)raw_syscall(SYS_umask, mask, 0, 0, 0, 0, 0);

	rights_for_restorer();
	return old;
}

int chroot(const char *path)
{
	return (int)errno_result(rights_with(CAP(SYS_CHROOT), SYS_chroot, (long)path, 0, 0, 0, 0, 0));
}

/* For the time namespace. */
int unshare(int flags)
{
	return (int)errno_result(rights_with(CAP(SYS_ADMIN), SYS_unshare, flags, 0, 0, 0, 0, 0));
}

int setns(int fd, int type)
{
	return (int)errno_result(rights_with(CAP(SYS_ADMIN), SYS_setns, fd, type, 0, 0, 0, 0));
}

/* True for a raw socket of criu, by which it sends the end of a stream (FIN) to a socket of the job, with a mark. A job
 * has no raw sockets. */
static bool is_fin_socket(int family, int type, int protocol)
{
	return (family == 2 || family == 10) && ((unsigned)type & TYPE_BITS) == TYPE_RAW && protocol == PROTOCOL_RAW;
}

int socket(int family, int type, int protocol)
{
	return (int)errno_result(rights_with(is_fin_socket(family, type, protocol) ? CAP(NET_RAW) : 0, SYS_socket,
					     family, type, protocol, 0, 0, 0));
}

static bool is_raw(int fd)
{
	int type = 0;
	unsigned n = sizeof(type);

	return raw_syscall(SYS_getsockopt, fd, LEVEL_SOCKET, OPT_TYPE, (long)&type, (long)&n, 0) == 0 && type == TYPE_RAW;
}

/* No process of a job can set a mark. A mark that a socket has was set by a rule of the node, so it is only compared.
 */
static long restored_task_keep_mark(int fd, const void *value, unsigned len)
{
	unsigned now = 0, n = sizeof(now);
	long ret;

	if (is_raw(fd))
		return rights_with(CAP(NET_RAW) | CAP(NET_ADMIN), SYS_setsockopt, fd, LEVEL_SOCKET, OPT_MARK,
				   (long)value, len, 0);
	ret = raw_syscall(SYS_getsockopt, fd, LEVEL_SOCKET, OPT_MARK, (long)&now, (long)&n, 0);
	if (ret < 0)
		return ret;
	return len == sizeof(now) && now == *(const unsigned *)value ? 0 : -EPERM;
}

int setsockopt(int fd, int level, int name, const void *value, unsigned len)
{
	const bool force = level == LEVEL_SOCKET && (name == OPT_SNDBUFFORCE || name == OPT_RCVBUFFORCE);
	const bool repair = level == LEVEL_TCP && name == OPT_TCP_REPAIR;
	long ret;

	if (tcp_closed_setsockopt(fd, level, name, value, len, &ret) || tcp_setsockopt(fd, level, name, value, len, &ret))
		return (int)errno_result(ret);
	if (rights_of_job() && level == LEVEL_SOCKET && name == OPT_MARK)
		return (int)errno_result(restored_task_keep_mark(fd, value, len));
	/* The old socket got these from the kernel: buffers that have grown, the state of a connection. */
	return (int)errno_result(rights_with(force || repair ? CAP(NET_ADMIN) : 0, SYS_setsockopt, fd, level, name,
					     (long)value, len, 0));
}

/* For System V objects whose mode forbids the call to their owner. */
static long restored_task_ipc(long nr, long a, long b, long c, long d)
{
	return errno_result(rights_with(CAP(IPC_OWNER), nr, a, b, c, d, 0, 0));
}

void *shmat(int id, const void *addr, int flags)
{
	return (void *)restored_task_ipc(SYS_shmat, id, (long)addr, flags, 0);
}

int shmctl(int id, int cmd, void *buf)
{
	return (int)restored_task_ipc(SYS_shmctl, id, cmd, (long)buf, 0);
}

int semctl(int id, int n, int cmd, long arg)
{
	return (int)restored_task_ipc(SYS_semctl, id, n, cmd, arg);
}

int msgctl(int id, int cmd, void *buf)
{
	return (int)restored_task_ipc(SYS_msgctl, id, cmd, (long)buf, 0);
}

int msgsnd(int id, const void *msg, size_t n, int flags)
{
	return (int)restored_task_ipc(SYS_msgsnd, id, (long)msg, (long)n, flags);
}
