/* The agent's journal of names, and the list of an epoch: names and paths that the job chooses. */
#include <stdlib.h>
#include <string.h>

#include "base/util.h"
#include "files/names.h"
#include "fuzz.h"

/* Adds a copy of the input, because *x frees its texts. */
static void add_text(struct names *x, struct names_source *s, const uint8_t *data, size_t size)
{
	char *text = xmalloc(size + 1);

	if (size)
		memcpy(text, data, size);
	text[size] = '\0';
	names_add_text(x, s, text, size);
}

static void check(const struct names *x)
{
	for (size_t i = 0; i < x->n; i++) {
		const struct name_entry *e = &x->v[i];

		if (e->dir >= x->n_dirs || strchr(e->name, '/') || !*e->name || (e->was && strlen(e->was) >= NAME_ID) ||
		    names_find(x, e->dir, e->name) != (long)i)
			abort();
	}
	for (size_t i = 0; i < x->n_dirs; i++)
		if (x->dirs[i].path[0] != '/' || names_find_dir(x, x->dirs[i].id) != (long)i)
			abort();
}

/* The first half is a list, the second one a journal, which is read in two steps. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct names x = { 0 };
	struct names_source table = { .table = true }, journal = { .from = 2, .clears = size % 2 };
	const size_t half = size / 2;

	add_text(&x, &table, data, half);
	add_text(&x, &journal, data + half, (size - half) / 2);
	if (journal.read < 0 || journal.read > (int64_t)(size - half) / 2)
		abort();
	add_text(&x, &journal, data + half + journal.read, size - half - (size_t)journal.read);
	check(&x);
	names_free(&x);
	names_source_free(&table);
	names_source_free(&journal);
	return 0;
}
