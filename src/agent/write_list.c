#include "agent/write_list.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/magic.h>
#include <poll.h>
#include <search.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/fanotify.h>
#include <sys/stat.h>

#include "agent/open_watch.h"
#include "base/array.h"
#include "base/log.h"
#include "base/io.h"
#include "base/proc.h"
#include "base/text.h"
#include "base/util.h"
#include "base/clock.h"
#include "pod/mount_table.h"

/* In no header of the C library. */
#define CIFS_MAGIC               UINT64_C(0xff534d42)
#define SMB2_MAGIC               UINT64_C(0xfe534d42)
#define AFS_MAGIC                UINT64_C(0x6b414653) /* of the kernel's own client */

/* So long a job may keep the agent behind its events before they are dropped. */
#define WRITE_LIST_BEHIND_MAX_US INT64_C(30000000)

struct write_list {
	int fan;                  /* fanotify group */
	int ready;                /* epoll: readable if fan or opens has something */
	struct open_watch *opens; /* for file systems that are left out of fan; NULL: there are none, or it cannot be
				     had */
	char opens_gap[160];      /* why it cannot be had; "" */
	int mounts;    /* the pod's mount namespace; kept open, because names of files are read by way of its mounts
			  after the pod has died */
	int journal;   /* <job dir>/written, O_APPEND */
	off_t size;    /* of the complete paths in it */
	char *unsaved; /* paths that are not in it yet, each with its NUL; owned */
	size_t n_unsaved, unsaved_room; /* bytes */
	bool failing;                   /* the last attempt to save them has failed */
	int64_t behind;                 /* since when events are left after each look, now_us(); 0: none are */
	pid_t init;
	bool private_tmp;
	void *paths; /* tsearch tree of char * */
	unsigned n;
	unsigned n_deleted; /* of them names of deleted files, since the list was compacted */
	size_t bytes;
	bool full;
	int dirfd; /* of the job's directory, the caller's */
	char cwd[PATH_MAX];
	char left_out[64];  /* see write_list_left_out() */
	char **left_points; /* mount points of file systems that are left out of fan; owned */
	size_t n_left_points, left_points_room;
	write_list_mount_fn *mount_fn; /* NULL: nobody is told */
	void *mount_arg;
};

static int write_list_by_name(const void *a, const void *b)
{
	return strcmp(a, b);
}

/* True if the path was not known yet. */
static bool write_list_add(struct write_list *w, const char *path)
{
	char **node;
	char *copy;

	if (tfind(path, &w->paths, write_list_by_name))
		return false;
	if (w->n >= WRITE_LIST_MAX || w->bytes + strlen(path) >= WRITE_LIST_BYTES_MAX) {
		w->full = true;
		return false;
	}
	copy = xstrdup(path);
	node = tsearch(copy, &w->paths, write_list_by_name);
	if (!node) {
		free(copy);
		return false;
	}
	w->n++;
	w->bytes += strlen(path) + 1;
	return true;
}

static void write_list_load(struct write_list *w, int dirfd)
{
	cleanup_free char *text = NULL;
	ssize_t len = read_file_at(dirfd, WRITE_LIST_NAME, WRITE_LIST_BYTES_MAX + PATH_MAX, &text);

	/* A last path without NUL was being written when the node failed; write_list_append() truncates it. */
	for (ssize_t i = 0; i < len && memchr(text + i, '\0', (size_t)(len - i)); i = (ssize_t)w->size) {
		if (text[i] == '/')
			write_list_add(w, text + i);
		w->size = (off_t)(i + (ssize_t)strlen(text + i) + 1);
	}
}

/* Appends what is not saved yet. If an earlier attempt has written only a part of it, because the disk was full, that
 * part is truncated first: otherwise the next path would continue it. */
static int write_list_append(struct write_list *w)
{
	struct stat st;

	if (fstat(w->journal, &st) || (st.st_size != w->size && ftruncate(w->journal, w->size)) ||
	    write_all(w->journal, w->unsaved, w->n_unsaved))
		return -1;
	w->size += (off_t)w->n_unsaved;
	w->n_unsaved = 0;
	/* needed after a failure of the node, if the files are on a disk that other nodes see */
	if (fdatasync(w->journal))
		log_warn("cannot write %s to the disk: %s", WRITE_LIST_NAME, strerror(errno));
	return 0;
}

static void write_list_flush(struct write_list *w)
{
	if (!w->n_unsaved)
		return;
	if (write_list_append(w)) {
		if (!w->failing)
			log_warn("cannot note which files the job has written in %s: %s; trying again", WRITE_LIST_NAME,
				 strerror(errno));
		w->failing = true;
	} else if (w->failing) {
		log_info("%s, the list of files that the job has written, is up to date again", WRITE_LIST_NAME);
		w->failing = false;
	}
}

/* When criu runs for the first time after a boot, it stores the features of the kernel in a file on /run (criu.kdat,
 * criu-fsched.kdat). It runs in the pod's mount namespace, but the file is none of the job's, and other nodes need not
 * have it. */
#define CRIU_CACHE      "/run/criu"

/* The kernel appends this to a path that was unlinked. A file may really have such a name, too. */
#define WRITE_LIST_MARK " (deleted)"

/* The file may still have another name (ln, rm). */
static bool write_list_name_is_gone(const struct write_list *w, const char *path, const struct stat *st)
{
	const size_t len = strlen(path), mark_len = strlen(WRITE_LIST_MARK);
	struct stat now;

	if (len <= mark_len || strcmp(path + len - mark_len, WRITE_LIST_MARK) != 0)
		return false;
	if (st->st_nlink == 0)
		return true;
	cleanup_free char *there = xasprintf("/proc/%d/root%s", (int)w->init, path);
	return lstat(there, &now) || now.st_dev != st->st_dev || now.st_ino != st->st_ino;
}

/* Whether the name of a deleted file is kept; cuts the kernel's mark off. A program often makes a file of that name
 * again and again: a journal of SQLite, a lock. One that it makes after the last epoch, and that is there when the node
 * fails, must not be there for the restored job. Jobs that delete many files of different names must not fill the list
 * with them. */
static bool write_list_accepts_deleted(const struct write_list *w, char *path)
{
	char *name = strrchr(path, '/') + 1;

	path[strlen(path) - strlen(WRITE_LIST_MARK)] = '\0';
	if (name[0] == '#' && strspn(name + 1, "0123456789") == strlen(name + 1))
		return false; /* O_TMPFILE: it never had a name */
	return w->n_deleted < WRITE_LIST_DELETED_MAX;
}

/* Adds a path, and has it saved if it is new. True if it is. */
static bool write_list_note(struct write_list *w, const char *path)
{
	const size_t len = strlen(path) + 1;

	if (!write_list_add(w, path))
		return false;
	array_reserve_more(w->unsaved, w->n_unsaved, len, w->unsaved_room);
	memcpy(w->unsaved + w->n_unsaved, path, len);
	w->n_unsaved += len;
	return true;
}

static void write_list_take_event(struct write_list *w, int fd)
{
	char link[64], path[PATH_MAX];
	struct stat st;
	ssize_t n;
	bool gone;

	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	n = readlink(link, path, sizeof(path) - 1);
	if (n <= 0 || path[0] != '/' || fstat(fd, &st) || !S_ISREG(st.st_mode))
		return;
	path[n] = '\0';
	if (st.st_uid == 0 && strncmp(path, CRIU_CACHE, strlen(CRIU_CACHE)) == 0)
		return;
	gone = write_list_name_is_gone(w, path, &st);
	if (gone && !write_list_accepts_deleted(w, path))
		return;
	w->n_deleted += write_list_note(w, path) && gone;
}

static bool write_list_readable(const struct write_list *w)
{
	struct pollfd p = { w->fan, POLLIN, 0 };

	return poll(&p, 1, 0) > 0;
}

static int write_list_mark_all(struct write_list *w);

static int write_list_make_group(void)
{
	/* O_NONBLOCK: a lease (fcntl F_SETLEASE) that the job holds must not block the agent */
	return fanotify_init(FAN_CLASS_NOTIF | FAN_CLOEXEC | FAN_NONBLOCK | FAN_UNLIMITED_QUEUE,
			     O_RDONLY | O_LARGEFILE | O_CLOEXEC | O_NOATIME | O_NONBLOCK);
}

static int write_list_poll(const struct write_list *w, int fd)
{
	struct epoll_event e = { .events = EPOLLIN };

	return epoll_ctl(w->ready, EPOLL_CTL_ADD, fd, &e);
}

/* The queue is unlimited, because a limit would lose bursts. A job that makes events faster than the agent can take
 * them, and does not stop, must not fill the memory of the kernel: the agent drops all events and begins with a new
 * group. */
static void write_list_begin_anew(struct write_list *w)
{
	cleanup_close int fan = write_list_make_group();

	w->full = true;
	w->behind = 0;
	if (fan >= 0 && dup3(fan, w->fan, O_CLOEXEC) >= 0) {
		write_list_poll(w, w->fan);
		write_list_mark_all(w);
	}
}

/* What was opened on the file systems without marks. A path may not lead to a file any more. */
static void write_list_take_opens(struct write_list *w)
{
	if (!w->opens)
		return;
	open_watch_drain(w->opens);
	w->full |= open_watch_lost(w->opens);
}

bool write_list_drain(struct write_list *w, int64_t max_us)
{
	char buf[16384] __attribute__((aligned(__alignof__(struct fanotify_event_metadata))));
	const int64_t began = now_us();
	bool any = false;

	write_list_take_opens(w);
	while (write_list_readable(w)) {
		if (now_us() - began >= max_us) {
			w->behind = w->behind ? w->behind : began;
			if (began - w->behind >= WRITE_LIST_BEHIND_MAX_US)
				write_list_begin_anew(w);
			write_list_flush(w);
			return true;
		}
		/* if the file of an event cannot be opened, read() fails, and the event is taken all the same */
		ssize_t len = read(w->fan, buf, sizeof(buf));
		struct fanotify_event_metadata *ev = (struct fanotify_event_metadata *)(void *)buf;

		any = true;
		for (; FAN_EVENT_OK(ev, len); ev = FAN_EVENT_NEXT(ev, len)) {
			if (ev->fd < 0)
				continue;
			write_list_take_event(w, ev->fd);
			close(ev->fd);
		}
	}
	w->behind = 0;
	any |= !write_list_saved(w);
	write_list_flush(w);
	return any || !write_list_saved(w);
}

bool write_list_saved(const struct write_list *w)
{
	return w->n_unsaved == 0;
}

bool write_list_behind(const struct write_list *w)
{
	return w->behind;
}

/* ---- mounts ---- */

static bool write_list_is_pseudo(const char *fstype)
{
	static const char *const names[] = {
		"proc",       "sysfs",   "cgroup",      "cgroup2", "devpts",     "devtmpfs", "mqueue",
		"securityfs", "debugfs", "tracefs",     "bpf",     "configfs",   "pstore",   "efivarfs",
		"hugetlbfs",  "autofs",  "binfmt_misc", "fusectl", "rpc_pipefs", "nsfs",
	};

	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (strcmp(fstype, names[i]) == 0)
			return true;
	return false;
}

/* File systems on which a deleted file that is in use gets another name, see write_list.h. */
static bool write_list_keeps_deleted(const char *fstype)
{
	static const char *const names[] = { "nfs", "nfs4", "cifs", "smb3", "smbfs", "afs" };

	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (strcmp(fstype, names[i]) == 0)
			return true;
	return false;
}

static void write_list_on_open(void *arg, const char *path)
{
	write_list_note(arg, path);
}

static bool write_list_on_left_out(const struct write_list *w, const char *path)
{
	for (size_t i = 0; i < w->n_left_points; i++)
		if (path_is_within(path, w->left_points[i]))
			return true;
	return false;
}

/* For a mount of those file systems. */
static void write_list_watch_opens(struct write_list *w, const char *point)
{
	static const uint64_t types[] = { NFS_SUPER_MAGIC, CIFS_MAGIC, SMB2_MAGIC, AFS_MAGIC, AFS_SUPER_MAGIC };
	struct err err;

	if (!write_list_on_left_out(w, point)) {
		array_reserve(w->left_points, w->n_left_points, w->left_points_room);
		w->left_points[w->n_left_points++] = xstrdup(point);
	}
	if (w->opens || w->opens_gap[0])
		return;
	w->opens = open_watch_open(w->init, types, ARRAY_SIZE(types), write_list_on_open, w, &err);
	if (!w->opens)
		snprintf(w->opens_gap, sizeof(w->opens_gap), "%.150s", err.text);
	else
		write_list_poll(w, open_watch_fd(w->opens));
}

/* A mount may be hidden by a later one. For example, a file of another file system that the node has mounted over a
 * name in /proc is hidden by the pod's own /proc, which must not be watched. */
static bool write_list_leads_to(const char *path, int mount_id)
{
	struct statx st;

	return statx(AT_FDCWD, path, AT_NO_AUTOMOUNT, STATX_MNT_ID, &st) == 0 &&
	       (!(st.stx_mask & STATX_MNT_ID) || st.stx_mnt_id == (uint64_t)mount_id);
}

struct write_list_mount {
	char point[PATH_MAX], fstype[64];
	int id;
	bool has_cwd;
};

static int write_list_mark(struct write_list *w, const struct write_list_mount *m)
{
	cleanup_free char *path = xasprintf("/proc/%d/root%s", (int)w->init, m->point);

	if (!write_list_leads_to(path, m->id)) {
		errno = ENOENT;
		return -1;
	}
	if (fanotify_mark(w->fan, FAN_MARK_ADD | FAN_MARK_MOUNT, FAN_CLOSE_WRITE, AT_FDCWD, path))
		return -1;
	if (w->mount_fn)
		w->mount_fn(w->mount_arg, path, m->fstype, m->has_cwd);
	return 0;
}

/* Marks the mount of one line of mountinfo, if it is to be watched. *cwd_len: length of the mount point found so far
 * that is nearest to the working directory. *root: 0 once the root is marked or left out, else the error. */
static void write_list_mark_line(struct write_list *w, const char *line, size_t *cwd_len, int *root)
{
	struct write_list_mount m = { .has_cwd = false };
	const char *dash = strstr(line, " - ");
	size_t len;
	bool skip;

	if (!dash || sscanf(line, "%d %*d %*s %*s %4095s", &m.id, m.point) != 2 || sscanf(dash, " - %63s", m.fstype) != 1)
		return;
	unescape_octal(m.point);
	len = strcmp(m.point, "/") == 0 ? 0 : strlen(m.point);
	skip = write_list_keeps_deleted(m.fstype);
	if ((len == 0 || path_is_within(w->cwd, m.point)) && len >= *cwd_len) {
		*cwd_len = len;
		m.has_cwd = true;
		snprintf(w->left_out, sizeof(w->left_out), "%s", skip ? m.fstype : "");
	}
	if (skip)
		write_list_watch_opens(w, m.point);
	/* To mark such a mount asks whoever serves it, and he may be another user than the job's. */
	skip |= mount_is_users(line);
	if (skip && len == 0)
		*root = 0; /* the root is on NFS; the other mounts are watched all the same */
	if (skip || write_list_is_pseudo(m.fstype) || path_is_within(m.point, "/dev/shm") ||
	    (w->private_tmp && path_is_within(m.point, "/tmp")))
		return;
	int error = write_list_mark(w, &m) ? errno : 0;
	if (len == 0)
		*root = error;
}

/* Marks the mounts that can be marked. Returns -1 with errno if the root of the pod is not among them. */
static int write_list_mark_all(struct write_list *w)
{
	cleanup_free char *name = xasprintf("/proc/%d/mountinfo", (int)w->init);
	cleanup_file FILE *f = fopen(name, "re");
	cleanup_free char *line = NULL;
	size_t size = 0, cwd_len = 0;
	int root = ENOENT;

	if (!f)
		return -1;
	while (getline(&line, &size, f) > 0)
		write_list_mark_line(w, line, &cwd_len, &root);
	errno = root;
	return root ? -1 : 0;
}

/* ---- the journal as a whole ---- */

struct write_list_rewrite {
	struct write_list *w;
	char *text;
	size_t len;
	unsigned n;
};

static void write_list_keep_existing(const void *node, VISIT visit, void *arg)
{
	const char *path = *(char *const *)node;
	struct write_list_rewrite *r = arg;
	struct stat st;
	size_t len = strlen(path) + 1;

	if (visit != postorder && visit != leaf)
		return;
	cleanup_free char *there = xasprintf("/proc/%d/root%s", (int)r->w->init, path);
	/* A server that does not answer must not stop the agent. */
	if (!write_list_on_left_out(r->w, path) && lstat(there, &st))
		return;
	memcpy(r->text + r->len, path, len);
	r->len += len;
	r->n++;
}

static int write_list_reopen(struct write_list *w)
{
	int fd = openat(w->dirfd, WRITE_LIST_NAME, O_WRONLY | O_APPEND | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);

	if (fd < 0)
		return -1;
	if (w->journal >= 0)
		close(w->journal);
	w->journal = fd;
	return 0;
}

/* Removes the paths that lead to no file any more (of the file systems that it may look at), so that a job which makes
 * and deletes files all the time does not fill the list. Nothing is lost: an epoch holds what was recorded for it. */
static void write_list_compact(struct write_list *w)
{
	struct write_list_rewrite r = { .w = w, .text = xmalloc(w->bytes + 1) };

	twalk_r(w->paths, write_list_keep_existing, &r);
	if (write_file_atomic(w->dirfd, WRITE_LIST_NAME, 0600, (gid_t)-1, r.text, r.len) == 0 &&
	    write_list_reopen(w) == 0) {
		tdestroy(w->paths, free);
		w->paths = NULL;
		w->n = w->n_deleted = 0;
		w->bytes = 0;
		w->full = false;
		w->size = (off_t)r.len;
		w->n_unsaved = 0; /* those were among the paths */
		for (size_t i = 0; i < r.len; i += strlen(r.text + i) + 1)
			write_list_add(w, r.text + i);
	} else {
		log_warn("cannot rewrite %s: %s", WRITE_LIST_NAME, strerror(errno));
	}
	free(r.text);
}

void write_list_remark(struct write_list *w)
{
	write_list_mark_all(w);
	if (w->n >= WRITE_LIST_MAX / 10 * 9 || w->bytes >= WRITE_LIST_BYTES_MAX / 10 * 9)
		write_list_compact(w);
}

void write_list_tell_mounts(struct write_list *w, write_list_mount_fn *fn, void *arg)
{
	w->mount_fn = fn;
	w->mount_arg = arg;
	write_list_mark_all(w);
}

bool write_list_full(const struct write_list *w)
{
	return w->full;
}

const char *write_list_left_out(const struct write_list *w)
{
	return w->left_out;
}

const char *write_list_gap(const struct write_list *w)
{
	return w->left_out[0] ? w->opens_gap : "";
}

struct write_list *write_list_open(const struct store *s, pid_t init, bool private_tmp, bool fresh, const char *cwd,
				   struct err *err)
{
	struct write_list *w = xcalloc(1, sizeof(*w));

	w->journal = w->mounts = w->fan = -1;
	w->dirfd = s->dirfd;
	w->init = init;
	snprintf(w->cwd, sizeof(w->cwd), "%s", cwd);
	w->private_tmp = private_tmp;
	if (fresh)
		unlinkat(s->dirfd, WRITE_LIST_NAME, 0);
	w->ready = epoll_create1(EPOLL_CLOEXEC);
	w->fan = w->ready < 0 ? -1 : write_list_make_group();
	if (w->fan < 0 || write_list_poll(w, w->fan)) {
		err_sys(err, errno, "fanotify is not available");
		goto fail;
	}
	if (!fresh)
		write_list_load(w, s->dirfd);
	if (write_list_reopen(w)) {
		err_sys(err, errno, "cannot open %s/%s", s->path, WRITE_LIST_NAME);
		goto fail;
	}
	w->mounts = open_proc(init, "ns/mnt", O_RDONLY);
	if (w->mounts < 0) {
		err_sys(err, errno, "cannot open the pod's mount namespace");
		goto fail;
	}
	if (write_list_mark_all(w)) {
		err_sys(err, errno, "cannot watch the pod's mounts");
		goto fail;
	}
	return w;
fail:
	write_list_close(w);
	return NULL;
}

int write_list_fd(const struct write_list *w)
{
	return w->ready;
}

void write_list_close(struct write_list *w)
{
	if (!w)
		return;
	open_watch_close(w->opens);
	cleanup_closep(&w->fan);
	cleanup_closep(&w->ready);
	if (w->mounts >= 0)
		close(w->mounts);
	if (w->journal >= 0)
		close(w->journal);
	for (size_t i = 0; i < w->n_left_points; i++)
		free(w->left_points[i]);
	free(w->left_points);
	tdestroy(w->paths, free);
	free(w->unsaved);
	free(w);
}
