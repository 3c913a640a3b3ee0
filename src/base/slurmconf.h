/* Reads single values from slurm.conf that Slurm's public API does not provide. */
#ifndef FSCHED_BASE_SLURMCONF_H
#define FSCHED_BASE_SLURMCONF_H

#include <stddef.h>

/* $SLURM_CONF, else the first of /etc/slurm/slurm.conf and /run/slurm/conf/slurm.conf that exists; NULL if none does.
 * After rpc_init() this also names the copy that a configless client has got from slurmctld. */
const char *slurmconf_path(void);

/* The last value of a key in the file and the files that it includes. The caller frees; NULL: there is none. */
char *slurmconf_value(const char *path, const char *key);

/* Calls fn with each value of a key that may be there several times, in their order. */
void slurmconf_each(const char *path, const char *key, void (*fn)(const char *value, void *arg), void *arg);

/* The value of "name=" in a comma list such as AuthInfo. The caller frees; NULL: there is none. */
char *slurmconf_option(const char *list, const char *name);

/* Whether name is an element of a comma list. Case is significant. */
int slurmconf_has(const char *list, const char *name);

/* The socket of MUNGE: MungeSocket of fsched.conf (conf_socket), else that of AuthInfo in slurm.conf, else "" (MUNGE's
 * default). The caller frees.
 */
char *slurmconf_munge_socket(const char *conf_socket);

#endif
