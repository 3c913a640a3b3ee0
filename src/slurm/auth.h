/* Whether a host can serve jobs with checkpoints although Slurm itself does not use MUNGE there (AuthType = auth/slurm,
 * with which Slurm 26.05 and later can be installed without it). fsched authenticates requests and signs epochs by
 * MUNGE, whatever Slurm uses. */
#ifndef FSCHED_SLURM_AUTH_H
#define FSCHED_SLURM_AUTH_H

#include "base/err.h"

/* type: AuthType of slurm.conf, NULL = Slurm's default, which is MUNGE. socket: MungeSocket of fsched.conf, "" =
 * MUNGE's default. 0, or -1 with err: Slurm does not use MUNGE, and no munged listens on this host. With MUNGE as
 * AuthType nothing is tried: then Slurm itself would not work. */
int auth_check_munge(const char *type, const char *socket, struct err *err);

#endif
