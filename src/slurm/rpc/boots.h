/* When each node was booted, and whether a node has a job.
 *
 * A node that registers after a boot has lost its jobs. slurmctld notices that at once only for jobs that are some 20
 * seconds old, counted from its own start if that is later, and else when the node registers again: after some seven
 * times SlurmdTimeout, half an hour by default. */
#ifndef FSCHED_SLURM_RPC_BOOTS_H
#define FSCHED_SLURM_RPC_BOOTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>
#include <slurm/slurm.h>

struct boots {
	struct boot {
		char *name;
		time_t at;
	} * v; /* owned, ascending by name */
	size_t n;
};

/* Replaces what b knows. Nodes that are down, or of which slurmctld does not know the boot, are left out. */
void boots_set(struct boots *b, const node_info_msg_t *msg);
void boots_free(struct boots *b);
/* The Unix time, exact to a few seconds; 0 = not known. */
time_t boots_of(const struct boots *b, const char *node);

enum boots_answer { BOOTS_HAS_JOB, BOOTS_LACKS_JOB, BOOTS_NO_ANSWER };
/* Asks the node's slurmd whether it has the job. Blocks for MessageTimeout at most. For root and SlurmUser. */
enum boots_answer boots_ask(const char *node, uint32_t job_id);

#endif
