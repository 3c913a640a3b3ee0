/* What the files of a checkpoint's memory share. */
#include "worker/worker.h"

void memory_write_opts(const struct worker *w, struct mem_write_opts *o)
{
	mem_write_opts_init(o);
	o->level = w->conf.compression;
	o->threads = (int)w->conf.threads;
	o->hashes = w->conf.incremental;
}

const struct memory_wanted *memory_wanted(const struct memory_step *s, pid_t host)
{
	for (int i = 0; i < s->n_wanted; i++)
		if (s->wanted[i].host == host)
			return &s->wanted[i];
	return NULL;
}
