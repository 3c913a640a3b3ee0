/* Captures and restores shared memory objects: anonymous MAP_SHARED memory, memfds, and deleted files on a tmpfs
 * (shm_open, shm_unlink). An object is copied once, however many processes map it. Files of the job's /dev/shm are
 * included: their path names them, and all but their data is saved elsewhere (files/).
 *
 * In a dump, criu is told that large objects are holes (src/preload/elide.c), and says which objects these were:
 *
 *   mem_shared_open          before the freeze: finds and opens the objects of the processes
 *   mem_shared_reserve       before the freeze: allocates memory for copies
 *   mem_shared_add_file      in the freeze, for each file
 *   mem_shared_capture       in the freeze: copies
 *   mem_shared_needs_freeze  true: something did not fit, so everything must be written before the thaw
 *   mem_shared_ranges, mem_shared_read   for mem_image_write()
 *
 * In a restore, criu creates the objects as holes with a mark at their beginning (image/space_id.h), by which they are
 * found:
 *
 *   mem_shared_open_restored  when the processes are complete and stopped
 *   mem_shared_write          for mem_image_read_pages()
 *
 * Functions that return int return 0, or -1 with err. */
#ifndef FSCHED_CAPTURE_SHARED_H
#define FSCHED_CAPTURE_SHARED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include "base/err.h"
#include "image/image.h"
#include "image/space_id.h"

struct mem_shared;
struct mem_shared *mem_shared_new(void); /* never NULL */
void mem_shared_free(struct mem_shared *s);

/* ---- capture --------------------------------------------------------------- */

/* Opens the objects of at least ELIDE_SHARED_MIN bytes. mem_shared_capture() looks again for one that is missed here.
 * counted: the device of a file system whose size the caller counts itself, or 0: deleted files on it do not count in
 * mem_shared_bytes(). */
void mem_shared_open(struct mem_shared *s, const pid_t *pids, int n, dev_t counted);
/* Bytes of memory that the objects had when they were opened. */
uint64_t mem_shared_bytes(const struct mem_shared *s);
void mem_shared_reserve(struct mem_shared *s, uint64_t bytes);

/* Captures a file, too. fd stays the caller's. False if that is not possible: the file must be saved in another way. */
bool mem_shared_add_file(struct mem_shared *s, const char *path, int fd);

/* An object that criu was told to be a hole. */
struct mem_shared_want {
	uint64_t id; /* of its space in the image */
	dev_t dev;   /* 0: the kernel's internal tmpfs */
	uint64_t ino;
	uint64_t size; /* bytes that processes map and criu will restore; 0: a memfd or file, which has its own size */
};
/* pids: the stopped processes. -1 if one of want is not found or cannot be read: then criu must dump it. threads < 1:
 * as many as processors. */
int mem_shared_capture(struct mem_shared *s, const struct mem_shared_want *want, size_t n_want, const pid_t *pids,
		       int n, int threads, struct err *err);
bool mem_shared_needs_freeze(const struct mem_shared *s);
/* The data pages of all captured objects, ascending. Owned by s. */
const struct mem_range *mem_shared_ranges(const struct mem_shared *s, size_t *n);
/* Reads these pages, as mem_source.read: a call must lie within one range. Thread-safe. */
int mem_shared_read(const struct mem_shared *s, uint64_t id, uint64_t addr, void *buf, size_t len);

/* ---- restore --------------------------------------------------------------- */

/* Finds every shared memory object of the image among those of the processes by its mark, and removes the mark. */
int mem_shared_open_restored(struct mem_shared *s, const struct mem_image *m, const uint8_t token[16],
			     const pid_t *pids, int n, struct err *err);
/* Sets fd as the target for the data of the file path. fd is owned by s afterwards. False, and fd is closed, if the
 * image has no data of this path. */
bool mem_shared_add_target(struct mem_shared *s, const struct mem_image *m, const char *path, int fd);
/* Checks that all files of the image have a target. */
int mem_shared_check_targets(const struct mem_shared *s, const struct mem_image *m, struct err *err);
/* A range of all pages for each space that is a file, or (files false) for each that is neither a file nor a deleted
 * file: for mem_read_opts.only. To be freed by the caller. */
struct mem_range *mem_shared_spaces(const struct mem_image *m, bool files, size_t *n);
/* As mem_sink.write. Bytes behind the end of the object are ignored. Thread-safe. */
int mem_shared_write(const struct mem_shared *s, uint64_t id, uint64_t addr, const void *buf, size_t len);

#endif
