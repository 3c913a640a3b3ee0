/* Reads the agent's journal (agent/write_list.h): paths that end with NUL. The agent may append to it meanwhile. */
#include "files/files_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "base/array.h"
#include "base/io.h"
#include "base/util.h"
#include "base/json.h"

#define JOURNAL_MAX (16 << 20) /* bytes; the agent stops far below */

static void journal_take_path(struct journal *j, char *path, size_t len, const struct packed *packed)
{
	/* 4096: the size of file_record.path */
	if (len >= 4096 || !path_is_plain(path) || path_is_packed(path, packed))
		return;
	array_reserve(j->paths, j->n, j->room);
	j->paths[j->n++] = path;
}

void journal_add_text(struct journal *j, char *text, size_t len, const struct packed *packed)
{
	char *p = text, *end;

	array_reserve(j->texts, j->n_texts, j->texts_room);
	j->texts[j->n_texts++] = text;
	/* A last path without NUL is still being written, or was being written when the node failed. */
	for (; p < text + len && (end = memchr(p, '\0', (size_t)(text + len - p))) && j->n < FILES_RECORDS_MAX;
	     p = end + 1)
		journal_take_path(j, p, (size_t)(end - p), packed);
	j->read += p - text;
}

void journal_add_path(struct journal *j, char *path, const struct packed *packed)
{
	array_reserve(j->texts, j->n_texts, j->texts_room);
	j->texts[j->n_texts++] = path;
	if (j->n < FILES_RECORDS_MAX)
		journal_take_path(j, path, strlen(path), packed);
}

int journal_read(struct journal *j, int jobfd, const struct packed *packed, struct err *err)
{
	cleanup_close int fd = openat(jobfd, FILES_JOURNAL, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	struct stat st;
	char *text;
	ssize_t n;

	if (fd < 0)
		return errno == ENOENT
			       ? 0
			       : err_sys(err, errno, "cannot open %s, the list of files that the job has written",
					 FILES_JOURNAL);
	if (fstat(fd, &st) < 0 || lseek(fd, j->read, SEEK_SET) < 0)
		return err_sys(err, errno, "cannot read %s", FILES_JOURNAL);
	if (!S_ISREG(st.st_mode) || st.st_size > JOURNAL_MAX)
		return err_set(err, EBADMSG, "%s, the list of files that the job has written, is damaged", FILES_JOURNAL);
	n = read_all(fd, JOURNAL_MAX, &text);
	if (n < 0)
		return err_sys(err, errno, "cannot read %s", FILES_JOURNAL);
	journal_add_text(j, text, (size_t)n, packed);
	return 0;
}

void journal_free(struct journal *j)
{
	for (size_t i = 0; i < j->n_texts; i++)
		free(j->texts[i]);
	free(j->texts);
	free(j->paths);
	memset(j, 0, sizeof(*j));
}

/* ---- records by path --------------------------------------------------- */

static int record_index_by_path(const void *a, const void *b)
{
	return strcmp(((const struct record_entry *)a)->path, ((const struct record_entry *)b)->path);
}

static int record_index_compare_path(const void *path, const void *entry)
{
	return strcmp(path, ((const struct record_entry *)entry)->path);
}

void record_index_make(struct record_index *x, const json_t *records)
{
	char path[4096];
	const json_t *o;
	size_t i;

	x->n = 0;
	x->v = xcalloc(json_array_size(records) + 1, sizeof(*x->v));
	json_array_foreach(records, i, o)
		if (json_get_name(o, "path", path, sizeof(path), NULL) == 0)
			x->v[x->n++] = (struct record_entry){ xstrdup(path), o };
	qsort(x->v, x->n, sizeof(*x->v), record_index_by_path);
}

const json_t *record_index_find(const struct record_index *x, const char *path)
{
	const struct record_entry *e = x->n ? bsearch(path, x->v, x->n, sizeof(*x->v), record_index_compare_path) : NULL;

	return e ? e->record : NULL;
}

void record_index_free(struct record_index *x)
{
	for (size_t i = 0; i < x->n; i++)
		free(x->v[i].path);
	free(x->v);
	x->v = NULL;
	x->n = 0;
}
