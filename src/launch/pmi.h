/* A server of PMI-1.1 and PMI-2 for the tasks of one step, from the public description of their wire protocol: a socket
 * for each task, requests of key=value words, answered in order. */
#ifndef FSCHED_LAUNCH_PMI_H
#define FSCHED_LAUNCH_PMI_H

#include <poll.h>
#include <stdbool.h>
#include "base/err.h"

struct pmi;

struct pmi *pmi_new(const char *job_id, int step, int ntasks, struct err *err);
void pmi_free(struct pmi *p);
/* The task's descriptor, in the launcher until pmi_forked(). */
int pmi_task_fd(const struct pmi *p, int task);
void pmi_forked(struct pmi *p, int task);
void pmi_prepare(const struct pmi *p, struct pollfd *polls);
/* True: a task has asked for the end of the step. */
bool pmi_work(struct pmi *p, const struct pollfd *polls);

#endif
