/* Releases of Slurm. The launcher does what the srun of the release does for which it was built. */
#ifndef FSCHED_LAUNCH_RELEASE_H
#define FSCHED_LAUNCH_RELEASE_H

#include <stdbool.h>

/* As SLURM_VERSION_NUM() counts. */
#define RELEASE(year, month) ((year) << 16 | (month) << 8)

static inline bool release_since(int year, int month)
{
	return LAUNCH_SLURM_VERSION >= RELEASE(year, month);
}

#endif
