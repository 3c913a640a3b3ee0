/* Part of libfsched-criu.so: leaves memory out of a dump.
 *
 * If the kernel tracks writes (--track-mem), criu leaves out pages that a parent image has and that are clean since
 * then. The library tells criu that the kernel tracks writes and that every page is clean, and the dummy parent
 * (criu/dummy_parent.h) says that it has every page. So criu writes of the private memory of a process only the list of
 * pages, without the pages. fsched copies the pages itself. Nothing else in the dump changes. criu 3.17 to 4.2 use the
 * four calls below to look for dirty pages.
 *
 * If the kernel does track writes, criu's write to clear_refs, which restarts the tracking, is dropped as well: the
 * tracking does not belong to criu here.
 *
 * FSCHED_ELIDE=1 in criu's environment turns this on. Without it every call is passed on unchanged.
 *
 * FSCHED_ELIDE_SHARED=1 leaves out shared memory (anonymous and memfds) as well: criu looks for data with SEEK_DATA,
 * and the library answers that there is none. It keeps a list of these objects for fsched (trace/remote_call.h). criu
 * saves the following itself:
 *
 * - System V segments
 *
 * - huge pages
 *
 * - small objects (ELIDE_SHARED_MIN)
 *
 * - memfds that are sealed against writing, because nobody could fill them after the restore */
#include <linux/fcntl.h>
#include <linux/ioctl.h>
#include <linux/magic.h>
#include <linux/stat.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <sys/vfs.h>

#include "trace/remote_call.h"
#include "preload/preload.h"
#include "trace/raw_syscall.h"
#include "preload/restored_task.h"
#include "preload/rights.h"

#define UNIX_FILE  0x89e0       /* SIOCUNIXFILE */
#define SOFT_DIRTY (1ULL << 55) /* of an entry of /proc/PID/pagemap */

/* Linux 6.7, <linux/fs.h>; older headers do not have it. */
struct pagemap_scan {
	uint64_t size, flags, start, end, walk_end, vec, vec_len, max_pages;
	uint64_t category_inverted, category_mask, category_anyof_mask, return_mask;
};
#define PAGEMAP_SCAN    _IOWR('f', 16, struct pagemap_scan)
#define SCAN_SOFT_DIRTY (1ULL << 7)

#define KDAT            "/run/criu.kdat"
#define KDAT_APART      "/run/criu-fsched.kdat"

static bool on, on_shared;

__attribute__((constructor)) static void elide_begin(int argc, char **argv, char **envp)
{
	(void)argc;
	(void)argv;
	for (; *envp; envp++)
		if (preload_equal(*envp, "FSCHED_ELIDE=1"))
			on = true;
		else if (preload_equal(*envp, "FSCHED_ELIDE_SHARED=1"))
			on_shared = true;
}

/* Reads the link of a descriptor in /proc; a long one is cut. */
static bool elide_read_link(int fd, char *target, long room)
{
	char link[PRELOAD_FD_LINK];
	long len;

	if (fd < 0)
		return false;
	preload_fd_link(fd, link);
	len = raw_syscall(SYS_readlinkat, AT_FDCWD, (long)link, (long)target, room - 1, 0, 0);
	if (len <= 0)
		return false;
	target[len] = '\0';
	return true;
}

/* True if the descriptor is /proc/PID/NAME. */
static bool elide_is_proc_file(int fd, const char *name)
{
	char target[64];
	const char *rest;

	if (!elide_read_link(fd, target, sizeof(target)))
		return false;
	/* criu mounts its own proc, so only the end of the path is known: ".../PID/NAME" */
	rest = target;
	for (const char *p = target; *p; p++)
		if (*p == '/')
			rest = p + 1;
	return preload_equal(rest, name);
}

static void elide_clear_soft_dirty(uint64_t *entries, long n)
{
	for (long i = 0; i < n; i++)
		entries[i] &= ~SOFT_DIRTY;
}

const char *elide_path(const char *path, char buf[ELIDE_PATH_MAX])
{
	const char *rest = on ? preload_after(path, KDAT) : NULL, *head = KDAT_APART;
	int n = 0;

	if (!rest)
		return path;
	while (*head)
		buf[n++] = *head++;
	while (*rest && n < ELIDE_PATH_MAX - 1)
		buf[n++] = *rest++;
	buf[n] = '\0';
	return buf;
}

long elide_open_parent(int dirfd, const char *path, int flags, long error)
{
	const char *rest = on && error == -ENOENT && dirfd >= 0 ? preload_after(path, "pagemap-") : NULL;

	if (!rest || *rest < '0' || *rest > '9' || (flags & O_ACCMODE) != O_RDONLY)
		return error;
	return raw_syscall(SYS_openat, dirfd, (long)"pagemap-any.img", flags, 0, 0, 0);
}

/* ---- shared memory ----------------------------------------------------- */

#define SEALED      (F_SEAL_WRITE | F_SEAL_FUTURE_WRITE)
#define WHENCE_DATA 3

static struct elided_object elided[ELIDE_SHARED_MAX];
static unsigned n_elided;

static bool elide_stat(int fd, struct statx *st)
{
	return preload_statx(fd, "", STATX_BASIC_STATS, st);
}

/* True for a file on the kernel's own tmpfs, which has anonymous shared memory, memfds and System V segments, and no
 * file with a path. */
static bool is_on_kernel_tmpfs(const struct statx *st)
{
	static uint32_t maj, min;
	static bool known;
	struct statx own;
	long fd;

	if (!known) {
		fd = raw_syscall(SYS_memfd_create, (long)"", 0, 0, 0, 0, 0);
		known = fd >= 0 && elide_stat((int)fd, &own);
		if (fd >= 0)
			raw_syscall(SYS_close, fd, 0, 0, 0, 0, 0);
		if (!known)
			return false;
		maj = own.stx_dev_major;
		min = own.stx_dev_minor;
	}
	return st->stx_dev_major == maj && st->stx_dev_minor == min;
}

static bool is_system_v(int fd)
{
	char name[16];

	return !elide_read_link(fd, name, sizeof(name)) || preload_after(name, "/SYSV");
}

/* True for a deleted file on a tmpfs, as shm_open() and shm_unlink() make it: a ghost file in criu's images. */
static bool is_deleted_on_tmpfs(int fd, const struct statx *st)
{
	struct statfs fs;

	return st->stx_nlink == 0 && (st->stx_mode & S_IFMT) == S_IFREG &&
	       raw_syscall(SYS_fstatfs, fd, (long)&fs, 0, 0, 0, 0) == 0 && fs.f_type == TMPFS_MAGIC;
}

static bool can_be_filled(int fd)
{
	long seals = raw_syscall(SYS_fcntl, fd, F_GET_SEALS, 0, 0, 0, 0);

	return seals >= 0 && !(seals & SEALED) && !is_system_v(fd);
}

static bool elide_shared_object(int fd)
{
	struct elided_object o;
	struct statx st;
	bool kernels;

	if (!elide_stat(fd, &st) || st.stx_blocks * 512 < ELIDE_SHARED_MIN)
		return false;
	kernels = is_on_kernel_tmpfs(&st);
	if (kernels ? st.stx_ino > UINT32_MAX : !is_deleted_on_tmpfs(fd, &st))
		return false;
	o = (struct elided_object){ st.stx_ino, kernels ? 0 : (uint64_t)st.stx_dev_major << 32 | st.stx_dev_minor };
	for (unsigned i = 0; i < n_elided; i++)
		if (elided[i].ino == o.ino && elided[i].dev == o.dev)
			return true;
	if (n_elided == ELIDE_SHARED_MAX || (kernels && !can_be_filled(fd)))
		return false;
	elided[n_elided++] = o;
	return true;
}

unsigned elide_shared_list(unsigned long first, struct elided_object *buf, unsigned room, unsigned *total)
{
	unsigned n = 0;

	*total = n_elided;
	for (; first < n_elided && n < room; n++)
		buf[n] = elided[first++];
	return n;
}

/* ---- what criu calls --------------------------------------------------- */

EXPORT long lseek(int fd, long offset, int whence);
EXPORT long lseek64(int fd, long offset, int whence);

EXPORT long read(int fd, void *buf, size_t n);
EXPORT long write(int fd, const void *buf, size_t n);
EXPORT long pread(int fd, void *buf, size_t n, long offset);
EXPORT long pread64(int fd, void *buf, size_t n, long offset);
EXPORT int ioctl(int fd, unsigned long request, void *arg);

long lseek(int fd, long offset, int whence)
{
	if (on_shared && whence == WHENCE_DATA && elide_shared_object(fd))
		return errno_result(-ENXIO);
	return errno_result(raw_syscall(SYS_lseek, fd, offset, whence, 0, 0, 0));
}

long lseek64(int fd, long offset, int whence)
{
	return lseek(fd, offset, whence);
}

/* criu reads a single entry to find out if the kernel tracks writes. */
long read(int fd, void *buf, size_t n)
{
	long got;

	if (terminal_data_read(fd, buf, n, &got))
		return errno_result(got);
	got = raw_syscall(SYS_read, fd, (long)buf, (long)n, 0, 0, 0);
	if (on && n == sizeof(uint64_t) && got == sizeof(uint64_t) && elide_is_proc_file(fd, "pagemap"))
		*(uint64_t *)buf |= SOFT_DIRTY;
	return errno_result(got);
}

long write(int fd, const void *buf, size_t n)
{
	long ret;

	if (restored_task_write(fd, buf, n, &ret) || terminal_data_write(fd, buf, n, &ret))
		return errno_result(ret);
	if (on && n <= 2 && n > 0 && *(const char *)buf == '4' && elide_is_proc_file(fd, "clear_refs"))
		return (long)n;
	return errno_result(raw_syscall(SYS_write, fd, (long)buf, (long)n, 0, 0, 0));
}

long pread(int fd, void *buf, size_t n, long offset)
{
	long got = raw_syscall(SYS_pread64, fd, (long)buf, (long)n, offset, 0, 0);

	if (on && got > 0 && n % sizeof(uint64_t) == 0 && elide_is_proc_file(fd, "pagemap"))
		elide_clear_soft_dirty(buf, got / (long)sizeof(uint64_t));
	return errno_result(got);
}

long pread64(int fd, void *buf, size_t n, long offset)
{
	return pread(fd, buf, n, offset);
}

int ioctl(int fd, unsigned long request, void *arg)
{
	long ret;

	if (on && request == PAGEMAP_SCAN)
		((struct pagemap_scan *)arg)->return_mask &= ~SCAN_SOFT_DIRTY;
	terminals_ioctl(request, arg);
	ret = rights_with(restored_task_ioctl_caps(request), SYS_ioctl, fd, (long)request, (long)arg, 0, 0, 0);
	if (request == UNIX_FILE && ret >= 0)
		moved_sockets_opened(fd, (int)ret);
	return (int)errno_result(ret);
}
