/* The checks of `fsched doctor`, each in the file of its subject. Each reports its findings by doctor_report(). root:
 * the caller is root; checks that need it are skipped otherwise. */
#ifndef FSCHED_CLI_DOCTOR_DOCTOR_H
#define FSCHED_CLI_DOCTOR_DOCTOR_H

#include <stdbool.h>
#include "base/conf.h"

void doctor_criu(const struct conf *c, bool root);
void doctor_kernel(bool root);
void doctor_munge(const struct conf *c);
void doctor_clock(void);
void doctor_network(const struct conf *c, bool root);
void doctor_slurm(const struct conf *c, bool root);
void doctor_store(const struct conf *c, bool root);
void doctor_pod_dir(const struct conf *c, bool root);
void doctor_tmp(const struct conf *c, bool root);

#endif
