#include "criu/criu_ghost.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/array.h"
#include "base/dir.h"
#include "base/util.h"
#include "criu/criu_image.h"
#include "criu_ghost.pb-c.h"

/* Offset of the head: after two magic numbers and its length. */
#define HEAD_AT 12u

char *criu_ghost_name(uint32_t number, char buf[CRIU_GHOST_NAME_MAX])
{
	snprintf(buf, CRIU_GHOST_NAME_MAX, "ghost-file-%x.img", number);
	return buf;
}

/* Returns false if name is not that of such an image. */
static bool criu_ghost_number(const char *name, uint32_t *number)
{
	char again[CRIU_GHOST_NAME_MAX];

	return sscanf(name, "ghost-file-%x.img", number) == 1 && !strcmp(criu_ghost_name(*number, again), name);
}

int criu_ghost_parse(const uint8_t *buf, size_t len, struct criu_ghost *g, struct err *err)
{
	CriuGhostHead *head = NULL;
	uint32_t magic, n;
	bool empty;

	if (len >= HEAD_AT) {
		memcpy(&magic, buf, 4);
		memcpy(&n, buf + 8, 4);
		if (magic == CRIU_MAGIC_COMMON && n <= len - HEAD_AT)
			head = criu_ghost_head__unpack(NULL, n, buf + HEAD_AT);
	}
	if (!head)
		return err_set(err, EBADMSG, "image ghost-file-%x.img cannot be understood", g->number);
	empty = head->has_chunks && head->chunks && head->has_size && head->has_ino && len == HEAD_AT + n;
	g->size = head->size;
	g->dev = head->dev;
	g->ino = head->ino;
	criu_ghost_head__free_unpacked(head, NULL);
	return empty;
}

int criu_ghost_read_head(int images_fd, struct criu_ghost *g, uint8_t buf[CRIU_GHOST_HEAD_MAX], size_t *len,
			 struct err *err)
{
	char name[CRIU_GHOST_NAME_MAX];
	cleanup_close int fd = openat(images_fd, criu_ghost_name(g->number, name), O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	ssize_t got = fd < 0 ? -1 : pread(fd, buf, CRIU_GHOST_HEAD_MAX, 0);

	if (got < 0)
		return err_sys(err, errno, "cannot read image %s", name);
	*len = (size_t)got;
	return got == (ssize_t)CRIU_GHOST_HEAD_MAX ? 0 : criu_ghost_parse(buf, *len, g, err);
}

int criu_ghosts_read(int images_fd, struct criu_ghost **v, size_t *n, struct err *err)
{
	cleanup_dir DIR *d = dir_open_at(images_fd, ".");
	const struct dirent *e;
	int more = -1, rc = 0;
	size_t room = 0;

	*v = NULL;
	*n = 0;
	while (rc >= 0 && d && (more = dir_next(d, &e)) > 0) {
		struct criu_ghost g = { 0 };
		uint8_t buf[CRIU_GHOST_HEAD_MAX];
		size_t len;

		if (!criu_ghost_number(e->d_name, &g.number))
			continue;
		rc = criu_ghost_read_head(images_fd, &g, buf, &len, err);
		if (rc <= 0)
			continue;
		array_reserve(*v, *n, room);
		(*v)[(*n)++] = g;
	}
	if (more < 0)
		return err_sys(err, errno, "cannot read the directory of criu's images");
	return rc < 0 ? -1 : 0;
}

const struct criu_ghost *criu_ghosts_find(const struct criu_ghost *v, size_t n, dev_t dev, uint64_t ino)
{
	/* criu writes the device as the kernel encodes it, or the lower 32 bits of st_dev. */
	const uint32_t kernels = major(dev) << 20 | minor(dev);

	for (size_t i = 0; i < n; i++)
		if (v[i].ino == ino && (v[i].dev == kernels || v[i].dev == (uint32_t)dev))
			return &v[i];
	return NULL;
}
