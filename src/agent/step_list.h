/* What the launchers say of the job's steps (base/step_file.h), taken into the job's directory and into its Checkpoint
 * entry. The file is looked at 5 s after a file of the pod's /dev/shm has been written, and at the end; nothing is done
 * while nothing is written. */
#ifndef FSCHED_AGENT_STEP_LIST_H
#define FSCHED_AGENT_STEP_LIST_H

#include <sys/types.h>
#include "agent/job.h"
#include "agent/loop.h"
#include "base/step_file.h"

struct step_list {
	struct job *job;
	int shm;                   /* /dev/shm of the pod; -1 = there is no pod */
	int events;                /* inotify; -1 = there is none, and the file is looked at in the end only */
	struct loop_source source; /* fd -1 before the first use */
	struct loop_timer pause;
	struct step_file_header seen; /* at the last look */
};

/* The pod whose pid 1 is init (host pid) is the job from now on, and its file, or that there is none, is what holds. */
void step_list_start(struct step_list *l, pid_t init);
/* Call it when the pod is dead and before the lease is given back: looks once more. */
void step_list_stop(struct step_list *l);

#endif
