/* What shared.c (capture) and shared_restore.c have in common. Nobody else may include it. */
#ifndef FSCHED_CAPTURE_SHARED_INTERNAL_H
#define FSCHED_CAPTURE_SHARED_INTERNAL_H

#include <sys/stat.h>
#include "capture/shared.h"
#include "capture/staging.h"

struct shared_object {
	uint64_t id; /* 0: not known yet */
	dev_t dev;
	uint64_t ino;
	int fd;
	uint64_t bytes; /* of memory, when it was opened */
	uint64_t size;  /* of the object */
	bool wanted;
	size_t first, count; /* its ranges: work[first .. first + count - 1] */
	uint64_t pages;
	uint8_t *copy; /* its pages, one range behind the other; NULL: they are read from fd */
};

struct mem_shared {
	struct shared_object *v;
	size_t n, room;
	uint64_t min; /* smaller objects are ignored */
	dev_t counted;
	dev_t kernels; /* device of the kernel's internal tmpfs */
	struct mem_staging staging;
	struct mem_range *work;
	size_t n_work, work_room, at_room;
	uint64_t *at; /* per range of work: its offset in the copy of its object */
};

/* The object whose data is in space id, or NULL. */
struct shared_object *shared_find(const struct mem_shared *s, uint64_t id);
/* Adds an object; fd is owned by s afterwards. The pointer is valid until the next call. */
struct shared_object *shared_add(struct mem_shared *s, uint64_t id, int fd, const struct stat *st);

#endif
