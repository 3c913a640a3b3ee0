/* Becoming another user for good. */
#ifndef FSCHED_BASE_USER_H
#define FSCHED_BASE_USER_H

#include <sys/types.h>

/* The calling process, which has one thread, gets the uid, gid and groups and, unless uid is 0, loses all capabilities.
 * It cannot come back and gains nothing by exec. Nobody but root may trace it. 0 or -1 with errno: it must not go on
 * then. */
int user_become(uid_t uid, gid_t gid, const gid_t *groups, int n_groups);

#endif
