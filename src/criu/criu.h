/* Stock criu as a child process: found, probed, driven through its RPC for dumps (so that fsched acts inside the freeze
 * without starting a program there) and by its command line for restores. Always under a watchdog of the caller: every
 * process made here has PR_SET_PDEATHSIG = SIGKILL, so killing the worker kills criu, which releases the frozen tree
 * (facts: criu gone = tasks run on; TCP: criu/tcp_freeze.h). */
#ifndef FSCHED_CRIU_CRIU_H
#define FSCHED_CRIU_CRIU_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include "base/err.h"

struct criu_bin {
	char *argv[8];      /* NULL-terminated command prefix: {criu} or {ld.so, --library-path, LIBS, [--preload, LIB,]
			       criu} */
	char preload[4096]; /* path of fsched's preload library, "" = none */
	char version[32];   /* "4.2.1" */
	char *job; /* set by criu_act_for(): the rights with which criu follows the names of the job's files; NULL =
		      root's */
};

/* conf: CriuPath of fsched.conf: a criu binary, a directory made by get-criu (holds criu, lib/ and ld.so), or "" = the
 * first of <libexec>/criu, /usr/lib/fsched/criu, `criu` in /usr/sbin:/usr/local/sbin. Fails with what was looked at and
 * what to do. */
int criu_locate(const char *conf, const char *libexec, struct criu_bin *b, struct err *err);
void criu_bin_free(struct criu_bin *b);
/* From now on criu opens, makes and removes the job's files with the rights of its user (src/preload/as_user.c): what a
 * name leads to is the user's to change. To be called before every dump and restore. Fails where the preload library is
 * missing. */
int criu_act_for(struct criu_bin *b, uid_t uid, gid_t gid, const gid_t *groups, int n_groups, struct err *err);
/* Runs `criu check` under a time limit. 0, or -1 with criu's last Error line. */
int criu_check(const struct criu_bin *b, int timeout_s, struct err *err);

/* Asks criu, with the library that makes it so, whether memory can be left out of a dump. 0, or -1 with the reason. */
int criu_check_elide(const struct criu_bin *b, int timeout_s, struct err *err);

struct criu_dump {
	pid_t init;    /* host pid of the pod's pid 1 */
	int images_fd; /* criu/ directory of the epoch */
	int work_fd; /* directory for dump.log and stats-dump, which criu goes on writing after frozen(); 0 = images_fd
		      */
	uint64_t ghost_limit; /* bytes: deleted-but-open files up to this size are saved */
	/* Private memory is left out: criu writes the list of its pages only (src/preload/elide.c). The name of the
	 * dummy parent in images_fd (criu/dummy_parent.h); NULL = criu dumps everything. */
	const char *elide_parent;
	bool elide_shared; /* with elide_parent: large shared memory too, of which not even a list is written */
	int names_fd;      /* a file in the format of preload/unlinked_names.h, for criu to inherit */
	/* Called (if not NULL) with "frozen" as soon as the tree stands still. */
	void (*phase)(void *arg, const char *name);
	/* Called then, before criu looks at any file: fills names_fd. -1 = thaw and report failure. */
	int (*stopped)(void *arg, struct err *err);
	/* Called when everything is dumped and the tree is still frozen; 0 = thaw and report success, -1 = thaw and
	 * report failure, 1 = the pod was killed meanwhile: success, there is nothing to thaw. It may block (vacate
	 * does): the tree stays frozen until it returns. */
	int (*frozen)(void *arg, struct err *err);
	void *arg;
	/* Seconds for which the tree may stand still; after that criu is killed, which thaws it. configured: the
	 * limit's name is told with it. */
	unsigned freeze_limit, freeze_configured;
	int remote_call; /* with elide_parent, for frozen(): the socket to the library in criu (trace/remote_call.h) */
	int watch_fd;    /* internal */
	int64_t frozen_us; /* out: how long the tree stood still, from criu's own stats-dump; 0 if the pod was killed */
	int64_t freeze_began; /* out: CLOCK_REALTIME µs */
};
/* 0, or -1 with the Error lines of criu's log, never only "criu failed". The tree runs afterwards in both cases
 * (unless frozen() returned 1). */
int criu_dump(const struct criu_bin *b, struct criu_dump *d, struct err *err);
/* For frozen(): from now on the tree may stand still for so many seconds. */
void criu_dump_allow(const struct criu_dump *d, unsigned seconds);
/* For frozen(): false once criu has died and the tree therefore runs again, so that what was read meanwhile may be
 * torn. */
bool criu_still_frozen(const struct criu_dump *d);

/* argv and envp of the restore command that fsched-init runs; images on descriptor 10, log directory on 11, the hand,
 * if there is one, on CRIU_REMOTE_CALL_FD. stops: the library is told before the processes are let go, for memory that
 * is to be filled, or TCP connections. Caller frees with criu_argv_free(). */
#define CRIU_REMOTE_CALL_FD 12
char **criu_restore_argv(const struct criu_bin *b, bool stops);
/* elide, shared: as in struct criu_dump. hand: the number of criu's end of a hand's socket (trace/remote_call.h), -1 =
 * none; names: of the file with names (preload/unlinked_names.h). */
char **criu_envp(const struct criu_bin *b, bool elide, bool shared, int remote_call, int names);
void criu_argv_free(char **v);
/* What criu's log says of a failure, in words for people and with what to do where the table of obstacles
 * (policy/obstacle.h) knows it.
 * "" if it says nothing. */
char *criu_log_explain(int dirfd, const char *name, char *buf, size_t len);

/* Checks that every thread in the images of a dump has the uid, and only groups, of the job: an image with other
 * credentials would be restored by root with those. -1: err names image and credential. */
int criu_check_creds(int images_fd, uid_t uid, gid_t gid, const gid_t *groups, int n_groups, struct err *err);
/* Checks that the images hold no file that the job's user could not open again (kernel_files.h). mounts: of the pod, or
 * of a node on which it is to be restored. -1: err names process, descriptor and path. */
struct mount_table;
int criu_check_files(int images_fd, const struct mount_table *mounts, struct err *err);
/* What the memory engine has to know of the images of a dump. */
struct criu_facts {
	uint64_t *rseq;
	size_t n_rseq, room_rseq; /* owned: addresses, in whatever process, at which the kernel writes for a thread;
				     ascending */
	pid_t *stopped;
	size_t n_stopped, room_stopped; /* owned: pids of processes that a signal has stopped */
	bool subreaper;                 /* a process besides the leader adopts orphans */
	struct criu_shared {
		uint64_t ino, size;
	} * shared; /* owned: anonymous shared memory, and how much of it processes map; ascending */
	size_t n_shared, room_shared;
};
int criu_read_facts(int images_fd, struct criu_facts *f, struct err *err);
void criu_facts_free(struct criu_facts *f);
/* Is a TCP connection among the images? */
bool criu_has_tcp(int images_fd);
/* A random pid above min and all pids of the images (or, where that leaves too little choice, in any gap between them):
 * the value for ns_last_pid under which criu's own processes collide with none of them, and which nobody can foresee.
 * -1 with err if the directory holds no image of a process. */
int criu_last_pid(int images_fd, int min, struct err *err);

#endif
