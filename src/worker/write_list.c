/* Files that the job has written and closed (files/files.h), in a checkpoint: looked at before the freeze, so that in
 * it only those are read again that have changed meanwhile. */
#include "worker/worker.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "base/util.h"
#include "base/json.h"

#define GO_MAX_MS 2000

/* The newest epoch before this one: what it has copied need not be copied again. */
static int open_previous(struct worker *w, struct manifest *m, int *filesfd)
{
	const unsigned epoch = store_previous_epoch(&w->store, w->req.epoch);
	cleanup_close int epochfd = epoch ? store_open_epoch(&w->store, epoch, NULL) : -1;

	if (epochfd < 0 || manifest_load(epochfd, m, NULL))
		return -1;
	*filesfd = openat(epochfd, "files", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	return *filesfd < 0 ? -1 : 0;
}

int written_begin(struct written_step *s, struct worker *w, int filesfd, const struct files_opts *o, struct err *err)
{
	s->previous_filesfd = -1;
	if (!w->req.written)
		return 0;
	s->w = files_write_list_open(w->store.dirfd, w->req.init, filesfd, o, err);
	if (!s->w)
		return -1;
	open_previous(w, &s->previous, &s->previous_filesfd);
	return files_write_list_prepare(s->w, s->previous_filesfd < 0 ? NULL : s->previous.files, s->previous_filesfd,
					err);
}

int written_freeze(struct written_step *s, struct worker *w, const json_t *open, struct err *err)
{
	char word[32];

	if (!s->w)
		return 0;
	/* The agent had the news when the freeze began, and criu has dumped since: the word is there. A dump that was
	 * tried in vain before this one has a word of its own. */
	while (w->go_due > 0 && request_word(word, sizeof(word), GO_MAX_MS))
		w->go_due--;
	if (w->go_due > 0)
		worker_warn(w, "the agent did not say in time which files the job has written last: a restore may leave some of them as they will "
			       "be then");
	return files_write_list_freeze(s->w, open, err);
}

int written_finish(struct written_step *s, struct worker *w, struct manifest *m, int64_t frozen_at, struct err *err)
{
	if (!s->w)
		return 0;
	m->written_at = frozen_at;
	return files_write_list_finish(s->w, m->files, w->warnings, err);
}

void written_end(struct written_step *s)
{
	files_write_list_close(s->w);
	manifest_free(&s->previous);
	if (s->previous_filesfd >= 0)
		close(s->previous_filesfd);
}
