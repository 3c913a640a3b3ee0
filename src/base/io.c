#include "base/array.h"
#include "base/io.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/util.h"

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

int pread_all(int fd, void *buf, size_t len, uint64_t off)
{
	uint8_t *p = buf;

	while (len > 0) {
		ssize_t n = pread(fd, p, len, (off_t)off);

		if (n < 0 && errno == EINTR)
			continue;
		if (n == 0)
			errno = ENODATA;
		if (n <= 0)
			return -1;
		p += n;
		off += (uint64_t)n;
		len -= (size_t)n;
	}
	return 0;
}

ssize_t read_all(int fd, size_t max, char **out)
{
	cleanup_free char *buf = NULL;
	size_t room = 0, len = 0;

	*out = NULL;
	for (;;) {
		ssize_t r;

		/* at least a page, as much as one read() of a file in /proc returns */
		if (len + 1 >= room)
			array_reserve_more(buf, len, 4096, room);
		r = read(fd, buf + len, room - len - 1);
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
	/* O_NONBLOCK: open() must not block on a fifo in place of the file. */
	fd = openat(dirfd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) < 0)
		return -1;
	if (!S_ISREG(st.st_mode)) {
		errno = S_ISDIR(st.st_mode) ? EISDIR : EINVAL;
		return -1;
	}
	return read_all(fd, max, out);
}

static int io_fsync_dir(int dirfd)
{
	cleanup_close int fd = openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0)
		return -1;
	/* EINVAL: the file system has no fsync for directories (some FUSE file systems). */
	return fsync(fd) < 0 && errno != EINVAL ? -1 : 0;
}

struct new_file {
	mode_t mode;
	uid_t uid;
	gid_t gid;
	bool sync;
};

static int io_write_temporary(int dirfd, const char *tmp, const struct new_file *f, const void *buf, size_t n)
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
	/* NFS reports a full disk or an exceeded quota at close(). */
	return close(steal_fd(&fd));
}

static int io_replace_file(int dirfd, const char *name, const struct new_file *f, const void *buf, size_t n)
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
	if (io_write_temporary(dirfd, tmp, f, buf, n) == 0 && renameat(dirfd, tmp, dirfd, name) == 0)
		return f->sync ? io_fsync_dir(dirfd) : 0;
	saved = errno;
	if (saved != EEXIST)
		unlinkat(dirfd, tmp, 0);
	errno = saved;
	return -1;
}

int write_file_atomic(int dirfd, const char *name, mode_t mode, gid_t gid, const void *buf, size_t n)
{
	return io_replace_file(dirfd, name,
			       &(struct new_file){ .mode = mode, .uid = (uid_t)-1, .gid = gid, .sync = true }, buf, n);
}

int write_file_for(int dirfd, const char *name, uid_t uid, bool sync, const void *buf, size_t n)
{
	return io_replace_file(dirfd, name, &(struct new_file){ .mode = 0400, .uid = uid, .gid = 0, .sync = sync }, buf,
			       n);
}
