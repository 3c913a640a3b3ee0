/* Preflight: terminals. A restore makes the terminals of the pod's own devpts again. All others belong to somebody
 * outside: a login, a console, the job's parent. */
#include "pod/preflight_internal.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <linux/stat.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/pidfd.h>
#include <sys/statfs.h>
#include <sys/sysmacros.h>

#include "base/array.h"
#include "base/dir.h"
#include "base/io.h"
#include "base/text.h"
#include "base/util.h"

#define INDEX_MAX 1000 /* MAX_PTY_INDEX of criu */

enum tty_kind { TTY_NONE, TTY_CURRENT, TTY_CONSOLE, TTY_MASTER, TTY_SLAVE };

/* Device numbers: Documentation/admin-guide/devices.txt of the kernel. */
static enum tty_kind tty_kind(const struct statx *st)
{
	const unsigned maj = st->stx_rdev_major, min = st->stx_rdev_minor;

	if (!S_ISCHR(st->stx_mode))
		return TTY_NONE;
	if (maj == 5)
		return min == 0 ? TTY_CURRENT : min == 2 ? TTY_MASTER : TTY_CONSOLE;
	if (maj == 4) /* virtual terminals and serial lines */
		return TTY_CONSOLE;
	return maj >= 128 && maj < 136 ? TTY_MASTER : maj >= 136 && maj < 144 ? TTY_SLAVE : TTY_NONE;
}

static int tty_refuse(const struct tty_fd *t, const char *path, const char *why, const char *advice, struct err *err)
{
	char what[512], clean[256];

	snprintf(what, sizeof(what), "has the terminal %s open as descriptor %s (%s)",
		 printable(path, clean, sizeof(clean)), t->fd, why);
	return preflight_refuse(t->pid, err, what, advice);
}

/* True if the open file belongs to the devpts at /dev/pts of the pod, or to no devpts. */
static bool tty_is_of_pod(const struct preflight_scan *s, int dirfd, const char *name, const struct statx *st,
			  enum tty_kind kind)
{
	cleanup_close int fd = openat(dirfd, name, O_PATH | O_CLOEXEC);
	struct statfs fs;
	struct stat pts;
	char path[64];

	if (fd < 0 || fstatfs(fd, &fs))
		return true; /* it is closed by now */
	if (fs.f_type != DEVPTS_SUPER_MAGIC)
		return kind == TTY_MASTER;
	snprintf(path, sizeof(path), "%d/root/dev/pts", s->job->init);
	return fstatat(s->proc, path, &pts, 0) == 0 && pts.st_dev == makedev(st->stx_dev_major, st->stx_dev_minor);
}

/* The mount by which it was opened is none of the pod's. */
static bool tty_is_from_outside(struct preflight_scan *s, const struct statx *st)
{
	s->pod_mounts = s->pod_mounts ? s->pod_mounts : mount_table_read(s->job->init, NULL);
	return s->pod_mounts && (st->stx_mask & STATX_MNT_ID) &&
	       mount_table_kind(s->pod_mounts, st->stx_mnt_id) == MOUNT_UNKNOWN;
}

/* The number of the terminal whose master this is; -1: it is closed by now. */
static int tty_master_index(const struct preflight_scan *s, const struct tty_fd *t)
{
	cleanup_free char *info = NULL;
	char path[64];
	const char *p;
	int index;

	snprintf(path, sizeof(path), "%d/fdinfo/%s", t->pid, t->fd);
	if (read_file_at(s->proc, path, 65536, &info) <= 0 || !(p = strstr(info, "tty-index:")))
		return -1;
	return sscanf(p, "tty-index: %d", &index) == 1 ? index : -1;
}

/* criu does not restore the mode. */
static bool tty_is_exclusive(const struct tty_fd *t)
{
	cleanup_close int process = pidfd_open(t->pid, 0);
	cleanup_close int fd = process < 0 ? -1 : pidfd_getfd(process, atoi(t->fd), 0);
	int on = 0;

	return fd >= 0 && !ioctl(fd, TIOCGEXCL, &on) && on;
}

static int tty_remember(struct preflight_scan *s, struct tty_fd *t, enum tty_kind kind, const char *path, struct err *err)
{
	const char *slash = strrchr(path, '/');

	t->master = kind == TTY_MASTER;
	t->index = t->master ? tty_master_index(s, t) : slash ? atoi(slash + 1) : -1;
	if (t->index > INDEX_MAX)
		return tty_refuse(t, path, "criu saves only terminals with numbers up to 1000", "close some", err);
	/* Behind the name of a terminal whose master is closed the kernel writes " (deleted)". Nobody can use it any
	 * more, and no other gets its number. */
	if (t->index < 0 || (!t->master && strchr(path, ' ')))
		return 0;
	if (tty_is_exclusive(t))
		return tty_refuse(t, path, "in exclusive mode (TIOCEXCL)", "", err);
	array_reserve(s->ttys, s->n_ttys, s->ttys_room);
	s->ttys[s->n_ttys++] = *t;
	return 0;
}

int preflight_tty(struct preflight_scan *s, const struct preflight_file *f, const struct statx *st, struct err *err)
{
	const enum tty_kind kind = tty_kind(st);
	struct tty_fd t = { .pid = f->pid };

	if (kind == TTY_NONE)
		return 0;
	snprintf(t.fd, sizeof(t.fd), "%s", f->name);
	if (kind == TTY_CONSOLE)
		return tty_refuse(&t, f->path, "a console or serial line of the node", "close it and try again", err);
	if (tty_is_from_outside(s, st) || (kind != TTY_CURRENT && !tty_is_of_pod(s, f->dirfd, f->name, st, kind)))
		return tty_refuse(&t, f->path, "it is none of the job's own, it was opened outside the job",
				  "start the program with its input and output redirected to files", err);
	/* criu wants the process that has the master open to be the one that has /dev/tty open. */
	if (kind == TTY_CURRENT)
		return tty_refuse(&t, f->path, "it stands for the process's controlling terminal",
				  "close it and try again", err);
	return tty_remember(s, &t, kind, f->path, err);
}

/* ---- the other end ---------------------------------------------------------- */

static bool tty_master_known(const struct preflight_scan *s, int index)
{
	for (size_t i = 0; i < s->n_ttys; i++)
		if (s->ttys[i].master && s->ttys[i].index == index)
			return true;
	return false;
}

/* Looks once more: the master may have been opened after its process was looked at, and before that of the slave. */
static bool tty_master_found(const struct preflight_scan *s, int index)
{
	for (int i = 0; i < s->job->n; i++) {
		cleanup_dir DIR *d = NULL;
		struct tty_fd t = { .pid = s->job->pids[i] };
		const struct dirent *e;
		char path[64];

		snprintf(path, sizeof(path), "%d/fd", t.pid);
		d = dir_open_at(s->proc, path);
		while (d && dir_next(d, &e) > 0) {
			snprintf(t.fd, sizeof(t.fd), "%.*s", (int)sizeof(t.fd) - 1, e->d_name);
			if (tty_master_index(s, &t) == index)
				return true;
		}
	}
	return false;
}

static bool tty_is_there(const struct preflight_scan *s, int index)
{
	char path[64];
	struct stat st;

	snprintf(path, sizeof(path), "%d/root/dev/pts/%d", s->job->init, index);
	return fstatat(s->proc, path, &st, 0) == 0;
}

int preflight_tty_pairs(const struct preflight_scan *s, struct err *err)
{
	for (size_t i = 0; i < s->n_ttys; i++) {
		const struct tty_fd *t = &s->ttys[i];
		char path[32];

		snprintf(path, sizeof(path), "/dev/pts/%d", t->index);
		if (t->master || tty_master_known(s, t->index) || tty_master_found(s, t->index) ||
		    !tty_is_there(s, t->index))
			continue;
		return tty_refuse(t, path, "no process of the job has its other end open", "close it and try again", err);
	}
	return 0;
}
