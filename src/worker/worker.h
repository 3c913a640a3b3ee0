/* fsched-worker: a root process that does one operation on the checkpoints of one job and exits.
 *
 * A worker that crashes or hangs costs an epoch, not the job: the kernel kills every process that the worker made when
 * the worker dies, and the job's processes run on when criu is gone.
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
#include "base/turn.h"
#include "capture/collapse.h"
#include "image/fork_family.h"
#include "image/image.h"
#include "capture/usage.h"
#include "capture/fork_shared.h"
#include "capture/shared.h"
#include "capture/snapshot.h"
#include "capture/track.h"
#include "criu/criu.h"
#include "criu/criu_terminals.h"
#include "files/files.h"
#include "pod/pod.h"
#include "store/manifest.h"
#include "store/store.h"
#include "trace/helper_task.h"

enum op { OP_CHECKPOINT, OP_PREFLIGHT, OP_RESTORE, OP_PROVE };

/* What the agent asks for. Members that the operation does not use are zero. */
struct request {
	enum op op;
	char job_dir[4096], pod_dir[4096], config[4096], script[4096];
	char uuid[37], reason[16];
	char job_id[16]; /* of Slurm; "" = none */
	char gap[512];   /* checkpoint: what a restore of the epoch will not undo, for its warnings; "" = nothing */
	unsigned epoch, run;
	uid_t uid;
	gid_t gid;
	gid_t *groups; /* owned */
	int n_groups;
	pid_t init;       /* the pod's pid 1, as a pid of the host */
	int agent_port;   /* 0: none */
	int ctl_fd;       /* restore: the pod's end of the control socket */
	unsigned seconds; /* prove: for which the restored job runs; 0: it does not */
	bool low;         /* prove: gives way to everything else on the node */
	pid_t keeper;     /* the process that holds the mailbox; 0: there is no mailbox */
	int keeper_in;    /* the mailbox's descriptors in that process */
	int keeper_out;
	char node[256];   /* prove: "" = its host name */
	bool vacate;      /* the job leaves its node when the epoch is durable */
	bool sign;        /* sign the manifest, and require a signature, by MUNGE */
	bool private_tmp; /* the pod has a /tmp of its own */
	bool tcp_given;   /* the job says what CheckpointTcp is for it: */
	enum conf_tcp tcp;
	bool write_list; /* the agent keeps a list of the files that the job writes, and answers "frozen" with "go" */
};

struct worker {
	struct request req;
	struct conf conf;
	struct store store;
	struct criu_bin criu;
	char libexec[4096];           /* the directory of this program */
	int64_t began;                /* now_us() */
	json_t *warnings;             /* owned */
	struct files_names names;     /* names for open files that have lost theirs, as of the last search */
	bool node_fault;              /* a failure of the current step is the fault of this node, not of the epoch */
	struct mailbox mailbox;       /* -1, -1: there is none */
	struct turn turn;             /* of writers_begin() */
	int trace_lock;               /* descriptor of trace_lock_take(); -1: not opened */
	int frozen_unanswered;        /* "frozen" events that the agent has not yet answered with "go" */
	uint64_t memory;              /* bytes of the job's memory, as of the preflight */
	uint64_t resident;            /* the same with what processes share since a fork counted for each */
	struct files_cost files;      /* the same of its files */
	uint64_t reserved;            /* bytes that the epoch may take, as checked last */
	uint64_t over_quota;          /* bytes by which a quota would be exceeded */
	struct pod_network net;       /* checkpoint: of the pod; empty if it uses the node's */
	struct pod_tmp tmp;           /* the same for its /tmp */
	struct files_scratch scratch; /* directories of the job on the node's disk, as of the preflight */
};

/* request.c */

/* Reads and checks the first line of standard input. 0, or -1 with err. */
int request_read(struct request *r, enum op op, struct err *err);
void request_free(struct request *r);
/* Waits up to timeout_ms for the next line of standard input that is not "hurry". false: end of file or timeout. */
bool request_word(char *buf, size_t len, int timeout_ms);
/* Whether the line "hurry" has come; the agent may send it at any time. From then on the worker skips what only makes
 * the job notice less of its checkpoint. */
bool request_hurried(void);

/* events.c: events are JSON objects on standard output, one a line. A reader that has gone is ignored: the operation
 * goes on. */

void event_phase(const char *name);
/* o: the members besides "event". Takes the reference. */
void event_send(const char *event, json_t *o);
/* The result of a failed operation.
 *   refused  nothing was done
 *   asker    the fault is that of who asked; the job could be saved
 * From w: whether the fault is the node's, and by how many bytes a quota would be exceeded. */
void event_failed(const struct worker *w, const char *error, bool refused, bool asker);
/* Sets the time limit of the operation, from now on; 0 = none. When it passes, the worker sends the failure and exits,
 * wherever it is. */
int deadline_set(unsigned seconds, struct err *err);
/* The same for the freeze. configured: CheckpointFreezeTimeout, for the message. */
int freeze_deadline(unsigned seconds, unsigned configured, struct err *err);

/* freeze.c: how long the job may be frozen. */

/* The limit of the freeze in s. copied: bytes of memory that are copied during it; written: bytes that are written. */
unsigned freeze_limit(const struct worker *w, uint64_t copied, uint64_t written);
/* criu is about to be started: the limit plus the time that criu needs before the freeze. */
int freeze_expected(const struct worker *w, unsigned seconds, struct err *err);
/* The job is frozen: the limit, from now on. */
int freeze_begins(const struct worker *w, unsigned seconds, struct err *err);
/* The job stays frozen: a new limit, from now on, for criu's driver, too. */
int freeze_allow(const struct worker *w, const struct criu_dump *d, unsigned seconds, struct err *err);

/* The operations. 0: the result has been sent. -1 with err; *refused: nothing had been done when it failed. */
int worker_checkpoint(struct worker *w, bool *refused, struct err *err);
int worker_preflight(struct worker *w, struct err *err);
int worker_restore(struct worker *w, bool *refused, struct err *err);
int worker_prove(struct worker *w, bool *refused, struct err *err);

/* prove_guard.c: returns 0 in a child, which is to make the proof. The caller stays as its guard, and ends with its
 * exit status when it has removed what the child has left on the node. -1 with err in the caller. */
int prove_guard(const struct request *q, struct err *err);

/* prove_room.c */
/* Checks that there is room for a proof, and sets the limit of its memory. */
int prove_room(const struct worker *w, const struct manifest *m, int filesfd, uint64_t *memory, struct err *err);
/* Bytes of memory that belong to the processes of the pod alone. */
uint64_t prove_memory_of(pid_t init);

/* restore.c: what worker_restore() and worker_prove() have in common. */
struct restore_way {
	int work_fd; /* the directory of criu's log */
	/* The rest is for a proof: */
	bool leave_stopped; /* no process makes a step */
	/* Not NULL: see struct pod_spec. It is filled by */
	const struct alone_cgroup *alone;
	/* which is called when the epoch is verified and before anything is changed. filesfd: its files/. */
	int (*verified)(void *arg, const struct manifest *m, int filesfd, struct err *err);
	void *arg;
};
struct restored {
	struct pod pod;
	bool differs; /* this node differs from the epoch's */
	size_t files;
};
/* Restores until criu is at work in the pod, whose pid 1 then reports to w->req.ctl_fd. *refused, w->node_fault: of a
 * failure. */
int restore_run(struct worker *w, const struct restore_way *way, struct restored *done, bool *refused, struct err *err);

/* previous_epoch.c: the copies of files in the epoch before, which need not be made again. */
struct previous_files {
	struct manifest m;
	int filesfd; /* its files/; -1: there is none, or it is not to be trusted */
};
void previous_files_open(struct previous_files *p, struct worker *w);
void previous_files_close(struct previous_files *p);

/* write_list.c: files that the job has written and closed, in a checkpoint. The functions do nothing unless the request
 * says "written". */
struct write_list_step {
	struct files_write_list *w; /* NULL: nothing to do */
	struct files_name_list *names;
	int64_t names_from; /* see files_name_list_freeze() */
};
/* Before the freeze. filesfd: the new epoch's files/. previous must stay until write_list_end(). */
int write_list_begin(struct write_list_step *s, struct worker *w, int filesfd, const struct previous_files *previous,
		     const struct files_opts *o, struct err *err);
/* In the freeze. open: records of the files that are open for writing. */
int write_list_freeze(struct write_list_step *s, struct worker *w, const json_t *open, struct err *err);
/* Adds its records to m->files. frozen_at: Unix us, the begin of the freeze. */
int write_list_finish(struct write_list_step *s, struct worker *w, struct manifest *m, int64_t frozen_at,
		      struct err *err);
void write_list_end(struct write_list_step *s);

/* verify.c: reads the epoch back from the disk, not from the page cache, and compares all digests. */
int verify_written(struct worker *w, int epochfd, struct err *err);

/* tree.c: the job's processes. */
struct tree {
	pid_t *pids;  /* on the host */
	pid_t *inner; /* the same processes' pids in the pod */
	int n;
	int32_t max_pid; /* the highest pid, process group or session in the pod */
};
/* 0: to be freed with tree_free(). -1: err.num ESRCH: the job has ended. */
int tree_read(pid_t init, struct tree *t, struct err *err);
void tree_free(struct tree *t);
/* The host's pid of the process with that pid in the pod; 0: there is none. */
pid_t tree_host_of(const struct tree *t, uint64_t inner);
/* Checks that criu saves every process of the job and can restore it. -1: a process is not below the leader, where
 * alone criu dumps, or it is in a session that criu cannot put it into. imagesfd: criu's images, in the freeze: also
 * checks that each process has an image; -1: there are no images yet. */
int tree_check(pid_t init, int imagesfd, struct err *err);
/* False when the job has ended. */
bool tree_is_there(pid_t init);

/* previous_epoch.c: the epoch that an increment continues. */
struct previous_image {
	bool searched;
	struct mem_image *image; /* owned */
};
struct memory_step;
/* The image of the previous epoch, with its hashes; belongs to s. NULL: the new epoch is to be a full one, because the
 * configuration says so or there is none to continue; with a warning if there is one and it is damaged. */
struct mem_image *memory_previous(struct memory_step *s, struct worker *w);

/* tracking.c: which pages of the job's memory an existing image already has, as the kernel has tracked writes. All
 * zero: nothing is known. */
struct tracking_use { /* of one process */
	uint64_t id;
	uint64_t used; /* bytes in use */
	uint64_t left; /* bytes written since the last scan, or since the epoch before */
};
struct tracking {
	enum mem_tracking how;
	struct mem_track *track;  /* owned; NULL: nothing is tracked */
	unsigned since;           /* tracking began before the freeze of this epoch; 0: it was not tracked before */
	bool continues;           /* "since" is the epoch before, and its image can be continued */
	struct mem_ranges before; /* pages unchanged since that epoch, as of the last scan before the freeze */
	bool rounds_wanted;       /* CRIU_PreDump */
	struct mem_image *image;  /* owned: of the last round; NULL: nothing was copied */
	struct mem_fork_shared fork_shared; /* owned: pages of the last round that were copied from another process */
	unsigned rounds;
	uint64_t scanned;          /* bytes read in all rounds */
	struct tracking_use *uses; /* owned */
	size_t n_uses, uses_room;
	uint64_t *huge; /* owned: ids of processes that had many huge pages before the rounds */
	size_t n_huge, huge_room;
	struct mem_ranges clean; /* in the freeze: pages whose content the image has */
};
/* The first step of a checkpoint, while the job runs: takes over what an earlier worker tracks, and runs the rounds of
 * CRIU_PreDump. Never fails: memory of which nothing is known is taken in the freeze. */
void tracking_begin(struct memory_step *s, struct worker *w, int epochfd);
/* *bytes: an estimate of what will have to be taken of the process in the freeze. False: nothing of it is known. */
bool tracking_expects(struct tracking *p, uint64_t id, uint64_t *bytes);
/* In the freeze: fills clean. */
void tracking_freeze(struct memory_step *s);
/* The image that clean refers to; NULL: there is none. Borrowed. */
struct mem_image *tracking_image(const struct memory_step *s);
/* After the memory is written: decides whether writes are tracked until the next checkpoint. If not, nothing of the
 * tracking stays in the job. */
void tracking_decide(struct memory_step *s, const struct worker *w);
/* The epoch is complete: leaves what is tracked in the mailbox for the next worker. */
void tracking_leave(struct memory_step *s, const struct worker *w);
/* Removes the directories of rounds from the epoch's and, unless it was left, the tracking from the job. */
void tracking_end(struct memory_step *s, int epochfd);

/* tracking_use.c: struct tracking.uses. */

/* The entry of one process, made if there is none; a caller that asks for many does so in ascending order. */
struct tracking_use *tracking_use_of(struct tracking *p, uint64_t id);
/* present: the memory in use, as of a scan. */
void tracking_set_used(struct tracking *p, const struct mem_ranges *present);
/* clean: the part of it that is clean. Returns the sum of what is not, in bytes. */
uint64_t tracking_set_left(struct tracking *p, const struct mem_ranges *clean);

/* predump.c: rounds of copying before the freeze. */

/* False where Slurm waits for the job to leave its node, and where there is nothing to gain. */
bool predump_wanted(const struct worker *w);
/* Runs the rounds. -1: one has failed, which is in the warnings; what is tracked must not be used. */
int predump_run(struct memory_step *s, struct worker *w, int epochfd);
/* Closes the image of the last round and removes the directories of all rounds. */
void predump_end(struct tracking *p, int epochfd);

/* What is known of one process before the freeze, and the way of taking its memory that follows from it. */
struct memory_wanted {
	pid_t host;
	struct mem_usage usage;
	uint64_t fork_shared; /* bytes that it shares with another process, with which they are taken */
	struct mem_rewriting rewriting;
	enum mem_method method;
	char why[256]; /* the reason for that way */
};

/* take_memory.c: the steps of one checkpoint with fsched's own memory engine. */
struct memory_step {
	struct tracking tracking;
	struct previous_image previous;
	bool on;                    /* criu leaves out private memory, fsched takes it */
	char why_criu[320];         /* otherwise: why not */
	bool leave_shared;          /* set by the caller: shared memory is left to criu */
	struct mem_shared *objects; /* fsched takes large shared memory, too; NULL: criu does */
	bool shared_failed;         /* the failed step is that of shared memory */
	struct mem_snapshot *snapshot;
	struct memory_wanted *wanted; /* per process, before the freeze */
	int n_wanted;
	struct mem_process *procs;
	size_t n_procs, procs_room;
	struct mem_fork_shared fork_shared; /* in the freeze: pages that are taken with another process that shares them
					     */
	uint64_t shared, cow_room;
	bool written;
	bool failed; /* the engine failed, not criu or a file */
	struct mem_write_stats *stats;
	struct mem_collapse *huge; /* huge pages as of before the freeze; NULL: the job does not run on */
};
/* Why fsched can neither take memory nor give it back on this node, or NULL. */
const char *memory_why_criu(const struct worker *w);
/* Before the freeze. Decides whether the engine is used at all; never fails. */
void memory_begin(struct memory_step *s, struct worker *w, int criufd);
/* In the freeze: takes the snapshot. */
int memory_freeze(struct memory_step *s, struct worker *w, int epochfd, int criufd, const struct criu_dump *d,
		  struct err *err);
/* After the freeze (in a vacate, and where there is no memory for a copy, still in it): writes the image. Fills
 * m->memory. */
int memory_finish(struct memory_step *s, struct worker *w, int epochfd, int criufd, struct manifest *m, struct err *err);
/* Blocks until the job's huge pages that the checkpoint has split are whole again. */
void memory_end(struct memory_step *s, int epochfd);

#define MEMORY_KEPT (256u << 10) /* bytes of a process that stay in criu's images: an estimate before the dump */

/* memory_step.c */

/* Options of an image, from the configuration. */
void memory_write_opts(const struct worker *w, struct mem_write_opts *o);
/* The entry of a process in s->wanted; NULL: the process was not there before the freeze. */
const struct memory_wanted *memory_wanted(const struct memory_step *s, pid_t host);

/* memory_fork_shared.c: pages that processes share since a fork. */

/* Whether a process shares so much that its pages are compared with those of others, so that each is taken once. */
bool memory_shares_much(const struct mem_usage *u);
/* Before the freeze: fills memory_wanted.fork_shared. */
void memory_fork_shared_scan(struct memory_step *s, const struct tree *t);
/* In the freeze: fills mem_process.shares and removes the pages that another process has from what is taken of each. */
void memory_fork_shared_freeze(struct memory_step *s);
/* In a round of a pre-dump, after the scan that has given present and clean: makes p->fork_shared anew. */
void memory_fork_shared_round(struct tracking *p, const struct mem_ranges *present, const struct mem_ranges *clean);

/* memory_shared.c: shared memory. */

/* Before the freeze. room: bytes that copies may take; reduced by what is reserved. */
void memory_shared_begin(struct memory_step *s, struct worker *w, const struct tree *t, uint64_t *room);
/* files_opts.carry; arg: memory_step.objects. */
bool memory_shared_carry(void *arg, const char *path, int fd, const struct stat *st);
/* In the freeze: copies it. */
int memory_shared_freeze(struct memory_step *s, const struct worker *w, const struct criu_facts *f, int criufd,
			 int tracer_fd, struct err *err);

/* moved_sockets.c: Unix sockets whose file was renamed or linked after bind(). */
/* In the freeze, when criu has dumped: returns the member "sockets" of the manifest. fd: the file of names that criu
 * got. Owned by the caller. */
json_t *moved_sockets_read(int fd);
/* In a restore: the variable of criu's environment. Owned by the caller also after a failure. */
int moved_sockets_env(const json_t *sockets, char **variable, struct err *err);

/* closed_tcp.c: TCP connections that are closed in the restored job. */
/* In the freeze, when criu has dumped: returns the member "closed" of the manifest; NULL: there is none. fd: the file
 * of names that criu got. Owned by the caller. */
json_t *closed_tcp_read(int fd);

/* thread_attributes.c: what criu does not save of threads (CPU affinity and others). */
/* In the freeze: returns the member "threads" of the manifest; NULL if the leader cannot be read. Owned by the caller.
 */
json_t *thread_attributes_read(const struct tree *t);
/* memory_policy.c: memory policies (numa(7)) as text: "interleave=static:0-1,4". */
#define MEMORY_POLICY_TEXT 128
#define MEMORY_POLICY_NONE "default"
/* Of a line of /proc/PID/numa_maps. */
void memory_policy_of_line(const char *line, char policy[MEMORY_POLICY_TEXT]);
/* Of a thread. False: it cannot be read (a kernel without NUMA). */
bool memory_policy_of_thread(pid_t tid, char policy[MEMORY_POLICY_TEXT]);
/* A bit for each NUMA node of this machine. */
unsigned long memory_policy_online(void);
/* The arguments of set_mempolicy(2); *mode includes its flags. False: this node cannot give it, or it is not known;
 * both are 0 then. */
bool memory_policy_here(const char *text, long *mode, unsigned long *nodes);

/* own_calls.c: system calls that a stopped thread makes for a restore. */
struct own_calls {
	struct helper_task task;
	uint64_t page; /* of the process, for arguments; it is new */
};
/* tracer: of trace/tracer.h; tid: as the tracer sees it; host: its process. After a failure there is nothing to end. */
int own_calls_begin(struct own_calls *c, int tracer, pid_t tid, pid_t host, struct err *err);
/* name: for messages. 0, or -1: the call could not be made, or has failed. */
int own_calls_make(const struct own_calls *c, const char *name, long nr, const long args[6], struct err *err);
/* Makes a mask of nodes the argument of a call. */
int own_calls_nodes(const struct own_calls *c, unsigned long nodes, long *mask, long *max, struct err *err);
int own_calls_end(struct own_calls *c, struct err *err);

/* semaphore_undo.c: what the kernel adds to System V semaphores when a process ends. */
/* False: the process has never made such an adjustment. One with threads counts as if it had: the kernel makes a list
 * for them to share. */
bool semaphore_undo_any(pid_t host);
/* In the freeze: appends [id, number, adjustment] for each. -1: some are not known. */
int semaphore_undo_read(const struct own_calls *c, json_t *found);
/* In a restore: sets one of them. */
int semaphore_undo_set(const struct own_calls *c, const json_t *one, struct err *err);

/* space_attributes.c: what criu does not save of mappings and address spaces. */
/* Before the freeze: returns the member "spaces" of the manifest. Owned by the caller. */
json_t *space_attributes_scan(struct worker *w, const struct tree *t);
/* In the freeze: brings it up to date. tracer: of trace/tracer.h; -1: there is none, and what only the processes
 * themselves know is a warning. semaphores: the job has any of System V. */
void space_attributes_freeze(struct worker *w, const struct tree *t, int tracer, bool semaphores, json_t *list);
bool space_attributes_any(const json_t *list);
/* In a restore, when all processes exist and none runs, before memory is filled: pages go where their policy says. */
int space_attributes_set(struct worker *w, int tracer, pid_t init, const json_t *list, struct err *err);

/* Fails if this process has fewer CPUs than threads need that are bound to CPUs of their own. */
int thread_attributes_check(const struct worker *w, const json_t *threads, struct err *err);
/* True if there is anything that thread_attributes_set() has to set. */
bool thread_attributes_any(const json_t *threads);
/* In a restore: the variable of criu's environment for the part that each process sets for itself. Owned by the caller.
 */
char *thread_attributes_env(struct worker *w, const json_t *threads);
/* In a restore, when all threads exist and none runs: sets the rest. What cannot be set is a warning. tracer: of
 * trace/tracer.h. */
int thread_attributes_set(struct worker *w, int tracer, pid_t init, const json_t *threads, struct err *err);

/* socket_options.c: options of sockets that criu does not save. */
/* In the freeze: returns the member "options" of the manifest. Owned by the caller. Warns of datagrams that will be
 * lost.
 */
json_t *socket_options_read(struct worker *w, const struct tree *t);
bool socket_options_any(const json_t *list);
/* As thread_attributes_set(). */
int socket_options_set(struct worker *w, pid_t init, const json_t *list, struct err *err);

/* watches.c: in the freeze, warns of events of inotify and fanotify, and of flags of watches, that a restart will lose.
 */
void watches_warn(struct worker *w, const struct tree *t);

/* fill_memory.c: what is done in a restore before criu resumes the processes: the memory of an epoch whose manifest
 * says memory.ours, and what fsched has saved of processes and sockets beside criu. */
struct fill_memory {
	bool on;
	bool fill;     /* fsched fills the memory; else criu restores it from plain images */
	bool stops;    /* criu waits before it resumes the processes */
	int criufd;    /* borrowed: criu's images of the epoch */
	int dirfd;     /* the directory that criu reads instead */
	int tracer[2]; /* the socket to the tracer inside criu: our end, criu's end */
	struct mem_image *image;
	struct mem_fork_family family;
	pid_t reader;               /* the process that reads ahead; 0: none */
	struct mem_shared *objects; /* while memory is filled */
	uint8_t token[16];          /* of the marks in shared memory */
};
/* fill: false if filling has failed before. Nothing happens if the epoch has no memory/. */
int fill_memory_begin(struct fill_memory *b, struct worker *w, int epochfd, int criufd, const struct manifest *m,
		      bool fill, struct err *err);
/* init: pid 1 of the new pod. 0 also if criu has failed, which pid 1 reports to the agent. -1: the pod still exists and
 * must not be used. */
int fill_memory_finish(struct fill_memory *b, struct worker *w, pid_t init, const struct manifest *m, struct err *err);
void fill_memory_end(struct fill_memory *b, const struct worker *w);

/* fault.c: faults on purpose, for tests. Their names and meanings are in that file. */
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
/* Prints the table of faults. */
void fault_list(FILE *out);
/* Whether a test asks for the fault. */
bool fault(const struct worker *w, enum fault f);
/* The functions below do nothing if it does not. */

/* Kills the worker. */
void fault_die(const struct worker *w, enum fault f);
/* Makes the file "waiting" in the job's directory and waits until a test has removed it. */
void fault_wait(const struct worker *w, enum fault f);
/* The tracer dies at the step of an injected call that the test names. tracer_fd: trace/tracer.h. */
void fault_in_call(const struct worker *w, enum fault f, int tracer_fd);
/* Kills the newest process of the job. */
void fault_target_dies(const struct worker *w, enum fault f);
/* Kills criu. init: the pod's pid 1. */
void fault_criu_dies(const struct worker *w, enum fault f, pid_t init);
/* The worker waits for ever; criu is stopped; criu's driver is stopped and the worker waits for ever. */
void fault_hang(const struct worker *w, enum fault f);
void fault_criu_hangs(const struct worker *w, enum fault f, pid_t init);
void fault_driver_hangs(const struct worker *w, enum fault f, pid_t init);

/* restore_terminals.c: reads which terminals a restored job has. To be freed with criu_terminals_free(). */
int restore_terminals_read(int criufd, struct criu_terminals *t, struct err *err);
/* In the new pod's pid 1: makes them, at descriptors from POD_TERMINALS_FD on, two for each. They belong to c's user.
 */
int restore_terminals_make(const struct criu_terminals *t, const struct pod_cred *c, struct err *err);
/* The variable that tells the library in criu about them. */
char *restore_terminals_env(const struct criu_terminals *t);

/* unlinked_names.c: writes the names into the file that criu inherits. */
int unlinked_names_write(const struct files_names *x, const struct request *r, int fd, struct err *err);

/* trace_lock.c: true if this worker may stop the job's processes, from now until it exits. false: another worker still
 * does after wait_ms. */
bool trace_lock_take(struct worker *w, int wait_ms);

/* warn.c: adds to w->warnings. */
void worker_warn(struct worker *w, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* quota.c */
bool quota_applies(const struct worker *w);
/* need: bytes that the epoch will take. 0: no quota is exceeded, and the epoch counts until quota_end(). -1: it would
 * be, and w->over_quota says by how much, or that cannot be found out. */
int quota_check(struct worker *w, uint64_t need, struct err *err);
/* The checkpoint has failed. After one that succeeded the agent does the same, when the epoch is in the record. */
void quota_end(const struct worker *w);

/* writers.c */
/* Waits until few enough others on this node make a checkpoint. -1: it is to be left out, since that took too long. */
int writers_begin(struct worker *w, struct err *err);
/* The epoch is on the disk. The end of the process does the same. */
void writers_end(struct worker *w);

/* space.c: -1: the checkpoint does not fit. Fills w->memory. */
int space_check(struct worker *w, const pid_t *pids, int n, struct err *err);
/* Checks the limits once more if the job has grown clearly since. Before its memory is taken; pids are stopped. */
int space_check_stopped(struct worker *w, const pid_t *pids, int n, struct err *err);
/* The same when the epoch is written. bytes: what it takes beside what older epochs have. */
int space_check_written(struct worker *w, uint64_t bytes, struct err *err);

static inline struct files_cred worker_cred(const struct worker *w)
{
	return (struct files_cred){ w->req.uid, w->req.gid, w->req.groups, w->req.n_groups };
}

#endif
