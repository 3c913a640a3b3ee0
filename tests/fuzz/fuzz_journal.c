/* The agent's journal of the files that the job has written: paths that the job chooses. */
#include "fuzz.h"
#include "jobdir.h"
#include "files/files_internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const int dir = jobdir_with(FILES_JOURNAL, data, size);
	struct journal j = { 0 };

	/* A second look takes in nothing twice. */
	if (journal_read(&j, dir, size % 2, NULL) < 0 || j.read > (int64_t)size)
		abort();
	for (size_t i = 0, n = j.n; i < n; i++)
		if (!path_is_plain(j.paths[i]))
			abort();
	const size_t had = j.n;
	if (journal_read(&j, dir, size % 2, NULL) < 0 || j.n != had)
		abort();
	journal_free(&j);
	return 0;
}
