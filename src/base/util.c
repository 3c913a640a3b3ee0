#include "base/dir.h"
#include "base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <signal.h>
#include <stdarg.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>

/* ---- memory ------------------------------------------------------------ */

static void *checked(void *p)
{
	static const char text[] = "fsched: out of memory\n";

	if (!p) {
		if (write(STDERR_FILENO, text, sizeof(text) - 1) < 0)
			abort();
		abort();
	}
	return p;
}

void *xmalloc(size_t size)
{
	return checked(malloc(size ? size : 1));
}

void *xcalloc(size_t n, size_t size)
{
	return checked(calloc(n ? n : 1, size ? size : 1));
}

void *xrealloc(void *p, size_t size)
{
	return checked(realloc(p, size ? size : 1));
}

char *xstrdup(const char *s)
{
	return checked(strdup(s));
}

char *xasprintf(const char *fmt, ...)
{
	va_list ap;
	char *text = NULL;
	int len;

	va_start(ap, fmt);
	len = vasprintf(&text, fmt, ap);
	va_end(ap);
	return checked(len < 0 ? NULL : text);
}

/* ---- exact I/O --------------------------------------------------------- */

int write_all(int fd, const void *buf, size_t n)
{
	const char *p = buf;

	while (n > 0) {
		ssize_t w = write(fd, p, n);

		if (w < 0 && errno == EINTR)
			continue;
		if (w < 0)
			return -1;
		p += w;
		n -= (size_t)w;
	}
	return 0;
}

int pwrite_all(int fd, const void *buf, size_t n, uint64_t off)
{
	const char *p = buf;

	while (n > 0) {
		ssize_t w = pwrite(fd, p, n, (off_t)off);

		if (w < 0 && errno == EINTR)
			continue;
		if (w < 0)
			return -1;
		p += w;
		off += (uint64_t)w;
		n -= (size_t)w;
	}
	return 0;
}

ssize_t read_all(int fd, size_t max, char **out)
{
	cleanup_free char *buf = NULL;
	size_t size = 0, len = 0;

	*out = NULL;
	for (;;) {
		ssize_t r;

		if (len + 1 >= size) {
			size = size ? size * 2 : 4096;
			buf = xrealloc(buf, size);
		}
		r = read(fd, buf + len, size - len - 1);
		if (r < 0 && errno == EINTR)
			continue;
		if (r < 0)
			return -1;
		if (r == 0)
			break;
		len += (size_t)r;
		if (len > max) {
			errno = EFBIG;
			return -1;
		}
	}
	buf[len] = '\0';
	*out = steal_ptr(&buf);
	return (ssize_t)len;
}

ssize_t read_file_at(int dirfd, const char *name, size_t max, char **out)
{
	cleanup_close int fd = -1;
	struct stat st;

	*out = NULL;
	/* O_NONBLOCK: a fifo in place of the file must not stop us in open(). */
	fd = openat(dirfd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) < 0)
		return -1;
	if (!S_ISREG(st.st_mode)) {
		errno = S_ISDIR(st.st_mode) ? EISDIR : EINVAL;
		return -1;
	}
	return read_all(fd, max, out);
}

int open_proc(pid_t pid, const char *name, int flags)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/%s", pid, name);
	return open(path, flags | O_CLOEXEC);
}

long proc_status_number(const char *status, const char *key, long missing)
{
	const size_t len = strlen(key);
	long v = missing;

	for (const char *p = status; p && *p; p = strchr(p, '\n'), p = p ? p + 1 : NULL) {
		if (strncmp(p, key, len) || p[len] != ':')
			continue;
		for (p += len + 1; *p == '\t'; p += strcspn(p, "\t\n"))
			v = strtol(++p, NULL, 10);
		break;
	}
	return v;
}

long proc_number(pid_t pid, const char *key, long missing)
{
	cleanup_free char *status = NULL;
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/status", pid);
	return read_file_at(AT_FDCWD, path, 65536, &status) > 0 ? proc_status_number(status, key, missing) : missing;
}

const char *proc_describe(pid_t pid, char *buf, size_t len)
{
	cleanup_free char *status = NULL;
	char path[64], comm[64] = "?", clean[64];
	long inner = pid;

	snprintf(path, sizeof(path), "/proc/%d/status", pid);
	if (read_file_at(AT_FDCWD, path, 65536, &status) > 0) {
		sscanf(status, "Name:\t%63[^\n]", comm);
		inner = proc_status_number(status, "NSpid", pid);
	}
	snprintf(buf, len, "process %ld (%s)", inner, printable(comm, clean, sizeof(clean)));
	return buf;
}

static int fsync_dir(int dirfd)
{
	cleanup_close int fd = openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0)
		return -1;
	/* EINVAL: a file system that has no fsync for directories (some FUSE). */
	return fsync(fd) < 0 && errno != EINVAL ? -1 : 0;
}

struct new_file {
	mode_t mode;
	uid_t uid;
	gid_t gid;
	bool sync;
};

static int write_temporary(int dirfd, const char *tmp, const struct new_file *f, const void *buf, size_t n)
{
	cleanup_close int fd = -1;

	fd = openat(dirfd, tmp, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return -1;
	/* Given away last: its owner could change what is being written. */
	if (write_all(fd, buf, n) < 0 || fchmod(fd, f->mode) < 0)
		return -1;
	if ((f->uid != (uid_t)-1 || f->gid != (gid_t)-1) && fchown(fd, f->uid, f->gid) < 0)
		return -1;
	if (f->sync && fsync(fd) < 0)
		return -1;
	/* close() is where NFS reports a full disk or a quota. */
	return close(steal_fd(&fd));
}

static int replace_file(int dirfd, const char *name, const struct new_file *f, const void *buf, size_t n)
{
	cleanup_free char *tmp = NULL;
	uint64_t nonce = 0;
	int saved;

	if (strchr(name, '/')) {
		errno = EINVAL;
		return -1;
	}
	/* Two writers of one name must not share a temporary file. */
	if (getrandom(&nonce, sizeof(nonce), GRND_NONBLOCK) != sizeof(nonce))
		nonce = (uint64_t)now_us() ^ ((uint64_t)getpid() << 40);
	tmp = xasprintf(".%s.%016llx.tmp", name, (unsigned long long)nonce);
	if (write_temporary(dirfd, tmp, f, buf, n) == 0 && renameat(dirfd, tmp, dirfd, name) == 0)
		return f->sync ? fsync_dir(dirfd) : 0;
	saved = errno;
	if (saved != EEXIST)
		unlinkat(dirfd, tmp, 0);
	errno = saved;
	return -1;
}

int write_file_atomic(int dirfd, const char *name, mode_t mode, gid_t gid, const void *buf, size_t n)
{
	return replace_file(dirfd, name, &(struct new_file){ .mode = mode, .uid = (uid_t)-1, .gid = gid, .sync = true },
			    buf, n);
}

int write_file_for(int dirfd, const char *name, uid_t uid, bool sync, const void *buf, size_t n)
{
	return replace_file(dirfd, name, &(struct new_file){ .mode = 0400, .uid = uid, .gid = 0, .sync = sync }, buf, n);
}

/* ---- trees ------------------------------------------------------------- */

/* Opens a directory that is no symbolic link and no mount point. RESOLVE_NO_XDEV
 * also sees bind mounts of the same file system; before Linux 5.6 only another
 * device number is noticed. */
static int open_subdir(int dirfd, const char *name)
{
	struct open_how how = {
		.flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC,
		.resolve = RESOLVE_NO_XDEV,
	};
	cleanup_close int fd = -1;
	struct stat parent, child;

	fd = (int)syscall(SYS_openat2, dirfd, name, &how, sizeof(how));
	if (fd >= 0 || errno != ENOSYS)
		return steal_fd(&fd);
	fd = openat(dirfd, name, (int)how.flags);
	if (fd < 0 || fstat(fd, &child) < 0 || fstatat(dirfd, ".", &parent, 0) < 0)
		return -1;
	if (child.st_dev != parent.st_dev) {
		errno = EXDEV;
		return -1;
	}
	return steal_fd(&fd);
}

/* A user can nest directories deeper than we have descriptors: what lies below
 * this depth is moved up to the top of the tree and removed from there. */
#define REMOVE_DEPTH  32
/* Rounds over one directory while somebody may still be adding to it. */
#define REMOVE_ROUNDS 20000

struct removal {
	int topfd;
	uint64_t counter; /* for the names of what is moved to the top */
	int error;        /* first errno */
};

static int remove_dir(struct removal *r, int dirfd, const char *name, int depth);

static int move_to_top(struct removal *r, int dirfd, const char *name)
{
	for (int tries = 0; tries < 1000; tries++) {
		char up[40];

		snprintf(up, sizeof(up), ".removed-%llu", (unsigned long long)r->counter++);
		if (renameat(dirfd, name, r->topfd, up) == 0)
			return 0;
		if (errno != EEXIST && errno != ENOTEMPTY && errno != ENOTDIR)
			return -1;
	}
	return -1;
}

static int remove_entry(struct removal *r, int dirfd, const char *name, int depth)
{
	if (unlinkat(dirfd, name, 0) == 0 || errno == ENOENT)
		return 0;
	if (errno != EISDIR && errno != EPERM)
		return -1;
	if (unlinkat(dirfd, name, AT_REMOVEDIR) == 0)
		return 0;
	if (errno != ENOTEMPTY && errno != EEXIST)
		return -1;
	if (depth >= REMOVE_DEPTH)
		return move_to_top(r, dirfd, name);
	return remove_dir(r, dirfd, name, depth + 1);
}

/* One pass over the directory: the number of entries that went away, -1 if it
 * cannot be read. */
static long remove_pass(struct removal *r, int fd, int depth)
{
	cleanup_dir DIR *dir = dir_open_at(fd, ".");
	const struct dirent *de;
	long removed = 0;
	int more = -1;

	while (dir && (more = dir_next(dir, &de)) > 0) {
		if (remove_entry(r, fd, de->d_name, depth) == 0)
			removed++;
		else if (!r->error)
			r->error = errno;
	}
	return more < 0 ? -1 : removed;
}

static int remove_dir(struct removal *r, int dirfd, const char *name, int depth)
{
	cleanup_close int fd = open_subdir(dirfd, name);

	if (fd < 0)
		return -1;
	if (depth == 0)
		r->topfd = fd;
	for (int round = 0; round < REMOVE_ROUNDS; round++) {
		long removed = remove_pass(r, fd, depth);

		if (removed < 0)
			return -1;
		if (unlinkat(dirfd, name, AT_REMOVEDIR) == 0 || errno == ENOENT)
			return 0;
		if ((errno != ENOTEMPTY && errno != EEXIST) || removed == 0)
			return -1;
	}
	errno = ENOTEMPTY;
	return -1;
}

int remove_tree_at(int dirfd, const char *name)
{
	struct removal r = { .topfd = -1 };
	int saved;

	if (unlinkat(dirfd, name, 0) == 0 || errno == ENOENT)
		return 0;
	if (errno != EISDIR && errno != EPERM)
		return -1;
	if (remove_dir(&r, dirfd, name, 0) == 0)
		return 0;
	saved = errno;
	if (saved == ENOENT)
		return 0;
	/* What stood in the way says more than "directory not empty". */
	errno = r.error && (saved == ENOTEMPTY || saved == EEXIST) ? r.error : saved;
	return -1;
}

/* Makes or enters one component; a new one gets exactly the mode. */
static int enter_component(int dirfd, const char *name, mode_t mode)
{
	cleanup_close int fd = -1;

	if (mkdirat(dirfd, name, mode & 0700) < 0) {
		if (errno != EEXIST && errno != EROFS && errno != EACCES && errno != EPERM)
			return -1;
		return openat(dirfd, name, O_PATH | O_DIRECTORY | O_CLOEXEC);
	}
	fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0 || fchmod(fd, mode) < 0)
		return -1;
	return steal_fd(&fd);
}

int mkdir_parents(const char *path, mode_t mode)
{
	cleanup_free char *copy = xstrdup(path);
	cleanup_close int fd = -1;
	char *save = NULL;

	fd = open(*path == '/' ? "/" : ".", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return -1;
	for (char *part = strtok_r(copy, "/", &save); part; part = strtok_r(NULL, "/", &save)) {
		int next = enter_component(fd, part, mode);

		if (next < 0)
			return -1;
		close(fd);
		fd = next;
	}
	return 0;
}

/* More levels than any epoch has; keeps descriptors and stack bounded. */
#define SIZE_DEPTH 128

static int64_t size_of_dir(int parent, const char *name, int depth)
{
	cleanup_dir DIR *dir = dir_open_at(parent, name);
	const struct dirent *de;
	int64_t sum = 0;
	int more = -1;

	while (dir && (more = dir_next(dir, &de)) > 0) {
		struct stat st;

		if (fstatat(dirfd(dir), de->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
			continue;
		if (S_ISREG(st.st_mode)) {
			sum += (int64_t)st.st_blocks * 512;
		} else if (S_ISDIR(st.st_mode) && depth < SIZE_DEPTH) {
			int64_t below = size_of_dir(dirfd(dir), de->d_name, depth + 1);

			sum += below > 0 ? below : 0;
		}
	}
	return more < 0 ? -1 : sum;
}

int64_t tree_size_at(int dirfd, const char *name)
{
	return size_of_dir(dirfd, name, 0);
}

/* ---- time and text ----------------------------------------------------- */

#define STOPS_MAX 20

bool user_child_ended(struct user_child *c, bool wait)
{
	for (;;) {
		pid_t got = waitpid(c->pid, &c->status, WUNTRACED | (wait ? 0 : WNOHANG));

		if (got < 0 && errno == EINTR)
			continue;
		if (got == 0)
			return false;
		if (got < 0 || !WIFSTOPPED(c->status))
			return true;
		c->given_up = ++c->stops > STOPS_MAX;
		kill(c->pid, c->given_up ? SIGKILL : SIGCONT);
	}
}

int64_t now_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

char *format_size(uint64_t bytes, char *buf, size_t len)
{
	static const char *const units[] = { "KiB", "MiB", "GiB", "TiB", "PiB", "EiB" };
	double value = (double)bytes / 1024;
	size_t unit = 0;

	if (bytes < 1024) {
		snprintf(buf, len, "%u B", (unsigned)bytes);
		return buf;
	}
	/* 1023.95 would be printed as 1024.0 */
	while (value >= 1023.95 && unit + 1 < ARRAY_SIZE(units)) {
		value /= 1024;
		unit++;
	}
	snprintf(buf, len, "%.1f %s", value, units[unit]);
	return buf;
}

char *format_duration(int64_t us, char *buf, size_t len)
{
	int64_t s;

	if (us < 0)
		us = 0;
	s = (us + 500000) / 1000000;
	if (us < 1000)
		snprintf(buf, len, "%d us", (int)us);
	else if (us < 999500)
		snprintf(buf, len, "%d ms", (int)((us + 500) / 1000));
	else if (us < 59950000)
		snprintf(buf, len, "%.1f s", (double)us / 1e6);
	else if (s < 3600)
		snprintf(buf, len, "%d min %d s", (int)(s / 60), (int)(s % 60));
	else
		snprintf(buf, len, "%lld h %d min", (long long)(s / 3600), (int)(s / 60 % 60));
	return buf;
}

char *format_time(int64_t unix_time, char *buf, size_t len)
{
	time_t t = (time_t)unix_time;
	struct tm tm;

	if (!localtime_r(&t, &tm) || strftime(buf, len, "%Y-%m-%dT%H:%M:%S", &tm) == 0)
		snprintf(buf, len, "Unknown");
	return buf;
}

/* Length of the well-formed UTF-8 sequence at s that is no control character;
 * 0 if there is none. */
static size_t printable_sequence(const unsigned char *s)
{
	size_t n;

	if (s[0] < 0x80)
		return s[0] >= 0x20 && s[0] != 0x7f;
	if (s[0] < 0xc2 || s[0] > 0xf4)
		return 0;
	n = s[0] < 0xe0 ? 2 : s[0] < 0xf0 ? 3 : 4;
	for (size_t i = 1; i < n; i++) {
		if ((s[i] & 0xc0) != 0x80)
			return 0;
	}
	/* U+0080..U+009f: terminals take these for escape sequences. */
	if (s[0] == 0xc2 && s[1] < 0xa0)
		return 0;
	/* Overlong forms, surrogates, beyond U+10ffff; and U+2028, U+2029,
	 * U+202a..U+202e: line breaks and changes of the writing direction. */
	if ((s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xed && s[1] > 0x9f) || (s[0] == 0xf0 && s[1] < 0x90) ||
	    (s[0] == 0xf4 && s[1] > 0x8f) || (s[0] == 0xe2 && s[1] == 0x80 && s[2] >= 0xa8 && s[2] <= 0xae))
		return 0;
	return n;
}

char *printable(const char *s, char *buf, size_t len)
{
	const unsigned char *p = (const unsigned char *)s;
	size_t used = 0;

	if (len == 0)
		return buf;
	while (*p) {
		size_t n = printable_sequence(p);

		if (used + (n ? n : 1) >= len)
			break;
		if (n)
			memcpy(buf + used, p, n);
		else
			buf[used] = '?';
		used += n ? n : 1;
		p += n ? n : 1;
	}
	buf[used] = '\0';
	return buf;
}
