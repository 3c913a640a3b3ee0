/* Starts fsched-requeue beside slurmctld (see fsched_requeue.c). */
#ifndef FSCHED_SLURM_PLUGIN_REQUEUE_START_H
#define FSCHED_SLURM_PLUGIN_REQUEUE_START_H

/* Once per load of the plugin. What fails is logged by slurmctld; submitting works without. */
void requeue_start(void);
/* It ends within moments. */
void requeue_stop(void);

#endif
