/* Room under a quota (CheckpointQuotaPrune): the job's own epochs older than its newest one are removed, the oldest
 * first, when a checkpoint was refused for a quota. None is removed if all of them would not be enough. */
#ifndef FSCHED_AGENT_MAKE_ROOM_H
#define FSCHED_AGENT_MAKE_ROOM_H

#include <stdbool.h>
#include <stdint.h>
#include "agent/job.h"
#include "agent/loop.h"

struct make_room {
	struct job *job;
	struct loop_timer timer;
	bool removing;
	/* Set by the owner, called with arg: what was to be removed is gone. */
	void (*done)(void *arg);
	void *arg;
};

/* bytes: by which the quota would be exceeded. False: nothing can be removed that would help. */
bool make_room_begin(struct make_room *m, uint64_t bytes);
void make_room_stop(struct make_room *m);

#endif
