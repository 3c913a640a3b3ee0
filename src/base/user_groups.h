/* The groups of a user, as the node knows them. */
#ifndef FSCHED_BASE_USER_GROUPS_H
#define FSCHED_BASE_USER_GROUPS_H

#include <sys/types.h>

/* Sets *groups to the groups of the user, among them gid, owned by the caller. Returns how many. */
int user_groups(const char *name, gid_t gid, gid_t **groups);

#endif
