/* Slurm's own srun, which the pod has in another place. */
#ifndef FSCHED_LAUNCH_REAL_H
#define FSCHED_LAUNCH_REAL_H

/* Executes Slurm's srun in place of this program. Ends the program with a message if there is none. */
_Noreturn void real_exec(char **argv);

/* A file that is installed beside the launcher; NULL if the place is not known. In a pod the path of the launcher is
 * that of Slurm's srun. The caller frees. */
char *launcher_file(const char *name);

#endif
