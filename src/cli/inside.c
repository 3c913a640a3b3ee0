#include "cli/inside.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "base/io.h"
#include "base/util.h"

uint32_t inside_job(void)
{
	const char *env = getenv("SLURM_JOB_ID");
	cleanup_free char *comm = NULL;
	unsigned long id;
	char *end;

	if (!env || *env < '1' || *env > '9')
		return 0;
	id = strtoul(env, &end, 10);
	if (*end || id > UINT32_MAX || read_file_at(AT_FDCWD, "/proc/1/comm", 64, &comm) < 0 ||
	    strcmp(comm, "fsched-init\n") != 0)
		return 0;
	return (uint32_t)id;
}
