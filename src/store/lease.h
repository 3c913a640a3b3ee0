/* The lease: which agent may run the job. It is the file `lease` in the job's directory; an agent that waits for the
 * job writes the file `claim`.
 *
 * Slurm starts a job again when it loses contact to a node, but the node may still run behind a broken link. So the
 * agent of a running job renews its lease. It kills the job when it could not renew the lease for the lease's duration,
 * or when it sees the claim of a later start. The agent of that later start changes nothing of the job until the lease
 * is released, or was not renewed for its duration and a margin (policy/recovery.h: lease_decide(), lease_margin()).
 *
 * The age of a lease is the difference between two time stamps of the file system: that of the claim, just written, and
 * that of the lease. So the clocks of the nodes need not agree, except on file systems that stamp with the client's
 * clock; there they must agree within the margin.
 *
 * These functions may block as long as the file system does, so the agent calls them in a child process. dirfd is the
 * job's directory. Functions that return int return 0, or -1 with err.
 */
#ifndef FSCHED_STORE_LEASE_H
#define FSCHED_STORE_LEASE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include "base/err.h"

struct lease {
	char host[256];     /* Slurm's name of the node */
	char boot_id[40];   /* of the node's kernel */
	uint64_t pid_ns;    /* inode of the holder's PID namespace; pids are valid inside it only */
	pid_t pid;          /* the agent */
	uint64_t pid_start; /* the agent's start time, clock ticks since boot; with the pid it identifies the process */
	unsigned restart_count; /* Slurm's, of the start that holds the lease */
	unsigned duration;      /* s */
	bool released;
};

/* Sets the members that describe this process and this node; leaves restart_count, duration and released as they are.
 */
int lease_describe_self(struct lease *l, const char *host, struct err *err);

/* Writes the lease, to renew or release it. Atomic and durable. */
int lease_write(int dirfd, const struct lease *l, struct err *err);
/* Renews a lease that this agent has written before, even if there is no space left for a new file. */
int lease_renew(int dirfd, const struct lease *l, struct err *err);
/* Reads the lease. *exists = false if there is none. A damaged lease exists, with all members 0: only its age says when
 * it may be taken. */
int lease_read(int dirfd, struct lease *l, bool *exists, struct err *err);

/* Unix time at which the lease was renewed or released last, by the file system's clock. 0 = there is none. */
int64_t lease_seen(int dirfd);

struct lease_age {
	int64_t ms;       /* since the lease was renewed, by the file system's clock; >= 0; 0 if there is no lease */
	int64_t stamp_ms; /* its time stamp; if that stays the same, the lease is not renewed, whatever the clocks say
			   */
};
/* Writes a claim for the start `restart_count` on host, and measures the age of the lease by it. */
int lease_claim(int dirfd, const char *host, unsigned restart_count, struct lease_age *age, struct err *err);
/* *claimed: there is a claim of a start later than restart_count. host: 256 bytes, gets the claim's node. */
int lease_claimed(int dirfd, unsigned restart_count, bool *claimed, char *host, struct err *err);

/* True if the holder is still alive. The holder must have run on this node since its last boot. True also for a holder
 * in another PID namespace, because that cannot be told from here. */
bool lease_holder_lives(const struct lease *l);

#endif
