/* Files that the job has written and closed, and names that it has changed (files/files.h), in a checkpoint. They are
 * read before the freeze, so that only those that change meanwhile are read again in it. */
#include "worker/worker.h"

#include <string.h>

#include "base/util.h"
#include "base/json.h"

#define GO_MAX_MS 2000

int write_list_begin(struct write_list_step *s, struct worker *w, int filesfd, const struct previous_files *previous,
		     const struct files_opts *o, struct err *err)
{
	if (w->req.gap[0])
		worker_warn(w, "%s", w->req.gap);
	if (!w->req.write_list)
		return 0;
	s->w = files_write_list_open(w->store.dirfd, w->req.init, filesfd, o, err);
	s->names = s->w ? files_name_list_open(w->store.dirfd, w->req.init, filesfd, o, err) : NULL;
	if (!s->names || files_name_list_prepare(s->names, err))
		return -1;
	files_name_list_give(s->names, files_write_list_add, s->w);
	return files_write_list_prepare(s->w, previous->m.files, previous->filesfd, err);
}

int write_list_freeze(struct write_list_step *s, struct worker *w, const json_t *open, struct err *err)
{
	char word[32];

	if (!s->w)
		return 0;
	/* The agent got "frozen" when the freeze began, and criu has dumped since, so its answer is normally there
	 * already. A failed dump before this one has its own "frozen" and its own answer. */
	while (w->frozen_unanswered > 0 && request_word(word, sizeof(word), GO_MAX_MS))
		w->frozen_unanswered--;
	if (w->frozen_unanswered > 0)
		worker_warn(w, "the agent did not say in time which files the job has written last: a restore may leave some of them as they will "
			       "be then");
	if (files_name_list_freeze(s->names, &s->names_from, err))
		return -1;
	files_name_list_give(s->names, files_write_list_add, s->w);
	return files_write_list_freeze(s->w, open, err);
}

int write_list_finish(struct write_list_step *s, struct worker *w, struct manifest *m, int64_t frozen_at, struct err *err)
{
	if (!s->w)
		return 0;
	m->written_at = frozen_at;
	m->names_from = s->names_from;
	if (files_name_list_finish(s->names, w->warnings, err))
		return -1;
	return files_write_list_finish(s->w, m->files, w->warnings, err);
}

void write_list_end(struct write_list_step *s)
{
	files_write_list_close(s->w);
	files_name_list_close(s->names);
}
