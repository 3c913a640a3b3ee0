/* Answers each line "JOBID" on stdin with what `scontrol -o show job JOBID` prints, and a line "." after it; nothing
 * for an unknown job. Tests look at a job ten times a second, and to start scontrol costs many times what the question
 * costs. */
#include <slurm/slurm.h>
#include <stdio.h>
#include <stdlib.h>

int main(void)
{
	char line[32];

	slurm_init(NULL);
	while (fgets(line, sizeof(line), stdin)) {
		job_info_msg_t *jobs = NULL;

		if (slurm_load_job(&jobs, (uint32_t)strtoul(line, NULL, 10), SHOW_ALL) == 0) {
			for (uint32_t i = 0; i < jobs->record_count; i++)
				slurm_print_job_info(stdout, &jobs->job_array[i], 1);
			slurm_free_job_info_msg(jobs);
		}
		puts(".");
		fflush(stdout);
	}
	return 0;
}
