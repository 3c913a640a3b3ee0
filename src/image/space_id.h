/* Spaces of an image that are not the memory of a process: what their numbers say, and the mark by which a restore
 * finds the object that one belongs to. */
#ifndef FSCHED_IMAGE_SPACE_ID_H
#define FSCHED_IMAGE_SPACE_ID_H

#include <stdbool.h>
#include <stdint.h>

/* The space of an object is MEM_SHARED_ID | its inode, by which criu calls it too (pagemap-shmem-INODE.img). Addresses
 * are offsets. */
#define MEM_SHARED_ID (UINT64_C(1) << 63)

#define MEM_FILE_ID   (UINT64_C(1) << 62)
/* The space of a deleted file is MEM_GHOST_ID | N of criu's ghost-file-N.img (criu/criu_ghost.h): at a restore its data
 * goes there. */
#define MEM_GHOST_ID  (UINT64_C(1) << 61)

static inline bool mem_is_shared(uint64_t id)
{
	return id & MEM_SHARED_ID;
}
static inline bool mem_is_file(uint64_t id)
{
	return !mem_is_shared(id) && id & MEM_FILE_ID;
}
static inline bool mem_is_ghost(uint64_t id)
{
	return !mem_is_shared(id) && !mem_is_file(id) && id & MEM_GHOST_ID;
}
/* Of no process. */
static inline bool mem_is_object(uint64_t id)
{
	return mem_is_shared(id) || mem_is_file(id) || mem_is_ghost(id);
}
/* The space of a file: of a hash of its path. */
uint64_t mem_file_id(const char *path);

/* The first bytes of a restored object before it is filled. The token keeps what a job has written itself from being
 * taken for one. */
struct mem_mark {
	uint8_t magic[16], token[16];
	uint64_t id;
};
void mem_mark_make(struct mem_mark *m, const uint8_t token[16], uint64_t id);

#endif
