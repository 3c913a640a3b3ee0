/* job.json of a job's directory. */
#include "fuzz.h"
#include "jobdir.h"
#include "store/store.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct job_record r;
	const struct store s = { .dirfd = jobdir_with("job.json", data, size), .epochsfd = -1, .path = "/job" };

	store_load_record(&s, &r, NULL);
	return 0;
}
