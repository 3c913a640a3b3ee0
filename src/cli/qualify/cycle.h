/* One cycle of a run: the job is saved, leaves its node or fails, and is restored. */
#ifndef FSCHED_CLI_QUALIFY_CYCLE_H
#define FSCHED_CLI_QUALIFY_CYCLE_H

#include "cli/qualify/job.h"
#include "cli/qualify/session.h"

/* For how long the job has run, counting what it did twice once. */
struct cycle_clock {
	int64_t before; /* us, until the last restore */
	int64_t since;  /* now_us() of the last restore or start; 0 = it does not run */
};
int64_t cycle_run_time(const struct cycle_clock *k);

/* Makes the cycle now. failure: by create and a failure after another after_us of run time, else by vacate. other_node:
 * the restart is to be on another node if there is one. Fills *c; c->done says whether all went well. After that the
 * job runs again, or it is over. */
void cycle_make(struct session *s, struct qualify_job *j, struct qualify_cycle *c, struct cycle_clock *k, bool failure,
		int64_t after_us, bool other_node);

/* Resumes the node that the session has set DOWN, if there is one and it is still so. 0, or -1 with err. */
int cycle_resume_node(struct session *s, struct err *err);

#endif
