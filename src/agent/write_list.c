#include "agent/write_list.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <search.h>
#include <stdio.h>
#include <string.h>
#include <sys/fanotify.h>
#include <sys/stat.h>

#include "base/log.h"
#include "base/io.h"
#include "base/proc.h"
#include "base/util.h"

struct written {
	int fan;          /* fanotify group */
	int mounts;       /* the pod's mount namespace, which must outlive the pod: the name of a file leads through its
			     mounts */
	int journal;      /* <job dir>/written, O_APPEND */
	off_t size;       /* of what is whole in it */
	char *unsaved;    /* paths that are not in it yet, each with its NUL; owned */
	size_t n_unsaved; /* bytes */
	bool failing;     /* the last attempt to save them has failed */
	pid_t init;
	bool private_tmp;
	void *paths; /* tsearch tree of char * */
	unsigned n;
	size_t bytes;
	bool full;
	int dirfd; /* of the job's directory, the caller's */
	char cwd[PATH_MAX];
	char gap[64]; /* see written_gap() */
};

static int by_name(const void *a, const void *b)
{
	return strcmp(a, b);
}

/* True if the path was not known yet. */
static bool remember(struct written *w, const char *path)
{
	char **node;
	char *copy;

	if (tfind(path, &w->paths, by_name))
		return false;
	if (w->n >= WRITTEN_MAX || w->bytes + strlen(path) >= WRITTEN_BYTES_MAX) {
		w->full = true;
		return false;
	}
	copy = xstrdup(path);
	node = tsearch(copy, &w->paths, by_name);
	if (!node) {
		free(copy);
		return false;
	}
	w->n++;
	w->bytes += strlen(path) + 1;
	return true;
}

static void load_journal(struct written *w, int dirfd)
{
	cleanup_free char *text = NULL;
	ssize_t len = read_file_at(dirfd, WRITTEN_NAME, WRITTEN_BYTES_MAX + PATH_MAX, &text);

	/* What has no NUL was being written when the node failed; flush() cuts it off. */
	for (ssize_t i = 0; i < len && memchr(text + i, '\0', (size_t)(len - i)); i = (ssize_t)w->size) {
		if (text[i] == '/')
			remember(w, text + i);
		w->size = (off_t)(i + (ssize_t)strlen(text + i) + 1);
	}
}

/* Appends what is not saved yet. A part of it that was written before the disk was full is cut off again: the next path
 * must not be taken for the end of that one. */
static int append(struct written *w)
{
	struct stat st;

	if (fstat(w->journal, &st) || (st.st_size != w->size && ftruncate(w->journal, w->size)) ||
	    write_all(w->journal, w->unsaved, w->n_unsaved))
		return -1;
	w->size += (off_t)w->n_unsaved;
	w->n_unsaved = 0;
	/* if the node fails, the files may be on a disk that other nodes see */
	if (fdatasync(w->journal))
		log_warn("cannot write %s to the disk: %s", WRITTEN_NAME, strerror(errno));
	return 0;
}

static void flush(struct written *w)
{
	if (!w->n_unsaved)
		return;
	if (append(w)) {
		if (!w->failing)
			log_warn("cannot note which files the job has written in %s: %s; trying again", WRITTEN_NAME,
				 strerror(errno));
		w->failing = true;
	} else if (w->failing) {
		log_info("%s, the list of files that the job has written, is up to date again", WRITTEN_NAME);
		w->failing = false;
	}
}

/* criu, which runs in the pod's mount namespace, keeps what it knows of the kernel in a file on /run (criu.kdat,
 * criu-fsched.kdat) when it is run first after a boot. That file is no work of the job, and other nodes need not have
 * it. */
#define CRIU_CACHE "/run/criu"

/* The kernel names a file whose name is gone "… (deleted)", and it may still have another one (ln, rm). A file may be
 * called so, too. */
static bool name_is_gone(const struct written *w, const char *path, const struct stat *st)
{
	static const char mark[] = " (deleted)";
	const size_t len = strlen(path), mark_len = sizeof(mark) - 1;
	struct stat now;

	if (len <= mark_len || strcmp(path + len - mark_len, mark) != 0)
		return false;
	cleanup_free char *there = xasprintf("/proc/%d/root%s", (int)w->init, path);
	return lstat(there, &now) || now.st_dev != st->st_dev || now.st_ino != st->st_ino;
}

static void take_event(struct written *w, int fd)
{
	char link[64], path[PATH_MAX];
	struct stat st;
	ssize_t n;

	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	n = readlink(link, path, sizeof(path) - 1);
	if (n <= 0 || path[0] != '/' || fstat(fd, &st) || !S_ISREG(st.st_mode) || st.st_nlink == 0)
		return;
	path[n] = '\0';
	if ((st.st_uid == 0 && strncmp(path, CRIU_CACHE, strlen(CRIU_CACHE)) == 0) || name_is_gone(w, path, &st) ||
	    !remember(w, path))
		return;
	w->unsaved = xrealloc(w->unsaved, w->n_unsaved + (size_t)n + 1);
	memcpy(w->unsaved + w->n_unsaved, path, (size_t)n + 1);
	w->n_unsaved += (size_t)n + 1;
}

static bool readable(const struct written *w)
{
	struct pollfd p = { w->fan, POLLIN, 0 };

	return poll(&p, 1, 0) > 0;
}

bool written_drain(struct written *w)
{
	char buf[16384] __attribute__((aligned(__alignof__(struct fanotify_event_metadata))));
	bool any = false;

	while (readable(w)) {
		/* an event whose file cannot be opened is an error of read(), and is taken all the same */
		ssize_t len = read(w->fan, buf, sizeof(buf));
		struct fanotify_event_metadata *ev = (struct fanotify_event_metadata *)(void *)buf;

		any = true;
		for (; FAN_EVENT_OK(ev, len); ev = FAN_EVENT_NEXT(ev, len)) {
			if (ev->fd < 0)
				continue;
			take_event(w, ev->fd);
			close(ev->fd);
		}
	}
	flush(w);
	return any || !written_saved(w);
}

bool written_saved(const struct written *w)
{
	return w->n_unsaved == 0;
}

/* ---- mounts ---- */

static bool below(const char *path, const char *dir)
{
	size_t n = strlen(dir);

	return strncmp(path, dir, n) == 0 && (path[n] == '\0' || path[n] == '/');
}

static bool is_pseudo(const char *fstype)
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

/* See written.h: a deleted file that is in use gets another name there. */
static bool keeps_deleted(const char *fstype)
{
	static const char *const names[] = { "nfs", "nfs4", "cifs", "smb3", "smbfs", "afs" };

	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (strcmp(fstype, names[i]) == 0)
			return true;
	return false;
}

/* Undoes the octal escapes of mountinfo (blank, tab, newline, backslash). */
static void unescape(char *s)
{
	char *out = s;

	for (; *s; s++) {
		if (s[0] == '\\' && s[1] >= '0' && s[1] <= '3' && s[2] && s[3]) {
			*out++ = (char)((s[1] - '0') << 6 | (s[2] - '0') << 3 | (s[3] - '0'));
			s += 3;
		} else {
			*out++ = *s;
		}
	}
	*out = '\0';
}

/* A mount may be hidden by a later one: a file of another file system that the node has mounted over a name in /proc
 * lies below the pod's own /proc, which must not be watched. */
static bool leads_to(const char *path, int mount_id)
{
	struct statx st;

	return statx(AT_FDCWD, path, AT_NO_AUTOMOUNT, STATX_MNT_ID, &st) == 0 &&
	       (!(st.stx_mask & STATX_MNT_ID) || st.stx_mnt_id == (uint64_t)mount_id);
}

static int mark(struct written *w, const char *mountpoint, int mount_id)
{
	cleanup_free char *path = xasprintf("/proc/%d/root%s", (int)w->init, mountpoint);

	if (!leads_to(path, mount_id)) {
		errno = ENOENT;
		return -1;
	}
	return fanotify_mark(w->fan, FAN_MARK_ADD | FAN_MARK_MOUNT, FAN_CLOSE_WRITE, AT_FDCWD, path);
}

/* One line of mountinfo. *cwd_len: of the mount point found so far that is nearest to the working directory.
 * *root: 0 once the root is marked or left out, else the error. */
static void mark_line(struct written *w, const char *line, size_t *cwd_len, int *root)
{
	char point[PATH_MAX], fstype[64];
	const char *dash = strstr(line, " - ");
	size_t len;
	bool skip;
	int id;

	if (!dash || sscanf(line, "%d %*d %*s %*s %4095s", &id, point) != 2 || sscanf(dash, " - %63s", fstype) != 1)
		return;
	unescape(point);
	len = strcmp(point, "/") == 0 ? 0 : strlen(point);
	skip = keeps_deleted(fstype);
	if ((len == 0 || below(w->cwd, point)) && len >= *cwd_len) {
		*cwd_len = len;
		snprintf(w->gap, sizeof(w->gap), "%s", skip ? fstype : "");
	}
	if (skip && len == 0)
		*root = 0; /* the root is on NFS: the other mounts are worth it */
	if (skip || is_pseudo(fstype) || below(point, "/dev/shm") || (w->private_tmp && below(point, "/tmp")))
		return;
	int error = mark(w, point, id) ? errno : 0;
	if (len == 0)
		*root = error;
}

/* Marks what can be marked; returns whether the root of the pod could be, errno if not. */
static int mark_all(struct written *w)
{
	cleanup_free char *name = xasprintf("/proc/%d/mountinfo", (int)w->init);
	cleanup_file FILE *f = fopen(name, "re");
	cleanup_free char *line = NULL;
	size_t size = 0, cwd_len = 0;
	int root = ENOENT;

	if (!f)
		return -1;
	while (getline(&line, &size, f) > 0)
		mark_line(w, line, &cwd_len, &root);
	errno = root;
	return root ? -1 : 0;
}

/* ---- the journal as a whole ---- */

struct rewrite {
	struct written *w;
	char *text;
	size_t len;
	unsigned n;
};

static void keep_existing(const void *node, VISIT visit, void *arg)
{
	const char *path = *(char *const *)node;
	struct rewrite *r = arg;
	struct stat st;
	size_t len = strlen(path) + 1;

	if (visit != postorder && visit != leaf)
		return;
	cleanup_free char *there = xasprintf("/proc/%d/root%s", (int)r->w->init, path);
	if (lstat(there, &st))
		return;
	memcpy(r->text + r->len, path, len);
	r->len += len;
	r->n++;
}

static int reopen(struct written *w)
{
	int fd = openat(w->dirfd, WRITTEN_NAME, O_WRONLY | O_APPEND | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);

	if (fd < 0)
		return -1;
	if (w->journal >= 0)
		close(w->journal);
	w->journal = fd;
	return 0;
}

/* A job that makes and deletes files all the time must not fill the journal with names of the past. Nothing is lost by
 * that: what an epoch has recorded stands in the epoch. */
static void compact(struct written *w)
{
	struct rewrite r = { .w = w, .text = xmalloc(w->bytes + 1) };

	twalk_r(w->paths, keep_existing, &r);
	if (write_file_atomic(w->dirfd, WRITTEN_NAME, 0600, (gid_t)-1, r.text, r.len) == 0 && reopen(w) == 0) {
		tdestroy(w->paths, free);
		w->paths = NULL;
		w->n = 0;
		w->bytes = 0;
		w->full = false;
		w->size = (off_t)r.len;
		w->n_unsaved = 0; /* it was among the paths */
		for (size_t i = 0; i < r.len; i += strlen(r.text + i) + 1)
			remember(w, r.text + i);
	} else {
		log_warn("cannot rewrite %s: %s", WRITTEN_NAME, strerror(errno));
	}
	free(r.text);
}

void written_remark(struct written *w)
{
	mark_all(w);
	if (w->n >= WRITTEN_MAX / 10 * 9 || w->bytes >= WRITTEN_BYTES_MAX / 10 * 9)
		compact(w);
}

bool written_full(const struct written *w)
{
	return w->full;
}

const char *written_gap(const struct written *w)
{
	return w->gap;
}

struct written *written_open(const struct store *s, pid_t init, bool private_tmp, bool fresh, const char *cwd,
			     struct err *err)
{
	struct written *w = xcalloc(1, sizeof(*w));

	w->journal = w->mounts = -1;
	w->dirfd = s->dirfd;
	w->init = init;
	snprintf(w->cwd, sizeof(w->cwd), "%s", cwd);
	w->private_tmp = private_tmp;
	if (fresh)
		unlinkat(s->dirfd, WRITTEN_NAME, 0);
	/* O_NONBLOCK: a lease that the job holds must not hold us up */
	w->fan = fanotify_init(FAN_CLASS_NOTIF | FAN_CLOEXEC | FAN_NONBLOCK | FAN_UNLIMITED_QUEUE,
			       O_RDONLY | O_LARGEFILE | O_CLOEXEC | O_NOATIME | O_NONBLOCK);
	if (w->fan < 0) {
		err_sys(err, errno, "fanotify is not available");
		goto fail;
	}
	if (!fresh)
		load_journal(w, s->dirfd);
	if (reopen(w)) {
		err_sys(err, errno, "cannot open %s/%s", s->path, WRITTEN_NAME);
		goto fail;
	}
	w->mounts = open_proc(init, "ns/mnt", O_RDONLY);
	if (w->mounts < 0) {
		err_sys(err, errno, "cannot open the pod's mount namespace");
		goto fail;
	}
	if (mark_all(w)) {
		err_sys(err, errno, "cannot watch the pod's mounts");
		goto fail;
	}
	return w;
fail:
	written_close(w);
	return NULL;
}

int written_fd(const struct written *w)
{
	return w->fan;
}

void written_close(struct written *w)
{
	if (!w)
		return;
	if (w->fan >= 0)
		close(w->fan);
	if (w->mounts >= 0)
		close(w->mounts);
	if (w->journal >= 0)
		close(w->journal);
	tdestroy(w->paths, free);
	free(w->unsaved);
	free(w);
}
