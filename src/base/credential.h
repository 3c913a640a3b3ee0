/* MUNGE credentials: who sent or signed a text. The only place that knows libmunge.
 *
 * socket: that of munged, "" for MUNGE's default. Errors name the socket and what to look at. */
#ifndef FSCHED_BASE_CREDENTIAL_H
#define FSCHED_BASE_CREDENTIAL_H

#include <sys/types.h>
#include "base/err.h"

#define CREDENTIAL_ANYBODY ((uid_t)-1) /* as reader: whoever gets it may open it */

/* Encodes text as a credential of the caller that only uid reader can open. To be freed by the caller; NULL on error.
 */
char *credential_make(const char *socket, const char *text, uid_t reader, struct err *err);
/* Decodes a credential: *maker is the uid of its maker. Refuses one that has expired, comes from the future or was
 * decoded before on this host. Returns the text, to be freed by the caller; NULL on error. */
char *credential_open(const char *socket, const char *cred, uid_t *maker, struct err *err);
/* A signature that is read again long after it was made: whether cred was made by root over exactly text. Age and
 * repetition do not matter. */
int credential_check(const char *socket, const char *cred, const char *text, struct err *err);

#endif
