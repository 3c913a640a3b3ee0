/* Answers each line "JOBID" on stdin with what `scontrol -o show job JOBID` prints, and a line "." after it; nothing
 * for an unknown job. Tests look at a job ten times a second, and to start scontrol costs many times what the question
 * costs. The library can print a job up to Slurm 24.05 only. */
#include <slurm/slurm.h>
#include <slurm/slurm_version.h>
#include <stdio.h>
#include <stdlib.h>

static void print_job(uint32_t id)
{
#if SLURM_VERSION_NUMBER < SLURM_VERSION_NUM(24, 11, 0)
	job_info_msg_t *jobs = NULL;

	if (slurm_load_job(&jobs, id, SHOW_ALL))
		return;
	for (uint32_t i = 0; i < jobs->record_count; i++)
		slurm_print_job_info(stdout, &jobs->job_array[i], 1);
	slurm_free_job_info_msg(jobs);
#else
	char command[64];

	snprintf(command, sizeof(command), "scontrol -o show job %u 2>/dev/null", id);
	if (system(command) < 0)
		perror(command);
#endif
}

int main(void)
{
	char line[32];

	slurm_init(NULL);
	while (fgets(line, sizeof(line), stdin)) {
		print_job((uint32_t)strtoul(line, NULL, 10));
		puts(".");
		fflush(stdout);
	}
	return 0;
}
