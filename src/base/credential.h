/* MUNGE credentials prove who sent or signed a text. Only this file uses libmunge.
 *
 * socket: the path of munged's socket, "" = MUNGE's default. Errors name the socket and what to check. */
#ifndef FSCHED_BASE_CREDENTIAL_H
#define FSCHED_BASE_CREDENTIAL_H

#include <sys/types.h>
#include "base/err.h"

#define CREDENTIAL_ANYBODY ((uid_t)-1) /* as reader: anybody may open the credential */

/* Encodes text as a credential of the caller that only uid reader can open. To be freed by the caller; NULL on error.
 */
char *credential_make(const char *socket, const char *text, uid_t reader, struct err *err);
/* Decodes a credential; *maker is the uid of its maker. Refuses a credential that has expired, comes from the future or
 * was decoded before on this host. Returns the text, which the caller frees; NULL with err after a failure. */
char *credential_open(const char *socket, const char *cred, uid_t *maker, struct err *err);
/* Checks a signature that was made long ago: cred must be a credential of root with exactly text as payload. Its age
 * does not matter, nor if it was decoded before. Returns 0 or -1 with err. */
int credential_check(const char *socket, const char *cred, const char *text, struct err *err);

#endif
