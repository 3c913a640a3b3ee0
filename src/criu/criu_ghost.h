/* Deleted files that processes still have, on a tmpfs: criu's ghost-file-N.img. */
#ifndef FSCHED_CRIU_CRIU_GHOST_H
#define FSCHED_CRIU_CRIU_GHOST_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include "base/err.h"

/* An image of a regular file of which criu was told that it is one hole. */
struct criu_ghost {
	uint32_t number;
	uint64_t size;
	uint32_t dev;
	uint64_t ino;
};

/* The beginning of an image; all of it if it holds no data. 1: it is one that holds none, g but its number is filled;
 * 0: another one. EBADMSG. */
int criu_ghost_parse(const uint8_t *buf, size_t len, struct criu_ghost *g, struct err *err);
/* Reads the beginning of image g->number into buf, at most CRIU_GHOST_HEAD_MAX bytes: a longer image holds data. 1 and
 * 0 as criu_ghost_parse(), 0 also for a longer one. */
#define CRIU_GHOST_HEAD_MAX 8192u /* bytes of an image without data; a path may be in it */
int criu_ghost_read_head(int images_fd, struct criu_ghost *g, uint8_t buf[CRIU_GHOST_HEAD_MAX], size_t *len,
			 struct err *err);
/* Those in the directory of images; *v is the caller's. EBADMSG: an image cannot be understood. */
int criu_ghosts_read(int images_fd, struct criu_ghost **v, size_t *n, struct err *err);
/* NULL: there is none. dev: as fstat() tells. */
const struct criu_ghost *criu_ghosts_find(const struct criu_ghost *v, size_t n, dev_t dev, uint64_t ino);

/* "ghost-file-1a.img" */
#define CRIU_GHOST_NAME_MAX 32
char *criu_ghost_name(uint32_t number, char buf[CRIU_GHOST_NAME_MAX]);

#endif
