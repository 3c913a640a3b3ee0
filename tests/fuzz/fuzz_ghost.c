/* criu's image of a deleted file. */
#include <stdlib.h>

#include "fuzz.h"
#include "criu/criu_ghost.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct criu_ghost g = { .number = 1 };
	int rc = criu_ghost_parse(data, size, &g, NULL);

	if (rc < -1 || rc > 1 || g.number != 1)
		abort();
	return 0;
}
