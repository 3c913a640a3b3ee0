/* The values of -i, -o and -e. */
#ifndef FSCHED_LAUNCH_PATTERN_H
#define FSCHED_LAUNCH_PATTERN_H

#include <stdbool.h>

enum stream_kind {
	STREAM_ALL,  /* all tasks share the launcher's own descriptor, or the file name if it is not NULL */
	STREAM_ONE,  /* one task has the launcher's own descriptor, all others /dev/null */
	STREAM_EACH, /* each task opens a file of its own: name has %t, %n, %N or %u left, or is /dev/null */
};

struct stream {
	enum stream_kind kind;
	int task;   /* STREAM_ONE */
	char *name; /* owned; NULL */
};

struct pattern_job {
	const char *job_id, *job_name, *array_job_id, *array_task_id; /* texts of the environment, or NULL */
	int step_id;
	const char *sluid; /* SLURM_JOB_SLUID, or NULL */
	bool since_25_11;  /* as srun of Slurm 25.11 and later does it: there are %b, %r and %S, and "%%" is expanded at
			      once */
};

struct pattern_task {
	int task, node;
	const char *node_name; /* the host's; since 25.11 the node's in Slurm */
	const char *user;
};

/* Parses the value of an option (NULL: it was not given) and expands what is the same for all tasks. */
void stream_parse(struct stream *s, const char *format, int ntasks, const struct pattern_job *job);
/* The file of one task of a STREAM_EACH. The caller frees. */
char *stream_file(const struct stream *s, const struct pattern_task *task);
void stream_free(struct stream *s);

#endif
