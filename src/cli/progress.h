/* What is going on, on one line of a terminal that is written over; nothing at all when standard error is no terminal.
 */
#ifndef FSCHED_CLI_PROGRESS_H
#define FSCHED_CLI_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

struct progress {
	bool on;
	bool drawn;
	char label[48]; /* "job 12" */
	char doing[240];
	int64_t began; /* now_us() */
};

void progress_start(struct progress *p, const char *label, bool quiet);
/* Sets what is shown and draws. */
void progress_doing(struct progress *p, const char *doing);
/* Draws again, for the running clock. */
void progress_tick(struct progress *p);
/* Takes the line away; to be called before anything else is printed. */
void progress_end(struct progress *p);

/* What to show for a phase of the agent; NULL for those that say nothing. */
const char *progress_phase(const char *name);

#endif
