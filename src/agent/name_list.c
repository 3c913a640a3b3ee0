#include "agent/name_list.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/fanotify.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/array.h"
#include "base/clock.h"
#include "base/io.h"
#include "base/log.h"
#include "base/text.h"
#include "base/util.h"
#include "files/files.h"
#include "files/names.h"

#define EVENTS     (FAN_CREATE | FAN_DELETE | FAN_RENAME | FAN_ONDIR)
#define BUCKETS    65536
#define MOUNTS_MAX 64
#define DIRS_MAX   100000 /* directories in an interval */
#define DIRS_RENEW 10000  /* from here on the directories are forgotten with an interval */
#define EVENT_MAX  4096   /* bytes of an event; it has two names at most */
#define READ_SIZE  65536

struct known_dir {
	struct known_dir *next;
	unsigned number;
	bool skip; /* its names are not noted */
	char id[];
};

struct known_name {
	struct known_name *next;
	struct known_name *next_dirty;
	struct known_dir *dir;
	char *was, *put; /* IDs; owned; was: "-" and "?" as in the journal */
	bool was_dir;    /* `was` is a directory */
	bool gone;       /* the job has deleted it or moved it away */
	bool unsure;     /* the kernel may have merged its events with earlier ones, so `gone` may be wrong */
	bool saved, dirty;
	char name[];
};

struct watched_mount {
	struct name_fs fs;
	int fd; /* of the mount point; keeps the mount, because paths are read by way of it after the pod has died */
	dev_t dev;
	ino_t ino;
	bool skip; /* the pod's /tmp: what is below is not noted */
};

struct name_list {
	int group, relay; /* relay: the socket to fsched-init */
	char job_dir[PATH_MAX];
	int dirfd; /* of it, the caller's */
	int journal;
	off_t size; /* of the complete records in it */
	char *unsaved;
	size_t n_unsaved, unsaved_room;
	bool failing;
	pid_t init;
	int64_t interval, began; /* number; Unix us */
	struct known_dir *dirs[BUCKETS];
	struct known_name *names[BUCKETS];
	struct known_name *dirty, **dirty_end;
	unsigned n_dirs, last_dir, n_names;
	struct watched_mount mounts[MOUNTS_MAX];
	int n_mounts;
	bool lost;        /* in this interval */
	bool new_lost;    /* see name_list_lost() */
	unsigned answers; /* marks that fsched-init has sent */
	char buf[READ_SIZE + EVENT_MAX] __attribute__((aligned(8)));
	size_t n_buf;
};

static uint32_t name_list_hash(const char *text, uint32_t h)
{
	h = names_hash(h, text);
	return (h ^ h >> 16) & (BUCKETS - 1);
}

/* ---- the journal --------------------------------------------------------- */

__attribute__((format(printf, 2, 3))) static void name_list_write(struct name_list *l, const char *fmt, ...)
{
	char text[PATH_MAX + 1024];
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (n < 0 || n >= (int)sizeof(text))
		return;
	array_reserve_more(l->unsaved, l->n_unsaved, (size_t)n + 1, l->unsaved_room);
	memcpy(l->unsaved + l->n_unsaved, text, (size_t)n + 1);
	l->n_unsaved += (size_t)n + 1;
}

static void name_list_lose(struct name_list *l, const char *why)
{
	if (!l->lost)
		name_list_write(l, "L%s", why);
	l->lost = l->new_lost = true;
}

static int name_list_open_file(struct name_list *l)
{
	if (l->journal < 0)
		l->journal = openat(l->dirfd, FILES_NAMES, O_WRONLY | O_APPEND | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
	return l->journal < 0 ? -1 : 0;
}

/* As in write_list.c: what a failed attempt has left is truncated first. */
static int name_list_append(struct name_list *l)
{
	struct stat st;

	if (name_list_open_file(l) < 0 || fstat(l->journal, &st) ||
	    (st.st_size != l->size && ftruncate(l->journal, l->size)) || write_all(l->journal, l->unsaved, l->n_unsaved))
		return -1;
	l->size += (off_t)l->n_unsaved;
	l->n_unsaved = 0;
	if (fdatasync(l->journal))
		log_warn("cannot write %s to the disk: %s", FILES_NAMES, strerror(errno));
	return 0;
}

static void name_list_save_name(struct name_list *l, struct known_name *n)
{
	name_list_write(l, "N%u\t%s\t%c\t%s\t%s", n->dir->number, n->was, n->was_dir ? 'd' : 'f', n->put ? n->put : "-",
			n->name);
	n->saved = true;
}

static void name_list_forget(struct name_list *l, struct known_name *n)
{
	struct known_name **p = &l->names[name_list_hash(n->name, n->dir->number)];

	while (*p != n)
		p = &(*p)->next;
	*p = n->next;
	l->n_names--;
	free(n->was);
	free(n->put);
	free(n);
}

enum look { LOOK_NONE, LOOK_THERE, LOOK_UNKNOWN };

/* Opens the file by way of a mount of its file system. -1 with errno; ESTALE: it is gone. */
static int name_list_open_id(const struct name_list *l, const char *id, int flags)
{
	int fd = -1;

	errno = EXDEV;
	for (int i = 0; i < l->n_mounts && fd < 0 && errno == EXDEV; i++)
		fd = name_id_open(l->mounts[i].fd, id, flags);
	return fd;
}

/* What the name leads to now. The directory may have been moved, so it is found by its ID. */
static enum look name_list_look(const struct name_list *l, const char *dir, const char *name, char id[NAME_ID])
{
	cleanup_close int at = name_list_open_id(l, dir, O_PATH | O_DIRECTORY);
	struct name_fs fs;

	if (at < 0)
		return errno == ESTALE ? LOOK_NONE : LOOK_UNKNOWN;
	if (name_fs_of(at, &fs) == 0 && name_id_of(&fs, at, name, id) == 0)
		return LOOK_THERE;
	return errno == ENOENT ? LOOK_NONE : LOOK_UNKNOWN;
}

static bool name_list_came_and_went(const struct name_list *l, const struct known_name *n)
{
	char id[NAME_ID];

	return !n->saved && n->gone && strcmp(n->was, "-") == 0 &&
	       (!n->unsure || name_list_look(l, n->dir->id, n->name, id) == LOOK_NONE);
}

static void name_list_flush(struct name_list *l)
{
	struct known_name *n, *next;

	for (n = l->dirty; n; n = next) {
		next = n->next_dirty;
		n->dirty = false;
		if (name_list_came_and_went(l, n))
			name_list_forget(l, n);
		else if (l->size + (off_t)l->n_unsaved < (off_t)NAME_LIST_BYTES_MAX)
			name_list_save_name(l, n);
		else
			name_list_lose(l, "the list of changed names is full");
	}
	l->dirty = NULL;
	l->dirty_end = &l->dirty;
	if (!l->n_unsaved)
		return;
	const bool failed = name_list_append(l) < 0;
	if (failed && !l->failing)
		log_warn("cannot note which names the job has changed in %s: %s; trying again", FILES_NAMES,
			 strerror(errno));
	l->failing = failed;
}

static void name_list_forget_interval(struct name_list *l)
{
	for (size_t i = 0; i < BUCKETS; i++)
		while (l->names[i])
			name_list_forget(l, l->names[i]);
	for (size_t i = 0; i < BUCKETS && l->n_dirs >= DIRS_RENEW; i++)
		for (struct known_dir *d = l->dirs[i], *next; d; d = next) {
			next = d->next;
			free(d);
			l->dirs[i] = NULL;
		}
	l->n_dirs = l->n_dirs >= DIRS_RENEW ? 0 : l->n_dirs;
}

static void name_list_next_interval(struct name_list *l)
{
	name_list_flush(l);
	name_list_forget_interval(l);
	l->lost = false;
	l->began = unix_us();
	name_list_write(l, "B%lld", (long long)++l->interval);
	name_list_flush(l);
}

/* ---- directories ----------------------------------------------------------- */

/* The path of the directory as the pod sees it, by way of one mount. */
static bool name_list_path_by(const struct name_list *l, const struct watched_mount *m, const char *id,
			      char path[PATH_MAX])
{
	cleanup_close int fd = name_id_open(m->fd, id, O_PATH | O_DIRECTORY), there = -1;
	cleanup_free char *seen = NULL;
	char link[40], now[NAME_ID];
	struct name_fs fs;
	struct stat st;
	ssize_t n;

	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	n = fd < 0 || fstat(fd, &st) || !st.st_nlink ? -1 : readlink(link, path, PATH_MAX - 1);
	if (n <= 0 || path[0] != '/')
		return false;
	path[n] = '\0';
	if (m->skip && !path_is_within(path, "/tmp"))
		return false;
	seen = xasprintf("/proc/%d/root%s", (int)l->init, path);
	there = open(seen, O_PATH | O_DIRECTORY | O_CLOEXEC);
	/* Without a pod nothing can be compared. */
	return there < 0 ? errno == ENOENT && kill(l->init, 0) < 0
			 : name_fs_of(there, &fs) == 0 && name_id_of(&fs, there, "", now) == 0 && strcmp(now, id) == 0;
}

/* False if the directory is gone. */
static bool name_list_path(const struct name_list *l, const char *id, char path[PATH_MAX], bool *skip)
{
	for (int i = 0; i < l->n_mounts; i++)
		if (name_list_path_by(l, &l->mounts[i], id, path)) {
			*skip = l->mounts[i].skip;
			return true;
		}
	return false;
}

/* criu runs in the pod's namespace too. It writes in the job's directory, and when it runs for the first time after a
 * boot, it stores features of the kernel in /run. */
#define CRIU_CACHE_DIR "/run"

static struct known_dir *name_list_dir(struct name_list *l, const char *id)
{
	struct known_dir **bucket = &l->dirs[name_list_hash(id, NAMES_HASH)], *d;
	char path[PATH_MAX] = "/?"; /* gone */

	for (d = *bucket; d; d = d->next)
		if (strcmp(d->id, id) == 0)
			return d;
	if (l->n_dirs >= DIRS_MAX) {
		name_list_lose(l, "the job has changed names in too many directories");
		return NULL;
	}
	d = xcalloc(1, sizeof(*d) + strlen(id) + 1);
	memcpy(d->id, id, strlen(id) + 1);
	d->number = ++l->last_dir;
	d->next = *bucket;
	*bucket = d;
	l->n_dirs++;
	name_list_path(l, id, path, &d->skip);
	d->skip |= strcmp(path, CRIU_CACHE_DIR) == 0 || path_is_within(path, l->job_dir);
	if (!d->skip)
		name_list_write(l, "D%u\t%s\t%s", d->number, id, path);
	return d;
}

/* ---- events ---------------------------------------------------------------- */

struct change {
	const char *dir, *name; /* ID of the directory */
	const char *was;        /* if it is the first change of the name */
	const char *put;        /* NULL = none */
	bool is_dir, gone, unsure;
};

static struct known_name *name_list_find(struct name_list *l, struct known_dir *d, const char *name)
{
	struct known_name *n = l->names[name_list_hash(name, d->number)];

	while (n && (n->dir != d || strcmp(n->name, name) != 0))
		n = n->next;
	return n;
}

static struct known_name *name_list_add(struct name_list *l, struct known_dir *d, const struct change *c)
{
	struct known_name **bucket = &l->names[name_list_hash(c->name, d->number)], *n;

	if (l->n_names >= NAME_LIST_MAX) {
		name_list_lose(l, "the job has changed too many names");
		return NULL;
	}
	n = xcalloc(1, sizeof(*n) + strlen(c->name) + 1);
	memcpy(n->name, c->name, strlen(c->name) + 1);
	n->dir = d;
	n->was = xstrdup(c->was);
	n->was_dir = c->is_dir;
	n->next = *bucket;
	*bucket = n;
	l->n_names++;
	return n;
}

static void name_list_note(struct name_list *l, const struct change *c)
{
	struct known_dir *d = name_list_dir(l, c->dir);
	struct known_name *n = d && !d->skip ? name_list_find(l, d, c->name) : NULL;
	bool news = !n;

	if (!d || d->skip)
		return;
	n = n ? n : name_list_add(l, d, c);
	if (!n)
		return;
	if (c->put && (!n->put || strcmp(n->put, c->put) != 0)) {
		free(n->put);
		n->put = xstrdup(c->put);
		news = true;
	}
	n->gone = c->gone;
	n->unsure |= c->unsure;
	if (!news || n->dirty)
		return;
	n->dirty = true;
	n->next_dirty = NULL;
	*l->dirty_end = n;
	l->dirty_end = &n->next_dirty;
}

struct event_names {
	char dir[NAME_ID], to_dir[NAME_ID], file[NAME_ID];
	const char *name, *to_name;
};

/* The kernel has merged the making and the deleting of a name of one file. Returns whether the name may lead to the
 * file now. *since: the file was made in this interval, or is gone, so the making came first. */
static bool name_list_is_there(const struct name_list *l, const struct event_names *e, bool *since)
{
	cleanup_close int fd = name_list_open_id(l, e->file, O_PATH);
	char now[NAME_ID];
	struct statx st;

	if (fd < 0) {
		*since = errno == ESTALE;
		return errno != ESTALE;
	}
	*since = statx(fd, "", AT_EMPTY_PATH, STATX_BTIME, &st) == 0 && name_born_since(&st, l->began);
	const enum look look = name_list_look(l, e->dir, e->name, now);
	return look == LOOK_UNKNOWN || (look == LOOK_THERE && strcmp(now, e->file) == 0);
}

static void name_list_id(const struct fanotify_event_info_fid *i, const struct file_handle *h, char id[NAME_ID])
{
	struct name_fs fs;

	memcpy(&fs, &i->fsid, sizeof(fs));
	name_id_render(&fs, h->handle_type, h->f_handle, h->handle_bytes, id);
}

/* Takes the event apart. */
static void name_list_parse(const struct fanotify_event_metadata *m, struct event_names *e)
{
	const char *p = (const char *)m + m->metadata_len, *end = (const char *)m + m->event_len;

	memset(e, 0, sizeof(*e));
	while (p + sizeof(struct fanotify_event_info_fid) + sizeof(struct file_handle) <= end) {
		const struct fanotify_event_info_fid *i = (const void *)p;
		const struct file_handle *h = (const void *)i->handle;
		const char *name = (const char *)h->f_handle + h->handle_bytes;

		if (i->hdr.len < sizeof(*i) || p + i->hdr.len > end || h->handle_bytes > MAX_HANDLE_SZ)
			return;
		if (i->hdr.info_type == FAN_EVENT_INFO_TYPE_FID) {
			name_list_id(i, h, e->file);
		} else if (i->hdr.info_type == FAN_EVENT_INFO_TYPE_NEW_DFID_NAME) {
			name_list_id(i, h, e->to_dir);
			e->to_name = name;
		} else {
			name_list_id(i, h, e->dir);
			e->name = name;
		}
		p += i->hdr.len;
	}
}

static void name_list_take_event(struct name_list *l, const struct fanotify_event_metadata *m)
{
	const bool is_dir = m->mask & FAN_ONDIR, both = (m->mask & FAN_CREATE) && (m->mask & FAN_DELETE);
	struct event_names e;
	bool since = false, there;

	l->answers += m->mask == 0;
	if (m->mask & FAN_Q_OVERFLOW)
		name_list_lose(l, "the job has changed names faster than they could be noted");
	if (!(m->mask & EVENTS & ~(unsigned long long)FAN_ONDIR))
		return;
	name_list_parse(m, &e);
	if (!*e.dir || !*e.file || !e.name || ((m->mask & FAN_RENAME) && !*e.to_dir)) {
		name_list_lose(l, "the kernel has not told all names that the job has changed");
		return;
	}
	if (m->mask & FAN_RENAME) {
		name_list_note(l, &(struct change){ e.dir, e.name, e.file, NULL, is_dir, true, true });
		name_list_note(l, &(struct change){ e.to_dir, e.to_name, "?", e.file, false, false, true });
	} else if (both) {
		there = name_list_is_there(l, &e, &since);
		name_list_note(l, &(struct change){ e.dir, e.name, since ? "-" : "?", there ? e.file : NULL, false,
						    !there, true });
	} else if (m->mask & FAN_CREATE) {
		name_list_note(l, &(struct change){ e.dir, e.name, "-", e.file, false, false, false });
	} else {
		name_list_note(l, &(struct change){ e.dir, e.name, e.file, NULL, is_dir, true, false });
	}
}

static void name_list_take_all(struct name_list *l)
{
	const struct fanotify_event_metadata *m = (const void *)l->buf;
	size_t at = 0;

	while (l->n_buf - at >= sizeof(*m)) {
		m = (const void *)(l->buf + at);
		if (m->event_len < sizeof(*m) || m->event_len > EVENT_MAX || m->event_len % 4 ||
		    m->event_len > l->n_buf - at)
			break;
		name_list_take_event(l, m);
		at += m->event_len;
	}
	memmove(l->buf, l->buf + at, l->n_buf - at);
	l->n_buf -= at;
}

/* Waits for up to wait_ms. False if nothing came. */
static bool name_list_receive(struct name_list *l, int wait_ms)
{
	struct pollfd p = { l->relay, POLLIN, 0 };
	ssize_t n;

	if (l->relay < 0 || poll(&p, 1, wait_ms) <= 0)
		return false;
	n = recv(l->relay, l->buf + l->n_buf, sizeof(l->buf) - l->n_buf, MSG_DONTWAIT);
	if (n <= 0)
		return false;
	l->n_buf += (size_t)n;
	name_list_take_all(l);
	return true;
}

bool name_list_drain(struct name_list *l, int64_t max_us)
{
	const int64_t end = now_us() + max_us;
	bool any = false, more = true;

	while (more && now_us() < end) {
		more = name_list_receive(l, 0);
		any |= more;
	}
	name_list_flush(l);
	return any || l->n_unsaved;
}

/* Takes all events of what the job has done until now. False if that took too long or cannot be saved. */
static bool name_list_catch_up(struct name_list *l, int64_t max_us)
{
	const int64_t end = now_us() + max_us;
	int64_t left = max_us;

	/* An answer that came too late for an earlier call says nothing about this one. */
	while (now_us() < end && name_list_receive(l, 0))
		;
	const unsigned before = l->answers;
	if (send(l->relay, "?", 1, MSG_NOSIGNAL | MSG_DONTWAIT) != 1)
		left = 0; /* fsched-init has ended: nothing more comes */
	while (l->answers == before && left > 0) {
		name_list_receive(l, (int)(left / 1000) + 1);
		left = end - now_us();
	}
	name_list_flush(l);
	return l->answers != before && !l->n_unsaved;
}

bool name_list_begin_interval(struct name_list *l, int64_t max_us)
{
	const bool all = name_list_catch_up(l, max_us);

	name_list_next_interval(l);
	return all && !l->n_unsaved;
}

bool name_list_lost(struct name_list *l)
{
	const bool lost = l->new_lost;

	l->new_lost = false;
	return lost;
}

int name_list_fd(const struct name_list *l)
{
	return l->relay;
}

/* ---- a journal that becomes too large ---------------------------------------- */

/* Another change of the name is noted again. */
static void name_list_not_saved(struct name_list *l, const char *dir, const char *name)
{
	struct known_dir *d = l->dirs[name_list_hash(dir, NAMES_HASH)];
	struct known_name *n;

	while (d && strcmp(d->id, dir) != 0)
		d = d->next;
	n = d ? name_list_find(l, d, name) : NULL;
	if (!n)
		return;
	free(n->put);
	n->put = NULL;
	n->saved = false;
}

/* Names that were not there before any interval and are not there now. They make no difference to any epoch. */
static bool *name_list_find_needless(struct name_list *l, const struct names *x)
{
	bool *needless = xcalloc(x->n + 1, sizeof(*needless));
	char id[NAME_ID];

	for (size_t i = 0; i < x->n; i++) {
		const struct name_entry *e = &x->v[i];
		const char *dir = x->dirs[e->dir].id;

		needless[i] = !e->ever && name_list_look(l, dir, e->name, id) == LOOK_NONE;
		if (needless[i])
			name_list_not_saved(l, dir, e->name);
	}
	return needless;
}

/* Replaces the journal by one without the needless names in its first len bytes. */
static void name_list_rewrite(struct name_list *l, const struct names *x, const struct names_source *s,
			      const bool *needless, size_t len)
{
	cleanup_free char *text = NULL;
	const ssize_t all = read_file_at(l->dirfd, FILES_NAMES, NAME_LIST_BYTES_MAX + READ_SIZE, &text);
	size_t kept;

	if (all < (ssize_t)l->size || (size_t)l->size < len)
		return;
	kept = names_drop(x, s, needless, text, len);
	memmove(text + kept, text + len, (size_t)l->size - len);
	kept += (size_t)l->size - len;
	if (write_file_atomic(l->dirfd, FILES_NAMES, 0600, (gid_t)-1, text, kept) < 0) {
		log_warn("cannot rewrite %s: %s", FILES_NAMES, strerror(errno));
		return;
	}
	close(l->journal); /* the next record is for the new file */
	l->journal = -1;
	l->size = (off_t)kept;
}

void name_list_shorten(struct name_list *l, uint64_t from, int64_t max_us)
{
	struct names x = { 0 };
	struct names_source s = { .from = 0 };
	cleanup_free bool *needless = NULL;
	struct err err;

	if ((uint64_t)l->size < from || names_read(&x, &s, l->dirfd, FILES_NAMES, &err) < 0)
		goto done;
	const size_t n = x.n, len = (size_t)s.read;
	needless = name_list_find_needless(l, &x);
	/* The events of what was deleted until then are perhaps still on their way. */
	if (!name_list_catch_up(l, max_us) || names_read(&x, &s, l->dirfd, FILES_NAMES, &err) < 0)
		goto done;
	needless = xrealloc(needless, (x.n + 1) * sizeof(*needless));
	for (size_t i = 0; i < x.n; i++)
		needless[i] = i < n && needless[i] && !x.v[i].ever;
	name_list_rewrite(l, &x, &s, needless, len);
done:
	names_free(&x);
	names_source_free(&s);
}

/* ---- begin and end ----------------------------------------------------------- */

/* False: it cannot be used, or there are too many. */
static bool name_list_keep_mount(struct name_list *l, const char *path, bool skip)
{
	cleanup_close int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct watched_mount m = { .skip = skip };
	struct stat st;

	if (fd < 0 || fstat(fd, &st) || name_fs_of(fd, &m.fs) < 0)
		return false;
	m.dev = st.st_dev;
	m.ino = st.st_ino;
	for (int i = 0; i < l->n_mounts; i++)
		if (l->mounts[i].dev == m.dev && l->mounts[i].ino == m.ino)
			return true;
	errno = EMFILE;
	if (l->n_mounts >= MOUNTS_MAX)
		return false;
	m.fd = steal_fd(&fd);
	l->mounts[l->n_mounts++] = m;
	return true;
}

bool name_list_add_mount(struct name_list *l, const char *path)
{
	struct stat st;

	/* Names cannot be changed by way of a mount of a single file. */
	if (lstat(path, &st) || !S_ISDIR(st.st_mode))
		return true;
	if (fanotify_mark(l->group, FAN_MARK_ADD | FAN_MARK_FILESYSTEM, EVENTS, AT_FDCWD, path))
		return false;
	return name_list_keep_mount(l, path, false);
}

/* Gives fsched-init the group and one end of a socket. */
static int name_list_begin_relay(struct name_list *l, int ctl, struct err *err)
{
	union {
		struct cmsghdr align;
		char room[CMSG_SPACE(2 * sizeof(int))];
	} control = { 0 };
	struct iovec v = { (char[]){ "names" }, 5 };
	struct msghdr m = {
		.msg_iov = &v, .msg_iovlen = 1, .msg_control = control.room, .msg_controllen = sizeof(control.room)
	};
	struct cmsghdr *c = CMSG_FIRSTHDR(&m);
	int pair[2], fds[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		return err_sys(err, errno, "cannot make a socket pair");
	l->relay = pair[0];
	fds[0] = l->group;
	fds[1] = pair[1];
	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(fds));
	memcpy(CMSG_DATA(c), fds, sizeof(fds));
	const ssize_t n = sendmsg(ctl, &m, MSG_NOSIGNAL | MSG_DONTWAIT);
	const int saved = errno;
	close(pair[1]);
	return n == 5 ? 0 : err_sys(err, saved, "fsched-init cannot be told to watch names");
}

/* Continues behind the last whole record, with the next number of interval and directory. */
static int name_list_open_journal(struct name_list *l, const struct store *s, bool fresh, struct err *err)
{
	struct names x = { 0 };
	struct names_source source = { .from = INT64_MAX };

	if (fresh)
		unlinkat(s->dirfd, FILES_NAMES, 0);
	else if (names_read(&x, &source, s->dirfd, FILES_NAMES, err) < 0)
		return -1;
	l->size = (off_t)source.read;
	l->interval = source.interval;
	l->last_dir = source.n_local ? (unsigned)source.n_local - 1 : 0;
	names_free(&x);
	names_source_free(&source);
	return name_list_open_file(l) < 0 ? err_sys(err, errno, "cannot open %s/%s", s->path, FILES_NAMES) : 0;
}

struct name_list *name_list_open(const struct store *s, pid_t init, int ctl, bool private_tmp, bool fresh, struct err *err)
{
	struct name_list *l = xcalloc(1, sizeof(*l));

	l->group = l->relay = l->journal = -1;
	l->dirty_end = &l->dirty;
	snprintf(l->job_dir, sizeof(l->job_dir), "%s", s->path);
	l->dirfd = s->dirfd;
	l->init = init;
	l->group = fanotify_init(FAN_CLASS_NOTIF | FAN_CLOEXEC | FAN_NONBLOCK | FAN_UNLIMITED_QUEUE |
					 FAN_REPORT_DFID_NAME_TARGET,
				 O_RDONLY | O_CLOEXEC);
	if (l->group < 0) {
		err_set(err, errno, "the kernel has no events of names (Linux 5.17): %s", strerror(errno));
		goto fail;
	}
	if (name_list_open_journal(l, s, fresh, err) || name_list_begin_relay(l, ctl, err))
		goto fail;
	if (private_tmp) {
		cleanup_free char *tmp = xasprintf("/proc/%d/root/tmp", (int)init);

		name_list_keep_mount(l, tmp, true);
	}
	name_list_next_interval(l);
	return l;
fail:
	name_list_close(l);
	return NULL;
}

void name_list_close(struct name_list *l)
{
	if (!l)
		return;
	l->n_dirs = DIRS_RENEW;
	name_list_forget_interval(l);
	for (int i = 0; i < l->n_mounts; i++)
		close(l->mounts[i].fd);
	if (l->group >= 0)
		close(l->group);
	if (l->relay >= 0)
		close(l->relay);
	if (l->journal >= 0)
		close(l->journal);
	free(l->unsaved);
	free(l);
}
