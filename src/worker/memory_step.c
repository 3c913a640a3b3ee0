/* What the files of a checkpoint's memory share. */
#include "worker/worker.h"

void memory_write_opts(const struct worker *w, struct mem_write_opts *o)
{
	mem_write_opts_init(o);
	o->level = w->conf.compression;
	o->threads = (int)w->conf.threads;
	o->hashes = w->conf.incremental;
}

const char *memory_why_criu(const struct worker *w)
{
	if (w->conf.engine == CONF_ENGINE_CRIU)
		return "MemoryEngine = criu";
	return w->criu.preload[0] ? NULL : "the library that fsched loads into criu is missing";
}

const struct memory_wanted *memory_wanted(const struct memory_step *s, pid_t host)
{
	for (int i = 0; i < s->n_wanted; i++)
		if (s->wanted[i].host == host)
			return &s->wanted[i];
	return NULL;
}
