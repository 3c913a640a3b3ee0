/* Slurm's own srun, which the pod has in another place. */
#ifndef FSCHED_LAUNCH_REAL_H
#define FSCHED_LAUNCH_REAL_H

/* Executes Slurm's srun in place of this program. Ends the program with a message if there is none. */
_Noreturn void real_exec(char **argv);

#endif
