#include "pod/apart.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/openat2.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/fsuid.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/dir_tree.h"
#include "base/io.h"
#include "base/text.h"
#include "base/util.h"
#include "pod/apart_mounts.h"
#include "pod/pod_tmp.h"

#define CHANGES  ".changes"           /* behind the name of the pod's directory */
#define ROOT     "root"               /* in it, while the view is made */
#define FULL     (UINT64_C(32) << 20) /* no more is left; file systems keep some for themselves */
#define TMPFS_MB 256                  /* where no image can be made */
#define FD_PATH  32

struct apart_make {
	const struct apart_opts *o;
	struct apart *a;
	struct apart_mount *mounts;
	size_t n;
	int root;      /* of the new view; -1 at first */
	unsigned made; /* number of overlays */
};

static const char *apart_fd_path(int fd, char path[FD_PATH])
{
	snprintf(path, FD_PATH, "/proc/self/fd/%d", fd);
	return path;
}

static char *apart_changes_dir(const char *dir)
{
	return xasprintf("%s" CHANGES, dir);
}

/* ---- where changes go ------------------------------------------------------- */

/* A file system of its own is the limit. An image, since memory is short where jobs run; its size is at most half of
 * what the disk has. */
static int apart_make_changes(struct apart_make *m, struct err *err)
{
	struct pod_spec *s = &m->a->changes;
	cleanup_free char *dir = apart_changes_dir(m->o->dir), *at = xasprintf("%s/tmp", dir);
	char options[64];
	struct statvfs v;
	uint64_t most;

	*s = (struct pod_spec){ .tmp_mount = -1, .net_ns = -1 };
	if (snprintf(s->dir, sizeof(s->dir), "%s", dir) >= (int)sizeof(s->dir))
		return err_set(err, ENAMETOOLONG, "the path of the pod's directory is too long");
	if (pod_prepare(s, err))
		return -1;
	if (statvfs(dir, &v))
		return err_sys(err, errno, "cannot look up the free space of %s", dir);
	most = (uint64_t)v.f_bavail * v.f_frsize / 2;
	most = m->o->room && m->o->room < most ? m->o->room : most;
	if (pod_tmp_make(s, most, NULL) == 0) {
		if (pod_tmp_move(s, at, err))
			return -1;
	} else {
		snprintf(options, sizeof(options), "mode=0700,size=%dm", TMPFS_MB);
		if (mount("changes", at, "tmpfs", MS_NOSUID | MS_NODEV, options))
			return err_sys(err, errno, "cannot mount a tmpfs on %s", at);
	}
	m->a->changes_fd = open(at, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (m->a->changes_fd < 0 || fchmod(m->a->changes_fd, 0700))
		return err_sys(err, errno, "cannot open %s", at);
	return 0;
}

/* ---- one overlay -------------------------------------------------------------- */

static int apart_make_dir(int dirfd, const char *name)
{
	if (mkdirat(dirfd, name, 0700) && errno != EEXIST)
		return -1;
	return openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
}

/* The root of an overlay has the attributes of the upper directory. */
static int apart_copy_attributes(int from, int to)
{
	static const char *const acls[] = { "system.posix_acl_access", "system.posix_acl_default" };
	char path[FD_PATH], value[4096];
	struct stat st;

	if (fstat(from, &st) || fchown(to, st.st_uid, st.st_gid) || fchmod(to, st.st_mode & 07777))
		return -1;
	for (size_t i = 0; i < ARRAY_SIZE(acls); i++) {
		const ssize_t n = syscall(SYS_getxattr, apart_fd_path(from, path), acls[i], value, sizeof(value));

		if (n > 0 && syscall(SYS_fsetxattr, to, acls[i], value, (size_t)n, 0))
			return -1;
	}
	return 0;
}

/* setfsuid() takes the capabilities for files away, and gives them back. */
static void apart_raise_capabilities(void)
{
	struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct caps[_LINUX_CAPABILITY_U32S_3];

	if (syscall(SYS_capget, &head, caps))
		abort();
	for (size_t i = 0; i < ARRAY_SIZE(caps); i++)
		caps[i].effective = caps[i].permitted;
	if (syscall(SYS_capset, &head, caps))
		abort();
}

/* The kernel uses the ids of who mounts an overlay for all that it does in the layers. With the user's ids, and root's
 * capabilities, a file server that refuses root gives what it gives the user. */
static int apart_mount_as_user(const struct apart_opts *o, const char *at, unsigned long flags, const char *options)
{
	const int n = getgroups(0, NULL);
	cleanup_free gid_t *groups = xcalloc((size_t)(n > 0 ? n : 0) + 1, sizeof(*groups));
	int rc, saved;

	if (n < 0 || getgroups(n, groups) < 0 || setgroups((size_t)o->cred->n_groups, o->cred->groups))
		return -1;
	setfsgid(o->cred->gid);
	setfsuid(o->cred->uid);
	apart_raise_capabilities();
	rc = mount("apart", at, "overlay", flags, options);
	saved = errno;
	setfsuid(0);
	setfsgid(0);
	apart_raise_capabilities();
	if (setgroups((size_t)n, groups))
		abort();
	errno = saved;
	return rc;
}

/* Mounts an overlay with the directory `lower` on the directory `at`. -1 with errno. */
static int apart_overlay(struct apart_make *m, int lower, int at, unsigned long flags)
{
	/* Descriptors, so that no path has to be quoted, and none can be exchanged. xino=off: files keep their inode
	 * numbers. nfs_export: before Linux 6.6 there are no file handles without it. */
	static const char *const extra[] = { "", ",index=on,nfs_export=on", ",index=off,redirect_dir=off" };
	cleanup_close int top = -1, upper = -1, work = -1;
	char name[16], path[FD_PATH], options[256];
	int rc = -1;

	snprintf(name, sizeof(name), "%u", m->made++);
	top = apart_make_dir(m->a->changes_fd, name);
	if (top < 0)
		return -1;
	for (size_t i = apart_has_handles() ? 0 : 1; rc && i < ARRAY_SIZE(extra); i++) {
		cleanup_closep(&upper);
		cleanup_closep(&work);
		/* The kernel does not take an upper directory with other options than before. */
		if (remove_tree_at(top, "upper") || remove_tree_at(top, "work"))
			return -1;
		upper = apart_make_dir(top, "upper");
		work = apart_make_dir(top, "work");
		if (upper < 0 || work < 0 || apart_copy_attributes(lower, upper))
			return -1;
		snprintf(options, sizeof(options),
			 "lowerdir=/proc/self/fd/%d,upperdir=/proc/self/fd/%d,workdir=/proc/self/fd/%d,xino=off%s%s",
			 lower, upper, work, i < 2 ? ",redirect_dir=on" : "", extra[i]);
		rc = apart_mount_as_user(m->o, apart_fd_path(at, path), flags | MS_NOSUID | MS_NODEV, options);
	}
	return rc;
}

/* ---- the view -------------------------------------------------------------------- */

/* Opens the place of a mount in the new view; makes missing directories, such as those of an automounter. */
static int apart_open_place(const struct apart_make *m, const char *path, bool directory)
{
	const struct open_how how = { .flags = O_PATH | O_CLOEXEC | O_NOFOLLOW,
				      .resolve = RESOLVE_IN_ROOT | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS };
	cleanup_free char *part = xstrdup(path);
	int fd = (int)syscall(SYS_openat2, m->root, path, &how, sizeof(how));

	if (fd >= 0 || errno != ENOENT || !directory)
		return fd;
	for (char *slash = part; slash; *slash = '/') {
		cleanup_close int above = -1;
		char *name;

		slash = strchr(slash + 1, '/');
		if (slash)
			*slash = '\0';
		name = strrchr(part, '/');
		*name = '\0';
		above = (int)syscall(SYS_openat2, m->root, part[0] ? part : "/", &how, sizeof(how));
		*name = '/';
		if (above < 0 || (mkdirat(above, name + 1, 0755) && errno != EEXIST))
			return -1;
		if (!slash)
			break;
	}
	return (int)syscall(SYS_openat2, m->root, path, &how, sizeof(how));
}

static int apart_bind(const struct apart_make *m, const struct apart_mount *e, int source, bool writable)
{
	const unsigned long flags = MS_REMOUNT | MS_BIND | MS_NOSUID | e->flags | (writable ? 0 : MS_RDONLY);
	cleanup_close int place = apart_open_place(m, e->at, e->directory), again = -1;
	char from[FD_PATH], to[FD_PATH];

	if (place < 0 || mount(apart_fd_path(source, from), apart_fd_path(place, to), NULL, MS_BIND, NULL))
		return -1;
	again = apart_open_place(m, e->at, e->directory);
	return again < 0 ? -1 : mount(NULL, apart_fd_path(again, to), NULL, flags, NULL);
}

static int apart_mount_overlay(struct apart_make *m, const struct apart_mount *e, int source)
{
	cleanup_close int place = apart_open_place(m, e->at, true), over = -1;

	if (place < 0 || apart_overlay(m, source, place, e->flags))
		return -1;
	over = apart_open_place(m, e->at, true);
	if (over >= 0)
		m->o->overlaid(m->o->arg, over, source);
	return over < 0 ? -1 : 0;
}

static int apart_mount_one(struct apart_make *m, struct apart_mount *e, struct err *err)
{
	cleanup_close int source = apart_open_mount(e);
	char shown[256], text[400];

	/* Covered by another mount, or gone. */
	if (source < 0)
		return 0;
	switch (e->kind) {
	case APART_NODE:
		if (apart_bind(m, e, source, true))
			break;
		return 0;
	case APART_OVERLAY:
		if (apart_mount_overlay(m, e, source) == 0)
			return 0;
		if (errno == ENOSPC)
			break;
		snprintf(text, sizeof(text), "%s (%s) is read-only in it: an overlay is not possible there: %s",
			 printable(e->at, shown, sizeof(shown)), e->type, strerror(errno));
		if (apart_bind(m, e, source, false))
			break;
		m->o->read_only(m->o->arg, text);
		return 0;
	case APART_READ_ONLY:
		/* A file in a directory that is missing here. */
		if (apart_bind(m, e, source, false) && errno != ENOENT && errno != ENOTDIR)
			break;
		return 0;
	default: return 0;
	}
	return err_sys(err, errno, "cannot mount %s (%s) apart from the node", printable(e->at, shown, sizeof(shown)),
		       e->type);
}

static int apart_make_dev(const struct apart_make *m, struct err *err)
{
	static const struct {
		const char *name;
		mode_t mode;
		unsigned major, minor;
	} nodes[] = { { "null", 0666, 1, 3 },
		      { "zero", 0666, 1, 5 },
		      { "full", 0666, 1, 7 },
		      { "random", 0666, 1, 8 },
		      { "urandom", 0666, 1, 9 },
		      { "tty", 0666, 5, 0 },
		      { "loop-control", 0600, 10, 237 }, /* for the pod's /tmp */
		      { "net/tun", 0600, 10, 200 } /* criu looks for it */ };
	static const char *const dirs[] = { "pts", "shm", "net" };
	static const char *const links[][2] = { { "pts/ptmx", "ptmx" },
						{ "/proc/self/fd", "fd" },
						{ "/proc/self/fd/0", "stdin" },
						{ "/proc/self/fd/1", "stdout" },
						{ "/proc/self/fd/2", "stderr" } };
	cleanup_close int place = apart_open_place(m, "/dev", true), dev = -1;
	char path[FD_PATH];

	if (place < 0 ||
	    mount("dev", apart_fd_path(place, path), "tmpfs", MS_NOSUID | MS_NOEXEC, "mode=0755,size=64k,nr_inodes=64"))
		return err_sys(err, errno, "cannot mount a /dev apart from the node's");
	dev = apart_open_place(m, "/dev", true);
	for (size_t i = 0; i < ARRAY_SIZE(dirs); i++)
		if (mkdirat(dev, dirs[i], 0755) || fchmodat(dev, dirs[i], 0755, 0))
			return err_sys(err, errno, "cannot make /dev/%s apart from the node's", dirs[i]);
	for (size_t i = 0; i < ARRAY_SIZE(nodes); i++)
		if (mknodat(dev, nodes[i].name, S_IFCHR | nodes[i].mode, makedev(nodes[i].major, nodes[i].minor)) ||
		    fchmodat(dev, nodes[i].name, nodes[i].mode, 0))
			return err_sys(err, errno, "cannot make /dev/%s apart from the node's", nodes[i].name);
	for (size_t i = 0; i < ARRAY_SIZE(links); i++)
		if (symlinkat(links[i][0], dev, links[i][1]))
			return err_sys(err, errno, "cannot make /dev/%s apart from the node's", links[i][1]);
	return 0;
}

/* The pod's directory stays what it is: root alone can enter it, and the image of the pod's /tmp is to lie there. */
static int apart_keep_dir(const struct apart_make *m, int dir, struct err *err)
{
	cleanup_close int place = apart_open_place(m, m->o->dir, true);
	char from[FD_PATH], to[FD_PATH];

	if (place < 0 || mount(apart_fd_path(dir, from), apart_fd_path(place, to), NULL, MS_BIND, NULL))
		return err_sys(err, errno, "cannot mount %s apart from the node", m->o->dir);
	return 0;
}

static int apart_make_root(struct apart_make *m, int dir, struct err *err)
{
	cleanup_close int at = apart_make_dir(dir, ROOT), lower = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (at < 0 || lower < 0)
		return err_sys(err, errno, "cannot make %s/" ROOT, m->o->dir);
	if (apart_overlay(m, lower, at, 0))
		return err_sys(err, errno,
			       "this node cannot show its files through an overlay, so a proof would change them (does the kernel "
			       "have overlayfs?)");
	m->root = openat(dir, ROOT, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (m->root < 0)
		return err_sys(err, errno, "cannot open %s/" ROOT, m->o->dir);
	m->o->overlaid(m->o->arg, m->root, lower);
	return 0;
}

static int apart_pivot(const struct apart_make *m, struct err *err)
{
	if (fchdir(m->root) || syscall(SYS_pivot_root, ".", ".") || umount2(".", MNT_DETACH) || chdir("/"))
		return err_sys(err, errno,
			       "cannot make the view of the files the root directory (a node that runs from its initramfs "
			       "cannot do that)");
	return 0;
}

static int apart_make_view(struct apart_make *m, struct err *err)
{
	cleanup_close int dir = open(m->o->dir, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

	if (dir < 0)
		return err_sys(err, errno, "cannot open %s", m->o->dir);
	if (apart_make_changes(m, err) || apart_list_mounts(&m->mounts, &m->n, err) || apart_make_root(m, dir, err))
		return -1;
	for (size_t i = 0; i < m->n; i++)
		if (apart_mount_one(m, &m->mounts[i], err))
			return -1;
	return apart_make_dev(m, err) || apart_keep_dir(m, dir, err) || apart_pivot(m, err) ? -1 : 0;
}

/* ---- entering and leaving ------------------------------------------------------------ */

int apart_enter(struct apart *a, const struct apart_opts *o, struct err *err)
{
	struct apart_make m = { .o = o, .a = a, .root = -1 };
	int rc;

	*a = (struct apart){ .host = -1, .changes_fd = -1 };
	a->host = open("/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC);
	if (a->host < 0)
		return err_sys(err, errno, "cannot open the mount namespace");
	if (unshare(CLONE_NEWNS) || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL)) {
		err_sys(err, errno, "cannot make a mount namespace apart from the node");
		rc = -1;
	} else {
		rc = apart_make_view(&m, err);
	}
	apart_free_mounts(m.mounts, m.n);
	cleanup_closep(&m.root);
	if (rc)
		apart_leave(a);
	return rc;
}

bool apart_is_full(const struct apart *a)
{
	struct statvfs v, disk;

	if (a->changes_fd < 0 || fstatvfs(a->changes_fd, &v))
		return false;
	if ((uint64_t)v.f_bfree * v.f_frsize < FULL || (v.f_files && !v.f_ffree))
		return true;
	/* The image is sparse. */
	return a->changes.tmp_image && statvfs("/", &disk) == 0 && !disk.f_bavail;
}

void apart_leave(struct apart *a)
{
	if (a->host < 0)
		return;
	cleanup_closep(&a->changes_fd);
	a->changes_fd = -1;
	if (setns(a->host, CLONE_NEWNS)) {
		fprintf(stderr, "fsched: cannot return to the mount namespace of the node: %s\n", strerror(errno));
		abort();
	}
	close(steal_fd(&a->host));
}

void apart_cleanup(const char *dir)
{
	cleanup_free char *changes = apart_changes_dir(dir);

	if (access(changes, F_OK) == 0)
		pod_cleanup(changes);
}
