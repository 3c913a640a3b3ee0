/* Consistent files: what the job had open for writing when it was frozen, and how to put it back.
 *
 * Recorded while the tree is frozen, put back before criu restores:
 *   grown            -> truncated to the recorded size (append-only logs become byte-identical)
 *   changed in place -> the saved copy is put back (opened O_RDWR or not at its end, or mapped MAP_SHARED)
 *   missing          -> recreated from the copy, else an error that names the file
 *   shrunk           -> the copy, else an error that names the file
 *   replaced         -> (another inode) accepted when size and tail digest fit, else as changed
 * CRIU stores no size for O_APPEND files, so a grown one would silently duplicate output: this record is the only guard.
 *
 * Every path comes from the user's processes. Reading happens on descriptors of the frozen tasks; everything that opens a path
 * for writing runs in a child that has dropped to the job's uid, gid and groups for good.
 */
#ifndef FSCHED_STORE_FILES_H
#define FSCHED_STORE_FILES_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <jansson.h>
#include "common/err.h"

struct files_cred { uid_t uid; gid_t gid; gid_t *groups; int n_groups; };

struct files_opts {
	uint64_t file_limit;      /* bytes of copies per epoch; a file beyond it is recorded as "not saved" */
	uint64_t tmp_limit;       /* bytes of /tmp + /dev/shm */
	bool     private_tmp;
	struct files_cred cred;
};

/* pids: host pids of all processes of the frozen tree. init_pid: pid 1 of the pod; its /proc/PID/root
 * gives the pod's file system. filesfd: the epoch's files/ directory. Adds one object per file to *records
 * (json array, owned by the caller) and copies to filesfd. Nothing is fsynced. warnings (json array of strings) may grow.
 * Fails (-1) only for what would make the epoch useless, e.g. /tmp over its limit or disk full. */
int files_record(const pid_t *pids, int n_pids, pid_t init_pid, int filesfd,
		 const struct files_opts *o, json_t *records, json_t *warnings, struct err *err);

/* fsync of every recorded file, so that a node that dies after the checkpoint does not take back what the record promises.
 * Call when the job runs on, before the epoch is committed. */
int files_sync(const json_t *records, const struct files_cred *cred, struct err *err);

/* Checks, changing nothing, that files_put_back would succeed: the first problem found is in err's text, with the number of the others. */
int files_check(const json_t *records, int filesfd, const struct files_cred *cred, struct err *err);

/* Puts the files of the shared file systems back. Call before the pod exists. */
int files_put_back(const json_t *records, int filesfd, const struct files_cred *cred,
		   json_t *warnings, struct err *err);

/* Fills the pod's new, empty /dev/shm and private /tmp. root: descriptor of the directory in which dev/shm and tmp
 * of the new pod appear, or call it inside the new mount namespace with an open "/" . */
int files_unpack_private(int rootfd, int filesfd, bool private_tmp, struct err *err);

#endif
