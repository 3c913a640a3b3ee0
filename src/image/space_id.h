/* Ids of the spaces of an image that are not the memory of a process, and the mark by which a restore finds the shared
 * memory object that belongs to such a space. In these spaces, addresses are offsets in the object. */
#ifndef FSCHED_IMAGE_SPACE_ID_H
#define FSCHED_IMAGE_SPACE_ID_H

#include <stdbool.h>
#include <stdint.h>

/* A shared memory object: MEM_SHARED_ID | its inode, by which criu names it too (pagemap-shmem-INODE.img). */
#define MEM_SHARED_ID (UINT64_C(1) << 63)
/* A file of the job's /dev/shm: mem_file_id() of its path. */
#define MEM_FILE_ID   (UINT64_C(1) << 62)
/* A deleted file: MEM_GHOST_ID | N of criu's ghost-file-N.img (criu/criu_ghost.h), to which a restore writes its data.
 */
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
/* True for all of the above: the space is not the memory of a process. */
static inline bool mem_is_object(uint64_t id)
{
	return mem_is_shared(id) || mem_is_file(id) || mem_is_ghost(id);
}
/* The space of a file: MEM_FILE_ID | 62 bits of the XXH3-64 of its path. */
uint64_t mem_file_id(const char *path);

/* The first bytes of a restored object before its data is filled in. The token, a random number of the restore, keeps
 * data that a job has written itself from being taken for a mark. */
struct mem_mark {
	uint8_t magic[16], token[16];
	uint64_t id;
};
void mem_mark_make(struct mem_mark *m, const uint8_t token[16], uint64_t id);

#endif
