/* faultfs SOURCE MOUNTPOINT CONTROL - a passthrough file system (libfuse3) of one directory that breaks as told; run as
 * root.
 *
 * Each request looks into the file CONTROL, which lies outside of it: one line, written anew by whoever wants a fault:
 *   off         all is well
 *   delay MS    opening for writing, writing and fsync take MS milliseconds more
 *   hang        every request waits until there is another word: as NFS does, mounted "hard", without its server
 *   full        no space left: creating and writing fail with ENOSPC, removing works
 *   readonly    whatever changes something fails with EROFS
 *   squash      whatever changes something fails with EACCES: root is nobody there, as with root_squash
 *   eio [TEXT]  reading the data of files (of those with TEXT in their path) fails with EIO
 * Stays in the foreground. Nothing is cached (direct_io, timeouts of 0), so that a fault is seen at once. */
#define FUSE_USE_VERSION 31
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fuse.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

enum kind { LOOK, READ, CREATE, WRITE, CHANGE, SYNC };

static const char *source, *control;

static void word_of(char *word, size_t len)
{
	int fd = open(control, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, word, len - 1);

	word[n > 0 ? n : 0] = '\0';
	word[strcspn(word, "\n")] = '\0';
	if (fd >= 0)
		close(fd);
}

/* 0, or the error of the request. */
static int fault_at(enum kind kind, const char *path)
{
	char word[64];

	for (word_of(word, sizeof(word)); strcmp(word, "hang") == 0; word_of(word, sizeof(word)))
		usleep(20000);
	if (kind == LOOK)
		return 0;
	if (kind == READ)
		return strncmp(word, "eio", 3) == 0 && strstr(path, word[3] ? word + 4 : "") ? -EIO : 0;
	if (strncmp(word, "delay ", 6) == 0 && kind != CHANGE)
		usleep((useconds_t)atoi(word + 6) * 1000);
	if (strcmp(word, "full") == 0 && (kind == CREATE || kind == WRITE))
		return -ENOSPC;
	if (strcmp(word, "readonly") == 0 && kind != SYNC)
		return -EROFS;
	if (strcmp(word, "squash") == 0 && kind != SYNC)
		return -EACCES;
	return 0;
}

static int fault(enum kind kind)
{
	return fault_at(kind, "");
}

static int answer(int rc)
{
	return rc < 0 ? -errno : 0;
}

/* The path below the source in buf; the requests' paths begin with a slash. */
#define PATH(name, path)       \
	char name[4096 + 256]; \
	snprintf(name, sizeof(name), "%s%s", source, path)
#define FAULT(kind)                    \
	do {                           \
		int rc_ = fault(kind); \
		if (rc_)               \
			return rc_;    \
	} while (0)

static void *f_init(struct fuse_conn_info *conn, struct fuse_config *c)
{
	(void)conn;
	c->use_ino = c->hard_remove = c->nullpath_ok = c->direct_io = 1;
	c->entry_timeout = c->attr_timeout = c->negative_timeout = 0;
	return NULL;
}

static int f_getattr(const char *path, struct stat *st, struct fuse_file_info *fi)
{
	FAULT(LOOK);
	if (fi)
		return answer(fstat((int)fi->fh, st));
	PATH(p, path);
	return answer(lstat(p, st));
}

static int f_readlink(const char *path, char *buf, size_t len)
{
	ssize_t n;

	FAULT(LOOK);
	PATH(p, path);
	n = readlink(p, buf, len - 1);
	if (n < 0)
		return -errno;
	buf[n] = '\0';
	return 0;
}

static int f_mkdir(const char *path, mode_t mode)
{
	FAULT(CREATE);
	PATH(p, path);
	return answer(mkdir(p, mode));
}

static int f_mknod(const char *path, mode_t mode, dev_t dev)
{
	FAULT(CREATE);
	PATH(p, path);
	return answer(mknod(p, mode, dev));
}

static int f_symlink(const char *to, const char *path)
{
	FAULT(CREATE);
	PATH(p, path);
	return answer(symlink(to, p));
}

static int f_link(const char *from, const char *to)
{
	FAULT(CREATE);
	PATH(p, from);
	PATH(q, to);
	return answer(link(p, q));
}

static int f_unlink(const char *path)
{
	FAULT(CHANGE);
	PATH(p, path);
	return answer(unlink(p));
}

static int f_rmdir(const char *path)
{
	FAULT(CHANGE);
	PATH(p, path);
	return answer(rmdir(p));
}

static int f_rename(const char *from, const char *to, unsigned flags)
{
	FAULT(CHANGE);
	PATH(p, from);
	PATH(q, to);
	return answer(renameat2(AT_FDCWD, p, AT_FDCWD, q, flags));
}

static int f_chmod(const char *path, mode_t mode, struct fuse_file_info *fi)
{
	FAULT(CHANGE);
	if (fi)
		return answer(fchmod((int)fi->fh, mode));
	PATH(p, path);
	return answer(chmod(p, mode));
}

static int f_chown(const char *path, uid_t uid, gid_t gid, struct fuse_file_info *fi)
{
	FAULT(CHANGE);
	if (fi)
		return answer(fchown((int)fi->fh, uid, gid));
	PATH(p, path);
	return answer(lchown(p, uid, gid));
}

static int f_truncate(const char *path, off_t size, struct fuse_file_info *fi)
{
	FAULT(CHANGE);
	if (fi)
		return answer(ftruncate((int)fi->fh, size));
	PATH(p, path);
	return answer(truncate(p, size));
}

static int f_utimens(const char *path, const struct timespec ts[2], struct fuse_file_info *fi)
{
	FAULT(CHANGE);
	if (fi)
		return answer(futimens((int)fi->fh, ts));
	PATH(p, path);
	return answer(utimensat(AT_FDCWD, p, ts, AT_SYMLINK_NOFOLLOW));
}

static int opened(int fd, struct fuse_file_info *fi)
{
	if (fd < 0)
		return -errno;
	fi->fh = (uint64_t)fd;
	fi->direct_io = 1;
	return 0;
}

/* The kernel appends at the end that it has asked for: pwrite() with O_APPEND would ignore the offset. */
static int f_open(const char *path, struct fuse_file_info *fi)
{
	FAULT((fi->flags & O_ACCMODE) == O_RDONLY ? LOOK : WRITE);
	PATH(p, path);
	return opened(open(p, (fi->flags & ~O_APPEND) | O_CLOEXEC), fi);
}

static int f_create(const char *path, mode_t mode, struct fuse_file_info *fi)
{
	FAULT(CREATE);
	PATH(p, path);
	return opened(open(p, (fi->flags & ~O_APPEND) | O_CREAT | O_CLOEXEC, mode), fi);
}

static int f_read(const char *path, char *buf, size_t len, off_t at, struct fuse_file_info *fi)
{
	char link[40], name[4096] = "";
	ssize_t n;
	int rc;

	(void)path; /* not told with nullpath_ok */
	snprintf(link, sizeof(link), "/proc/self/fd/%d", (int)fi->fh);
	if (readlink(link, name, sizeof(name) - 1) < 0)
		return -errno;
	rc = fault_at(READ, name);
	if (rc)
		return rc;
	n = pread((int)fi->fh, buf, len, at);
	return n < 0 ? -errno : (int)n;
}

static int f_write(const char *path, const char *buf, size_t len, off_t at, struct fuse_file_info *fi)
{
	ssize_t n;

	(void)path;
	FAULT(WRITE);
	n = pwrite((int)fi->fh, buf, len, at);
	return n < 0 ? -errno : (int)n;
}

static int f_fsync(const char *path, int data, struct fuse_file_info *fi)
{
	(void)path;
	(void)data;
	FAULT(SYNC);
	return answer(fsync((int)fi->fh));
}

static int f_release(const char *path, struct fuse_file_info *fi)
{
	(void)path;
	return answer(close((int)fi->fh));
}

static DIR *dir_of(const struct fuse_file_info *fi)
{
	return (DIR *)(uintptr_t)fi->fh;
}

static int f_opendir(const char *path, struct fuse_file_info *fi)
{
	FAULT(LOOK);
	PATH(p, path);
	fi->fh = (uintptr_t)opendir(p);
	return answer(fi->fh ? 0 : -1);
}

static int f_readdir(const char *path, void *buf, fuse_fill_dir_t fill, off_t at, struct fuse_file_info *fi,
		     enum fuse_readdir_flags flags)
{
	const struct dirent *e;

	(void)path;
	(void)at;
	(void)flags;
	FAULT(LOOK);
	rewinddir(dir_of(fi));
	while ((e = readdir(dir_of(fi)))) {
		struct stat st = { .st_ino = e->d_ino, .st_mode = (mode_t)e->d_type << 12 };

		fill(buf, e->d_name, &st, 0, 0);
	}
	return 0;
}

static int f_fsyncdir(const char *path, int data, struct fuse_file_info *fi)
{
	(void)path;
	(void)data;
	FAULT(SYNC);
	return answer(fsync(dirfd(dir_of(fi))));
}

static int f_releasedir(const char *path, struct fuse_file_info *fi)
{
	(void)path;
	return answer(closedir(dir_of(fi)));
}

static int f_statfs(const char *path, struct statvfs *st)
{
	FAULT(LOOK);
	PATH(p, path);
	return answer(statvfs(p, st));
}

int main(int argc, char **argv)
{
	static const struct fuse_operations ops = {
		.init = f_init,
		.getattr = f_getattr,
		.readlink = f_readlink,
		.mkdir = f_mkdir,
		.mknod = f_mknod,
		.symlink = f_symlink,
		.link = f_link,
		.unlink = f_unlink,
		.rmdir = f_rmdir,
		.rename = f_rename,
		.chmod = f_chmod,
		.chown = f_chown,
		.truncate = f_truncate,
		.utimens = f_utimens,
		.open = f_open,
		.create = f_create,
		.read = f_read,
		.write = f_write,
		.fsync = f_fsync,
		.release = f_release,
		.opendir = f_opendir,
		.readdir = f_readdir,
		.fsyncdir = f_fsyncdir,
		.releasedir = f_releasedir,
		.statfs = f_statfs,
	};
	char foreground[] = "-f", o[] = "-o", options[] = "allow_other,default_permissions,dev,suid,fsname=faultfs";
	char *fuse_argv[] = { argv[0], foreground, o, options, argc == 4 ? argv[2] : NULL, NULL };

	if (argc != 4) {
		fprintf(stderr, "usage: %s SOURCE MOUNTPOINT CONTROL\n", argv[0]);
		return 2;
	}
	source = argv[1];
	control = argv[3];
	umask(0);
	return fuse_main(5, fuse_argv, &ops, NULL);
}
