/* The namespaces in which a pod is started: those of slurmd, or of a job if a plugin of Slurm has made some for it
 * (namespace/linux of Slurm 25.11 and later, formerly job_container). */
#ifndef FSCHED_POD_OUTER_NAMESPACES_H
#define FSCHED_POD_OUTER_NAMESPACES_H

#include "base/err.h"

#define NAMESPACE_NAME 64

/* Notes the user namespace of the caller, before the plugin's namespaces are entered. "" = not known. */
void outer_namespaces_note(char user[NAMESPACE_NAME]);
/* Fails if the caller has entered a user namespace since, or a PID namespace in which its children would be: root there
 * is not root of the node, and the pids of a pod could not be found on the node. A mount namespace does no harm. */
int outer_namespaces_check(const char *user, struct err *err);

#endif
