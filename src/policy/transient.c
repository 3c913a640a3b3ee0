#include "policy/transient.h"

#include <string.h>

#include "base/util.h"

/* The first row that fits decides. */
static const struct {
	const char *part;
	bool passes;
} table[] = {
	/* the same words in a failure that stays */
	{ "External socket", false },
	/* a process ended while criu went over the tree */
	{ "No such process", true },
	{ "found while seizing", true },
	{ "Zombie thread", true },
	{ "Can't find task with pid", true },
	/* a connection that has not been accepted yet, data on its way between two sockets */
	{ "In-flight connection", true },
	{ "in-flight socket", true },
	{ "corked dgram", true },
	/* the tree was not stopped in time */
	{ "Unable to freeze", true },
	{ "Timeout reached", true },
	{ "Individually stopped threads", true },
	/* criu or the worker was killed: by the kernel for want of memory, by a person */
	{ "criu was killed", true },
	{ "criu ended without a message", true },
	{ "checkpoint worker was killed by signal", true },
	/* a daemon that is restarted, memory that others have just now */
	{ "MUNGE", true },
	{ "Cannot allocate memory", true },
	{ "Resource temporarily unavailable", true },
};

bool failure_passes(const char *text)
{
	for (size_t i = 0; i < ARRAY_SIZE(table); i++)
		if (strcasestr(text, table[i].part))
			return table[i].passes;
	return false;
}
