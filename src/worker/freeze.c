/* How long the job may stand still. Two watch: criu's driver, which does nothing that could hang (criu/criu_dump.c),
 * and, in case that is what hangs, a timer of the worker's. Whichever is first, criu ends, and with it the freeze. */
#include "worker/worker.h"

#define COPIED  (1ull << 30) /* bytes per second */
#define WRITTEN (64ull << 20)
#define LATER   3  /* s: the driver, which says more of it, comes first */
#define START   20 /* s that criu has before the freeze */

static unsigned within(const struct worker *w, uint64_t seconds)
{
	const unsigned most = conf_checkpoint_seconds(&w->conf);

	return seconds < most ? (unsigned)seconds : most;
}

unsigned freeze_limit(const struct worker *w, uint64_t copied, uint64_t written)
{
	/* Copies of files and the archives of /tmp and /dev/shm are always written. */
	written += w->conf.file_limit + w->conf.tmp_limit;
	return within(w, w->conf.freeze_timeout + copied / COPIED + written / WRITTEN);
}

int freeze_expected(const struct worker *w, unsigned seconds, struct err *err)
{
	return freeze_deadline(seconds + START, w->conf.freeze_timeout, err);
}

int freeze_begins(const struct worker *w, unsigned seconds, struct err *err)
{
	return freeze_deadline(seconds + LATER, w->conf.freeze_timeout, err);
}

int freeze_allow(const struct worker *w, const struct criu_dump *d, unsigned seconds, struct err *err)
{
	criu_dump_allow(d, seconds);
	return freeze_begins(w, seconds, err);
}
