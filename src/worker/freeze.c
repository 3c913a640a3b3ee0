/* How long the job may be frozen. criu's driver, which does nothing that could hang (criu/dump_driver.c), keeps the
 * limit. In case the driver itself hangs, a timer of the worker does. When one of them expires, criu is ended, and that
 * ends the freeze. */
#include "worker/worker.h"

#include "base/util.h"

#define COPY_RATE   (1ull << 30) /* bytes per second */
#define WRITE_RATE  (64ull << 20)
#define TIMER_DELAY 3  /* s by which the timer comes after the driver, whose message says more */
#define CRIU_START  20 /* s that criu may take before the freeze begins */

static unsigned within_timeout(const struct worker *w, uint64_t seconds)
{
	const unsigned most = conf_checkpoint_seconds(&w->conf);

	return seconds < most ? (unsigned)seconds : most;
}

unsigned freeze_limit(const struct worker *w, uint64_t copied, uint64_t written)
{
	/* Those that change after they were copied are written in the freeze; with as much again for what is added. */
	written += 2 * (w->files.open + w->files.tmp + w->files.shm);
	return within_timeout(w, w->conf.freeze_timeout + copied / COPY_RATE + written / WRITE_RATE);
}

int freeze_expected(const struct worker *w, unsigned seconds, struct err *err)
{
	return freeze_deadline(seconds + CRIU_START, w->conf.freeze_timeout, err);
}

int freeze_begins(const struct worker *w, unsigned seconds, struct err *err)
{
	return freeze_deadline(seconds + TIMER_DELAY, w->conf.freeze_timeout, err);
}

int freeze_allow(const struct worker *w, const struct criu_dump *d, unsigned seconds, struct err *err)
{
	criu_dump_allow(d, seconds);
	return freeze_begins(w, seconds, err);
}
