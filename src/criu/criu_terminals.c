#include "criu/criu_terminals.h"

#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/array.h"
#include "base/dir.h"
#include "base/util.h"
#include "criu/criu_image.h"
#include "criu_images.pb-c.h"

#define TYPE_PTY  1u
#define INDEX_MAX 1088u /* more than criu knows (MAX_TTYS) */

/* An open master end, as it is found first. */
struct master {
	uint32_t id, info, name_id;
	struct criu_terminal t;
};

struct reader {
	int dirfd, pid;
	struct master *v;
	size_t n, room;
};

/* ---- files.img: the masters, then their names --------------------------------- */

static int terminals_add_master(void *arg, const uint8_t *msg, size_t len)
{
	struct reader *r = arg;
	FileEntry *e = file_entry__unpack(NULL, len, msg);

	if (!e)
		return -1;
	/* criu's number of an end is twice the index, and 1 for a master. Consoles have even numbers. */
	if (e->tty && e->tty->tty_info_id & 1 && e->tty->has_regf_id) {
		array_reserve(r->v, r->n, r->room);
		r->v[r->n++] = (struct master){
			.id = e->tty->id,
			.info = e->tty->tty_info_id,
			.name_id = e->tty->regf_id,
			.t = { .index = -1, .flags = e->tty->flags, .owner = INT_MAX, .owner_fd = UINT32_MAX },
		};
	}
	file_entry__free_unpacked(e, NULL);
	return 0;
}

static int terminals_add_name(void *arg, const uint8_t *msg, size_t len)
{
	struct reader *r = arg;
	FileEntry *e = file_entry__unpack(NULL, len, msg);

	if (!e)
		return -1;
	for (size_t i = 0; e->reg && i < r->n; i++)
		if (r->v[i].name_id == e->reg->id && !r->v[i].t.name)
			r->v[i].t.name = xstrdup(e->reg->name);
	file_entry__free_unpacked(e, NULL);
	return 0;
}

/* ---- tty-info.img -------------------------------------------------------------- */

static bool terminals_has_process(const struct reader *r, uint32_t pid)
{
	char name[64];
	struct stat st;

	snprintf(name, sizeof(name), "core-%u.img", pid);
	return fstatat(r->dirfd, name, &st, 0) == 0;
}

/* Both ends have an entry, and each of them may name the session. */
static int terminals_add_info(void *arg, const uint8_t *msg, size_t len)
{
	struct reader *r = arg;
	TtyInfoEntry *e = tty_info_entry__unpack(NULL, len, msg);
	const WinsizeEntry *w = e ? e->winsize : NULL;

	if (!e)
		return -1;
	for (size_t i = 0; e->type == TYPE_PTY && e->pty && e->pty->index < INDEX_MAX && i < r->n; i++) {
		struct criu_terminal *t = &r->v[i].t;

		if ((e->id | 1) != r->v[i].info)
			continue;
		if (e->id == r->v[i].info && w) {
			t->index = (int)e->pty->index;
			t->size[0] = (unsigned short)w->ws_row;
			t->size[1] = (unsigned short)w->ws_col;
			t->size[2] = (unsigned short)w->ws_xpixel;
			t->size[3] = (unsigned short)w->ws_ypixel;
		}
		if (e->sid && e->sid < INT_MAX && terminals_has_process(r, e->sid))
			t->leader = (int)e->sid;
	}
	tty_info_entry__free_unpacked(e, NULL);
	return 0;
}

/* ---- who has them -------------------------------------------------------------- */

static int terminals_add_descriptor(void *arg, const uint8_t *msg, size_t len)
{
	struct reader *r = arg;
	FdinfoEntry *e = fdinfo_entry__unpack(NULL, len, msg);

	if (!e)
		return -1;
	for (size_t i = 0; i < r->n; i++) {
		struct criu_terminal *t = &r->v[i].t;

		if (r->v[i].id == e->id && (r->pid < t->owner || (r->pid == t->owner && e->fd < t->owner_fd))) {
			t->owner = r->pid;
			t->owner_fd = e->fd;
		}
	}
	fdinfo_entry__free_unpacked(e, NULL);
	return 0;
}

static int terminals_take_files_id(void *arg, const uint8_t *msg, size_t len)
{
	TaskKobjIds *e = task_kobj_ids__unpack(NULL, len, msg);

	if (!e)
		return -1;
	*(uint32_t *)arg = e->files_id;
	task_kobj_ids__free_unpacked(e, NULL);
	return 0;
}

/* A zombie has no images of descriptors. */
static int terminals_read_process(struct reader *r, int pid)
{
	char name[64];
	uint32_t id = 0;

	r->pid = pid;
	snprintf(name, sizeof(name), "ids-%d.img", pid);
	if (criu_image_each(r->dirfd, name, CRIU_MAGIC_IDS, terminals_take_files_id, &id))
		return errno == ENOENT ? 0 : -1;
	snprintf(name, sizeof(name), "fdinfo-%u.img", id);
	return criu_image_each(r->dirfd, name, CRIU_MAGIC_FDINFO, terminals_add_descriptor, r) && errno != ENOENT ? -1
														  : 0;
}

static int terminals_read_processes(struct reader *r)
{
	cleanup_dir DIR *d = dir_open_at(r->dirfd, ".");
	const struct dirent *e;
	int pid, more = -1;

	while (d && (more = dir_next(d, &e)) > 0) {
		pid = criu_image_pid(e->d_name, "core-");
		if (pid && terminals_read_process(r, pid))
			return -1;
	}
	return more;
}

/* ---- all ------------------------------------------------------------------------ */

static int terminals_compare(const void *a, const void *b)
{
	const struct criu_terminal *x = a, *y = b;

	if (x->owner != y->owner)
		return x->owner < y->owner ? -1 : 1;
	return x->owner_fd < y->owner_fd ? -1 : x->owner_fd > y->owner_fd;
}

static int terminals_read_images(struct reader *r)
{
	if (criu_image_each(r->dirfd, "files.img", CRIU_MAGIC_FILES, terminals_add_master, r))
		return errno == ENOENT ? 0 : -1;
	if (!r->n)
		return 0;
	if (criu_image_each(r->dirfd, "files.img", CRIU_MAGIC_FILES, terminals_add_name, r) ||
	    criu_image_each(r->dirfd, "tty-info.img", CRIU_MAGIC_TTY_INFO, terminals_add_info, r))
		return -1;
	return terminals_read_processes(r);
}

int criu_terminals_read(int images_fd, struct criu_terminals *t, struct err *err)
{
	struct reader r = { .dirfd = images_fd };
	int rc;

	*t = (struct criu_terminals){ 0 };
	errno = EBADMSG;
	rc = terminals_read_images(&r);
	if (rc)
		err_sys(err, errno, "cannot read the terminals in criu's images");
	for (size_t i = 0; i < r.n; i++) {
		struct criu_terminal *x = &r.v[i].t;

		/* The session leader sets it as its controlling terminal, for which criu gives it a descriptor more. */
		if (x->leader && x->leader < x->owner) {
			x->owner = x->leader;
			x->owner_fd = UINT32_MAX;
		}
		if (rc || x->index < 0 || x->owner == INT_MAX || !x->name) {
			free(x->name);
			continue;
		}
		array_reserve(t->v, t->n, t->room);
		t->v[t->n++] = *x;
	}
	free(r.v);
	if (t->n)
		qsort(t->v, t->n, sizeof(*t->v), terminals_compare);
	return rc;
}

void criu_terminals_free(struct criu_terminals *t)
{
	for (size_t i = 0; i < t->n; i++)
		free(t->v[i].name);
	free(t->v);
	*t = (struct criu_terminals){ 0 };
}
