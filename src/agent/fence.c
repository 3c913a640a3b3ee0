/* The job may run somewhere else from now on: whatever runs here ends at once, nothing more is written into its
 * directory, and Slurm is asked what has become of the job. If it has it on this node still (only the checkpoint
 * directory was away), it goes back into the queue, to be continued from its last epoch. */
#include "agent/agent.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "base/clock.h"
#include "pod/pod.h"

#define GRACE_US \
	3000000 /* for the lease's child to look again, after everything here had been stopped (scontrol suspend) */
#define LATE_US 1000000

/* Slurm stops an agent with its job. When both go on, the lease may have run out, but nobody else has the job for that:
 * the child renews it or learns better within moments. */
static bool just_continued(struct agent *a)
{
	sigset_t pending;

	if (a->lease.grace || now_us() - a->lease.until < LATE_US || sigpending(&pending) < 0 ||
	    !(sigismember(&pending, SIGCONT) == 1 || a->lease.continued > a->lease.until))
		return false;
	return true;
}

static void stop_everything(struct agent *a)
{
	a->phase = PHASE_HOLDING;
	a->store_ok = false; /* before anything below writes: the directory is another agent's */
	op_cancel(a, "the job may run on another node");
	sched_stop(a);
	notice_stop(a);
	requests_stop(a);
	written_stop(a);
	rpc_forget(&a->start.ask);
	move_stop(a);
}

void fence(struct agent *a, const char *why)
{
	char text[900];

	if (a->phase == PHASE_LEAVING || a->phase == PHASE_ENDING || a->phase == PHASE_HOLDING)
		return;
	if (!a->lease.taken && just_continued(a)) {
		a->lease.grace = true;
		lease_extend(a, GRACE_US);
		return;
	}
	snprintf(text, sizeof(text), "stopped on node %s: %.500s", a->task.node, why);
	if (a->lease.taken)
		job_log(a, "%s", text); /* the directory answers */
	else
		log_error("%s", text);
	if (a->phase == PHASE_RESTORING)
		restore_abort(a);
	stop_everything(a);
	if (a->pod.init && pod_kill(a->pod.init, 2000, NULL) < 0)
		log_error("the job's processes do not die (waiting for a file system?); they do not run either");
	else
		lease_end(a);
	if (!a->lease.elsewhere) {
		return_begin(a, RETURN_REQUEUE, text);
		return;
	}
	/* Nothing to be asked: slurmctld, which may be out of reach, takes no end of the job from a node where it does
	 * not run. A slurmstepd that lived on would write into the job's output when it is found out. */
	gate_answer(a, "exit");
	pod_release(a);
	a->end.term = true;
	end_leave(a);
}
