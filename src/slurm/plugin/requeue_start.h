/* Starts fsched-requeue (fsched_requeue.c) from slurmctld. */
#ifndef FSCHED_SLURM_PLUGIN_REQUEUE_START_H
#define FSCHED_SLURM_PLUGIN_REQUEUE_START_H

/* Called when the plugin is loaded. A failure is only logged: jobs can be submitted without the program. */
void requeue_start(void);
/* Makes it exit, by closing the pipe. */
void requeue_stop(void);

#endif
