/* Finds the regular files that the tasks of a frozen job can write to, by their descriptors and shared mappings in
 * /proc. */
#include "files/files_internal.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/magic.h>
#include <stdio.h>
#include <string.h>
#include <sys/vfs.h>

#include "base/array.h"
#include "base/dir.h"
#include "base/util.h"

#ifndef MQUEUE_MAGIC
#define MQUEUE_MAGIC 0x19800202
#endif

struct open_files_scan {
	struct open_files *files;
	int procfd; /* /proc of the node */
	int rootfd; /* root directory of the pod */
	const struct files_opts *opts;
};

/* ---- set of files ------------------------------------------------------ */

static size_t open_files_slot(const struct open_files *f, dev_t dev, ino_t ino)
{
	uint64_t h = ((uint64_t)dev * 0x9e3779b97f4a7c15u) ^ ((uint64_t)ino * 0xc2b2ae3d27d4eb4fu);

	return (size_t)(h ^ (h >> 29)) & (f->n_slots - 1);
}

static void open_files_insert(struct open_files *f, size_t index)
{
	size_t slot = open_files_slot(f, f->v[index].st.st_dev, f->v[index].st.st_ino);

	while (f->slots[slot])
		slot = (slot + 1) & (f->n_slots - 1);
	f->slots[slot] = (uint32_t)index + 1;
}

static void open_files_grow(struct open_files *f)
{
	array_reserve(f->v, f->n, f->room);
	free(f->slots);
	f->n_slots = f->room * 2;
	f->slots = xcalloc(f->n_slots, sizeof(*f->slots));
	for (size_t i = 0; i < f->n; i++)
		open_files_insert(f, i);
}

static struct open_file *open_files_find(struct open_files *f, const struct stat *st)
{
	size_t slot;

	if (!f->n)
		return NULL;
	for (slot = open_files_slot(f, st->st_dev, st->st_ino); f->slots[slot]; slot = (slot + 1) & (f->n_slots - 1)) {
		struct open_file *o = &f->v[f->slots[slot] - 1];

		if (o->st.st_dev == st->st_dev && o->st.st_ino == st->st_ino)
			return o;
	}
	return NULL;
}

static struct open_file *open_files_add(struct open_files *f, const struct stat *st, const char *ref)
{
	struct open_file *o;

	if (f->n == f->room)
		open_files_grow(f);
	o = &f->v[f->n];
	memset(o, 0, sizeof(*o));
	o->st = *st;
	snprintf(o->ref, sizeof(o->ref), "%s", ref);
	open_files_insert(f, f->n++);
	return o;
}

void open_files_free(struct open_files *f)
{
	for (size_t i = 0; i < f->n; i++) {
		free(f->v[i].path);
		free(f->v[i].last_path);
	}
	free(f->v);
	free(f->slots);
	memset(f, 0, sizeof(*f));
}

/* True for errors of a task or descriptor that is gone, a zombie, or a file that the NFS server has lost: there is
 * nothing to record. */
static bool open_file_is_gone(int error)
{
	return error == ENOENT || error == ESRCH || error == ESTALE;
}

/* ---- which files are recorded ------------------------------------------------------- */

/* True for a file of one of the kernel's own file systems, wherever that is mounted. */
static bool is_kernel_file(const char *ref)
{
	char path[128];
	struct statfs fs;

	snprintf(path, sizeof(path), "/proc/%s", ref);
	if (statfs(path, &fs) < 0)
		return false;
	switch ((unsigned long)fs.f_type) {
	case PROC_SUPER_MAGIC:
	case SYSFS_MAGIC:
	case CGROUP_SUPER_MAGIC:
	case CGROUP2_SUPER_MAGIC:
	case DEBUGFS_MAGIC:
	case TRACEFS_MAGIC:
	case MQUEUE_MAGIC: return true;
	}
	return false;
}

/* True if the path leads to this file. It does not if the file was deleted or replaced, or if a mount covers it. */
static bool path_leads_to(const struct open_files_scan *s, const char *path, const struct stat *st)
{
	struct stat at;

	return path[0] == '/' && path[1] && stat_for_job(s->rootfd, path + 1, &s->opts->cred, &at) == 0 &&
	       at.st_dev == st->st_dev && at.st_ino == st->st_ino;
}

/* Adds the file of a link in /proc. 1 = *out is its entry, 0 = it is not to be recorded, -1 = error. */
static int open_files_note(struct open_files_scan *s, const char *ref, struct open_file **out, struct err *err)
{
	char path[PATH_MAX];
	const char *other;
	struct open_file *o;
	struct stat st;
	ssize_t n;

	if (fstatat(s->procfd, ref, &st, 0) < 0)
		return open_file_is_gone(errno)
			       ? 0
			       : err_sys(err, errno, "cannot examine /proc/%s, a file that the job writes to", ref);
	if (!S_ISREG(st.st_mode) || st.st_nlink == 0)
		return 0; /* no link: criu saves the content (ghost file, memfd) */
	o = open_files_find(s->files, &st);
	if (o && o->path) {
		*out = o;
		return 1;
	}
	n = readlinkat(s->procfd, ref, path, sizeof(path) - 1);
	if (n < 0)
		return 0;
	path[n] = '\0';
	other = path_leads_to(s, path, &st) ? path : files_names_lookup(s->opts->names, &st);
	if (path_is_packed(other ? other : path, &(struct packed){ s->opts->private_tmp, s->opts->scratch }) ||
	    (!o && is_kernel_file(ref)))
		return 0;
	if (!o) {
		if (s->files->n >= FILES_RECORDS_MAX)
			return err_set(err, EMFILE, "the job has more than %d files open for writing", FILES_RECORDS_MAX);
		o = open_files_add(s->files, &st, ref);
		o->last_path = xstrdup(path);
	}
	if (other)
		o->path = xstrdup(other);
	*out = o;
	return 1;
}

/* ---- descriptors ------------------------------------------------------- */

/* What fdinfo tells of a descriptor. */
struct fdinfo {
	int flags;
	int64_t pos;
	bool breaking; /* a lease on it is being broken */
};

static int open_files_read_fdinfo(const struct open_files_scan *s, const char *ref, struct fdinfo *info)
{
	cleanup_close int fd = openat(s->procfd, ref, O_RDONLY | O_CLOEXEC);
	char buf[4096], *p; /* locks are listed behind the flags, leases last */
	ssize_t n;

	if (fd < 0 || (n = read(fd, buf, sizeof(buf) - 1)) < 0)
		return -1;
	buf[n] = '\0';
	errno = EPROTO;
	if (!(p = strstr(buf, "pos:")))
		return -1;
	info->pos = strtoll(p + 4, NULL, 10);
	if (!(p = strstr(buf, "flags:")))
		return -1;
	info->flags = (int)strtol(p + 6, NULL, 8);
	info->breaking = strstr(p, "LEASE  BREAKING");
	return 0;
}

static int open_files_note_descriptor(struct open_files_scan *s, pid_t pid, int fd, struct err *err)
{
	struct open_file *o = NULL;
	char ref[80];
	struct fdinfo info;
	int rc;

	snprintf(ref, sizeof(ref), "%d/fd/%d", (int)pid, fd);
	rc = open_files_note(s, ref, &o, err);
	if (rc <= 0)
		return rc;
	snprintf(ref, sizeof(ref), "%d/fdinfo/%d", (int)pid, fd);
	if (open_files_read_fdinfo(s, ref, &info) < 0) /* closed since then: the entry stays, and is harmless */
		return open_file_is_gone(errno) ? 0 : err_sys(err, errno, "cannot read /proc/%s", ref);
	o->breaking |= info.breaking;
	if (info.flags & O_APPEND)
		o->appends = true;
	else if ((info.flags & O_ACCMODE) == O_RDWR)
		o->read_write = true;
	else if (info.pos == o->st.st_size)
		o->sequential = true;
	else
		o->midway = true;
	return 0;
}

static int open_files_scan_descriptors(struct open_files_scan *s, pid_t pid, struct err *err)
{
	cleanup_dir DIR *dir = NULL;
	const struct dirent *de;
	char name[32];
	int more = -1;

	snprintf(name, sizeof(name), "%d/fd", (int)pid);
	dir = dir_open_at(s->procfd, name);
	if (!dir && open_file_is_gone(errno))
		return 0;
	while (dir && (more = dir_next(dir, &de)) > 0) {
		struct stat link;

		/* The mode of the link tells how the file was opened, so fdinfo need not be read: u+w means for
		 * writing. */
		if (fstatat(dirfd(dir), de->d_name, &link, AT_SYMLINK_NOFOLLOW) < 0 || !(link.st_mode & S_IWUSR))
			continue;
		if (open_files_note_descriptor(s, pid, atoi(de->d_name), err) < 0)
			return -1;
	}
	return more < 0 ? err_sys(err, errno, "cannot read /proc/%s", name) : 0;
}

/* ---- mappings ---------------------------------------------------------- */

static int open_files_note_mapping(struct open_files_scan *s, pid_t pid, const char *range, struct err *err)
{
	struct open_file *o = NULL;
	struct stat link;
	char ref[80];
	int rc;

	snprintf(ref, sizeof(ref), "%d/map_files/%s", (int)pid, range);
	/* u+w: mapped from a descriptor that was open for writing, so the mapping is, or can be made, writable. */
	if (fstatat(s->procfd, ref, &link, AT_SYMLINK_NOFOLLOW) < 0) {
		if (open_file_is_gone(errno))
			return 0; /* not a mapping of a file, for example System V shared memory */
		return err_sys(err, errno, "cannot read /proc/%s", ref);
	}
	if (!(link.st_mode & S_IWUSR))
		return 0;
	rc = open_files_note(s, ref, &o, err);
	if (rc > 0)
		o->mapped = true;
	return rc < 0 ? -1 : 0;
}

static int open_files_scan_mappings(struct open_files_scan *s, pid_t pid, struct err *err)
{
	cleanup_file FILE *f = NULL;
	cleanup_free char *line = NULL;
	size_t size = 0;
	char name[32];
	int fd, rc = 0;

	snprintf(name, sizeof(name), "%d/maps", (int)pid);
	fd = openat(s->procfd, name, O_RDONLY | O_CLOEXEC);
	f = fd < 0 ? NULL : fdopen(fd, "r");
	if (!f)
		return open_file_is_gone(errno) ? 0 : err_sys(err, errno, "cannot read /proc/%s", name);
	while (rc == 0 && getline(&line, &size, f) > 0) {
		unsigned long from, to, ino;
		char perms[5], range[40];

		if (sscanf(line, "%lx-%lx %4s %*x %*x:%*x %lu", &from, &to, perms, &ino) != 4 || perms[3] != 's' ||
		    ino == 0)
			continue;
		snprintf(range, sizeof(range), "%lx-%lx", from, to);
		rc = open_files_note_mapping(s, pid, range, err);
	}
	return rc;
}

/* ---- all --------------------------------------------------------------- */

int open_files_scan(struct open_files *f, const pid_t *pids, int n, pid_t init_pid, const struct files_opts *o,
		    struct err *err)
{
	cleanup_close int procfd = -1, rootfd = -1;
	struct open_files_scan s = { .files = f, .opts = o };
	char root[32];

	memset(f, 0, sizeof(*f));
	procfd = open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (procfd < 0)
		return err_sys(err, errno, "cannot open /proc");
	snprintf(root, sizeof(root), "%d/root", (int)init_pid);
	rootfd = openat(procfd, root, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (rootfd < 0)
		return err_sys(err, errno, "cannot open /proc/%s, the file system of the job", root);
	s.procfd = procfd;
	s.rootfd = rootfd;
	for (int i = 0; i < n; i++)
		if (open_files_scan_descriptors(&s, pids[i], err) < 0 || open_files_scan_mappings(&s, pids[i], err) < 0)
			return -1;
	return 0;
}
