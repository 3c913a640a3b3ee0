#include "policy/reason.h"

#include <string.h>

#include "base/util.h"

/* The first row whose words the text contains decides, so particular rows stand before general ones. */
static const struct reason {
	const char *word, *needle;
	/* clang-format off */
} reasons[] = {
	/* the node, and what is set there */
	{ "switched_off",    "switched off on this node" },
	{ "space",           "not enough space in" },
	{ "space",           "No space left on device" },
	{ "space",           "a disk is full" },
	{ "space",           "CheckpointJobLimit" },
	{ "space",           "CheckpointFileLimit" },
	{ "quota",           "CheckpointMaxBytes" },
	{ "quota",           "quota" },
	{ "writers",         "CheckpointMaxWriters" },
	{ "freeze_timeout",  "CheckpointFreezeTimeout" },
	{ "timeout",         "CheckpointTimeout" },
	{ "timeout",         "Timeout reached" },
	{ "munge",           "MUNGE" },
	{ "memory",          "Cannot allocate memory" },
	{ "memory",          "memory is short" },
	{ "limit",           "limit of processes" },
	{ "limit",           "Resource temporarily unavailable" },
	{ "limit",           "Too many open files" },
	{ "limit",           "descriptors open that its limit allows" },
	{ "worker_died",     "worker was killed" },
	{ "worker_died",     "worker ended" },
	{ "worker_died",     "fsched-worker cannot be run" },
	{ "criu_died",       "criu was killed" },
	{ "criu_died",       "criu ended" },
	{ "storage",         "Input/output error" },
	{ "storage",         "Read-only file system" },
	{ "storage",         "Stale file handle" },
	{ "storage",         "file system does not answer" },
	{ "storage",         "not as it was written" },

	/* the job */
	{ "request",         "cannot checkpoint itself" },
	{ "leader_lost",     "fsched-leader" },
	{ "tcp",             "TCP" },
	{ "unix_socket",     "Unix socket" },
	{ "terminal",        "terminal" },
	{ "terminal",        "/dev/tty" },
	{ "io_uring",        "io_uring" },
	{ "traced",          "traced" },
	{ "device",          "has the device" },
	{ "namespace",       "namespace" },
	{ "sandbox",         "Landlock" },
	{ "credentials",     "another user than the job" },
	{ "credentials",     "another group than the job" },
	{ "credentials",     "has capabilities" },
	{ "slurm_step",      "Slurm's own srun" },
	{ "file",            "the job's files" },
	{ "file",            "file" },
	{ "descriptor",      "descriptor" },
	{ "mapping",         "mapping" },
	{ "process",         "which cannot be checkpointed" },
};
/* clang-format on */

const char *reason_of(const char *text)
{
	for (size_t i = 0; i < ARRAY_SIZE(reasons); i++)
		if (strstr(text, reasons[i].needle))
			return reasons[i].word;
	return "other";
}

/* Rows of one word stand together. */
const char *reason_word(size_t i)
{
	for (size_t row = 0; row < ARRAY_SIZE(reasons); row++)
		if ((row == 0 || strcmp(reasons[row].word, reasons[row - 1].word)) && i-- == 0)
			return reasons[row].word;
	return i == 0 ? "other" : NULL;
}
