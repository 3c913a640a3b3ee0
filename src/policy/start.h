/* What the agent does with a job that waits at the gate: run the script from
 * its beginning, restore an epoch, or hold the job. One table, in start.c.
 *
 * A vacated job, and one that a person asked to restore from a certain epoch,
 * is restored from exactly that epoch or held: it never starts over silently
 * and never silently from something else. A job whose node died takes the
 * newest epoch that can be restored, and starts over if none can. */
#ifndef FSCHED_POLICY_START_H
#define FSCHED_POLICY_START_H

#include <stdbool.h>
#include "store/store.h"

#define START_LATEST 0xffffffffu   /* whichever epoch is the newest */

enum start_action { START_FRESH, START_RESTORE, START_HOLD };

struct start_input {
	bool     have_record;        /* job.json is there and its uuid is this job's */
	enum intent intent;          /* of the record */
	unsigned restart_count;      /* Slurm's, of this start */
	const unsigned *epochs;      /* complete epochs of the record's run, ascending */
	unsigned n_epochs;
	unsigned requested;          /* epoch that a person asked for, START_LATEST, 0 = none */
};

struct start_plan {
	enum start_action action;
	/* START_FRESH: the record's run number must grow by one (there was a run before). */
	bool     new_run;
	/* START_RESTORE: what to try, in this order, and what to do when all have failed. */
	unsigned epochs[STORE_KEPT_MAX];
	unsigned n_epochs;
	enum start_action otherwise; /* START_HOLD or START_FRESH (then with a new run) */
	char     reason[160];        /* a sentence for the log; of START_HOLD for the user too */
};

void start_decide(const struct start_input *in, struct start_plan *plan);

#endif
