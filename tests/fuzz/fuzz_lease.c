/* The lease of a job. A damaged one is one that is there and was not renewed. */
#include "fuzz.h"
#include "jobdir.h"
#include "store/lease.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const int dir = jobdir_with("lease", data, size);
	bool exists = false;
	struct lease l;

	if (lease_read(dir, &l, &exists, NULL) < 0 || !exists)
		abort();
	return 0;
}
