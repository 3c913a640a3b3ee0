/* JobCheckpointDir and PodDir: file system, free space, owner, speed. */
#include "cli/doctor/doctor.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/dir.h"
#include "base/io.h"
#include "base/text.h"
#include "base/clock.h"
#include "base/util.h"
#include "cli/doctor/doctor_report.h"

#define PROBE_SIZE (64u << 20)
#define DIR_KEY    "JobCheckpointDir"

static const struct fs {
	unsigned type;
	const char *name;
	bool shared;
} file_systems[] = {
	{ 0x6969, "NFS", true },        { 0x0bd00bd0, "Lustre", true }, { 0x47504653, "GPFS", true },
	{ 0x00c36400, "CephFS", true }, { 0x19830326, "BeeGFS", true }, { 0x65735546, "FUSE", true },
	{ 0xff534d42, "CIFS", true },   { 0xfe534d42, "SMB", true },    { 0x01021997, "9p", true },
	{ 0x7461636f, "OCFS2", true },  { 0x01161970, "GFS2", true },   { 0x5346414f, "AFS", true },
	{ 0x01021994, "tmpfs", false }, { 0xef53, "ext", false },       { 0x58465342, "XFS", false },
	{ 0x9123683e, "btrfs", false }, { 0x2fc12fc1, "ZFS", false },   { 0x794c7630, "overlayfs", false },
};

static const struct fs *known_file_system(int fd)
{
	struct statfs s;

	if (fstatfs(fd, &s) == 0)
		for (size_t i = 0; i < ARRAY_SIZE(file_systems); i++)
			if (file_systems[i].type == (unsigned)s.f_type)
				return &file_systems[i];
	return NULL;
}

static uint64_t memory_total(void)
{
	return (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);
}

static void check_mount(int fd)
{
	const struct fs *fs = known_file_system(fd);
	struct statvfs v;

	if (fstatvfs(fd, &v) == 0 && (v.f_flag & ST_NOEXEC))
		doctor_report(FINDING_FAILED, DIR_KEY,
			      "is mounted noexec; a restored job maps a program kept there: mount it exec");
	if (fs && fs->type == 0x01021994)
		doctor_report(FINDING_WARNING, DIR_KEY,
			      "is on tmpfs: checkpoints take memory and are lost when the node goes down");
	else if (fs && fs->shared)
		doctor_report(FINDING_OK, DIR_KEY, "is on %s; the same path must be mounted on all nodes", fs->name);
	else
		doctor_report(FINDING_WARNING, DIR_KEY,
			      "is on a local file system%s%s%s: a job can be restarted only on the node where it was "
			      "saved; with more than one node put it on a shared one",
			      fs ? " (" : "", fs ? fs->name : "", fs ? ")" : "");
}

static void check_space(int fd)
{
	char free_text[32], mem_text[32];
	struct statvfs v;
	uint64_t room, mem = memory_total();

	if (fstatvfs(fd, &v) < 0) {
		doctor_report(FINDING_WARNING, "free space", "cannot be read: %s", strerror(errno));
		return;
	}
	room = (uint64_t)v.f_bavail * v.f_frsize;
	format_size(room, free_text, sizeof(free_text));
	format_size(mem, mem_text, sizeof(mem_text));
	if (room < 2 * PROBE_SIZE)
		doctor_report(FINDING_FAILED, "free space", "%s; make room: `fsched prune' removes epochs", free_text);
	else if (room < 2 * mem)
		doctor_report(FINDING_WARNING, "free space",
			      "%s for a node with %s of memory; twice the jobs' memory is recommended", free_text,
			      mem_text);
	else
		doctor_report(FINDING_OK, "free space", "%s", free_text);
	if (v.f_files && v.f_favail < 10000)
		doctor_report(FINDING_WARNING, "free inodes", "%llu; an epoch takes some dozens",
			      (unsigned long long)v.f_favail);
}

/* Pseudo-random bytes: some file systems store zeros and repeated blocks without writing them. */
static void fill_random(unsigned char *p, size_t n)
{
	uint64_t x = 88172645463325252u;

	for (size_t i = 0; i + 8 <= n; i += 8) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		memcpy(p + i, &x, 8);
	}
}

static int write_probe(int fd)
{
	cleanup_free unsigned char *buf = xmalloc(1u << 20);

	for (unsigned i = 0; i < PROBE_SIZE >> 20; i++) {
		if (i == 0)
			fill_random(buf, 1u << 20);
		memcpy(buf, &i, sizeof(i));
		if (write_all(fd, buf, 1u << 20) < 0)
			return -1;
	}
	return fsync(fd);
}

static void check_write(int dirfd)
{
	char name[64];
	int64_t t = now_us();
	int num = 0;
	int fd;

	snprintf(name, sizeof(name), ".doctor.%d", (int)getpid());
	fd = openat(dirfd, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0) {
		doctor_report(FINDING_FAILED, "write as root", "%s; on NFS export it with no_root_squash",
			      strerror(errno));
		return;
	}
	if (write_probe(fd) < 0)
		num = errno;
	t = now_us() - t;
	close(fd);
	unlinkat(dirfd, name, 0);
	if (num)
		doctor_report(FINDING_FAILED, "write as root", "64 MiB: %s", strerror(num));
	else
		doctor_report(FINDING_OK, "write as root", "64 MiB with fsync: %.0f MB/s",
			      (double)PROBE_SIZE / (double)(t ? t : 1));
}

/* A user who may write there could put an image of his own there, which root would restore. */
static bool check_dir_owner(int fd, const char *what, const char *path)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return false;
	if (st.st_uid == 0 && !(st.st_mode & (S_IWGRP | S_IWOTH)))
		return true;
	doctor_report(FINDING_FAILED, what,
		      "%s must belong to root and be writable by nobody else (now uid %u, mode %04o): "
		      "chown root, chmod go-w",
		      path, (unsigned)st.st_uid, (unsigned)(st.st_mode & 07777));
	return false;
}

/* Whoever may rename the entries of a directory above the one of path can put another in its place, to which root then
 * writes. SlurmUser may be such an owner, hence a warning. */
static void check_above(const char *what, const char *path)
{
	char dir[PATH_MAX], *slash;
	struct stat st;

	snprintf(dir, sizeof(dir), "%s", path);
	while ((slash = strrchr(dir, '/'))) {
		const char *above = slash == dir ? "/" : dir;
		bool writable;

		*slash = '\0';
		if (stat(above, &st) < 0)
			return;
		writable = (st.st_mode & (S_IWGRP | S_IWOTH)) && !(st.st_mode & S_ISVTX);
		if (st.st_uid == 0 && !writable)
			continue;
		doctor_report(writable ? FINDING_FAILED : FINDING_WARNING, what,
			      "lies below %s (uid %u, mode %04o): who may write there can put another directory in its place, "
			      "and root would use that; move it, or chown root and chmod go-w %s",
			      above, (unsigned)st.st_uid, (unsigned)(st.st_mode & 07777), above);
		return;
	}
}

static void check_way(const char *what, const char *path)
{
	char real[PATH_MAX];

	check_above(what, path);
	if (realpath(path, real) && strcmp(real, path) != 0)
		check_above(what, real);
}

/* "12", or "12.<uuid>" of an earlier job with that id, as older versions made them. */
static bool readable_by_group(int dirfd, const char *name)
{
	struct stat st;

	return strspn(name, "0123456789") > 0 && fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
	       S_ISDIR(st.st_mode) && (st.st_mode & (S_IRGRP | S_IROTH));
}

static void check_readers(int dirfd, const char *path)
{
	cleanup_dir DIR *dir = dir_open_at(dirfd, ".");
	const struct dirent *d;
	char first[256] = "";
	unsigned n = 0;

	while (dir && dir_next(dir, &d) > 0) {
		if (readable_by_group(dirfd, d->d_name) && n++ == 0)
			snprintf(first, sizeof(first), "%s", d->d_name);
	}
	if (n)
		doctor_report(FINDING_WARNING, "readers",
			      "%u director%s of jobs that an older version of fsched made (%s/%s%s) can be read by the job's "
			      "group; those of jobs that start again are closed by that, the others by: "
			      "find %s -mindepth 1 -maxdepth 1 -type d -perm /044 -exec chmod 700 {} +",
			      n, n == 1 ? "y" : "ies", path, first, n == 1 ? "" : ", ...", path);
}

void doctor_store(const struct conf *c, bool root)
{
	cleanup_close int fd = open(c->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0 && errno == ENOENT) {
		doctor_report(FINDING_WARNING, DIR_KEY,
			      "%s does not exist yet; the first job with --checkpoint makes it "
			      "(run doctor again afterwards, or: mkdir -p -m 755 %s)",
			      c->dir, c->dir);
		return;
	}
	if (fd < 0) {
		doctor_report(FINDING_FAILED, DIR_KEY, "%s: %s", c->dir, strerror(errno));
		return;
	}
	if (check_dir_owner(fd, DIR_KEY, c->dir))
		doctor_report(FINDING_OK, DIR_KEY, "%s", c->dir);
	check_way(DIR_KEY, c->dir);
	check_mount(fd);
	check_space(fd);
	check_readers(fd, c->dir);
	if (root)
		check_write(fd);
	else
		doctor_needs_root("write to " DIR_KEY);
}

void doctor_pod_dir(const struct conf *c, bool root)
{
	cleanup_close int fd = open(c->pod_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct statvfs v;
	const struct fs *fs;

	if (fd < 0 && errno == ENOENT) {
		doctor_report(FINDING_OK, "PodDir", "%s (made by the first job)", c->pod_dir);
		return;
	}
	if (fd < 0) {
		if (!root && errno == EACCES)
			doctor_needs_root("PodDir");
		else
			doctor_report(FINDING_FAILED, "PodDir", "%s: %s", c->pod_dir, strerror(errno));
		return;
	}
	check_way("PodDir", c->pod_dir);
	if (!check_dir_owner(fd, "PodDir", c->pod_dir))
		return;
	fs = known_file_system(fd);
	if (fs && fs->shared)
		doctor_report(FINDING_WARNING, "PodDir",
			      "%s is on %s; it holds the jobs' /tmp and should be on a disk of the node", c->pod_dir,
			      fs->name);
	else if (c->private_tmp && fstatvfs(fd, &v) == 0 && (v.f_flag & ST_NOEXEC))
		doctor_report(FINDING_WARNING, "PodDir",
			      "%s is mounted noexec, so jobs cannot run programs from their /tmp", c->pod_dir);
	else
		doctor_report(FINDING_OK, "PodDir", "%s", c->pod_dir);
}
