/* MUNGE credentials on the client's side. */
#ifndef FSCHED_CLI_USER_CRED_H
#define FSCHED_CLI_USER_CRED_H

#include <sys/types.h>
#include "base/err.h"

/* A credential with the text as payload that only uid `reader' can open. The caller's, or NULL. socket "" = default. */
char *cred_encode(const char *socket, const char *payload, uid_t reader, struct err *err);
/* Opens a credential and tells who made it. The payload is the caller's, or NULL. */
char *cred_decode(const char *socket, const char *cred, uid_t *maker, struct err *err);

#endif
