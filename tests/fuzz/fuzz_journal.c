/* The agent's journal of the files that the job has written: paths that the job chooses. */
#include <stdlib.h>
#include <string.h>

#include "base/util.h"
#include "fuzz.h"
#include "files/files_internal.h"

/* Adds a copy of the input, because the journal frees its texts. */
static void add_text(struct journal *j, const uint8_t *data, size_t size, bool private_tmp)
{
	char *text = xmalloc(size + 1);

	memcpy(text, data, size);
	text[size] = '\0';
	journal_add_text(j, text, size, &(struct packed){ .private_tmp = private_tmp });
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct journal j = { 0 };

	add_text(&j, data, size, size % 2);
	if (j.read < 0 || j.read > (int64_t)size)
		abort();
	for (size_t i = 0, n = j.n; i < n; i++)
		if (!path_is_plain(j.paths[i]))
			abort();
	/* A second call, with the text behind the end of the first one, adds nothing twice. */
	const size_t had = j.n, read = (size_t)j.read;
	add_text(&j, data + read, size - read, size % 2);
	if (j.n != had || (size_t)j.read != read)
		abort();
	journal_free(&j);
	return 0;
}
