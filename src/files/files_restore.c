/* Putting the files of the shared file systems back.
 *
 * Every path comes from the user's processes, and whoever can write to a directory on the way can make it lead
 * elsewhere by now. So no path is opened with root's rights: batches of records are handed to children that are the
 * job's user for good. A child gets the copies as open descriptors and answers through a pipe, messages ended by NUL:
 * see put_say(), and at the very end 'K'.
 */
#include "files/files_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/user.h"
#include "base/io.h"
#include "base/text.h"
#include "base/util.h"

#define ANSWER_MAX (1u << 20)
#define LOOK_MS    100 /* how often it is seen whether somebody has stopped a child */

/* ---- answers ----------------------------------------------------------- */

static void answer(const struct putter *p, char kind, const char *text)
{
	/* Nobody listens any more: the parent finds that 'K' is missing. */
	if (write_all(p->out, &kind, 1) < 0 || write_all(p->out, text, strlen(text) + 1) < 0)
		_exit(1);
}

static void say(const struct putter *p, char kind, const char *path, const char *fmt, va_list ap)
	__attribute__((format(printf, 4, 0)));
static void say(const struct putter *p, char kind, const char *path, const char *fmt, va_list ap)
{
	char shown[FILES_SHOWN], text[700];
	int n = snprintf(text, sizeof(text), "\"%s\"%s", show_path(path, shown), *fmt ? " " : "");

	vsnprintf(text + n, sizeof(text) - (size_t)n, fmt, ap);
	answer(p, kind, text);
}

void put_say(const struct putter *p, char kind, const char *path, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	say(p, kind, path, fmt, ap);
	va_end(ap);
}

/* -1, for return. */
static int problem(const struct putter *p, const char *path, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
static int problem(const struct putter *p, const char *path, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	say(p, 'E', path, fmt, ap);
	va_end(ap);
	return -1;
}

static void caution(const struct putter *p, const char *path, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
static void caution(const struct putter *p, const char *path, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	say(p, 'W', path, fmt, ap);
	va_end(ap);
}

/* ---- opening ----------------------------------------------------------- */

static const char *kind_of(mode_t mode)
{
	switch (mode & S_IFMT) {
	case S_IFDIR: return "a directory";
	case S_IFLNK: return "a symbolic link";
	case S_IFIFO: return "a fifo";
	case S_IFSOCK: return "a socket";
	default: return "a device";
	}
}

struct target {
	int pathfd; /* O_PATH on the file that the path leads to now; -1 = missing */
	int fd;     /* open for reading, or for reading and writing */
	bool readable;
	bool mode_changed; /* made writable for the moment */
	struct stat st;
};

static void target_close(struct target *t)
{
	if (t->fd >= 0)
		close(t->fd);
	if (t->pathfd >= 0)
		close(t->pathfd);
}
#define cleanup_target __attribute__((cleanup(target_close)))

/* Finds the file without opening it: a fifo or device does nothing to us. Missing is no error here. */
static int find_target(const struct putter *p, const struct file_record *r, struct target *t)
{
	t->pathfd = open(r->path, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	if (t->pathfd < 0 && errno == ENOENT)
		return 0;
	if (t->pathfd < 0)
		return problem(p, r->path, "cannot be reached: %s", strerror(errno));
	if (fstat(t->pathfd, &t->st) < 0)
		return problem(p, r->path, "cannot be examined: %s", strerror(errno));
	if (!S_ISREG(t->st.st_mode))
		return problem(p, r->path, "was a regular file that the job writes, now it is %s",
			       kind_of(t->st.st_mode));
	return 0;
}

static int open_by(int pathfd, int flags)
{
	char link[40];

	snprintf(link, sizeof(link), "/proc/self/fd/%d", pathfd);
	return open(link, flags | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
}

static int chmod_by(int pathfd, mode_t mode)
{
	char link[40];

	snprintf(link, sizeof(link), "/proc/self/fd/%d", pathfd);
	return chmod(link, mode);
}

static int open_reading(struct target *t)
{
	t->fd = open_by(t->pathfd, O_RDONLY);
	t->readable = t->fd >= 0;
	return t->fd < 0 ? -1 : 0;
}

static int try_writing(struct target *t)
{
	t->fd = open_by(t->pathfd, O_RDWR);
	t->readable = t->fd >= 0;
	if (t->fd < 0 && errno == EACCES)
		t->fd = open_by(t->pathfd, O_WRONLY);
	return t->fd < 0 ? -1 : 0;
}

/* A program may hold a file open for writing whose mode forbids to open it again: its owner may lift that for the
 * moment. */
static int open_writing(const struct putter *p, const struct file_record *r, struct target *t)
{
	if (t->fd >= 0)
		close(t->fd);
	if (try_writing(t) == 0)
		return 0;
	if (errno == EACCES && t->st.st_uid == p->cred->uid && p->mode == PUT_CHECK)
		return 0;
	if (errno == EACCES && t->st.st_uid == p->cred->uid && chmod_by(t->pathfd, (t->st.st_mode & 07777) | 0600) == 0) {
		t->mode_changed = true;
		if (try_writing(t) == 0)
			return 0;
	}
	if (errno == EACCES)
		return problem(p, r->path,
			       "has to be set back, but the job's user (uid %u) may not write to it: "
			       "it belongs to uid %u, mode %04o",
			       (unsigned)p->cred->uid, (unsigned)t->st.st_uid, (unsigned)(t->st.st_mode & 07777));
	return problem(p, r->path, "has to be set back, but cannot be opened for writing: %s", strerror(errno));
}

/* Mode and time as at the checkpoint. A file of somebody else keeps its own. */
static void set_attributes(const struct putter *p, const struct file_record *r, struct target *t)
{
	struct timespec times[2] = { { .tv_nsec = UTIME_OMIT }, r->mtime };

	if (((t->st.st_mode & 07777) != r->mode || t->mode_changed) && fchmod(t->fd, r->mode) < 0)
		caution(p, r->path, "keeps its mode %04o, it was %04o at the checkpoint: %s",
			(unsigned)(t->st.st_mode & 07777), (unsigned)r->mode, strerror(errno));
	if (futimens(t->fd, times) < 0 && errno != EPERM)
		caution(p, r->path, "keeps its time of modification: %s", strerror(errno));
}

/* ---- missing files ----------------------------------------------------- */

/* The first directory on the way that does not exist; false if all do. */
static bool missing_parent(const char *path, char out[PATH_MAX])
{
	struct stat st;

	snprintf(out, PATH_MAX, "%s", path);
	for (char *slash = strchr(out + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
		*slash = '\0';
		if (stat(out, &st) < 0 && errno == ENOENT)
			return true;
		*slash = '/';
	}
	return false;
}

static bool has_whole_copy(const struct file_record *r)
{
	return r->size == 0 || (*r->saved && r->saved_size == r->size);
}

/* Directories that the job removed together with a file that it had closed: it will look for them. */
static bool brings_directories(const struct file_record *r)
{
	return r->class == FILE_CLOSED;
}

static const char *why_no_copy(const struct file_record *r)
{
	return r->class == FILE_APPEND ? "it only grew, or was large and closed"
				       : "it was over CheckpointFileLimit or not readable";
}

/* The directory, existing, in which the first thing has to be made. */
static void existing_parent(const char *path, char dir[PATH_MAX])
{
	char *slash;

	if (!missing_parent(path, dir))
		snprintf(dir, PATH_MAX, "%s", path);
	slash = strrchr(dir, '/');
	slash[slash == dir] = '\0';
}

static int check_recreate(const struct putter *p, const struct file_record *r)
{
	char parent[PATH_MAX], shown[FILES_SHOWN];

	if (!brings_directories(r) && missing_parent(r->path, parent))
		return problem(p, r->path, "is gone together with directory \"%s\": make the directory again",
			       show_path(parent, shown));
	if (!has_whole_copy(r))
		return problem(p, r->path,
			       "is gone, it had %lld bytes at the checkpoint and no copy was made of it, because %s: "
			       "put it back or restart from another epoch",
			       (long long)r->size, why_no_copy(r));
	existing_parent(r->path, parent);
	if (faccessat(AT_FDCWD, parent, W_OK | X_OK, AT_EACCESS) < 0)
		return problem(p, r->path, "is gone and cannot be made again in \"%s\": %s", show_path(parent, shown),
			       strerror(errno));
	return 0;
}

static int make_parents(const struct putter *p, const struct file_record *r)
{
	char dir[PATH_MAX], shown[FILES_SHOWN];

	while (brings_directories(r) && missing_parent(r->path, dir)) {
		if (mkdir(dir, 0700) < 0)
			return problem(p, r->path, "is gone and its directory \"%s\" cannot be made again: %s",
				       show_path(dir, shown), strerror(errno));
		caution(p, dir, "was gone and has been made again as a directory of mode 0700");
	}
	return 0;
}

static int recreate(const struct putter *p, const struct file_record *r, int copy)
{
	cleanup_target struct target t = { .pathfd = -1, .fd = -1 };
	int rc = check_recreate(p, r);

	if (rc < 0 || p->mode == PUT_CHECK)
		return rc;
	if (make_parents(p, r) < 0)
		return -1;
	t.fd = open(r->path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (t.fd < 0)
		return problem(p, r->path, "is gone and cannot be made again: %s", strerror(errno));
	if (r->size > 0 && copy_back(copy, t.fd, (uint64_t)r->size, true) < 0) {
		int saved = errno;

		unlink(r->path);
		return problem(p, r->path, "is gone and cannot be written again: %s", strerror(saved));
	}
	t.mode_changed = true;
	set_attributes(p, r, &t);
	if (r->class == FILE_CLOSED)
		put_say(p, 'N', r->path, "%s", "");
	else
		caution(p, r->path, "was gone and has been made again with its content at the checkpoint");
	return 0;
}

/* ---- changed files ----------------------------------------------------- */

static int put_copy(const struct putter *p, const struct file_record *r, struct target *t, int copy)
{
	if (open_writing(p, r, t) < 0)
		return -1;
	if (p->mode == PUT_CHECK)
		return 0;
	if (copy_back(copy, t->fd, (uint64_t)r->size, t->readable) < 0)
		return problem(p, r->path, "cannot be set back to its %lld bytes at the checkpoint: %s",
			       (long long)r->size, strerror(errno));
	set_attributes(p, r, t);
	return 0;
}

static bool same_time(const struct timespec *a, const struct timespec *b)
{
	return a->tv_sec == b->tv_sec && a->tv_nsec == b->tv_nsec;
}

static bool untouched(const struct file_record *r, const struct target *t)
{
	return t->st.st_size == r->size && (uint64_t)t->st.st_ino == r->ino && same_time(&t->st.st_mtim, &r->mtime) &&
	       same_time(&t->st.st_ctim, &r->ctime);
}

/* Over the limit, no copy: good as long as nobody has touched it. */
static int put_unsaved(const struct putter *p, const struct file_record *r, const struct target *t)
{
	if (untouched(r, t))
		return 0;
	return problem(p, r->path,
		       "was changed after the checkpoint (now %lld bytes, then %lld) and no copy was made of it, because it was over "
		       "CheckpointFileLimit or not readable: cannot continue byte-identical",
		       (long long)t->st.st_size, (long long)r->size);
}

/* 1 the end of the recorded part is as it was, 0 it is not, -1 errno. */
static int tail_fits(const struct file_record *r, struct target *t)
{
	uint64_t edge = r->size < FILES_EDGE ? (uint64_t)r->size : FILES_EDGE;
	char hex[SHA256_HEX];

	if (t->st.st_size < r->size)
		return 0;
	if (open_reading(t) < 0)
		return -1;
	if (digest_range(t->fd, (uint64_t)r->size - edge, edge, hex) < 0)
		return errno == ENODATA ? 0 : -1;
	return strcmp(hex, r->tail) == 0;
}

/* 1 the kept beginning differs, 0 it does not (or none is kept), -1 errno. */
static int head_differs(const struct file_record *r, struct target *t, int copy)
{
	char was[SHA256_HEX], is[SHA256_HEX];

	if (!*r->saved || r->saved_size == 0)
		return 0;
	if (digest_range(copy, 0, (uint64_t)r->saved_size, was) < 0 ||
	    digest_range(t->fd, 0, (uint64_t)r->saved_size, is) < 0)
		return -1;
	return strcmp(was, is) != 0;
}

static int write_head(const struct file_record *r, int copy, int fd)
{
	cleanup_free char *buf = xmalloc((size_t)r->saved_size);
	size_t n = (size_t)r->saved_size;

	if (pread(copy, buf, n, 0) != (ssize_t)n || lseek(fd, 0, SEEK_SET) < 0)
		return -1;
	return write_all(fd, buf, n);
}

static int roll_back(const struct putter *p, const struct file_record *r, struct target *t, bool head, int copy)
{
	if (open_writing(p, r, t) < 0)
		return -1;
	if (p->mode == PUT_CHECK)
		return 0;
	if (t->st.st_size != r->size && ftruncate(t->fd, (off_t)r->size) < 0)
		return problem(p, r->path, "cannot be truncated to its %lld bytes at the checkpoint: %s",
			       (long long)r->size, strerror(errno));
	if (head && write_head(r, copy, t->fd) < 0)
		return problem(p, r->path, "cannot be set back at its beginning: %s", strerror(errno));
	set_attributes(p, r, t);
	return 0;
}

/* A file that could not be read when it was recorded: the size is all there is. */
static int put_by_size(const struct putter *p, const struct file_record *r, struct target *t)
{
	if (t->st.st_size < r->size)
		return problem(p, r->path,
			       "is now %lld bytes, it was %lld at the checkpoint: cannot continue byte-identical",
			       (long long)t->st.st_size, (long long)r->size);
	return t->st.st_size == r->size ? 0 : roll_back(p, r, t, false, -1);
}

static int put_append(const struct putter *p, const struct file_record *r, struct target *t, int copy)
{
	int fits, head;

	if (!*r->tail)
		return put_by_size(p, r, t);
	fits = tail_fits(r, t);
	if (fits < 0 && errno == EACCES) {
		caution(p, r->path, "may not be read by the job's user: only its size was checked");
		return put_by_size(p, r, t);
	}
	if (fits == 0 && has_whole_copy(r) && *r->saved)
		return put_copy(p, r, t, copy);
	if (fits == 0)
		return problem(p, r->path,
			       "is now %lld bytes, it was %lld at the checkpoint: its content before the checkpoint was changed, "
			       "cannot continue byte-identical",
			       (long long)t->st.st_size, (long long)r->size);
	head = fits < 0 ? -1 : head_differs(r, t, copy);
	if (head < 0)
		return problem(p, r->path, "cannot be compared with its content at the checkpoint: %s", strerror(errno));
	return t->st.st_size == r->size && !head ? 0 : roll_back(p, r, t, head > 0, copy);
}

/* Nobody had it open or mapped at the checkpoint, so its times tell whether it was changed afterwards. */
static int put_closed(const struct putter *p, const struct file_record *r, struct target *t, int copy)
{
	char hex[SHA256_HEX];

	if (untouched(r, t))
		return 0;
	if (t->st.st_size != r->size || open_reading(t) < 0 || digest_range(t->fd, 0, (uint64_t)r->size, hex) < 0 ||
	    strcmp(hex, r->digest) != 0)
		return put_copy(p, r, t, copy);
	if (p->mode == PUT_APPLY)
		set_attributes(p, r, t);
	return 0;
}

static int put_file(const struct putter *p, const struct file_record *r, int copy)
{
	cleanup_target struct target t = { .pathfd = -1, .fd = -1 };

	if (r->class == FILE_ABSENT)
		return 0;
	if (find_target(p, r, &t) < 0)
		return -1;
	if (t.pathfd < 0)
		return recreate(p, r, copy);
	if (r->class == FILE_APPEND)
		return put_append(p, r, &t, copy);
	if (r->class == FILE_CLOSED && has_whole_copy(r))
		return put_closed(p, r, &t, copy);
	/* Always compared in full: neither writes through a mapping nor those of one clock tick show in the file's
	 * times. */
	return has_whole_copy(r) ? put_copy(p, r, &t, copy) : put_unsaved(p, r, &t);
}

static int sync_file(const struct putter *p, const struct file_record *r)
{
	cleanup_target struct target t = { .pathfd = -1, .fd = -1 };

	/* The copy is durable with the epoch and will be put back, whatever the disk has lost. */
	if (r->leased || r->class == FILE_ABSENT || (r->class != FILE_APPEND && has_whole_copy(r)))
		return 0;
	t.pathfd = open(r->path, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	/* Removed meanwhile, or not ours to open: what a restore will say about that is better than a failed
	 * checkpoint. */
	if (t.pathfd < 0 || fstat(t.pathfd, &t.st) < 0 || !S_ISREG(t.st.st_mode) ||
	    (open_reading(&t) < 0 && try_writing(&t) < 0))
		return 0;
	if (fsync(t.fd) < 0 && errno != EINVAL)
		return problem(p, r->path, "cannot be written to the disk: %s", strerror(errno));
	return 0;
}

/* ---- children ---------------------------------------------------------- */

/* The copies, opened while still root: only root may enter the epoch. */
static int open_copies(const struct file_record *r, int n, int filesfd, int copies[PUT_BATCH], char *text, size_t len)
{
	for (int i = 0; i < n; i++) {
		struct stat st;

		copies[i] = -1;
		if (!*r[i].saved)
			continue;
		copies[i] = openat(filesfd, r[i].saved, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
		if (copies[i] < 0 || fstat(copies[i], &st) < 0) {
			snprintf(text, len, "files/%s of the checkpoint cannot be opened: %s", r[i].saved,
				 strerror(errno));
			return -1;
		}
		if (!S_ISREG(st.st_mode) || st.st_size != r[i].saved_size) {
			snprintf(text, len, "files/%s of the checkpoint is damaged: it has not the size that was written",
				 r[i].saved);
			return -1;
		}
	}
	return 0;
}

static void child(const struct putter *p, const struct file_record *r, int n, int filesfd, pid_t parent)
{
	int copies[PUT_BATCH];
	char text[256];

	if ((p->mode == PUT_CHECK || p->mode == PUT_APPLY) && open_copies(r, n, filesfd, copies, text, sizeof(text)) < 0) {
		answer(p, 'E', text);
		_exit(1);
	}
	if (user_become(p->cred->uid, p->cred->gid, p->cred->groups, p->cred->n_groups) < 0) {
		snprintf(text, sizeof(text), "cannot become uid %u: %s", (unsigned)p->cred->uid, strerror(errno));
		answer(p, 'E', text);
		_exit(1);
	}
	/* A change of uid clears it, so not earlier. */
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(1);
	umask(077);
	signal(SIGPIPE, SIG_IGN);
	/* A write beyond RLIMIT_FSIZE is an error, not a death. */
	signal(SIGXFSZ, SIG_IGN);
	for (int i = 0; i < n; i++) {
		if (p->mode == PUT_SYNC)
			sync_file(p, &r[i]);
		else if (p->mode == PUT_UNDO)
			undo_file(p, &r[i]);
		else if (put_file(p, &r[i], copies[i]) < 0 && p->mode == PUT_APPLY)
			break;
	}
	answer(p, 'K', "");
	_exit(0);
}

static void count(struct put_count *c, const char *text)
{
	if (c->n++ == 0)
		printable(text, c->first, sizeof(c->first));
}

/* The messages of a child. They are the user's to forge once it runs with the user's rights, so nothing but text is
 * taken from them. */
static bool take_answers(struct put_outcome *o, char *text, size_t len)
{
	bool complete = false;

	for (char *end, *m = text; m < text + len; m = end + 1) {
		char clean[700];

		end = memchr(m, '\0', (size_t)(text + len - m));
		if (!end)
			return false;
		complete = *m == 'K';
		if (*m == 'W')
			add_warning(o->warnings, "%s", printable(m + 1, clean, sizeof(clean)));
		else if (*m == 'R')
			count(&o->removed, m + 1);
		else if (*m == 'N')
			count(&o->remade, m + 1);
		else if (*m == 'M')
			count(&o->changed, m + 1);
		else if (*m == 'E' && o->errors++ == 0)
			printable(m + 1, o->first, sizeof(o->first));
	}
	return complete;
}

/* All that it writes, while it is looked after. Its length, or -1 with errno. */
static ssize_t read_answers(struct user_child *c, int fd, char *text, size_t size, bool *ended)
{
	size_t len = 0;

	for (;;) {
		struct pollfd p = { fd, POLLIN, 0 };
		int n = poll(&p, 1, LOOK_MS);
		ssize_t got;

		if (n == 0 && !*ended)
			*ended = user_child_ended(c, false);
		if (n <= 0)
			continue;
		got = read(fd, text + len, size - len);
		if (got == 0)
			return (ssize_t)len;
		if (got < 0 && errno != EINTR)
			return -1;
		len += got > 0 ? (size_t)got : 0;
		if (len == size) {
			errno = EFBIG;
			return -1;
		}
	}
}

static int ended_early(const struct putter *p, const struct user_child *c, struct err *err)
{
	if (c->given_up)
		return err_set(err, EINTR,
			       "the process that works on the job's files was stopped %u times by signals and has been ended: only root "
			       "and processes of uid %u can send them; end what does so and try again",
			       c->stops, (unsigned)p->cred->uid);
	if (WIFSIGNALED(c->status))
		return err_set(err, 0, "the process that works on the job's files was ended by signal %d",
			       WTERMSIG(c->status));
	return err_set(err, 0, "the process that works on the job's files ended early");
}

int put_batch(struct putter *p, const struct file_record *r, int n, int filesfd, struct put_outcome *o, struct err *err)
{
	cleanup_free char *text = xmalloc(ANSWER_MAX);
	pid_t parent = getpid();
	struct user_child c = { 0 };
	bool ended = false;
	int fds[2], saved;
	ssize_t len;

	if (pipe2(fds, O_CLOEXEC) < 0)
		return err_sys(err, errno, "cannot make a pipe");
	p->out = fds[1];
	c.pid = fork();
	if (c.pid == 0) {
		close(fds[0]);
		child(p, r, n, filesfd, parent);
	}
	saved = errno;
	close(fds[1]);
	if (c.pid < 0) {
		close(fds[0]);
		return err_sys(err, saved, "cannot start a process");
	}
	len = read_answers(&c, fds[0], text, ANSWER_MAX, &ended);
	saved = errno;
	close(fds[0]);
	if (len < 0 && !ended)
		kill(c.pid, SIGKILL);
	if (!ended)
		user_child_ended(&c, true);
	if (len < 0)
		return err_sys(err, saved, "cannot read the answer of the process that works on the job's files");
	if (!take_answers(o, text, (size_t)len) && o->errors == 0)
		return ended_early(p, &c, err);
	return 0;
}

static int run(enum put_mode mode, const json_t *records, int filesfd, const struct files_cred *cred, json_t *warnings,
	       struct err *err)
{
	cleanup_free struct file_record *batch = xcalloc(PUT_BATCH, sizeof(*batch));
	struct putter p = { .mode = mode, .cred = cred, .out = -1 };
	struct put_outcome o = { .warnings = warnings };
	size_t n = json_array_size(records);

	if (!json_is_array(records) || n > FILES_RECORDS_MAX)
		return err_set(err, EBADMSG, "the list of the job's files is damaged");
	for (size_t i = 0; i < n;) {
		int in_batch = 0;

		for (; i < n && in_batch < PUT_BATCH; i++, in_batch++)
			if (file_record_parse(json_array_get(records, i), &batch[in_batch], err) < 0)
				return err_wrap(err, "the record of file %zu is damaged", i);
		if (put_batch(&p, batch, in_batch, filesfd, &o, err) < 0)
			return -1;
		if (o.errors && mode == PUT_APPLY)
			break;
	}
	if (o.remade.n)
		add_warning(warnings, "%u %s that the job had deleted after the checkpoint %s again, first %s",
			    o.remade.n, o.remade.n == 1 ? "file" : "files", o.remade.n == 1 ? "was made" : "were made",
			    o.remade.first);
	if (o.errors > 1)
		return err_set(err, EBUSY, "%s (and %u more)", o.first, o.errors - 1);
	return o.errors ? err_set(err, EBUSY, "%s", o.first) : 0;
}

int files_check(const json_t *records, int filesfd, const struct files_cred *cred, struct err *err)
{
	return run(PUT_CHECK, records, filesfd, cred, NULL, err);
}

int files_put_back(const json_t *records, int filesfd, const struct files_cred *cred, json_t *warnings, struct err *err)
{
	return run(PUT_APPLY, records, filesfd, cred, warnings, err);
}

int files_sync(const json_t *records, const struct files_cred *cred, struct err *err)
{
	return run(PUT_SYNC, records, -1, cred, NULL, err);
}
