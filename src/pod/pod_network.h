/* The network of a pod that has one of its own (PodNetwork = private).
 *
 * The network namespace is made by the process that starts the pod, before it forks pid 1, which enters it. The pod's
 * directory then holds, for root alone:
 *
 *   network   what has been made, for a checkpoint of the job and for the removal
 *   hosts     /etc/hosts of the pod: the job's host name has the pod's own address there
 *
 * Functions that return int return 0, or -1 with err, unless they say otherwise. */
#ifndef FSCHED_POD_POD_NETWORK_H
#define FSCHED_POD_POD_NETWORK_H

#include "base/err.h"
#include "pod/pod.h"

/* Makes the namespace for a pod whose directory pod_prepare() has made, links it to the node's network (net/net.h), and
 * sets spec->private_net and spec->net_ns. range: PodNetworkRange.
 *
 * spec->net says what an epoch has recorded; an empty member stands for a pod that begins: it gets the host name of the
 * node and the first address of the range. After -1 nothing is left of it, and the pod can be started with the node's
 * network.
 *
 * The caller is in the network namespace of the node. */
int pod_network_make(struct pod_spec *spec, const char *range, struct err *err);
/* Closes spec->net_ns, if there is one, when pid 1 has entered it. */
void pod_network_close(struct pod_spec *spec);

/* Fills *net with what the pod in dir has. Returns 1, or 0 if it uses the node's network, or -1. */
int pod_network_load(const char *dir, struct pod_network *net, struct err *err);

/* Removes what the pod in dir has on the node. The kernel does it too, some time after the pod's last process has
 * ended, except for the rules, which go with the last pod of the node. */
void pod_network_remove(const char *dir);

/* In pid 1: enters the namespace and makes a UTS namespace with the job's host name. */
int pod_network_enter(const struct pod_spec *spec, struct err *err);
/* In pid 1, after the pod has its mount namespace: mounts /etc/hosts, and the part of /sys that shows interfaces. */
int pod_network_mount(const struct pod_spec *spec, struct err *err);

#endif
