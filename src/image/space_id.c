#include "image/space_id.h"

#include <string.h>

#include "base/xxh3.h"

#define MAGIC "fsched shared 1"

void mem_mark_make(struct mem_mark *m, const uint8_t token[16], uint64_t id)
{
	*m = (struct mem_mark){ .id = id };
	memcpy(m->magic, MAGIC, sizeof(m->magic));
	memcpy(m->token, token, sizeof(m->token));
}

uint64_t mem_file_id(const char *path)
{
	return MEM_FILE_ID | XXH3_64bits(path, strlen(path)) >> 2;
}
