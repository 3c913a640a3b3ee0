/* Progress of an operation, on one line of the terminal that is overwritten each time. Nothing is printed when standard
 * error is no terminal.
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
/* Sets the text and draws the line. */
void progress_doing(struct progress *p, const char *doing);
/* Draws the line again with the time that has passed. */
void progress_tick(struct progress *p);
/* Erases the line. To be called before anything else is printed. */
void progress_end(struct progress *p);

/* The text for a phase of the agent or worker; NULL: the phase is not shown. */
const char *progress_phase(const char *name);

#endif
