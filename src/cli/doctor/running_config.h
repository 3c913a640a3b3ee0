/* The configuration of the running slurmctld, as `scontrol show config` prints it: the API has other names for some
 * keys in each release of Slurm. */
#ifndef FSCHED_CLI_DOCTOR_RUNNING_CONFIG_H
#define FSCHED_CLI_DOCTOR_RUNNING_CONFIG_H

#include "base/err.h"

/* Runs scontrol. The caller frees the text. NULL with err: there is no answer. */
char *running_config_load(struct err *err);
/* The value of a key in it. The caller frees; NULL: there is none. */
char *running_config_value(const char *config, const char *key);

#endif
