/* The pod's private /dev/shm and /tmp as tar archives in pax format, which keeps holes, extended attributes, ACLs,
 * nanoseconds and any file name.
 *
 * The user's processes outside of the pod can reach its /tmp through /proc/PID/root and change it while root walks it.
 * So nothing is opened by a path of more than one component: every step is an openat() of one name with O_NOFOLLOW, and
 * fstat() checks that the file that was opened is the one that was examined.
 *
 * Scratch directories (scratch.c) are packed in the same way.
 *
 * NAME.tar has no inode numbers. They are in NAME.tar.inodes: a line for each entry, in the same order. A "+" before a
 * number says that the archive has a hole in place of the file's data, which are in NAME-NUMBER.data. */
#include "files/files_internal.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <archive.h>
#include <archive_entry.h>

#include "base/dir.h"
#include "base/user_rights.h"
#include "base/util.h"

#define DEPTH_MAX      200 /* levels of directories, each with an open descriptor */
#define INODES         ".inodes"
#define ENTRY_OVERHEAD 1024 /* bytes that an entry counts for its header */

int open_in_root(int rootfd, const char *name)
{
	struct open_how how = { .flags = O_RDONLY | O_DIRECTORY | O_CLOEXEC, .resolve = RESOLVE_IN_ROOT };
	int fd = (int)syscall(SYS_openat2, rootfd, name, &how, sizeof(how));

	/* Linux before 5.6 has no openat2(). O_NOFOLLOW refuses a symbolic link at the end; the components before it
	 * belong to root. */
	if (fd < 0 && errno == ENOSYS)
		fd = openat(rootfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	return fd;
}

/* ---- walking ----------------------------------------------------------- */

struct tree_walk {
	dev_t dev;
	uid_t owner;         /* what belongs to others is passed over; (uid_t)-1: nothing is */
	unsigned others;     /* that were */
	char path[PATH_MAX]; /* of the entry, relative to the top */
	size_t len;
	/* Called for each entry, for a directory before its content. fd: the open file or directory, -1 for other
	 * types. */
	int (*entry)(struct tree_walk *w, int dirfd, const char *name, int fd, const struct stat *st, struct err *err);
	void *arg;
};

static int tree_walk_dir(struct tree_walk *w, int fd, int depth, struct err *err);

static int tree_error(const struct tree_walk *w, int num, struct err *err)
{
	char shown[FILES_SHOWN];

	return err_sys(err, num, "cannot read \"%s\"", show_path(w->path, shown));
}

/* Examines an entry and opens a file or directory. 1 = done; 0 = the entry has vanished or was replaced meanwhile; -1
 * with errno. */
static int tree_open_entry(int dirfd, const char *name, struct stat *st, int *fd)
{
	int flags = O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC | O_NOATIME;
	struct stat opened;

	if (fstatat(dirfd, name, st, AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT ? 0 : -1;
	if (!S_ISREG(st->st_mode) && !S_ISDIR(st->st_mode))
		return 1;
	*fd = openat(dirfd, name, S_ISDIR(st->st_mode) ? flags | O_DIRECTORY : flags);
	if (*fd < 0)
		return errno == ENOENT || errno == ELOOP || errno == ENOTDIR ? 0 : -1;
	if (fstat(*fd, &opened) < 0)
		return -1;
	if (opened.st_dev != st->st_dev || opened.st_ino != st->st_ino ||
	    (opened.st_mode & S_IFMT) != (st->st_mode & S_IFMT))
		return 0;
	*st = opened;
	return 1;
}

static int tree_walk_entry(struct tree_walk *w, int dirfd, const char *name, int depth, struct err *err)
{
	cleanup_close int fd = -1;
	char shown[FILES_SHOWN];
	struct stat st;
	int rc = tree_open_entry(dirfd, name, &st, &fd);

	if (rc <= 0)
		return rc < 0 ? tree_error(w, errno, err) : 0;
	if (w->owner != (uid_t)-1 && st.st_uid != w->owner) {
		w->others++;
		return 0;
	}
	if (w->entry(w, dirfd, name, fd, &st, err) < 0)
		return -1;
	if (!S_ISDIR(st.st_mode) || st.st_dev != w->dev)
		return 0;
	if (depth >= DEPTH_MAX)
		return err_set(err, EMLINK, "directories are nested more than %d deep at \"%s\"", DEPTH_MAX,
			       show_path(w->path, shown));
	return tree_walk_dir(w, fd, depth + 1, err);
}

static int tree_walk_dir(struct tree_walk *w, int fd, int depth, struct err *err)
{
	cleanup_dir DIR *dir = NULL;
	const struct dirent *de;
	int copy = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOATIME), more;

	if (copy < 0 || !(dir = fdopendir(copy))) {
		tree_error(w, errno, err);
		if (copy >= 0)
			close(copy);
		return -1;
	}
	while ((more = dir_next(dir, &de)) > 0) {
		size_t len = w->len;
		int n, rc;

		n = snprintf(w->path + len, sizeof(w->path) - len, "%s%s", len ? "/" : "", de->d_name);
		if (n < 0 || len + (size_t)n >= sizeof(w->path)) {
			w->path[len] = '\0';
			return tree_error(w, ENAMETOOLONG, err);
		}
		w->len = len + (size_t)n;
		rc = tree_walk_entry(w, fd, de->d_name, depth, err);
		w->path[w->len = len] = '\0';
		if (rc < 0)
			return -1;
	}
	return more < 0 ? tree_error(w, errno, err) : 0;
}

static int tree_walk(struct tree_walk *w, int fd, struct err *err)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return err_sys(err, errno, "cannot read a directory");
	w->dev = st.st_dev;
	w->path[w->len = 0] = '\0';
	return tree_walk_dir(w, fd, 0, err);
}

/* ---- measuring --------------------------------------------------------- */

/* An extended attribute is in the archive twice, as it is and in base64, which takes 4 bytes for 3. */
static uint64_t tree_archived_attribute(size_t name, size_t value)
{
	return 2 * (uint64_t)name + (uint64_t)value + ((uint64_t)value + 2) / 3 * 4;
}

/* Bytes of all extended attributes of an open file or directory. Some file systems let a user have megabytes of them,
 * which the size of the file does not show. */
static uint64_t tree_attribute_bytes(int fd)
{
	ssize_t len = fd < 0 ? 0 : flistxattr(fd, NULL, 0), value;
	cleanup_free char *names = xmalloc(len > 0 ? (size_t)len : 1);
	uint64_t bytes = 0;

	len = len > 0 ? flistxattr(fd, names, (size_t)len) : 0;
	for (const char *n = names; len > 0 && n < names + len; n += strlen(n) + 1)
		if ((value = fgetxattr(fd, n, NULL, 0)) >= 0)
			bytes += tree_archived_attribute(strlen(n), (size_t)value);
	return bytes;
}

struct tree_sum {
	const char *prefix;
	uint64_t *bytes;
	struct files_cost *cost;
};

void files_cost_note(struct files_cost *cost, uint64_t bytes, const char *prefix, const char *path)
{
	if (!cost || bytes <= cost->largest)
		return;
	cost->largest = bytes;
	snprintf(cost->path, sizeof(cost->path), "%s%.4000s", prefix, path);
}

static int tree_measure_entry(struct tree_walk *w, int dirfd, const char *name, int fd, const struct stat *st,
			      struct err *err)
{
	struct tree_sum *sum = w->arg;
	const uint64_t data = S_ISREG(st->st_mode) ? file_data_bytes(st) : 0;

	(void)dirfd;
	(void)name;
	(void)err;
	*sum->bytes += ENTRY_OVERHEAD + tree_attribute_bytes(fd) + data;
	files_cost_note(sum->cost, data, sum->prefix, w->path);
	return 0;
}

int tree_measure(int dirfd, const char *prefix, uid_t owner, uint64_t *bytes, struct files_cost *cost, struct err *err)
{
	struct tree_walk *w = xcalloc(1, sizeof(*w));
	struct tree_sum sum = { prefix, bytes, cost };
	int rc;

	w->owner = owner;
	w->entry = tree_measure_entry;
	w->arg = &sum;
	rc = tree_walk(w, dirfd, err);
	free(w);
	return rc;
}

/* ---- before the freeze --------------------------------------------------- */

struct tree_early {
	struct files_early *early;
	const struct packed_tree *tree;
};

static int tree_early_entry(struct tree_walk *w, int dirfd, const char *name, int fd, const struct stat *st,
			    struct err *err)
{
	const struct tree_early *e = w->arg;

	(void)dirfd;
	(void)name;
	return S_ISREG(st->st_mode) ? files_early_copy_of_tree(e->early, fd, st, e->tree->data, err) : 0;
}

int tree_copy_early(int dirfd, const struct packed_tree *t, struct files_early *e, struct err *err)
{
	struct tree_early early = { e, t };
	struct tree_walk *w = xcalloc(1, sizeof(*w));
	int rc;

	w->owner = t->owner;
	w->entry = tree_early_entry;
	w->arg = &early;
	rc = tree_walk(w, dirfd, err);
	free(w);
	return rc;
}

/* ---- packing ----------------------------------------------------------- */

struct packer {
	int filesfd, outfd;
	const char *name;     /* of the archive */
	const char *shown;    /* of the tree, for messages */
	const char *data;     /* see struct packed_tree */
	uint64_t left;        /* bytes left of the limit */
	struct archive *out;  /* NULL until the first entry */
	FILE *inodes;         /* the same */
	struct archive *disk; /* reads the attributes of open files */
	struct archive_entry_linkresolver *links;
	const struct files_opts *o; /* NULL if no file is offered to carry() */
	struct files_early *early;  /* NULL if no file has a copy that was made before */
	json_t *warnings;
};

static int tree_archive_error(struct archive *a, const char *what, const char *object, struct err *err)
{
	int num = archive_errno(a);
	const char *text = archive_error_string(a);

	return err_set(err, num > 0 ? num : EIO, "cannot %s %s: %s", what, object,
		       text ? text : strerror(num > 0 ? num : EIO));
}

static FILE *tree_open_inodes(int filesfd, const char *archive, int flags, const char *mode)
{
	cleanup_free char *name = xasprintf("%s" INODES, archive);
	int fd = openat(filesfd, name, flags | O_NOFOLLOW | O_CLOEXEC, 0600), num;
	FILE *f = fd < 0 ? NULL : fdopen(fd, mode);

	num = errno;
	if (fd >= 0 && !f)
		close(fd);
	errno = num;
	return f;
}

static int tree_start_archive(struct packer *p, struct err *err)
{
	if (p->out)
		return 0;
	p->outfd = openat(p->filesfd, p->name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (p->outfd < 0)
		return err_sys(err, errno, "cannot make files/%s in the checkpoint", p->name);
	p->inodes = tree_open_inodes(p->filesfd, p->name, O_WRONLY | O_CREAT | O_EXCL, "we");
	if (!p->inodes)
		return err_sys(err, errno, "cannot make files/%s" INODES " in the checkpoint", p->name);
	p->out = archive_write_new();
	p->disk = archive_read_disk_new();
	p->links = archive_entry_linkresolver_new();
	if (!p->out || !p->disk || !p->links)
		return err_set(err, ENOMEM, "out of memory");
	/* BINARY: names are stored as bytes, independent of the locale. */
	if (archive_write_set_format_pax(p->out) != ARCHIVE_OK ||
	    archive_write_set_options(p->out, "hdrcharset=BINARY") != ARCHIVE_OK ||
	    archive_write_set_bytes_per_block(p->out, 256 << 10) != ARCHIVE_OK ||
	    archive_write_set_bytes_in_last_block(p->out, 1) != ARCHIVE_OK ||
	    archive_write_open_fd(p->out, p->outfd) != ARCHIVE_OK)
		return tree_archive_error(p->out, "write", p->name, err);
	archive_read_disk_set_symlink_physical(p->disk);
	/* libarchive finds holes by FIEMAP with a sync, which would write all of /tmp to the disk while the job is
	 * frozen. */
	archive_read_disk_set_behavior(p->disk, ARCHIVE_READDISK_NO_SPARSE | ARCHIVE_READDISK_NO_FFLAGS);
	archive_entry_linkresolver_set_strategy(p->links, archive_format(p->out));
	return 0;
}

/* Takes bytes from the limit. Processes of the user outside of the pod can make the tree grow after it was measured. */
static int tree_charge(struct packer *p, uint64_t bytes, struct err *err)
{
	if (bytes > p->left)
		return err_set(err, EFBIG, "it grew beyond CheckpointTmpLimit while it was saved");
	p->left -= bytes;
	return 0;
}

/* libarchive's writer expects all bytes of a sparse file and skips the holes itself. */
static const char zeros[256 << 10];

static int tree_pack_hole(struct packer *p, uint64_t size, struct err *err)
{
	for (uint64_t pos = 0; pos < size; pos += sizeof(zeros))
		if (archive_write_data(p->out, zeros,
				       size - pos < sizeof(zeros) ? (size_t)(size - pos) : sizeof(zeros)) < 0)
			return tree_archive_error(p->out, "write", p->name, err);
	return 0;
}

static int tree_pack_data(struct packer *p, int fd, uint64_t size, struct err *err)
{
	cleanup_free char *buf = xmalloc(sizeof(zeros));
	uint64_t pos = 0;

	while (pos < size) {
		off_t data = lseek(fd, (off_t)pos, SEEK_DATA);
		uint64_t hole_end = data >= 0 ? (uint64_t)data : errno == ENXIO ? size : pos;
		size_t want = size - pos < sizeof(zeros) ? (size_t)(size - pos) : sizeof(zeros);
		const char *src = zeros;

		if (hole_end > pos) {
			want = hole_end - pos < want ? (size_t)(hole_end - pos) : want;
		} else {
			ssize_t n = pread(fd, buf, want, (off_t)pos);

			if (n < 0)
				return err_sys(err, errno, "cannot read a file of %s", p->shown);
			/* n == 0: the file has become shorter, but the archive needs as many bytes as the header says.
			 */
			src = n ? buf : zeros;
			want = n ? (size_t)n : want;
			if (tree_charge(p, want, err) < 0)
				return -1;
		}
		if (archive_write_data(p->out, src, want) < 0)
			return tree_archive_error(p->out, "write", p->name, err);
		pos += want;
	}
	return 0;
}

static int tree_set_symlink(struct archive_entry *e, int dirfd, const char *name)
{
	char target[PATH_MAX];
	ssize_t n = readlinkat(dirfd, name, target, sizeof(target) - 1);

	if (n < 0)
		return -1;
	target[n] = '\0';
	archive_entry_set_symlink(e, target);
	return 0;
}

/* Adds the ranges of data to the entry if the file has holes. After an error the file is saved without holes. */
static void tree_set_sparse(struct archive_entry *e, int fd, off_t size)
{
	off_t pos = 0, data, hole;

	if (size <= 0 || lseek(fd, 0, SEEK_HOLE) >= size)
		return;
	while ((data = lseek(fd, pos, SEEK_DATA)) >= 0 && data < size) {
		hole = lseek(fd, data, SEEK_HOLE);
		if (hole < 0 || hole > size)
			hole = size;
		archive_entry_sparse_add_entry(e, data, hole - data);
		pos = hole;
	}
	if (pos == 0 && data < 0 && errno == ENXIO)
		archive_entry_sparse_add_entry(e, 0, 0); /* the file is one hole */
}

/* Fills in the header of an entry. All attributes of a file or directory are read through its descriptor. */
static int tree_fill_header(struct packer *p, const struct tree_walk *w, int dirfd, const char *name, int fd,
			    const struct stat *st, bool carried, struct archive_entry *e, struct err *err)
{
	char link[40];

	archive_entry_copy_pathname(e, w->path);
	archive_entry_copy_stat(e, st);
	if (S_ISLNK(st->st_mode) && tree_set_symlink(e, dirfd, name) < 0)
		return tree_error(w, errno, err);
	if (fd < 0)
		return 0;
	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	archive_entry_copy_sourcepath(e, link);
	if (archive_read_disk_entry_from_file(p->disk, e, fd, st) < ARCHIVE_WARN)
		return tree_archive_error(p->disk, "read the attributes of a file in", p->shown, err);
	if (carried)
		archive_entry_sparse_add_entry(e, 0, 0);
	else if (S_ISREG(st->st_mode))
		tree_set_sparse(e, fd, st->st_size);
	return 0;
}

/* apart: the data are in DATA-INODE.data. */
static int tree_write_entry(struct packer *p, struct archive_entry *e, int fd, const struct stat *st, bool carried,
			    bool apart, struct err *err)
{
	struct archive_entry *spare = NULL;
	bool is_link;

	archive_entry_linkify(p->links, &e, &spare);
	is_link = archive_entry_hardlink(e) != NULL;
	if (archive_write_header(p->out, e) < ARCHIVE_WARN)
		return tree_archive_error(p->out, "write", p->name, err);
	if (fprintf(p->inodes, "%s%llu\n", apart && !is_link ? "+" : "", (unsigned long long)st->st_ino) < 0)
		return err_sys(err, errno, "cannot write files/%s" INODES " in the checkpoint", p->name);
	if (!S_ISREG(st->st_mode) || is_link)
		return 0;
	return carried || apart ? tree_pack_hole(p, (uint64_t)st->st_size, err)
				: tree_pack_data(p, fd, (uint64_t)st->st_size, err);
}

/* True if carry() takes the data of the file. A file with several hard links is not offered, because carry() would get
 * only the first of its names. */
static bool tree_is_carried(const struct packer *p, const struct tree_walk *w, int fd, const struct stat *st)
{
	return p->o && S_ISREG(st->st_mode) && st->st_nlink == 1 && file_data_bytes(st) >= FILES_CARRY_MIN &&
	       p->o->carry(p->o->carry_arg, w->path, fd, st);
}

/* 1 = the data of the file are in DATA-INODE.data, 0 = they are to be in the archive. */
static int tree_take_early(struct packer *p, int fd, const struct stat *st, struct err *err)
{
	int rc = p->early && S_ISREG(st->st_mode) ? files_early_take_of_tree(p->early, fd, st, p->data, err) : 0;

	return rc > 0 && tree_charge(p, file_data_bytes(st), err) < 0 ? -1 : rc;
}

/* Charges attributes that have grown since they were counted. */
static int tree_charge_attributes(struct packer *p, struct archive_entry *e, uint64_t counted, struct err *err)
{
	uint64_t bytes = 0;
	const char *name;
	const void *value;
	size_t size;

	archive_entry_xattr_reset(e);
	while (archive_entry_xattr_next(e, &name, &value, &size) == ARCHIVE_OK)
		bytes += tree_archived_attribute(strlen(name), size);
	return bytes > counted ? tree_charge(p, bytes - counted, err) : 0;
}

static int tree_pack_entry(struct tree_walk *w, int dirfd, const char *name, int fd, const struct stat *st,
			   struct err *err)
{
	const uint64_t attributes = tree_attribute_bytes(fd);
	struct packer *p = w->arg;
	struct archive_entry *e;
	char shown[FILES_SHOWN];
	bool carried;
	int apart, rc;

	if (S_ISSOCK(st->st_mode))
		return 0; /* criu recreates bound sockets */
	if (S_ISBLK(st->st_mode) || S_ISCHR(st->st_mode) || (S_ISDIR(st->st_mode) && st->st_dev != w->dev)) {
		add_warning(p->warnings, "%s/%s is a %s: it is not part of the checkpoint", p->shown,
			    show_path(w->path, shown), S_ISDIR(st->st_mode) ? "mount point" : "device");
		return 0;
	}
	if (tree_charge(p, ENTRY_OVERHEAD + attributes, err) < 0 || tree_start_archive(p, err) < 0)
		return -1;
	e = archive_entry_new2(p->out);
	if (!e)
		return err_set(err, ENOMEM, "out of memory");
	carried = tree_is_carried(p, w, fd, st);
	apart = tree_take_early(p, fd, st, err);
	rc = apart < 0 ? -1 : tree_fill_header(p, w, dirfd, name, fd, st, carried || apart, e, err);
	if (rc == 0)
		rc = tree_charge_attributes(p, e, attributes, err);
	if (rc == 0)
		rc = tree_write_entry(p, e, fd, st, carried, apart, err);
	archive_entry_free(e);
	return rc;
}

static int tree_finish_archive(struct packer *p, int rc, struct err *err)
{
	if (rc == 0 && p->out && archive_write_close(p->out) != ARCHIVE_OK)
		rc = tree_archive_error(p->out, "write", p->name, err);
	archive_write_free(p->out);
	archive_read_free(p->disk);
	if (p->links)
		archive_entry_linkresolver_free(p->links);
	if (p->inodes && fclose(p->inodes) && rc == 0)
		rc = err_sys(err, errno, "cannot write files/%s" INODES " in the checkpoint", p->name);
	if (p->outfd >= 0 && close(p->outfd) < 0 && rc == 0)
		rc = err_sys(err, errno, "cannot write files/%s in the checkpoint", p->name);
	return rc;
}

int tree_pack(int dirfd, int filesfd, const struct packed_tree *t, const struct files_opts *o, bool carry,
	      json_t *warnings, struct err *err)
{
	struct packer p = { .filesfd = filesfd,
			    .outfd = -1,
			    .name = t->archive,
			    .shown = t->shown,
			    .data = t->data,
			    .left = o->tmp_limit,
			    .o = carry && o->carry ? o : NULL,
			    .early = carry ? NULL : o->early,
			    .warnings = warnings };
	struct tree_walk *w = xcalloc(1, sizeof(*w));
	int rc;

	w->owner = t->owner;
	w->entry = tree_pack_entry;
	w->arg = &p;
	rc = tree_finish_archive(&p, tree_walk(w, dirfd, err), err);
	if (w->others)
		add_warning(warnings, "%s has files or directories of other users: they are not part of the checkpoint",
			    t->shown);
	free(w);
	return rc < 0 ? err_wrap(err, "%s", t->shown) : 0;
}

/* ---- unpacking --------------------------------------------------------- */

static int tree_unpack_data(struct archive *in, struct archive *disk, const char *name, struct err *err)
{
	const void *buf;
	size_t size;
	la_int64_t off;
	int rc;

	while ((rc = archive_read_data_block(in, &buf, &size, &off)) == ARCHIVE_OK)
		if (archive_write_data_block(disk, buf, size, off) < ARCHIVE_WARN)
			return tree_archive_error(disk, "write a file of", name, err);
	return rc == ARCHIVE_EOF ? 0 : tree_archive_error(in, "read", name, err);
}

/* The next line of NAME.tar.inodes. */
struct inode_line {
	uint64_t number; /* 0 = not known: epochs of older versions have no such file */
	bool apart;
};

static struct inode_line tree_read_inode(FILE *list)
{
	struct inode_line l = { 0, false };
	unsigned long long number;
	char text[32];

	if (!list || !fgets(text, sizeof(text), list))
		return l;
	l.apart = text[0] == '+';
	l.number = sscanf(text + l.apart, "%llu", &number) == 1 ? number : 0;
	return l;
}

static void tree_ask_inode(const struct files_inodes *n, uint64_t number)
{
	char text[24];
	int len = snprintf(text, sizeof(text), "%llu", (unsigned long long)number);

	if (pwrite(n->goal, text, (size_t)len, 0) != len)
		errno = 0; /* tree_check_inode() counts it */
}

/* The working directory is the top of the tree. */
static void tree_check_inode(struct files_inodes *n, const char *path, uint64_t number)
{
	struct stat st;

	if (fstatat(AT_FDCWD, path, &st, AT_SYMLINK_NOFOLLOW) == 0 && st.st_ino != number)
		n->other++;
}

/* What is unpacked, and how. */
struct unpacker {
	const struct packed_tree *tree;
	int filesfd;
	const struct files_cred *as; /* NULL: root */
	struct user_rights own;      /* with as: those of root */
	struct files_inodes *inodes;
	FILE *list;
	struct archive *in, *disk;
};

static int tree_take_rights(struct unpacker *u, struct err *err)
{
	return u->as ? user_rights_take(&u->own, u->as->uid, u->as->gid, u->as->groups, u->as->n_groups, err) : 0;
}

static void tree_return_rights(struct unpacker *u)
{
	if (u->as)
		user_rights_return(&u->own);
}

/* Opens a file of the epoch, which only root may read. */
static int tree_open_apart(struct unpacker *u, const char *name, struct err *err)
{
	int fd, saved;

	tree_return_rights(u);
	fd = openat(u->filesfd, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	saved = errno;
	if (tree_take_rights(u, err))
		abort(); /* root's rights must not be used for what follows */
	return fd < 0 ? err_sys(err, saved, "cannot open files/%s of the checkpoint", name) : fd;
}

/* Fills a file whose data are not in the archive. Either no process of the user can reach the tree yet, or this has his
 * rights. */
static int tree_fill_apart(struct unpacker *u, struct archive_entry *e, uint64_t number, struct err *err)
{
	const char *path = archive_entry_pathname(e);
	cleanup_close int in = -1, out = -1;
	char name[64], shown[FILES_SHOWN];
	struct timespec times[2] = { { 0, UTIME_OMIT }, { archive_entry_mtime(e), archive_entry_mtime_nsec(e) } };

	files_early_name_in_tree(u->tree->data, number, name);
	in = tree_open_apart(u, name, err);
	if (in < 0)
		return -1;
	out = open(path, O_RDWR | O_NOFOLLOW | O_CLOEXEC);
	if (out < 0 || copy_back(in, out, (uint64_t)archive_entry_size(e), true) || futimens(out, times))
		return err_sys(err, errno, "cannot write \"%s\"", show_path(path, shown));
	return 0;
}

/* Archives of tree_pack() have relative names only; the ARCHIVE_EXTRACT_SECURE_* flags refuse all others. */
static int tree_unpack_entries(struct unpacker *u, struct err *err)
{
	const char *name = u->tree->archive;
	struct archive_entry *e;
	struct inode_line line;
	int rc;

	while ((rc = archive_read_next_header(u->in, &e)) == ARCHIVE_OK || rc == ARCHIVE_WARN) {
		line = tree_read_inode(u->list);
		if (u->inodes)
			tree_ask_inode(u->inodes, line.number);
		if (archive_write_header(u->disk, e) < ARCHIVE_WARN)
			return tree_archive_error(u->disk, "unpack", name, err);
		if (u->inodes)
			tree_check_inode(u->inodes, archive_entry_pathname(e), line.number);
		if (archive_entry_size(e) > 0 && tree_unpack_data(u->in, u->disk, name, err) < 0)
			return -1;
		if (archive_write_finish_entry(u->disk) < ARCHIVE_WARN)
			return tree_archive_error(u->disk, "unpack", name, err);
		if (line.apart && tree_fill_apart(u, e, line.number, err))
			return -1;
	}
	if (rc != ARCHIVE_EOF)
		return tree_archive_error(u->in, "read", name, err);
	/* Closing sets the times of directories. */
	return archive_write_close(u->disk) < ARCHIVE_WARN ? tree_archive_error(u->disk, "unpack", name, err) : 0;
}

static int tree_unpack_fd(struct unpacker *u, int fd, struct err *err)
{
	const int flags = ARCHIVE_EXTRACT_PERM | ARCHIVE_EXTRACT_TIME | ARCHIVE_EXTRACT_XATTR | ARCHIVE_EXTRACT_ACL |
			  ARCHIVE_EXTRACT_UNLINK | ARCHIVE_EXTRACT_SECURE_SYMLINKS | ARCHIVE_EXTRACT_SECURE_NODOTDOT |
			  ARCHIVE_EXTRACT_SECURE_NOABSOLUTEPATHS | (u->as ? 0 : ARCHIVE_EXTRACT_OWNER);
	const char *name = u->tree->archive;
	int rc = -1;

	u->in = archive_read_new();
	u->disk = archive_write_disk_new();
	if (!u->in || !u->disk)
		err_set(err, ENOMEM, "out of memory");
	else if (archive_read_support_format_tar(u->in) < ARCHIVE_WARN ||
		 archive_write_disk_set_options(u->disk, flags) != ARCHIVE_OK ||
		 archive_read_open_fd(u->in, fd, 256 << 10) != ARCHIVE_OK)
		tree_archive_error(u->in, "open", name, err);
	else
		rc = tree_unpack_entries(u, err);
	archive_read_free(u->in);
	archive_write_free(u->disk);
	return rc;
}

int tree_unpack(int dirfd, int filesfd, const struct packed_tree *t, const struct files_cred *as,
		struct files_inodes *inodes, struct err *err)
{
	struct unpacker u = { .tree = t, .filesfd = filesfd, .as = as, .inodes = inodes };
	cleanup_close int fd = -1, cwd = -1;
	cleanup_file FILE *list = NULL;
	int rc;

	fd = openat(filesfd, t->archive, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOENT ? 0 : err_sys(err, errno, "cannot open files/%s of the checkpoint", t->archive);
	cwd = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC);
	/* libarchive writes relative to the working directory. */
	if (cwd < 0 || fchdir(dirfd) < 0)
		return err_sys(err, errno, "cannot enter the job's %s", t->shown);
	u.list = list = tree_open_inodes(filesfd, t->archive, O_RDONLY, "re");
	rc = tree_take_rights(&u, err);
	if (rc == 0) {
		rc = tree_unpack_fd(&u, fd, err);
		tree_return_rights(&u);
	}
	if (fchdir(cwd) < 0 && rc == 0)
		rc = err_sys(err, errno, "cannot return to the working directory");
	return rc < 0 ? err_wrap(err, "cannot fill the job's %s", t->shown) : 0;
}

const struct packed_tree files_tree_shm = { "shm.tar", "/dev/shm", "shm", (uid_t)-1 };
const struct packed_tree files_tree_tmp = { "tmp.tar", "/tmp", "tmp", (uid_t)-1 };

int files_unpack_private(int rootfd, int filesfd, bool private_tmp, struct files_inodes *tmp_inodes, struct err *err)
{
	const struct {
		const char *dir;
		const struct packed_tree *tree;
		struct files_inodes *inodes;
	} trees[] = { { "dev/shm", &files_tree_shm, NULL }, { "tmp", &files_tree_tmp, tmp_inodes } };

	for (int i = 0; i < (private_tmp ? 2 : 1); i++) {
		cleanup_close int fd = open_in_root(rootfd, trees[i].dir);

		if (fd < 0)
			return err_sys(err, errno, "cannot open the new pod's %s", trees[i].tree->shown);
		if (tree_unpack(fd, filesfd, trees[i].tree, NULL, trees[i].inodes, err) < 0)
			return -1;
	}
	return 0;
}
