#include "agent/fence.h"

#include <stdio.h>

#include "agent/end.h"
#include "base/log.h"
#include "base/clock.h"
#include "pod/pod.h"

static void fence_stop_everything(struct agent *a)
{
	agent_enter(a, PHASE_HOLDING);
	a->job.store_ok = false; /* before anything below writes: the directory is another agent's */
	checkpoint_cancel(&a->checkpoint, "the job may run on another node");
	hook_stop(&a->hook);
	sched_stop(&a->sched);
	notice_stop(&a->notice);
	end_requests(a);
	write_list_watch_stop(&a->write_list);
	step_list_stop(&a->step_list);
	rpc_forget(&a->start.ask);
	other_node_stop(&a->other_node);
}

void fence(struct agent *a, const char *why)
{
	char text[900];

	if (a->phase == PHASE_LEAVING || a->phase == PHASE_ENDING || a->phase == PHASE_HOLDING)
		return;
	if (lease_watch_grant_grace(&a->lease))
		return;
	snprintf(text, sizeof(text), "stopped on node %s: %.500s", a->job.task.node, why);
	if (a->lease.taken)
		job_log(&a->job, "%s", text); /* the directory answers */
	else
		log_error("%s", text);
	if (a->phase == PHASE_RESTORING)
		restore_abort(&a->restore);
	fence_stop_everything(a);
	if (a->pod.init && pod_kill(a->pod.init, 2000, NULL) < 0)
		log_error("the job's processes do not die (waiting for a file system?); they do not run either");
	else
		lease_watch_end(&a->lease);
	if (!a->lease.elsewhere) {
		end_requeue(a, REQUEUE_SOON, text);
		return;
	}
	/* Slurm is not asked: slurmctld, which may be out of reach, takes no end of the job from a node where the job
	 * does not run. The agent does not wait for SIGTERM either: a slurmstepd that lived on would write into the
	 * job's output when it is told that the job is not here. */
	a->end.term = true;
	end_given_back(a);
}
