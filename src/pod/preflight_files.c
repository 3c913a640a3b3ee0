/* Preflight: a file that a process has open or mapped. */
#include "pod/preflight_internal.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <linux/stat.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/array.h"
#include "base/text.h"
#include "base/util.h"

int preflight_mode(int dirfd, const char *name)
{
	struct stat st;

	if (fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW))
		return -1;
	return (st.st_mode & S_IRUSR ? R_OK : 0) | (st.st_mode & S_IWUSR ? W_OK : 0);
}

/* The kernel file system on which the file is; NULL: another one. The kernel's own file systems have device numbers of
 * their own with major 0, so statfs() is called once per file system and never for a disk. */
static const struct kernel_fs *preflight_fs_of(struct preflight_scan *s, const struct preflight_file *f,
					       const struct statx *st)
{
	const uint64_t number = makedev(st->stx_dev_major, st->stx_dev_minor);
	cleanup_close int fd = -1;
	const struct kernel_fs *fs = NULL;
	struct statfs sf;

	if (st->stx_dev_major != 0)
		return NULL;
	for (size_t i = 0; i < s->n_devices; i++)
		if (s->devices[i].number == number)
			return s->devices[i].fs;
	fd = openat(f->dirfd, f->name, O_PATH | O_CLOEXEC);
	if (fd < 0 || fstatfs(fd, &sf))
		return NULL;
	fs = kernel_fs_by_magic((unsigned long)sf.f_type);
	array_reserve(s->devices, s->n_devices, s->devices_room);
	s->devices[s->n_devices++] = (struct device){ number, fs };
	return fs;
}

static void preflight_find_pod_proc(struct preflight_scan *s)
{
	char path[64];
	struct stat st;

	snprintf(path, sizeof(path), "%d/root/proc", s->job->init);
	if (!s->pod_proc && fstatat(s->proc, path, &st, 0) == 0)
		s->pod_proc = st.st_dev;
}

/* True if the path still leads to this file: a name in /proc may belong to another process now. */
static bool preflight_file_is_there(const struct preflight_scan *s, const struct preflight_file *f, const struct statx *st)
{
	cleanup_free char *path = xasprintf("%d/root%s", s->job->init, f->path);
	struct stat now;

	return fstatat(s->proc, path, &now, 0) == 0 && now.st_ino == st->stx_ino;
}

/* A file system that is in neither table is unmounted while it is in use, or belongs to another mount namespace. Looks
 * at the mount tables only: a server of the user's must not be asked. */
static const char *preflight_unreliable_fs(struct preflight_scan *s, const struct statx *st)
{
	enum mount_kind kind;

	if (!(st->stx_mask & STATX_MNT_ID) || st->stx_dev_major != 0 ||
	    (!S_ISREG(st->stx_mode) && !S_ISDIR(st->stx_mode)) || !st->stx_nlink)
		return NULL;
	s->pod_mounts = s->pod_mounts ? s->pod_mounts : mount_table_read(s->job->init, NULL);
	s->own_mounts = s->own_mounts ? s->own_mounts : mount_table_read(0, NULL);
	if (!s->pod_mounts || !s->own_mounts)
		return NULL;
	kind = mount_table_kind(s->pod_mounts, st->stx_mnt_id);
	if (kind == MOUNT_UNKNOWN)
		kind = mount_table_kind(s->own_mounts, st->stx_mnt_id);
	return kind == MOUNT_USERS ? "a file of a file system (FUSE) that a user serves"
	       : kind == MOUNT_UNKNOWN
		       ? "a POSIX message queue, or a file of a file system that is not mounted in the pod"
		       : NULL;
}

static const char *preflight_file_obstacle(struct preflight_scan *s, const struct preflight_file *f,
					   const struct kernel_fs *fs, const struct statx *st, char *buf, size_t len)
{
	struct kernel_file k = {
		.fs = fs,
		.path = f->path,
		.writes = f->mode & W_OK,
		.holder = f->own ? preflight_inner(s, f->pid) : 0,
		.pids = s->job->inner,
		.n_pids = (size_t)s->job->n,
	};
	const char *why;

	if (kernel_fs_is_proc(fs)) {
		preflight_find_pod_proc(s);
		k.other_proc = makedev(st->stx_dev_major, st->stx_dev_minor) != s->pod_proc;
	}
	why = kernel_file_obstacle(&k, buf, len);
	if (!why && kernel_fs_is_proc(fs) && !preflight_file_is_there(s, f, st))
		why = "it describes a process or thread that has ended";
	return why;
}

/* True for a directory that was removed and whose name something else has now. criu makes such a directory again under
 * its old name: it would enter what has the name now, and remove it afterwards. */
static bool preflight_name_is_taken(const struct preflight_scan *s, const struct preflight_file *f, const struct statx *st)
{
	static const char deleted[] = " (deleted)";
	const size_t len = strlen(f->path), suffix = sizeof(deleted) - 1;
	struct open_how how = { .flags = O_PATH | O_NOFOLLOW | O_CLOEXEC,
				.resolve = RESOLVE_IN_ROOT | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS };
	cleanup_free char *name = NULL;
	cleanup_close int root = -1, fd = -1;
	char path[64];

	if (!S_ISDIR(st->stx_mode) || st->stx_nlink || len <= suffix || strcmp(f->path + len - suffix, deleted) != 0)
		return false;
	snprintf(path, sizeof(path), "%d/root", s->job->init);
	root = openat(s->proc, path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	name = xasprintf("%.*s", (int)(len - suffix), f->path);
	fd = root < 0 ? -1 : (int)syscall(SYS_openat2, root, name, &how, sizeof(how));
	return fd >= 0;
}

int preflight_too_long(pid_t pid, const char *as, struct err *err)
{
	char what[160];

	snprintf(what, sizeof(what), "has a file with a path of more than 4095 bytes as %s", as);
	return preflight_refuse(pid, err, what, "close it and try again");
}

int preflight_check_file(struct preflight_scan *s, const struct preflight_file *f, const struct statx *st, struct err *err)
{
	char what[512], buf[96], clean[256];
	const char *why = preflight_unreliable_fs(s, st);
	const struct kernel_fs *fs = why ? NULL : preflight_fs_of(s, f, st);

	why = fs ? preflight_file_obstacle(s, f, fs, st, buf, sizeof(buf)) : why;
	if (!why && preflight_name_is_taken(s, f, st))
		why = "a directory that was removed, and something else has its name now";
	else if (!why && !f->mode && (S_ISFIFO(st->stx_mode) || S_ISSOCK(st->stx_mode)))
		why = "a fifo or socket opened with O_PATH";
	if (why) {
		snprintf(what, sizeof(what), "has %s open as %s (%s)", printable(f->path, clean, sizeof(clean)), f->as,
			 why);
		return preflight_refuse(f->pid, err, what, "close it and try again");
	}
	/* The content of a file without a name is in the checkpoint itself. */
	if (st->stx_nlink > 0)
		access_list_add(s->access, f, st);
	return 0;
}
