/* What keeps the processes of a pod that is a proof (worker/prove.c) from reaching anything outside of it, beside its
 * view of the files (apart.h) and what its restored tasks may not call (preload/alone.c): a network without a way out,
 * and a limit of its memory. */
#ifndef FSCHED_POD_ALONE_H
#define FSCHED_POD_ALONE_H

#include <stdbool.h>
#include <stdint.h>
#include "base/err.h"
#include "pod/pod.h"

/* alone_network.c: makes a network namespace that has its loopback interface alone, sets spec->private_net and
 * spec->net_ns (pod_network_close() closes it), and writes the pod's /etc/hosts. spec->net is set, and empty if the
 * epoch's pod used the network of its node.
 *
 * Every address is one of this host's there. So the job's sockets can be bound to addresses of the node or of the job,
 * connections between its processes exist as before, and a connection to anybody else is refused at once. 0, or -1 with
 * err. */
int alone_network_make(struct pod_spec *spec, struct err *err);

/* alone_cgroup.c */
struct alone_cgroup {
	char *dirs[3]; /* owned; NULL: there is none */
	int procs[3];  /* owned: writing "0" to it moves the writer there; -1 */
	bool limits;   /* memory is limited */
};
/* Makes cgroups of that name below the roots, for memory and processor time. low: the processes are to have processor
 * time that nobody else wants. Where this process may not make any, nothing is limited. */
void alone_cgroup_make(struct alone_cgroup *c, const char *name, uint64_t memory, bool low);
void alone_cgroup_none(struct alone_cgroup *c);
/* Moves the calling process there, and has it killed before others where memory is short. 0, or -1 with err. */
int alone_cgroup_enter(const struct alone_cgroup *c, struct err *err);
/* Whether the kernel has killed a process there because it was over the limit. */
bool alone_cgroup_was_full(const struct alone_cgroup *c);
/* Removes them, when their processes have ended. */
void alone_cgroup_remove(struct alone_cgroup *c);
/* The same for those that a process has left. */
void alone_cgroup_cleanup(const char *name);

#endif
