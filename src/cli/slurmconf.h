/* Single values of slurm.conf, for what Slurm's public API does not tell. */
#ifndef FSCHED_CLI_SLURMCONF_H
#define FSCHED_CLI_SLURMCONF_H

#include <stddef.h>

/* $SLURM_CONF, else the first of /etc/slurm/slurm.conf and /run/slurm/conf/slurm.conf that exists; NULL if none does.
 * After rpc_init() this also names the copy that a configless client has got from slurmctld. */
const char *slurmconf_path(void);

/* The last value of a key in the file and those it includes. The caller's, or NULL. */
char *slurmconf_value(const char *path, const char *key);

/* Value of "name=" in a comma list such as AuthInfo. The caller's, or NULL. */
char *slurmconf_option(const char *list, const char *name);

/* Is name one of a comma list? Case counts. */
int slurmconf_has(const char *list, const char *name);

/* MUNGE's socket: MungeSocket of fsched.conf (conf_socket), else of AuthInfo in slurm.conf, else "" (MUNGE's default).
 */
char *slurmconf_munge_socket(const char *conf_socket);

#endif
