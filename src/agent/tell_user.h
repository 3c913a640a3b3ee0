/* What the job's user has to know and would not look for: a line in the job's error file. */
#ifndef FSCHED_AGENT_TELL_USER_H
#define FSCHED_AGENT_TELL_USER_H

#include <stdbool.h>
#include "agent/job.h"
#include "agent/proc.h"

struct tell_user {
	struct job *job;
	struct proc proc;
	unsigned failed; /* periodic checkpoints since the last that was made */
	bool said;       /* that they fail */
	char text[1000]; /* the line that proc writes */
};

/* A periodic checkpoint cannot be made, because of why. The user is told once per start of the job. */
void tell_user_unprotected(struct tell_user *t, const char *why);
/* A checkpoint was made. */
void tell_user_protected(struct tell_user *t);

#endif
