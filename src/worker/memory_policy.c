/* Memory policies (numa(7)) as /proc/PID/numa_maps shows them, such as "interleave=static:0-1,4". */
#include "worker/worker.h"

#include <ctype.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/io.h"
#include "base/proc.h"
#include "base/util.h"

#define NODES_MAX 64
#define STATIC    (1L << 15) /* MPOL_F_STATIC_NODES */
#define RELATIVE  (1L << 14) /* MPOL_F_RELATIVE_NODES */
#define ONLINE    "/sys/devices/system/node/online"

/* By their numbers, the modes of set_mempolicy(2). */
static const char *const modes[] = {
	"default", "prefer", "bind", "interleave", "local", "prefer (many)", "weighted interleave"
};

/* The mode at the beginning of the text; 0 = the default, or one that is not known. */
static size_t memory_policy_mode(const char *text, size_t *len)
{
	size_t found = 0;

	*len = strcspn(text, ":= \n");
	for (size_t i = 1; i < ARRAY_SIZE(modes); i++) {
		const size_t n = strlen(modes[i]);

		/* "prefer (many)" begins like "prefer". */
		if (!strncmp(text, modes[i], n) && n >= *len) {
			found = i;
			*len = n;
		}
	}
	return found;
}

void memory_policy_of_line(const char *line, char policy[MEMORY_POLICY_TEXT])
{
	const char *p = strchr(line, ' ');
	size_t n;

	snprintf(policy, MEMORY_POLICY_TEXT, "%s", MEMORY_POLICY_NONE);
	if (!p || !memory_policy_mode(++p, &n))
		return;
	n += strcspn(p + n, " \n");
	snprintf(policy, MEMORY_POLICY_TEXT, "%.*s", (int)n, p);
}

/* The kernel fills a longer read with more lines, and walks the page tables of each mapping for that. */
bool memory_policy_of_thread(pid_t tid, char policy[MEMORY_POLICY_TEXT])
{
	cleanup_close int fd = open_proc(tid, "numa_maps", O_RDONLY);
	char text[2 * MEMORY_POLICY_TEXT];
	ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);

	if (n <= 0)
		return false;
	text[n] = '\0';
	memory_policy_of_line(text, policy);
	return true;
}

/* A list of nodes: "0-1,4". */
static unsigned long memory_policy_nodes(const char *p)
{
	unsigned long nodes = 0;
	unsigned from, to;
	int n;

	for (; isdigit((unsigned char)*p); p += *p == ',') {
		if (sscanf(p, "%u%n", &from, &n) != 1)
			break;
		p += n;
		to = from;
		if (*p == '-' && sscanf(p, "-%u%n", &to, &n) == 1)
			p += n;
		for (; from <= to && from < NODES_MAX; from++)
			nodes |= 1ul << from;
	}
	return nodes;
}

unsigned long memory_policy_online(void)
{
	char text[256];
	cleanup_close int fd = open(ONLINE, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);

	if (n <= 0)
		return 1;
	text[n] = '\0';
	return memory_policy_nodes(text);
}

bool memory_policy_here(const char *text, long *mode, unsigned long *nodes)
{
	const char *list = strchr(text, ':');
	size_t len;

	*mode = (long)memory_policy_mode(text, &len);
	*nodes = list ? memory_policy_nodes(list + 1) : 0;
	if (!*mode)
		return !strcmp(text, MEMORY_POLICY_NONE);
	if (text[len] == '=')
		*mode |= strstr(text, "static") ? STATIC : RELATIVE;
	if (*nodes == (*nodes & memory_policy_online()) && (*nodes || !strcmp(text, "local")))
		return true;
	*mode = 0;
	*nodes = 0;
	return false;
}
