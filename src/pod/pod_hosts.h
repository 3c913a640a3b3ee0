/* /etc/hosts of a pod with a network of its own. */
#ifndef FSCHED_POD_POD_HOSTS_H
#define FSCHED_POD_POD_HOSTS_H

#include "base/err.h"

/* Reads the node's /etc/hosts and returns its text with the names of host removed from their lines and put on a line
 * with address. So a server that binds to the address of its own host name, and a client that connects to that name,
 * stay in the pod. The names of host are those on a line with it, or with its first part. The caller frees; NULL with
 * err. */
char *pod_hosts_text(const char *host, const char *address, struct err *err);
/* The same for a text. */
char *pod_hosts_change(const char *text, const char *host, const char *address);

#endif
