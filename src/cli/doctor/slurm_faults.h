/* Faults of releases of Slurm that meet jobs with checkpoints. */
#ifndef FSCHED_CLI_DOCTOR_SLURM_FAULTS_H
#define FSCHED_CLI_DOCTOR_SLURM_FAULTS_H

/* What is wrong with a version, and which release of its series mends it; static. NULL: nothing is known. */
const char *slurm_faults(const char *version);

#endif
