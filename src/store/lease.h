/* Who has the job: the file `lease` in the job's directory, and `claim` of whoever waits for it.
 *
 * Slurm starts a job anew when it has lost sight of a node, which may run on behind a broken link. So the agent of a
 * running job renews its lease, and kills the job if it could not for the lease's duration, or sees a claim of a later
 * start. The agent of that later start touches nothing of the job until the lease is released, or has not been renewed
 * for its duration and a margin (policy/recovery.h: lease_decide(), lease_margin()).
 *
 * How old a lease is, is told by the file system's clock alone: the time stamp of the claim, just written, against that
 * of the lease. Nodes need not agree on the time; only file systems that stamp with the client's clock need nodes that
 * agree within the margin.
 *
 * Functions here may block as long as the file system does: they are called in a child of the agent.
 */
#ifndef FSCHED_STORE_LEASE_H
#define FSCHED_STORE_LEASE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include "base/err.h"

struct lease {
	char host[256];         /* Slurm's name of the node */
	char boot_id[40];       /* of the node's kernel */
	uint64_t pid_ns;        /* inode of the holder's PID namespace: pids mean nothing outside of it */
	pid_t pid;              /* the agent */
	uint64_t pid_start;     /* its start time (clock ticks since boot): with the pid it names a process for good */
	unsigned restart_count; /* Slurm's, of the start that holds it */
	unsigned duration;      /* s */
	bool released;
};

/* Fills in what describes this process on this node; restart_count, duration and released are left alone. */
int lease_describe_self(struct lease *l, const char *host, struct err *err);

/* Renews or releases: atomic and durable. */
int lease_write(int dirfd, const struct lease *l, struct err *err);
/* Renews one that was written before, also where there is no space left for a new file. */
int lease_renew(int dirfd, const struct lease *l, struct err *err);
/* *exists = false if there is none. A damaged one counts as existing and never renewed: only its age says when it may
 * be taken. */
int lease_read(int dirfd, struct lease *l, bool *exists, struct err *err);

struct lease_age {
	int64_t ms;       /* since it was renewed, by the file system's clock; not below 0, 0 if there is no lease */
	int64_t stamp_ms; /* its time stamp: one that does not change is a lease that is not renewed, whatever the
			     clocks say */
};
/* Writes a claim for the start `restart_count` on host, and so learns the age of the lease. */
int lease_claim(int dirfd, const char *host, unsigned restart_count, struct lease_age *age, struct err *err);
/* Whether there is a claim of a later start than restart_count; host of 256 bytes gets its node. */
int lease_claimed(int dirfd, unsigned restart_count, bool *claimed, char *host, struct err *err);

/* Whether the holder, which ran on this node since its last boot, is still there. */
bool lease_holder_lives(const struct lease *l);

#endif
