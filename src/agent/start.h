/* From the first event to the decision: run the script, restore, or hold.
 *
 * Two things must not happen: a vacated job starts over silently, and a job is kept from running because it could not
 * be checkpointed. So a job that starts for the first time runs even if its directory cannot be made: the error is
 * recorded and shown, and each checkpoint that falls due tries again. A job that starts again and whose record cannot
 * be read is held. */
#ifndef FSCHED_AGENT_START_H
#define FSCHED_AGENT_START_H

#include "agent/agent.h"

/* Decides, once the pod is up and the script's process waits at the gate. */
void start_check(struct agent *a);
/* The job's lease is ours, or cannot be had because the job's directory cannot be used here. */
void start_with_lease(struct agent *a);
void start_without_lease(struct agent *a, const char *why);
/* Runs the script from the beginning. */
void start_fresh(struct agent *a);
/* The answer of the process at the gate, see gate.h. */
void start_output_kept(struct agent *a, bool ok, const char *what);
/* The script runs, new or restored: begins everything that serves it. */
void start_service(struct agent *a);
/* The job runs without protection because of err; shown in its status once it runs. */
void start_unprotected(struct agent *a, const struct err *err);

#endif
