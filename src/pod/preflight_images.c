/* Checks the files in criu's images by the rules of kernel_files.h. The job may have opened other files since
 * preflight(); the images say which ones a restore opens. */
#include "pod/preflight.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "base/array.h"
#include "base/dir.h"
#include "base/text.h"
#include "base/util.h"
#include "criu/criu_image.h"
#include "criu_images.pb-c.h"
#include "pod/kernel_files.h"
#include "pod/mount_table.h"

#define NAME_ROOM sizeof(((struct sockaddr_un *)NULL)->sun_path)

/* A descriptor of a process. id: of the file in the images. */
struct held {
	uint32_t id;
	int pid;
	uint32_t fd;
};

struct image_files {
	const struct mount_table *mounts;
	int *pids;
	size_t n_pids, pids_room;
	struct held *held; /* ascending by id */
	size_t n_held, held_room;
	int pid; /* the process whose descriptors are being read */
	struct err *err;
};

static int compare_held(const void *a, const void *b)
{
	const struct held *x = a, *y = b;

	return x->id != y->id ? (x->id < y->id ? -1 : 1) : x->pid - y->pid;
}

/* ---- descriptors ---------------------------------------------------------- */

static int images_add_descriptor(void *arg, const uint8_t *msg, size_t len)
{
	struct image_files *f = arg;
	FdinfoEntry *e = fdinfo_entry__unpack(NULL, len, msg);

	if (!e)
		return -1;
	array_reserve(f->held, f->n_held, f->held_room);
	f->held[f->n_held++] = (struct held){ e->id, f->pid, e->fd };
	fdinfo_entry__free_unpacked(e, NULL);
	return 0;
}

static int images_take_files_id(void *arg, const uint8_t *msg, size_t len)
{
	TaskKobjIds *e = task_kobj_ids__unpack(NULL, len, msg);

	if (!e)
		return -1;
	*(uint32_t *)arg = e->files_id;
	task_kobj_ids__free_unpacked(e, NULL);
	return 0;
}

/* A zombie has no images of descriptors. */
static int images_read_descriptors(struct image_files *f, int dirfd, int pid)
{
	char name[64];
	uint32_t id = 0;

	snprintf(name, sizeof(name), "ids-%d.img", pid);
	if (criu_image_each(dirfd, name, CRIU_MAGIC_IDS, images_take_files_id, &id))
		return errno == ENOENT ? 0 : err_sys(f->err, errno, "cannot read image %s", name);
	f->pid = pid;
	snprintf(name, sizeof(name), "fdinfo-%u.img", id);
	if (criu_image_each(dirfd, name, CRIU_MAGIC_FDINFO, images_add_descriptor, f) && errno != ENOENT)
		return err_sys(f->err, errno, "cannot read image %s", name);
	return 0;
}

static int images_read_processes(struct image_files *f, int dirfd)
{
	cleanup_dir DIR *d = dir_open_at(dirfd, ".");
	const struct dirent *e;
	int pid, more = -1;

	while (d && (more = dir_next(d, &e)) > 0) {
		/* criu before 3.4 wrote this image, and a restore would still read it. */
		if (!strcmp(e->d_name, "reg-files.img"))
			return err_set(f->err, EPERM, "unexpected image %s", e->d_name);
		pid = criu_image_pid(e->d_name, "core-");
		if (!pid)
			continue;
		array_reserve(f->pids, f->n_pids, f->pids_room);
		f->pids[f->n_pids++] = pid;
		if (images_read_descriptors(f, dirfd, pid))
			return -1;
	}
	if (f->n_held)
		qsort(f->held, f->n_held, sizeof(*f->held), compare_held);
	return more < 0 ? err_sys(f->err, errno, "cannot read the directory of criu's images") : 0;
}

/* ---- files ---------------------------------------------------------------- */

static int images_refuse(const struct image_files *f, const struct held *h, const char *path, const char *why)
{
	char clean[256], as[64];

	if (h)
		snprintf(as, sizeof(as), "process %d has it open as descriptor %u", h->pid, h->fd);
	return err_set(f->err, EPERM, "the open file %s cannot be opened again at a restart (%s); %s",
		       printable(path, clean, sizeof(clean)), why,
		       h ? as : "a process has it mapped, or it is a working or root directory");
}

static int images_check_held(const struct image_files *f, struct kernel_file *k, const struct held *h)
{
	char buf[96];
	const char *why;

	k->holder = h ? h->pid : 0;
	why = kernel_file_obstacle(k, buf, sizeof(buf));
	return why ? images_refuse(f, h, k->path, why) : 0;
}

static int images_check_regular(const struct image_files *f, const RegFileEntry *r)
{
	const char *at, *type = mount_table_find(f->mounts, r->name, &at);
	struct kernel_file k = {
		.fs = type ? kernel_fs_by_type(type) : NULL,
		.path = r->name,
		.writes = (r->flags & O_ACCMODE) != O_RDONLY,
		.pids = f->pids,
		.n_pids = f->n_pids,
	};
	size_t low = 0, high = f->n_held;

	if (!k.fs)
		return 0;
	k.other_proc = kernel_fs_is_proc(k.fs) && strcmp(at, "/proc") != 0;
	while (low < high) {
		size_t mid = (low + high) / 2;

		if (f->held[mid].id < r->id)
			low = mid + 1;
		else
			high = mid;
	}
	if (low == f->n_held || f->held[low].id != r->id)
		return images_check_held(f, &k, NULL);
	for (; low < f->n_held && f->held[low].id == r->id; low++)
		if (images_check_held(f, &k, &f->held[low]))
			return -1;
	return 0;
}

/* criu does not restore a socket whose file was deleted if its name, with the NUL byte, fills the address. */
static int images_check_unix(const struct image_files *f, const UnixSkEntry *u)
{
	char clean[256];
	cleanup_free char *name = NULL;

	if (!u->deleted || u->name.len < NAME_ROOM)
		return 0;
	name = xasprintf("%.*s", (int)u->name.len, (const char *)u->name.data);
	return err_set(f->err, ENAMETOOLONG,
		       "the Unix socket %s, whose file was deleted, could not be restored (criu restores such names of up to "
		       "%zu bytes); close it and try again",
		       printable(name, clean, sizeof(clean)), NAME_ROOM - 2);
}

static int images_check_file(void *arg, const uint8_t *msg, size_t len)
{
	FileEntry *e = file_entry__unpack(NULL, len, msg);
	int rc;

	if (!e)
		return -1;
	errno = 0;
	rc = e->reg ? images_check_regular(arg, e->reg) : e->usk ? images_check_unix(arg, e->usk) : 0;
	file_entry__free_unpacked(e, NULL);
	return rc;
}

int preflight_images(int images_fd, const struct mount_table *mounts, struct err *err)
{
	struct err why = { 0 };
	struct image_files f = { .mounts = mounts, .err = &why };
	int rc = images_read_processes(&f, images_fd);

	if (!rc && criu_image_each(images_fd, "files.img", CRIU_MAGIC_FILES, images_check_file, &f)) {
		rc = -1;
		if (!why.text[0])
			err_sys(&why, errno ? errno : EBADMSG, "cannot read image files.img");
	}
	free(f.held);
	free(f.pids);
	if (rc && err)
		*err = why;
	return rc;
}
