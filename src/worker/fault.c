/* Faults on purpose, for tests: FSCHED_FAULT=NAME[,NAME]… in the environment of `fsched pod`. Under Slurm, where checkpoints are signed,
 * nothing looks at it. This is the list. */
#include "worker/worker.h"

#include <signal.h>
#include <string.h>

#include "common/util.h"
#include "pod/pod.h"

static const char *const names[] = {
	[FAULT_FORCE_DIRECT] = "force-direct",             /* every process is written directly */
	[FAULT_FORCE_STAGED] = "force-staged",             /* ... copied */
	[FAULT_FORCE_FORK] = "force-fork",                 /* ... forked */
	[FAULT_NO_ELISION] = "no-elision",                 /* criu writes the memory although it is not to, and says nothing */
	[FAULT_SNAPSHOT_FAILS] = "snapshot-fails",         /* in the freeze, before anything was done: criu's turn */
	[FAULT_SHARED_FAILS] = "shared-fails",             /* ... when shared memory is about to be copied: that is left to criu */
	[FAULT_FILL_FAILS] = "fill-fails",                 /* in a restore: criu restores plain images */
	[FAULT_DIE_BEFORE_SNAPSHOT] = "die-before-snapshot", /* the worker is killed: criu has dumped, the tree is stopped */
	[FAULT_DIE_AFTER_SNAPSHOT] = "die-after-snapshot", /* children of forks are there, the tree is stopped */
	[FAULT_CRIU_DIES_BEFORE_SNAPSHOT] = "criu-dies-before-snapshot", /* it has dumped: the job runs, what is read is torn */
	[FAULT_CRIU_DIES_AFTER_SNAPSHOT] = "criu-dies-after-snapshot",
	[FAULT_DIE_IN_DRAIN] = "die-in-drain",             /* the job runs, the image is about to be written */
	[FAULT_DIE_BEFORE_COMMIT] = "die-before-commit",   /* everything is written */
	[FAULT_DIE_IN_RESTORE] = "die-in-restore",         /* criu has just begun */
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

/* Whatever is in the pod and not of the job. */
void fault_criu_dies(const struct worker *w, enum fault f)
{
	cleanup_free pid_t *pids = NULL;
	struct tree t;
	int n;

	if (!fault(w, f) || tree_read(w->req.init, &t, NULL))
		return;
	n = pod_pids(w->req.init, &pids, NULL);
	for (int i = 0; i < n; i++) {
		bool jobs = false;

		for (int k = 0; k < t.n; k++)
			jobs |= t.pids[k] == pids[i];
		if (!jobs)
			kill(pids[i], SIGKILL);
	}
	tree_free(&t);
	usleep(100000); /* until it is gone */
}

void fault_die(const struct worker *w, enum fault f)
{
	if (fault(w, f))
		raise(SIGKILL);
}
