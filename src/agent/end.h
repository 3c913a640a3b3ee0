/* How the job ends on this node, and with it the agent:
 *
 *   the script ends           -> exit as it did
 *   vacated or held           -> wait for Slurm's SIGTERM, exit 0 (Slurm has the job already)
 *   fsched-init dies          -> the job has failed
 *   Slurm ends the job        -> the script gets the SIGTERM itself; the agent finds out why, for the next start
 */
#ifndef FSCHED_AGENT_END_H
#define FSCHED_AGENT_END_H

#include "agent/agent.h"

/* The agent has got sig. */
void end_signal(struct agent *a, int sig);
/* The script has ended; its wait status. */
void end_script(struct agent *a, int wait_status);
/* fsched-init has ended before its script. */
void end_pod_died(struct agent *a, int wait_status);
/* The job does not run again: it ends as its script ended in the run before. */
void end_as_before(struct agent *a);
/* The script cannot be started, because of why. */
void end_unstarted(struct agent *a, const char *why);
/* Slurm has ended the job before it ran. */
void end_given_up(struct agent *a);
/* Requests can be made no more. */
void end_requests(struct agent *a);
/* Stops the job here, because of why, and gives it back to Slurm. */
void end_requeue(struct agent *a, enum requeue_mode mode, const char *why);
/* Slurm has the job: the pod goes, then the agent. */
void end_given_back(struct agent *a);
/* Slurm has the job, and the pod has gone or is about to. */
void end_leave(struct agent *a);
/* Ends the loop if nothing is left to do. Call it after each event. */
void end_check(struct agent *a);
/* After the loop. */
void end_finish(struct agent *a);
/* Ends the process as the script did: with its exit status, or by the same signal but without a core file. */
_Noreturn void end_process(int wait_status);

#endif
