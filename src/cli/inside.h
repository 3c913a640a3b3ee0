/* Whether this process runs in the pod of a job. */
#ifndef FSCHED_CLI_INSIDE_H
#define FSCHED_CLI_INSIDE_H

#include <stdint.h>

/* The id of the job in whose pod this process runs, 0 = in none. A process of a job's step that Slurm's own srun has
 * started runs outside of the pod. */
uint32_t inside_job(void);

#endif
