/* The container of criu's images, and the magic numbers of all images that fsched reads or writes.
 *
 * An image is two magic numbers of 32 bits (the inventory has only one), then messages, each with its length of 32 bits
 * in front, in the byte order of the machine. The messages are those of criu_images.proto, criu_pagemap.proto and
 * criu_ghost.proto. In a ghost image, data may follow a message. */
#ifndef FSCHED_CRIU_CRIU_IMAGE_H
#define FSCHED_CRIU_CRIU_IMAGE_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* The first number of an image: of a process (common), or of criu itself (service). */
#define CRIU_MAGIC_COMMON    0x54564319u
#define CRIU_MAGIC_SERVICE   0x55105940u
/* The second number of an image: its kind. */
#define CRIU_MAGIC_CORE      0x55053847u
#define CRIU_MAGIC_FDINFO    0x56213732u
#define CRIU_MAGIC_FILES     0x56303138u
#define CRIU_MAGIC_IDS       0x54432030u
#define CRIU_MAGIC_INVENTORY 0x58313116u /* the first and only number */
#define CRIU_MAGIC_MM        0x57492820u
#define CRIU_MAGIC_PAGEMAP   0x56084025u
#define CRIU_MAGIC_STATS     0x57093306u
#define CRIU_MAGIC_TTY_INFO  0x59453036u

/* Task states and mapping flags in criu's images. */
#define CRIU_TASK_STOPPED    3
#define CRIU_VMA_ANON_SHARED (1u << 8)
#define CRIU_VMA_SYSV        (1u << 10)

#define CRIU_LEADER_PID      2 /* pid in the pod of the process that is dumped with all its descendants */

/* ---- reading ---- */

/* A message in an image that has been read. */
struct criu_message {
	const uint8_t *v;
	uint32_t len;
};

/* Takes the next message off the len bytes at p, and advances both. Returns 0, or -1 if the image ends before the end
 * of the message. */
int criu_message_next(const uint8_t **p, size_t *len, struct criu_message *m);
/* Checks the two numbers at the beginning of an image, and advances p and len beyond them. Returns 0 or -1. */
int criu_image_check(const uint8_t **p, size_t *len, uint32_t first, uint32_t magic);
/* Reads the first message of an image. *buf is the caller's, m points into it. Returns 0, or -1 with errno (EBADMSG: it
 * is no image of this kind). */
int criu_image_first(int dirfd, const char *name, uint32_t first, uint32_t magic, char **buf, struct criu_message *m);
/* Calls each for every message of an image. Returns 0, or -1 with errno: the image cannot be read (EBADMSG: it is no
 * image of this kind), or each has returned something other than 0. */
int criu_image_each(int dirfd, const char *name, uint32_t magic, int (*each)(void *arg, const uint8_t *msg, size_t len),
		    void *arg);

/* ---- writing ---- */

struct criu_image_buffer {
	uint8_t *v; /* owned: free() */
	size_t n, room;
};

/* Appends a number. */
void criu_image_put_word(struct criu_image_buffer *b, uint32_t word);
/* Appends the length of a message, and room for it. Returns where the message has to be packed. */
uint8_t *criu_image_put_message(struct criu_image_buffer *b, size_t len);
/* Writes the image. flags: O_EXCL or O_TRUNC, in addition to O_WRONLY and O_CREAT. Returns 0, or -1 with errno. */
int criu_image_write(int dirfd, const char *name, int flags, const struct criu_image_buffer *b);

/* ---- names ---- */

/* "core-12.img" with prefix "core-" -> 12; 0 for other names. */
pid_t criu_image_pid(const char *name, const char *prefix);

#endif
