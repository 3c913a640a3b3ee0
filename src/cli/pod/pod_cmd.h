/* `fsched pod`: a pod without Slurm. A supervisor in the foreground (run, restore) plays slurmstepd and agent in one;
 * the other commands find its pod through a file in the pod's directory DIR, which is laid out like a job's
 * (store/store.h) and holds besides
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

/* Exit status of run and restore, where it is not the command's own. */
enum {
	POD_EXIT_VACATED = 75, /* saved and stopped by `checkpoint --kill` */
	POD_EXIT_FAILED = 125,
	POD_EXIT_NO_EXEC = 126, /* the command cannot be run */
	POD_EXIT_ABSENT = 127,  /* there is no such command */
	POD_EXIT_KILLED = 137,
};

/* What the commands have in common. */
struct pod_opts {
	const char *dir;
	const char *user;    /* NULL: root */
	const char *config;  /* NULL: searched for */
	const char *libexec; /* where fsched's programs are */
	int64_t interval;    /* s, 0 = no periodic checkpoints */
	unsigned epoch;      /* 0 = the newest */
	bool kill;           /* checkpoint: end the pod when it is saved */
	struct conf conf;
};

/* The running pod, as DIR/pod.json tells. */
struct pod_state {
	pid_t init;
	uint64_t init_start; /* of /proc/PID/stat: a pid alone is no identity */
	char boot[40];       /* boot id of the machine */
	bool private_tmp;
	char user[64];
	json_t *outside; /* owned: names of open files that could not be restored, as in /proc/PID/fd */
	pid_t supervisor;
	struct mailbox mailbox; /* its descriptors */
};

/* A directory that is open. */
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

/* Opens DIR (create: makes it). Also gives *rec, if not NULL: job.json, or zeroes if there is none. */
int pod_home_open(struct pod_home *h, const char *dir, bool create, struct job_record **rec, struct err *err);
void pod_home_close(struct pod_home *h);
/* -1 if another supervisor is at work in the directory. */
int pod_home_supervise(struct pod_home *h, struct err *err);
/* Waits for the lock of operations. Descriptor to close, or -1. */
int pod_home_lock(const struct pod_home *h, struct err *err);
void pod_home_dir(const struct pod_home *h, char *buf, size_t len);

int pod_state_save(const struct pod_home *h, struct pod_state *s, struct err *err);
/* Fails also if the pod that the file tells of has ended. */
int pod_state_load(const struct pod_home *h, struct pod_state *s, struct err *err);
void pod_state_remove(const struct pod_home *h);
void pod_state_free(struct pod_state *s);
/* Sets the intent in job.json under the lock. */
int pod_set_intent(const struct pod_home *h, enum intent intent, struct err *err);

/* ---- pod_worker.c */

/* One operation of fsched-worker. req is consumed. keep_fd: inherited by it, -1 = none. held: answers the event "held",
 * true = kill. Returns the result, owned by the caller, or NULL with err. */
json_t *pod_worker(const struct pod_opts *o, const char *op, json_t *req, int keep_fd,
		   bool (*held)(void *arg, const json_t *event), void *arg, struct err *err);
/* The members that checkpoint and restore share. */
json_t *pod_request(const struct pod_opts *o, const struct pod_home *h, const struct job_record *rec,
		    const struct pod_cred *cred, bool private_tmp, unsigned epoch);
/* The groups of the pod's user. cred->groups is the caller's. */
int pod_user_cred(const char *user, struct pod_cred *cred, struct err *err);

/* ---- pod_supervise.c */

/* Stays with the pod to its end. restored: epoch from which criu is just restoring it, 0 = it was started. Returns the
 * exit status. */
int pod_supervise(const struct pod_opts *o, struct pod_home *h, struct pod *pod, unsigned restored);

/* ---- pod_stdio.c */

struct pod_stdio {
	struct {
		int action, same_as;
		char path[4096];
	} fd[3];
	json_t *outside; /* owned */
};
/* Looks at fds 0-2; says on standard error what a checkpoint cannot keep. */
void pod_stdio_plan(struct pod_stdio *s, const struct pod_cred *cred);
/* In the pod: reopens what can be reopened by path. */
int pod_stdio_apply(const struct pod_stdio *s, struct err *err);
/* -1 if a process of the pod still has one of these descriptors open. */
int pod_stdio_check(const json_t *outside, pid_t init, const struct pod_cred *cred, struct err *err);

#endif
