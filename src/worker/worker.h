/* fsched-worker: one operation on one job's checkpoints, as root, then it ends. A crash or a hang costs an epoch, not
 * the job: every process made here dies with the worker, and a tree whose criu is gone runs on.
 *
 * The contract with the agent (request, events) is in docs/internals.md. */
#ifndef FSCHED_WORKER_H
#define FSCHED_WORKER_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <jansson.h>

#include "base/conf.h"
#include "base/err.h"
#include "base/mailbox.h"
#include "capture/collapse.h"
#include "image/fork_family.h"
#include "image/image.h"
#include "capture/node.h"
#include "capture/fork_shared.h"
#include "capture/shared.h"
#include "capture/snapshot.h"
#include "capture/track.h"
#include "criu/criu.h"
#include "files/files.h"
#include "store/manifest.h"
#include "store/store.h"

enum op { OP_CHECKPOINT, OP_PREFLIGHT, OP_RESTORE, OP_VERIFY };

struct request {
	enum op op;
	char job_dir[4096], pod_dir[4096], config[4096], script[4096];
	char uuid[37], reason[16];
	unsigned epoch, run;
	uid_t uid;
	gid_t gid;
	gid_t *groups; /* owned */
	int n_groups;
	pid_t init;
	int agent_port, ctl_fd;
	pid_t keeper; /* who has the mailbox; 0: there is none */
	int keeper_in, keeper_out;
	bool vacate, sign, private_tmp;
	bool written; /* the agent keeps the list of written files, and answers "frozen" */
};

struct worker {
	struct request req;
	struct conf conf;
	struct store store;
	struct criu_bin criu;
	char libexec[4096];       /* where this program lies */
	int64_t began;            /* now_us() */
	json_t *warnings;         /* owned */
	struct files_names names; /* of files whose own is gone, as last seen */
	bool node_fault;          /* if what is being done now fails, this node is to blame, and not the epoch */
	struct mailbox mailbox;   /* -1: there is none */
	int turn;                 /* of turn_take(); -1: none */
	int go_due;               /* "frozen" was told so often, and not yet answered */
	uint64_t memory;          /* bytes that the job has, as of the preflight */
};

/* request.c: reads and checks the line on standard input. */
int request_read(struct request *r, enum op op, struct err *err);
void request_free(struct request *r);
/* The next word on standard input, within timeout_ms. false: end of file or time is up. */
bool request_word(char *buf, size_t len, int timeout_ms);
/* Did the word "hurry" come? It may at any time: what only makes the job notice less of its checkpoint is left out from
 * then on. */
bool request_hurried(void);

/* events.c: one JSON object per line on standard output. A reader that has gone is no reason to stop. */
void event_phase(const char *name);
/* o: the members besides "event", taken over. */
void event_send(const char *event, json_t *o);
/* node: the fault is this node's, another may be able to. asker: it is that of who asked, the job could be saved. */
void event_failed(const char *error, bool refused, bool node, bool asker);
/* If the deadline passes, sends the failure and ends the worker, wherever it is. 0 = off. */
int deadline_set(unsigned seconds, struct err *err);
/* Likewise for the freeze. configured: CheckpointFreezeTimeout. */
int freeze_deadline(unsigned seconds, unsigned configured, struct err *err);

/* freeze.c: the limit of the freeze, s. copied: bytes of memory that are copied in it; written: that are written. */
unsigned freeze_limit(const struct worker *w, uint64_t copied, uint64_t written);
/* criu is about to be started; the job stands still; it may do so for another seconds from now on. */
int freeze_expected(const struct worker *w, unsigned seconds, struct err *err);
int freeze_begins(const struct worker *w, unsigned seconds, struct err *err);
int freeze_allow(const struct worker *w, const struct criu_dump *d, unsigned seconds, struct err *err);

/* The operations. 0: the result has been sent. -1: err; *refused says that it was known before anything was done. */
int worker_checkpoint(struct worker *w, bool *refused, struct err *err);
int worker_preflight(struct worker *w, struct err *err);
int worker_restore(struct worker *w, bool *refused, struct err *err);
int worker_verify(struct worker *w, struct err *err);

/* written.c: the steps of one checkpoint. Nothing is done if the request does not say "written". */
struct written_step {
	struct files_write_list *w; /* NULL: nothing to do */
	struct manifest previous;
	int previous_filesfd;
};
int written_begin(struct written_step *s, struct worker *w, int filesfd, const struct files_opts *o, struct err *err);
int written_freeze(struct written_step *s, struct worker *w, const json_t *open, struct err *err);
int written_finish(struct written_step *s, struct worker *w, struct manifest *m, int64_t frozen_at, struct err *err);
void written_end(struct written_step *s);

/* verify.c: reads the epoch back from the disk, not from memory, and compares all digests. */
int verify_written(struct worker *w, int epochfd, struct err *err);

/* tree.c: host pids of the job's processes, and the highest pid, group or session number in the pod. To be freed with
 * tree_free(). */
struct tree {
	pid_t *pids;
	pid_t *inner;
	int n;
	int32_t max_pid;
}; /* inner: their numbers in the pod */
int tree_read(pid_t init, struct tree *t, struct err *err);
void tree_free(struct tree *t);
/* The pid here of the process with that number in the pod; 0: there is none. */
pid_t tree_host_of(const struct tree *t, uint64_t inner);
/* -1: a process of the job would not be saved, or could not be restored: it is not below the leader, which alone criu
 * dumps, or in a session that criu cannot put it into. imagesfd: criu's images, in the freeze: also that each process
 * is among them; -1: there are none yet. */
int tree_check(pid_t init, int imagesfd, struct err *err);
/* False when the job has ended. */
bool tree_is_there(pid_t init);

/* previous.c: the epoch before, that an increment continues. */
struct previous {
	bool looked;
	struct mem_image *image;
}; /* owned */
struct memory_step;
/* The image of the previous epoch, with its hashes; belongs to s. NULL: the new epoch is to be a full one, because the
 * configuration says so or there is none to continue; with a warning if there is one and it is damaged. */
struct mem_image *memory_previous(struct memory_step *s, struct worker *w);

/* tracking.c: what an image that is there has of the job's memory, as the kernel has noticed its writes. All zero:
 * nothing is known. */
struct tracking_use {
	uint64_t id, used, left;
}; /* of a process; bytes: in use, written since the last look, or the epoch before */
struct tracking {
	enum mem_tracking how;
	struct mem_track *track;  /* owned; NULL: nothing is tracked */
	unsigned since;           /* the epoch before whose freeze tracking began; 0: it was not tracked before */
	bool continues;           /* the epoch before is that one, and its image can be continued */
	struct mem_ranges before; /* pages that were not written since, as of the look before the freeze */
	bool rounds_wanted;       /* CRIU_PreDump */
	struct mem_image *image;  /* owned: of the last round; NULL: nothing was copied */
	struct mem_sames same;    /* owned: pages of the last round that were copied from another process */
	unsigned rounds;
	uint64_t scanned;          /* bytes read in all rounds */
	struct tracking_use *uses; /* owned */
	size_t n_uses;
	uint64_t *huge; /* owned: processes that had many huge pages before the rounds */
	size_t n_huge;
	struct mem_ranges clean; /* in the freeze: pages for which the image has what the processes have */
};
/* Before everything else, the job runs: what is tracked already, and CRIU_PreDump. Never fails: what is not known is
 * taken in the freeze. */
void tracking_begin(struct memory_step *s, struct worker *w, int epochfd);
/* bytes: that will probably have to be taken in the freeze. False: nothing of this process is known from before. */
bool tracking_expects(struct tracking *p, uint64_t id, uint64_t *bytes);
/* In the freeze: fills clean. */
void tracking_freeze(struct memory_step *s);
/* The image that clean is about; NULL: there is none. Borrowed. */
struct mem_image *tracking_image(const struct memory_step *s);
/* The memory is written. Whether writes are noticed until the next checkpoint; if not, nothing of it stays in the job
 * from now on. */
void tracking_decide(struct memory_step *s, const struct worker *w);
/* The epoch is complete: leaves what goes on for the next worker. */
void tracking_leave(struct memory_step *s, const struct worker *w);
/* Nothing of it stays in the epoch's directory, nor, if it was not left, in the job. */
void tracking_end(struct memory_step *s, int epochfd);
/* For predump.c: of one process; who asks for many does so in ascending order. The memory in use as of a look; and of
 * it what is not clean, the sum of which is returned. */
struct tracking_use *tracking_use_of(struct tracking *p, uint64_t id);
void tracking_set_used(struct tracking *p, const struct mem_ranges *present);
uint64_t tracking_set_left(struct tracking *p, const struct mem_ranges *clean);

/* predump.c: rounds before the freeze, of what is tracked. */
/* Neither where Slurm waits for the job to go, nor where there is nothing to gain by it. */
bool predump_wanted(const struct worker *w);
void predump_run(struct memory_step *s, struct worker *w, int epochfd);
void predump_end(struct tracking *p, int epochfd);

/* Of one process, before the freeze. */
struct memory_wanted {
	pid_t host;
	struct mem_usage usage;
	uint64_t same; /* bytes that another process has, too, and that are taken with that one */
	struct mem_rewriting rewriting;
	enum mem_rung rung;
	char why[256];
};

/* memory.c: the steps of one checkpoint with fsched's own memory engine (memory/). */
struct memory_step {
	struct tracking tracking;
	struct previous previous;
	bool on;                    /* private memory is left out by criu and taken by fsched */
	bool leave_shared;          /* set by the caller: shared memory is criu's */
	struct mem_shared *objects; /* large shared memory is left out too; NULL: it is not */
	bool shared_failed;         /* it was that which failed */
	struct mem_snapshot *snapshot;
	struct memory_wanted *wanted; /* per process, before the freeze */
	int n_wanted;
	struct mem_process *procs;
	size_t n_procs;
	struct mem_sames same; /* in the freeze: pages that are not taken, because another process has them */
	uint64_t shared, cow_room;
	bool written;
	bool failed; /* it was the engine that failed, not criu or a file */
	struct mem_write_stats *stats;
	struct mem_huge *huge; /* before the freeze; NULL: the job does not go on */
};
/* As the configuration says. */
void memory_write_opts(const struct worker *w, struct mem_write_opts *o);
/* Before the freeze. Decides whether the engine is used at all; never fails. */
void memory_begin(struct memory_step *s, struct worker *w, int criufd);
/* In the freeze: takes the snapshot. */
int memory_freeze(struct memory_step *s, struct worker *w, int epochfd, int criufd, const struct criu_dump *d,
		  struct err *err);
/* After it (in a vacate, and where there is no memory for a copy, still in it): writes. Fills m->memory. */
int memory_finish(struct memory_step *s, struct worker *w, int epochfd, int criufd, struct manifest *m, struct err *err);
/* Returns when what was split of the job's huge pages is whole again. */
void memory_end(struct memory_step *s, int epochfd);

/* NULL: it was not there before the freeze. */
const struct memory_wanted *memory_wanted(const struct memory_step *s, pid_t host);

#define MEMORY_KEPT (256u << 10) /* bytes of a process that criu's images keep, as far as one can tell before */

/* memory_same.c: parts of these steps. */
/* So much in common with others that it is looked at page by page, and what is the same is taken once. */
bool memory_shares_much(const struct mem_usage *u);
/* Before the freeze: fills in "same". In the freeze: of the processes "shares", and takes what they have
 * in common out of what is to be taken of each. */
void memory_same_look(struct memory_step *s, const struct tree *t);
void memory_same_freeze(struct memory_step *s);
/* Of the processes that are tracked, after a look that has told these: makes p->same anew. */
void memory_same_round(struct tracking *p, const struct mem_ranges *present, const struct mem_ranges *clean);

/* memory_shared.c: parts of these steps. room: bytes that copies may take. */
void memory_shared_begin(struct memory_step *s, struct worker *w, const struct tree *t, uint64_t *room);
/* files_opts.carry; arg: objects. */
bool memory_shared_carry(void *arg, const char *path, int fd, const struct stat *st);
int memory_shared_freeze(struct memory_step *s, const struct worker *w, const struct criu_facts *f, int criufd,
			 int hand, struct err *err);

/* memory_back.c: the memory of an epoch whose manifest says memory.ours, in a restore. */
struct memory_back {
	bool on;
	bool fill;   /* else criu restores it from plain images */
	int criufd;  /* borrowed: of the epoch */
	int dirfd;   /* criu's directory of images instead of it */
	int hand[2]; /* ours, criu's */
	struct mem_image *image;
	struct mem_family family;
	pid_t reader;               /* reads ahead; 0: none */
	struct mem_shared *objects; /* while it is filled */
	uint8_t token[16];          /* of the marks in shared memory */
};
/* fill: false after it has failed. Nothing happens if the epoch has no memory/. */
int memory_back_begin(struct memory_back *b, struct worker *w, int epochfd, int criufd, const struct manifest *m,
		      bool fill, struct err *err);
/* init: the new pod's. 0 also if criu has failed, which pid 1 tells; -1: the pod is still there, and not to be used. */
int memory_back_finish(struct memory_back *b, struct worker *w, pid_t init, struct err *err);
void memory_back_end(struct memory_back *b, const struct worker *w);

/* fault.c: faults on purpose, with their names and meaning there. fault_die() kills the worker if it was asked for. */
enum fault {
	FAULT_FORCE_DIRECT,
	FAULT_FORCE_STAGED,
	FAULT_FORCE_FORK,
	FAULT_NO_ELISION,
	FAULT_SNAPSHOT_FAILS,
	FAULT_SHARED_FAILS,
	FAULT_TARGET_DIES,
	FAULT_FILL_FAILS,
	FAULT_NO_PREFLIGHT,
	FAULT_NO_IMAGE_CHECK,
	FAULT_PRE_DUMP_FAILS,
	FAULT_FORCE_SOFT_DIRTY,
	FAULT_FORCE_TRACKING,
	FAULT_DIE_IN_PRE_DUMP,
	FAULT_DIE_BEFORE_FREEZE,
	FAULT_DIE_FROZEN,
	FAULT_CRIU_DIES_FROZEN,
	FAULT_DIE_BEFORE_SNAPSHOT,
	FAULT_CRIU_DIES_BEFORE_SNAPSHOT,
	FAULT_DIE_AFTER_SNAPSHOT,
	FAULT_CRIU_DIES_AFTER_SNAPSHOT,
	FAULT_DIE_IN_DRAIN,
	FAULT_DIE_AFTER_DRAIN,
	FAULT_DIE_BEFORE_MANIFEST,
	FAULT_DIE_BEFORE_VERIFY,
	FAULT_DIE_BEFORE_COMMIT,
	FAULT_DIE_AFTER_COMMIT,
	FAULT_DIE_HELD,
	FAULT_CRIU_DIES_HELD,
	FAULT_HANG_AT_FREEZE,
	FAULT_HANG_FROZEN,
	FAULT_HANG_BEFORE_SNAPSHOT,
	FAULT_HANG_IN_SHARED,
	FAULT_HANG_IN_WRITE,
	FAULT_HANG_AFTER_SNAPSHOT,
	FAULT_CRIU_HANGS,
	FAULT_CRIU_HANGS_FROZEN,
	FAULT_CRIU_HANGS_IN_CALL,
	FAULT_DRIVER_HANGS,
	FAULT_CRIU_DIES_IN_CALL,
	FAULT_DIE_IN_CALL,
	FAULT_DIE_BEFORE_POD,
	FAULT_DIE_IN_RESTORE,
	FAULT_DIE_IN_FILL,
	FAULT_CRIU_DIES_IN_FILL,
	FAULT_WAIT_BEFORE_FREEZE,
};
void fault_list(FILE *out);
bool fault(const struct worker *w, enum fault f);
void fault_die(const struct worker *w, enum fault f);
/* Makes the file "waiting" in the job's directory and waits until a test has removed it. */
void fault_wait(const struct worker *w, enum fault f);
/* hand: whose tracer is to die (trace/tracer.h). */
void fault_in_call(const struct worker *w, enum fault f, int hand);
void fault_target_dies(const struct worker *w, enum fault f);
void fault_criu_dies(const struct worker *w, enum fault f, pid_t init);
/* The worker waits for ever; criu does; criu's driver does. */
void fault_hang(const struct worker *w, enum fault f);
void fault_criu_hangs(const struct worker *w, enum fault f, pid_t init);
void fault_driver_hangs(const struct worker *w, enum fault f, pid_t init);

/* names.c: fills the file that criu inherits. */
int names_write(const struct files_names *x, const struct request *r, int fd, struct err *err);

/* turn.c: true if this worker may stop the job's processes, from now until it ends. false: another one still does after
 * wait_ms. */
bool turn_take(struct worker *w, int wait_ms);

/* warn.c */
void worker_warn(struct worker *w, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* space.c: refuses when the checkpoint cannot fit. Fills w->memory. */
int space_check(struct worker *w, const pid_t *pids, int n, struct err *err);

static inline struct files_cred worker_cred(const struct worker *w)
{
	return (struct files_cred){ w->req.uid, w->req.gid, w->req.groups, w->req.n_groups };
}

#endif
