/* Stock criu as a child process: how it is found, probed and run.
 *
 * A dump uses criu's RPC, so that fsched can act while the job is frozen without starting a program there. A restore
 * uses criu's command line. The caller keeps a watchdog: every process that is made here has PR_SET_PDEATHSIG =
 * SIGKILL, so killing the worker kills criu. When criu is killed, the kernel resumes the frozen processes (for TCP
 * connections see criu/tcp_freeze.h). */
#ifndef FSCHED_CRIU_CRIU_H
#define FSCHED_CRIU_CRIU_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include "base/err.h"

struct criu_bin {
	/* NULL-terminated command prefix, owned: {criu} or {ld.so, --library-path, LIBS, [--preload, LIB,] criu} */
	char *argv[8];
	char preload[4096]; /* path of fsched's preload library, "" = none */
	char version[32];   /* "4.2.1" */
	char *job; /* owned; set by criu_act_for(): the rights with which criu opens the job's files; NULL = root's */
};

/* Finds criu. conf is CriuPath of fsched.conf: a criu binary, a directory made by get-criu (it holds criu, lib/ and
 * ld.so), or "". With "" the first usable one is taken of:
 *
 * - <libexec>/criu
 *
 * - /usr/lib/fsched/criu
 *
 * - /usr/sbin/criu
 *
 * - /usr/local/sbin/criu
 *
 * Returns 0, or -1; then err says which places were searched and what to do. */
int criu_locate(const char *conf, const char *libexec, struct criu_bin *b, struct err *err);
void criu_bin_free(struct criu_bin *b);
/* From now on criu opens, makes and removes the job's files with the rights of its user (preload/by_name.c), because
 * the user can change what a name leads to. Must be called before every dump and restore. Returns -1 if the preload
 * library is missing. */
int criu_act_for(struct criu_bin *b, uid_t uid, gid_t gid, const gid_t *groups, int n_groups, struct err *err);
/* Runs `criu check` for at most timeout_s seconds. Returns 0, or -1 with criu's last Error line. */
int criu_check(const struct criu_bin *b, int timeout_s, struct err *err);

/* Asks criu, with the preload library loaded, if it can leave memory out of a dump. Returns 0, or -1 with the reason.
 */
int criu_check_elide(const struct criu_bin *b, int timeout_s, struct err *err);

struct criu_dump {
	pid_t init;    /* host pid of the pod's pid 1 */
	int images_fd; /* criu/ directory of the epoch */
	/* Directory for dump.log and stats-dump, to which criu writes also after frozen(); 0 = images_fd. */
	int work_fd;
	uint64_t ghost_limit; /* bytes: deleted files that are open are saved up to this size */
	/* The name of the dummy parent in images_fd (criu/dummy_parent.h). Private memory is left out of the dump: criu
	 * writes only the list of its pages (preload/elide.c). NULL = criu saves all memory. */
	const char *elide_parent;
	bool elide_shared; /* with elide_parent: large shared memory is left out, too; criu writes no list of it */
	int names_fd;      /* a file in the format of preload/unlinked_names.h; criu inherits it */
	/* TCP connections to processes outside the job are left out: they are closed in the restored job. Otherwise
	 * those to other hosts fail the dump. */
	bool tcp_close;
	/* Called, if not NULL, with "frozen" as soon as all processes are stopped. */
	void (*phase)(void *arg, const char *name);
	/* Called then, before criu looks at any file: fills names_fd. -1 = thaw and report failure. */
	int (*stopped)(void *arg, struct err *err);
	/* Called when everything is dumped and the processes are still frozen. They stay frozen until it returns; it
	 * may block (vacate does). Returns:
	 *
	 * 0 = thaw and report success;
	 *
	 * -1 = thaw and report failure;
	 *
	 * 1 = the pod was killed meanwhile: report success, there is nothing to thaw. */
	int (*frozen)(void *arg, struct err *err);
	void *arg;
	/* Seconds for which the processes may be frozen. After that criu is killed, which thaws them. The error names
	 * freeze_configured as CheckpointFreezeTimeout. */
	unsigned freeze_limit, freeze_configured;
	int remote_call; /* with elide_parent, for frozen(): the socket to the library in criu (trace/remote_call.h) */
	int watch_fd;    /* internal */
	int64_t frozen_us;    /* out: how long the processes were frozen, from stats-dump; 0 if the pod was killed */
	int64_t freeze_began; /* out: CLOCK_REALTIME in us */
};
/* Dumps the pod. Returns 0, or -1 with the Error lines of criu's log, never only "criu failed". Afterwards the
 * processes run in both cases, unless frozen() has returned 1. */
int criu_dump(const struct criu_bin *b, struct criu_dump *d, struct err *err);
/* For frozen(): from now on the processes may stay frozen for so many seconds. */
void criu_dump_allow(const struct criu_dump *d, unsigned seconds);
/* For frozen(): returns false if criu has died. Then the processes run again, and what was read of them meanwhile may
 * be inconsistent. */
bool criu_still_frozen(const struct criu_dump *d);

/* argv of the restore command that fsched-init runs. It expects the images on descriptor 10, the log directory on 11,
 * and, if there is one, criu's end of the socket of trace/remote_call.h on CRIU_REMOTE_CALL_FD.
 *
 * stops: criu calls the library before it resumes the processes. It is needed for memory that is filled by fsched and
 * for TCP connections. leave_stopped: criu leaves the processes stopped (SIGSTOP), so that they make no step. The
 * caller frees the result with criu_argv_free(). */
#define CRIU_REMOTE_CALL_FD 12
char **criu_restore_argv(const struct criu_bin *b, bool stops, bool leave_stopped);
/* The environment of criu. elide, shared: as elide_parent and elide_shared of struct criu_dump. remote_call and names
 * are the numbers of descriptors, -1 = none: criu's end of the socket of trace/remote_call.h, and a file in the format
 * of preload/unlinked_names.h. The caller frees the result with criu_argv_free(). */
char **criu_envp(const struct criu_bin *b, bool elide, bool shared, int remote_call, int names);
/* Appends a variable to what criu_envp() has returned, and takes it over. */
void criu_envp_add(char ***envp, char *variable);
void criu_argv_free(char **v);
/* Puts into buf what the log name says of a failure, in words for people. If the table of obstacles (policy/obstacle.h)
 * knows the cause, the text says what to do. "" if the log has no error. Returns buf. */
char *criu_log_explain(int dirfd, const char *name, char *buf, size_t len);

/* Checks that every thread in the images has the uid of the job, and only groups of the job. criu is root and would
 * restore other credentials as well. Returns 0, or -1; then err names the image and the credential. */
int criu_check_creds(int images_fd, uid_t uid, gid_t gid, const gid_t *groups, int n_groups, struct err *err);
/* Anonymous shared memory in the images. */
struct criu_shared {
	uint64_t ino;
	uint64_t size; /* bytes that processes map of it */
};
/* What the memory engine needs to know of the images of a dump. All arrays are owned. */
struct criu_facts {
	uint64_t *rseq; /* addresses, in any process, to which the kernel writes for a thread (rseq(2)); ascending */
	size_t n_rseq, room_rseq;
	pid_t *stopped; /* pids of processes that a signal has stopped */
	size_t n_stopped, room_stopped;
	bool subreaper;             /* a process other than the leader adopts orphans */
	struct criu_shared *shared; /* ascending by ino */
	size_t n_shared, room_shared;
};
int criu_read_facts(int images_fd, struct criu_facts *f, struct err *err);
void criu_facts_free(struct criu_facts *f);
/* True if there are System V semaphores among the images. */
bool criu_has_semaphores(int images_fd);
/* True if there is a TCP connection among the images. */
bool criu_has_tcp(int images_fd);
/* Returns a value for ns_last_pid under which criu's own processes collide with no pid of the images: a random pid
 * above min and above all pids of the images. If that leaves too little choice, it is a pid in any gap between them. It
 * is random so that nobody can foresee the pids. -1 with err if the directory holds no image of a process. */
int criu_last_pid(int images_fd, int min, struct err *err);

#endif
