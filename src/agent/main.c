/* fsched-agent --task FD: supervises one checkpoint-enabled job as the pid that slurmstepd takes for the job's script.
 */
#include "agent/agent.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/end.h"
#include "base/log.h"

static int agent_usage(void)
{
	fprintf(stderr, "fsched-agent is started by fsched's SPANK plugin only: fsched-agent --task FD\n");
	return 2;
}

int main(int argc, char **argv)
{
	static struct agent a; /* zeroed, and too large for a stack */
	struct err err;
	char *end;
	long fd;

	if (argc == 2 && strcmp(argv[1], "--version") == 0) {
		puts("fsched-agent " FSCHED_VERSION);
		return 0;
	}
	if (argc != 3 || strcmp(argv[1], "--task") != 0)
		return agent_usage();
	fd = strtol(argv[2], &end, 10);
	if (end == argv[2] || *end || fd < 3 || fd > 65535)
		return agent_usage();
	if (geteuid() != 0) {
		fprintf(stderr, "fsched-agent must run as root\n");
		return 1;
	}
	if (agent_begin(&a, (int)fd, &err) < 0) {
		/* The gate closes with this process: the job fails, and its output refers to this line. */
		log_error("the job cannot be started: %s", err.text);
		return 1;
	}
	loop_run(&a.loop);
	if (!a.loop.quit)
		a.end.status = 1 << 8; /* the loop has failed */
	end_finish(&a);
	end_process(a.end.status);
}
