/* Shared memory: anonymous MAP_SHARED memory, memfds, and files on a tmpfs that were deleted (shm_open, shm_unlink). An
 * object is copied once, however many processes have it. And files of the job's /dev/shm, which are named by their path
 * and of which somebody else keeps all but the data.
 *
 * In a dump criu is told that large objects are holes (src/preload/elide.c), and by name which ones it was told that
 * of:
 *
 *   mem_shared_look      before the freeze: finds and opens what processes have
 *   mem_shared_reserve   before the freeze: makes memory for copies
 *   mem_shared_add_file  in the freeze, for each file
 *   mem_shared_take      in the freeze
 *   (mem_shared_now)     true: something did not fit, so everything must be written before the thaw
 *   mem_shared_work, mem_shared_read   for mem_image_write()
 *
 * In a restore criu makes the objects anew, as holes with a mark at their beginning (image/restore_dir.h), by which
 * they are found:
 *
 *   mem_shared_find      the processes are complete and stopped
 *   mem_shared_write     for mem_image_fill()
 */
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

/* Opens what the processes have of ELIDE_SHARED_MIN bytes or more. What is not found is looked for again in the freeze.
 * counted: the device of a file system that the caller counts itself: deleted files on it are not in
 * mem_shared_bytes(); 0: there is none. */
void mem_shared_look(struct mem_shared *s, const pid_t *pids, int n, dev_t counted);
/* Memory that these objects hold now. */
uint64_t mem_shared_bytes(const struct mem_shared *s);
void mem_shared_reserve(struct mem_shared *s, uint64_t bytes);

/* Takes a file too: keeps a descriptor of its own. False: it cannot. */
bool mem_shared_add_file(struct mem_shared *s, const char *path, int fd);

struct mem_shared_want {
	uint64_t id; /* the space that it is to be */
	dev_t dev;   /* 0: the kernel's own tmpfs */
	uint64_t ino;
	uint64_t size; /* bytes that processes map of it and criu will restore; 0: a memfd or file, which has a size of
			  its own */
};
/* pids: the stopped processes. -1 if one of want is not found or cannot be read: criu must dump it. */
int mem_shared_take(struct mem_shared *s, const struct mem_shared_want *want, size_t n_want, const pid_t *pids, int n,
		    int threads, struct err *err);
bool mem_shared_now(const struct mem_shared *s);
/* Owned by s; ascending. */
const struct mem_range *mem_shared_work(const struct mem_shared *s, size_t *n);
/* Pages of the work, as mem_source.read. Thread-safe. */
int mem_shared_read(const struct mem_shared *s, uint64_t id, uint64_t addr, void *buf, size_t len);

/* Finds every shared object of the image by its mark, which it removes. */
int mem_shared_find(struct mem_shared *s, const struct mem_image *m, const uint8_t token[16], const pid_t *pids, int n,
		    struct err *err);
/* In a restore: where a file of the image is to be written; fd is taken over. False: the image has none of that path,
 * and fd is closed. */
bool mem_shared_target(struct mem_shared *s, const struct mem_image *m, const char *path, int fd);
/* All files of the image have one. */
int mem_shared_check_targets(const struct mem_shared *s, const struct mem_image *m, struct err *err);
/* Every page of the spaces that are files, or of those that are neither files nor deleted ones: for mem_read_opts.only.
 * To be freed. */
struct mem_range *mem_shared_spaces(const struct mem_image *m, bool files, size_t *n);
/* As mem_sink.write. What lies behind the end of the object is left out. Thread-safe. */
int mem_shared_write(const struct mem_shared *s, uint64_t id, uint64_t addr, const void *buf, size_t len);

#endif
