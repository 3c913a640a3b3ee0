/* What the SPANK plugin tells the agent about its job: one JSON object in a memfd (docs/internals.md, "Agent's task
 * file"). */
#ifndef FSCHED_AGENT_TASK_H
#define FSCHED_AGENT_TASK_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include "base/err.h"
#include "policy/recovery.h"

struct task {
	uint32_t job_id;
	uint32_t array_job_id;
	int32_t array_task_id; /* -1 = not a task of an array */
	uid_t uid;
	gid_t gid;
	gid_t *groups; /* owned */
	int n_groups;
	char user[64], cluster[64], node[256], uuid[37];
	unsigned restart_count;
	int64_t interval;       /* s, INTERVAL_ON_REQUEST, INTERVAL_AUTO */
	enum at_limit at_limit; /* --checkpoint-at-limit */
	int64_t total;          /* s of running time, with AT_LIMIT_CONTINUE; 0 = no bound */
	char tcp[8];            /* --checkpoint-tcp: "refuse", "close", or "" = CheckpointTcp holds */
	char on_requeue[8];     /* --checkpoint-on-requeue: "resume", "restart", or "" = CheckpointOnRequeue holds */
	/* --checkpoint-signal, -before, -after */
	int hook_signal;                          /* 0 = none */
	bool hook_script;                         /* to the script alone */
	unsigned hook_seconds;                    /* before a checkpoint */
	char hook_before[4096], hook_after[4096]; /* "" = none */
	bool truncate;                            /* the user's open mode was truncate */
	unsigned cpus;
	bool private_tmp;
	char script[4096], cwd[4096], pod_dir[4096], config[4096];
	char error_file[4096]; /* "" = not known */
	pid_t init_pid, leader_pid, script_pid;
	int ctl_fd, gate_fd;
	/* Why the pod uses the node's network although PodNetwork is private; "" = nothing is to be said. */
	char network_warning[512];
	char tmp_warning[512];
};

/* Reads and closes fd. 0, or -1 with err, which names the member that is missing or wrong. */
int task_read(struct task *t, int fd, struct err *err);
void task_free(struct task *t);

#endif
