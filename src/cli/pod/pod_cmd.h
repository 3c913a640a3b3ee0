/* `fsched pod`: a pod without Slurm. run and restore stay in the foreground as supervisor, which does the work of
 * slurmstepd and of the agent. The other commands find the pod through the file pod.json in the pod's directory DIR.
 * The layout of DIR is that of a job's directory (store/store.h), and in addition:
 *
 *   pod.json         0600  struct pod_state; there only while the pod runs
 *   pod/             0700  its private /tmp
 *   supervisor.lock  held by the supervisor as long as it lives
 *   operation.lock   held during a checkpoint and while job.json is changed
 */
#ifndef FSCHED_CLI_POD_POD_CMD_H
#define FSCHED_CLI_POD_POD_CMD_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include "base/conf.h"
#include "base/err.h"
#include "base/mailbox.h"
#include "pod/pod.h"
#include "store/store.h"

/* The exit status of run and restore if it is not that of the command. */
enum {
	POD_EXIT_VACATED = 75, /* checkpointed and stopped by `checkpoint --kill` */
	POD_EXIT_FAILED = 125,
	POD_EXIT_NO_EXEC = 126, /* the command cannot be run */
	POD_EXIT_ABSENT = 127,  /* there is no such command */
	POD_EXIT_KILLED = 137,
};

/* Options of all operations. */
struct pod_opts {
	const char *dir;
	const char *user;    /* NULL: root */
	const char *config;  /* NULL: searched for */
	const char *libexec; /* the directory of fsched's programs */
	int64_t interval;    /* s, 0 = no periodic checkpoints */
	unsigned epoch;      /* 0 = the newest */
	bool kill;           /* checkpoint: kill the pod when the epoch is complete */
	struct conf conf;
};

/* The running pod, as DIR/pod.json describes it. */
struct pod_state {
	pid_t init;
	uint64_t init_start; /* start time in /proc/PID/stat: a pid alone may be reused */
	char boot[40];       /* boot id of the machine */
	bool private_tmp;
	char user[64];
	json_t *outside; /* owned: open files that could not be restored, by their links in /proc/PID/fd */
	pid_t supervisor;
	struct mailbox mailbox; /* descriptors of the supervisor */
};

/* An open pod directory. */
struct pod_home {
	struct store store;
	int supervisor_lock; /* -1 = not held */
};

int pod_cmd_run(const struct pod_opts *o, char **argv);
int pod_cmd_restore(const struct pod_opts *o);
int pod_cmd_checkpoint(const struct pod_opts *o);
int pod_cmd_kill(const struct pod_opts *o);
int pod_cmd_list(const struct pod_opts *o);

/* ---- pod_state.c */

/* Opens DIR. create: makes it if it does not exist. *rec, unless rec is NULL: the content of job.json, or zeroes if
 * there is none; the caller frees. */
int pod_home_open(struct pod_home *h, const char *dir, bool create, struct job_record **rec, struct err *err);
void pod_home_close(struct pod_home *h);
/* Takes the lock of the supervisor. -1: another supervisor has it. */
int pod_home_supervise(struct pod_home *h, struct err *err);
/* Waits until no supervisor has its lock, so that the pod can be restored at once. -1: one still has it after 30 s. Not
 * to be called with the lock of operations, which the supervisor needs. */
int pod_home_await_end(const struct pod_home *h, struct err *err);
/* Waits for the lock of operations. Returns a descriptor, which holds the lock until it is closed, or -1. */
int pod_home_lock(const struct pod_home *h, struct err *err);
void pod_home_dir(const struct pod_home *h, char *buf, size_t len);

int pod_state_save(const struct pod_home *h, struct pod_state *s, struct err *err);
/* -1 also if the pod that the file describes has ended. 0: to be freed with pod_state_free(). */
int pod_state_load(const struct pod_home *h, struct pod_state *s, struct err *err);
void pod_state_remove(const struct pod_home *h);
void pod_state_free(struct pod_state *s);
/* Sets the intent in job.json under the lock. */
int pod_set_intent(const struct pod_home *h, enum intent intent, struct err *err);

/* ---- pod_worker.c */

/* Runs one operation of fsched-worker and waits for it. op: its name. req: the request; the reference is taken.
 * keep_fd: a descriptor that the worker inherits, -1 = none. held: called at the event "held"; true = kill the pod,
 * false = let it run on. Returns the result, which the caller frees, or NULL with err. */
json_t *pod_worker(const struct pod_opts *o, const char *op, json_t *req, int keep_fd,
		   bool (*held)(void *arg, const json_t *event), void *arg, struct err *err);
/* A request with the members that checkpoint and restore share. */
json_t *pod_request(const struct pod_opts *o, const struct pod_home *h, const struct job_record *rec,
		    const struct pod_cred *cred, bool private_tmp, unsigned epoch);
/* The uid, gid and groups of a user; NULL: root. The caller frees cred->groups. */
int pod_user_cred(const char *user, struct pod_cred *cred, struct err *err);

/* ---- pod_supervise.c */

/* Serves the pod until its end. restored: the epoch from which criu is restoring it, 0 = it was started. Returns the
 * exit status of the program. */
int pod_supervise(const struct pod_opts *o, struct pod_home *h, struct pod *pod, unsigned restored);

/* ---- pod_stdio.c */

struct pod_stdio {
	struct {
		int action, same_as;
		char path[4096];
	} fd[3];
	json_t *outside; /* owned */
};
/* Examines descriptors 0-2. Prints on standard error what a checkpoint cannot save. */
void pod_stdio_plan(struct pod_stdio *s, const struct pod_cred *cred);
/* In the pod: reopens the descriptors that can be reopened by path. */
int pod_stdio_apply(const struct pod_stdio *s, struct err *err);
/* -1: a process of the pod still has one of these files open. */
int pod_stdio_check(const json_t *outside, pid_t init, const struct pod_cred *cred, struct err *err);

#endif
