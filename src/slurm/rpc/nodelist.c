#include "slurm/rpc/nodelist.h"

#include <string.h>
#include <slurm/slurm.h>

#include "base/util.h"

bool nodelist_has(const char *nodes, const char *node)
{
	struct hostlist *list = slurm_hostlist_create(nodes);
	int at = list ? slurm_hostlist_find(list, node) : -1;

	if (list)
		slurm_hostlist_destroy(list);
	return at >= 0;
}

char *nodelist_add(const char *nodes, const char *node)
{
	return *nodes ? xasprintf("%s,%s", nodes, node) : xstrdup(node);
}

char *nodelist_without(const char *nodes, const char *less)
{
	struct hostlist *list = slurm_hostlist_create(nodes), *minus = slurm_hostlist_create(less);
	char *name, *text = xstrdup("");

	while (list && minus && (name = slurm_hostlist_shift(list))) {
		if (slurm_hostlist_find(minus, name) < 0) {
			char *more = nodelist_add(text, name);

			free(text);
			text = more;
		}
		free(name);
	}
	if (list)
		slurm_hostlist_destroy(list);
	if (minus)
		slurm_hostlist_destroy(minus);
	return text;
}
