/* Consistent files: what the job had open for writing when it was frozen, what it had written and closed before, and
 * how to put it back.
 *
 * Recorded while the tree is frozen, put back before criu restores:
 *   grown            -> truncated to the recorded size (append-only logs become byte-identical)
 *   changed in place -> the saved copy is put back (opened O_RDWR or not at its end, or mapped MAP_SHARED)
 *   missing          -> recreated from the copy, else an error that names the file
 *   shrunk           -> the copy, else an error that names the file
 *   replaced         -> (another inode) accepted when size and tail digest fit, else as changed
 * Written and closed again before the checkpoint (FILES_JOURNAL names these):
 *   up to 1 MiB, or seen to be rewritten -> a copy, put back if the file differs, is gone, or its directory is
 *   larger           -> as one that only grows
 * Written for the first time after the checkpoint: removed.
 * CRIU stores no size for O_APPEND files, so a grown one would silently duplicate output: this record is the only
 * guard.
 *
 * Every path comes from the user's processes. Reading happens on descriptors of the frozen tasks; a path of a closed
 * file is opened with the user's rights only; everything that opens a path for writing runs in a child that has dropped
 * to the job's uid, gid and groups for good.
 */
#ifndef FSCHED_FILES_FILES_H
#define FSCHED_FILES_FILES_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <jansson.h>
#include "base/err.h"

struct files_cred {
	uid_t uid;
	gid_t gid;
	gid_t *groups;
	int n_groups;
};

/* Other names of files whose own is gone, as the pod sees them; of deleted ones, under which they are to be made again.
 */
struct files_names {
	struct files_name {
		dev_t dev;
		ino_t ino;
		char *path;
		bool deleted;
	} * v; /* owned */
	size_t n, room;
};

struct files_opts {
	uint64_t file_limit; /* bytes of copies per epoch; a file beyond it is recorded as "not saved" */
	uint64_t tmp_limit;  /* bytes of /tmp + /dev/shm */
	bool private_tmp;
	bool runs_on; /* the job does after the epoch: a file that it changes in place and that is not saved makes the
			 epoch useless */
	struct files_cred cred;
	const struct files_names *names; /* NULL: none are known */
	/* Who takes the data of large files of /dev/shm, which are then holes in the archive; NULL: nobody. path: below
	 * /dev/shm; fd is borrowed. False: not this one. */
	bool (*carry)(void *arg, const char *path, int fd, const struct stat *st);
	void *carry_arg;
};

#define FILES_CARRY_MIN (1u << 20) /* bytes of data that a file must have to be offered */

/* pids: host pids of all processes of the frozen tree. init_pid: pid 1 of the pod; its /proc/PID/root
 * gives the pod's file system. filesfd: the epoch's files/ directory. Adds one object per file to *records
 * (json array, owned by the caller) and copies to filesfd. Nothing is fsynced. warnings (json array of strings) may
 * grow. Fails (-1) only for what would make the epoch useless, e.g. /tmp over its limit or disk full. */
int files_record(const pid_t *pids, int n_pids, pid_t init_pid, int filesfd, const struct files_opts *o,
		 json_t *records, json_t *warnings, struct err *err);

/* Before the freeze. -1: files_record() could not save a file that the job changes in place, or its private /tmp and
 * /dev/shm (EFBIG); err names process and file. */
int files_look(const pid_t *pids, int n, pid_t init, const struct files_opts *o, struct err *err);

/* For all open or mapped files of the processes that have a link, but not under the name by which they were opened:
 * adds another of its names to *x. quick: looks for those that are not there yet in one directory only, as in the
 * freeze. -1: err names a process and a file whose name was not found. */
int files_names_find(struct files_names *x, const pid_t *pids, int n, pid_t init, const struct files_opts *o,
		     bool quick, struct err *err);
void files_names_free(struct files_names *x);

/* ---- files that were written and closed ---- */

#define FILES_JOURNAL "written" /* below the job's directory; kept by the agent, paths ended by NUL */

/* Three steps, so that the job stands still for no more than a look at each file. The records of the epoch before, if
 * they are given, spare most copies: a file that has not changed gets a hard link to the copy that is there. */
struct files_written;
/* jobfd: the job's directory. filesfd: the new epoch's files/, which must stay open. NULL with err. */
struct files_written *files_written_open(int jobfd, pid_t init_pid, int filesfd, const struct files_opts *o,
					 struct err *err);
/* previous: records of an earlier epoch with its files/ directory, or NULL and -1. The job runs. -1: the copies cannot
 * be written. */
int files_written_prepare(struct files_written *w, const json_t *previous, int previous_filesfd, struct err *err);
/* The job is frozen and the agent has brought the journal up to date. open: what files_record() gave. */
int files_written_freeze(struct files_written *w, const json_t *open, struct err *err);
/* Adds the records; the job may run again. */
int files_written_finish(struct files_written *w, json_t *records, json_t *warnings, struct err *err);
void files_written_close(struct files_written *w);

/* fsync of every recorded file, so that a node that dies after the checkpoint does not take back what the record
 * promises. Call when the job runs on, before the epoch is committed. */
int files_sync(const json_t *records, const struct files_cred *cred, struct err *err);

/* Checks, changing nothing, that files_put_back would succeed: the first problem found is in err's text, with the
 * number of the others. */
int files_check(const json_t *records, int filesfd, const struct files_cred *cred, struct err *err);

/* Puts the files of the shared file systems back. Call before the pod exists. */
int files_put_back(const json_t *records, int filesfd, const struct files_cred *cred, json_t *warnings, struct err *err);

struct files_undo {
	unsigned epoch;
	int64_t frozen_at; /* Unix us, when its freeze began */
	const json_t *records;
	bool private_tmp;
	const struct files_cred *cred;
};
/* Removes the files that the journal names and that came after the epoch. Behind files_put_back(). A file that cannot
 * be removed is a warning. */
int files_undo_written(int jobfd, const struct files_undo *u, json_t *warnings, struct err *err);

/* Fills the pod's new, empty /dev/shm and private /tmp. root: descriptor of the directory in which dev/shm and tmp
 * of the new pod appear, or call it inside the new mount namespace with an open "/" . */
int files_unpack_private(int rootfd, int filesfd, bool private_tmp, struct err *err);

#endif
