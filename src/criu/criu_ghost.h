/* criu's ghost-file-N.img: a deleted file on a tmpfs that a process has open. */
#ifndef FSCHED_CRIU_CRIU_GHOST_H
#define FSCHED_CRIU_CRIU_GHOST_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include "base/err.h"

/* The image of a regular file whose data was left out of the dump: criu was told that the file is one hole. */
struct criu_ghost {
	uint32_t number; /* N of ghost-file-N.img */
	uint64_t size;   /* bytes of the file */
	uint32_t dev;    /* as criu has it, see criu_ghosts_find() */
	uint64_t ino;
};

/* Parses the first len bytes of an image; an image without data must be complete. Returns 1 if the image has no data;
 * then all of g but its number is filled. Returns 0 if it has data, -1 with EBADMSG if it cannot be parsed. */
int criu_ghost_parse(const uint8_t *buf, size_t len, struct criu_ghost *g, struct err *err);
/* Reads the first *len bytes, at most CRIU_GHOST_HEAD_MAX, of image g->number into buf, and parses them. Returns as
 * criu_ghost_parse(); a longer image has data (0). */
#define CRIU_GHOST_HEAD_MAX 8192u /* bytes: an image without data is shorter, also with a path in it */
int criu_ghost_read_head(int images_fd, struct criu_ghost *g, uint8_t buf[CRIU_GHOST_HEAD_MAX], size_t *len,
			 struct err *err);
/* Lists the images without data in the directory. The caller frees *v. Returns 0, or -1 with err (EBADMSG: an image
 * cannot be parsed). */
int criu_ghosts_read(int images_fd, struct criu_ghost **v, size_t *n, struct err *err);
/* Returns the image of the file dev (as fstat() returns it), ino; NULL = there is none. */
const struct criu_ghost *criu_ghosts_find(const struct criu_ghost *v, size_t n, dev_t dev, uint64_t ino);

/* Writes the name of an image, like "ghost-file-1a.img", to buf, and returns buf. */
#define CRIU_GHOST_NAME_MAX 32
char *criu_ghost_name(uint32_t number, char buf[CRIU_GHOST_NAME_MAX]);

#endif
