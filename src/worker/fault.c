/* Faults on purpose, for tests: FSCHED_FAULT=NAME[,NAME]… in the environment of `fsched pod`. Under Slurm, where checkpoints are signed,
 * nothing looks at it. This is the list. */
#include "worker/worker.h"

#include <signal.h>
#include <string.h>

#include "common/util.h"

static const char *const names[] = {
	[FAULT_FORCE_DIRECT] = "force-direct",             /* every process is written directly */
	[FAULT_FORCE_STAGED] = "force-staged",             /* ... copied */
	[FAULT_FORCE_FORK] = "force-fork",                 /* ... forked */
	[FAULT_SNAPSHOT_FAILS] = "snapshot-fails",         /* in the freeze, before anything was done: criu's turn */
	[FAULT_FILL_FAILS] = "fill-fails",                 /* in a restore: criu restores plain images */
	[FAULT_DIE_BEFORE_SNAPSHOT] = "die-before-snapshot", /* the worker is killed: criu has dumped, the tree is stopped */
	[FAULT_DIE_AFTER_SNAPSHOT] = "die-after-snapshot", /* children of forks are there, the tree is stopped */
	[FAULT_DIE_IN_DRAIN] = "die-in-drain",             /* the job runs, the image is about to be written */
	[FAULT_DIE_BEFORE_COMMIT] = "die-before-commit",   /* everything is written */
	[FAULT_DIE_IN_FILL] = "die-in-fill",               /* in a restore: criu waits, the memory is incomplete */
};

bool fault(const struct worker *w, enum fault f)
{
	const char *p = w->req.sign ? NULL : secure_getenv("FSCHED_FAULT");
	size_t len = strlen(names[f]);

	for (; p && *p; p += strcspn(p, ","), p += *p == ',')
		if (strcspn(p, ",") == len && !strncmp(p, names[f], len))
			return true;
	return false;
}

void fault_die(const struct worker *w, enum fault f)
{
	if (fault(w, f))
		raise(SIGKILL);
}
