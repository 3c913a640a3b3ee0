#include "base/user_groups.h"

#include <grp.h>
#include <stddef.h>

#include "base/util.h"

#define GROUPS_MAX (1 << 18)

int user_groups(const char *name, gid_t gid, gid_t **groups)
{
	int room = 32, n;

	*groups = NULL;
	do {
		n = room;
		*groups = xrealloc(*groups, (size_t)room * sizeof(gid_t));
		room *= 2;
	} while (getgrouplist(name, gid, *groups, &n) < 0 && room < GROUPS_MAX);
	return n;
}
