/* Names that differ between the headers of Slurm 22.05 to 26.05. */
#ifndef FSCHED_SLURM_COMPAT_H
#define FSCHED_SLURM_COMPAT_H

#include <slurm/slurm.h>

#if SLURM_VERSION_NUMBER >= SLURM_VERSION_NUM(25, 11, 0)
#define RECORD_ID(r) ((r)->step_id.job_id)
#else
#define RECORD_ID(r) ((r)->job_id)
#endif
#if SLURM_VERSION_NUMBER >= SLURM_VERSION_NUM(26, 5, 0)
#define slurm_free_ctl_conf slurm_free_conf
#endif
#ifndef NODE_STATE_DRAIN
#define NODE_STATE_DRAIN 0
#endif

#endif
