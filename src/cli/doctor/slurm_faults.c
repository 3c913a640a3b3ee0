#include "cli/doctor/slurm_faults.h"

#include <stddef.h>
#include <stdio.h>

#include "base/util.h"

#define REQUEUE "slurmctld can crash when a job is requeued that is still completing"
#define SPANK   "slurmstepd can write beyond a buffer for variables of SPANK options"

const char *slurm_faults(const char *version)
{
	static const struct {
		unsigned major, minor, micro; /* the first release without */
		const char *text;
	} list[] = {
		{ 25, 5, 9, REQUEUE ", and " SPANK "; update Slurm to 25.05.9" },
		{ 25, 11, 8, REQUEUE ", and " SPANK "; update Slurm to 25.11.8" },
		{ 26, 5, 4, REQUEUE "; update Slurm to 26.05.4" },
	};
	unsigned major, minor, micro;

	if (sscanf(version, "%u.%u.%u", &major, &minor, &micro) != 3)
		return NULL;
	for (size_t i = 0; i < ARRAY_SIZE(list); i++)
		if (list[i].major == major && list[i].minor == minor && micro < list[i].micro)
			return list[i].text;
	return NULL;
}
