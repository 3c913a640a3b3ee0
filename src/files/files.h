/* Consistent files: records what the job had open for writing when it was frozen and what it had written and closed
 * before, and puts it back.
 *
 * Files that are open or mapped for writing are recorded while the tree is frozen, and put back before criu restores:
 * - grown: truncated to the recorded size, so that append-only logs become byte-identical. A file of another user that
 * is only appended to keeps what was added, because others may have added it
 * - changed in place (opened O_RDWR, or with an offset that is not at the end, or mapped MAP_SHARED): the copy is put
 * back
 * - missing: recreated from the copy; without a copy an error that names the file
 * - shrunk: the copy is put back; without a copy an error that names the file
 * - replaced (another inode): accepted if size and tail digest match, otherwise handled as changed
 *
 * Files that were written and closed before the checkpoint (FILES_JOURNAL lists them):
 * - up to 1 MiB, or seen to be rewritten: a copy is made, and put back if the file differs or is gone, also together
 * with its directory
 * - larger: handled as a file that only grows
 *
 * Files that were written for the first time after the checkpoint are removed.
 *
 * CRIU stores no size for O_APPEND files, so a file that has grown would silently duplicate output. Only these records
 * prevent that.
 *
 * Every path comes from the user's processes. Open files are read through descriptors of the frozen tasks. The path of
 * a closed file is opened with the user's rights only. Everything that opens a path for writing runs in a child that
 * has dropped its rights to the job's uid, gid and groups for good.
 *
 * Functions that return int return 0, or -1 with err.
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

/* Names for files whose own name is gone, as the pod sees them: another hard link or, for a deleted file, the name
 * under which a restore is to recreate it. */
struct files_names {
	struct files_name {
		dev_t dev;
		ino_t ino;
		char *path;
		bool deleted;
	} * v; /* owned */
	size_t n, room;
};

/* Scratch directories of a job on the node's disk, which are saved whole (PodScratch). */
#define FILES_SCRATCH_MAX 16
struct files_scratch {
	struct files_scratch_dir {
		char *path;
		mode_t mode;
	} * v; /* owned */
	size_t n, room;
};

struct files_early;

struct files_opts {
	uint64_t file_limit; /* bytes of copies per epoch; a file beyond it is recorded as "not saved" */
	uint64_t tmp_limit;  /* bytes of /tmp, /dev/shm and scratch directories together */
	bool private_tmp;
	const struct files_scratch *scratch; /* NULL: none */
	bool runs_on;                        /* the job continues after the epoch */
	bool must_save; /* a file that is changed in place and not saved is an error, not a warning: without it the
			   epoch can be restored only as long as nobody changes the file */
	struct files_cred cred;
	const struct files_names *names; /* NULL: none are known */
	/* Takes over the data of a large file of /dev/shm, for which the archive then has a hole. path: relative to
	 * /dev/shm; fd is borrowed. False: the archive is to have the data. NULL: no file is offered. */
	bool (*carry)(void *arg, const char *path, int fd, const struct stat *st);
	void *carry_arg;
	struct files_early *early; /* copies made before the freeze; NULL: there are none */
};

#define FILES_CARRY_MIN (1u << 20) /* bytes of data from which on a file is offered to carry */

/* Records the open files, /dev/shm and the private /tmp of a frozen job. pids: host pids of all processes of the tree.
 * init_pid: host pid of the pod's pid 1, whose /proc/PID/root is the pod's file system. filesfd: the epoch's files/
 * directory, which gets copies and archives; nothing is fsynced. Appends one object per file to records and sentences
 * to warnings (both JSON arrays, the caller's). Fails only if the epoch would be useless, for example if /tmp is over
 * its limit or the disk is full. */
int files_record(const pid_t *pids, int n_pids, pid_t init_pid, int filesfd, const struct files_opts *o,
		 json_t *records, json_t *warnings, struct err *err);

struct files_cost {        /* bytes that files_record() will write */
	uint64_t tmp, shm; /* private; with scratch directories */
	uint64_t open;     /* files that are changed in place */
	uint64_t largest;  /* one file of tmp or open */
	char path[4096];   /* its name; "" = there is none */
};

/* Checks, before the freeze, that files_record() can save every file that the job changes in place, and its private
 * /tmp and /dev/shm (EFBIG if not), and fills *cost (may be NULL). -1: err names process and file. */
int files_can_record(const pid_t *pids, int n, pid_t init, const struct files_opts *o, struct files_cost *cost,
		     struct err *err);

/* Finds another name for each open or mapped file of the processes that has a link but is not found under the name by
 * which it was opened, and adds it to *x. quick: searches for new ones in one directory only, for use in the freeze.
 * -1: err names a process and a file for which no name was found. */
int files_names_find(struct files_names *x, const pid_t *pids, int n, pid_t init, const struct files_opts *o,
		     bool quick, struct err *err);
void files_names_free(struct files_names *x);

/* ---- copies before the freeze ---- */

#define FILES_EARLY_MIN 65536 /* bytes of a file from which on it is copied before the freeze */

struct files_early_opts {
	int filesfd; /* the new epoch's files/, which must stay open */
	/* The epoch before: its records and its files/, which must stay too; NULL and -1: none. Copies that are still
	 * right are hard links to its copies. */
	const json_t *previous;
	int previous_filesfd;
	/* The device that holds nothing but the private /tmp, and a descriptor of its "stat" in sysfs; 0 and -1: there
	 * is none. What has changed in a file there since it was copied is found without reading it. */
	dev_t device;
	int device_stat;
};
struct files_early *files_early_open(const struct files_early_opts *o);
/* While the job runs: copies the large files of the private /tmp and those that the job changes in place; if the job
 * runs on, again what has changed meanwhile. Arguments as for files_record(), which then copies only what has changed
 * since. -1: the copies cannot be written. */
int files_early_prepare(struct files_early *e, const pid_t *pids, int n, pid_t init, const struct files_opts *o,
			struct err *err);
/* True if files_record() has put files of /tmp beside its archive, which older versions do not look for. */
bool files_early_used_for_tmp(const struct files_early *e);
/* Removes the copies that were not used. e may be NULL. */
void files_early_close(struct files_early *e);

/* ---- scratch directories ---- */

struct files_scratch_search {
	const char *roots;  /* directories of the node, separated by colons; "" = none */
	const char *job_id; /* "" = the job has none */
	uid_t uid;
	bool private_tmp;
};
/* Sets *s to those directories of the user that have the job's id in their names: right below a root, or named by
 * TMPDIR of a process. */
void files_scratch_find(struct files_scratch *s, const struct files_scratch_search *how, const pid_t *pids, int n);
void files_scratch_free(struct files_scratch *s);
/* For the manifest: an array, or NULL if there are none. list may be NULL. */
json_t *files_scratch_render(const struct files_scratch *s);
int files_scratch_parse(struct files_scratch *s, const json_t *list, struct err *err);
/* Empties the directories on this node, or makes them, and fills them with the user's rights. roots: of this node. To
 * be called before the pod exists, after files_undo_written(). */
int files_scratch_put_back(const struct files_scratch *s, const char *roots, int filesfd, const struct files_cred *cred,
			   json_t *warnings, struct err *err);

/* ---- files that were written and closed ---- */

#define FILES_JOURNAL "written" /* file in the job's directory: paths that end with NUL; the agent writes it */

/* Three steps, so that the freeze is no longer than one stat() of each file that has not changed. A file that has not
 * changed since the previous epoch gets a hard link to that epoch's copy, which saves most copies. */
struct files_write_list;
/* jobfd: the job's directory. filesfd: the new epoch's files/, which must stay open. Freed by files_write_list_close().
 * NULL with err. */
struct files_write_list *files_write_list_open(int jobfd, pid_t init_pid, int filesfd, const struct files_opts *o,
					       struct err *err);
/* Before step 1 or 2: a path that is treated as if the journal had it. arg: the list. */
void files_write_list_add(void *arg, const char *path);
/* Step 1, while the job runs. previous: records of the previous epoch, with the descriptor of its files/; NULL and -1
 * if there is none. Both must stay until step 3. -1: the copies cannot be written. */
int files_write_list_prepare(struct files_write_list *w, const json_t *previous, int previous_filesfd, struct err *err);
/* Step 2, while the job is frozen, after the agent has brought the journal up to date. open: the records of
 * files_record(); their files are skipped. */
int files_write_list_freeze(struct files_write_list *w, const json_t *open, struct err *err);
/* Step 3, when the job may run again: appends the records. */
int files_write_list_finish(struct files_write_list *w, json_t *records, json_t *warnings, struct err *err);
void files_write_list_close(struct files_write_list *w); /* w may be NULL */

/* ---- names: directories, links, renames and deletions ---- */

#define FILES_NAMES \
	"names" /* file in the job's directory: which names the job has changed (names.h); the agent writes it */

/* Three steps as above: the epoch gets a list of the names in the directories in which the job has changed any. */
struct files_name_list;
struct files_name_list *files_name_list_open(int jobfd, pid_t init_pid, int filesfd, const struct files_opts *o,
					     struct err *err);
int files_name_list_prepare(struct files_name_list *f, struct err *err);
/* *interval: the number of the interval of the journal that begins now, for files_undo_names(). */
int files_name_list_freeze(struct files_name_list *f, int64_t *interval, struct err *err);
/* Calls take for each new name that the job has given a file, by making, linking or moving it: it may be a file that
 * the job had written under another name. */
void files_name_list_give(struct files_name_list *f, void (*take)(void *arg, const char *path), void *arg);
int files_name_list_finish(struct files_name_list *f, json_t *warnings, struct err *err);
void files_name_list_close(struct files_name_list *f); /* f may be NULL */

/* Syncs every recorded file, so that a node that fails after the checkpoint does not lose what the records promise. To
 * be called when the job runs again, before the epoch is committed. */
int files_sync(const json_t *records, const struct files_cred *cred, struct err *err);

/* Checks, without any change, that files_put_back() would succeed. -1: err has the first problem and the number of the
 * others. */
int files_check(const json_t *records, int filesfd, const struct files_cred *cred, struct err *err);

/* Puts the files on shared file systems back. To be called before the pod exists. */
int files_put_back(const json_t *records, int filesfd, const struct files_cred *cred, json_t *warnings, struct err *err);

/* Opens (O_PATH) the directory of the file path, without following a symbolic link that belongs to neither root nor
 * uid. path is absolute; rootfd: the root directory, -1 = that of this process. *name is the last component of path. A
 * descriptor, or -1 with errno; ELOOP: such a link. */
int files_open_dir(int rootfd, const char *path, uid_t uid, const char **name);

struct files_undo {
	unsigned epoch;
	int64_t frozen_at;  /* Unix us at which its freeze began */
	int64_t names_from; /* as files_name_list_freeze() returned it, 0 = there is no list of names */
	const json_t *records;
	bool private_tmp;
	const struct files_scratch *scratch; /* NULL: none */
	const struct files_cred *cred;
	const json_t *dirs; /* NULL, or of files_undo_locate() */
};
/* For a caller that will see the files through overlays (files_seen_through()): finds the directories of the journal of
 * names, which cannot be found by their handles there. Returns what files_undo.dirs is to be, owned by the caller. NULL
 * with err. */
json_t *files_undo_locate(int jobfd, int filesfd, const struct files_undo *u, struct err *err);
/* From now on this process and its children see files of the file system of `lower` through an overlay; the descriptors
 * are of the roots of both. The IDs of such files (names.h) are those of the node's files. */
void files_seen_through(int over, int lower);
/* Removes the files that the journal lists and that were made after the epoch. To be called after files_put_back(). A
 * file that cannot be removed is a warning. */
int files_undo_written(int jobfd, const struct files_undo *u, json_t *warnings, struct err *err);

/* Undoes what the job did to names after the epoch: what it made goes, what it moved is moved back, and what it deleted
 * is made again if it is no file with content. To be called before files_put_back(), which brings back the content of
 * files that the epoch has copies of. What cannot be undone, and what others have made, is left and is a warning. */
int files_undo_names(int jobfd, int filesfd, const struct files_undo *u, json_t *warnings, struct err *err);
/* To be called after files_put_back(), which makes a file with several names once for each of them: links them again.
 */
int files_link_names(int jobfd, int filesfd, const struct files_undo *u, json_t *warnings, struct err *err);

/* How the files of an unpacked tree get the inode numbers that they had. */
struct files_inodes {
	int goal;       /* a descriptor to which the number of the next inode is written */
	uint64_t other; /* is increased for each file that got another number */
};

/* Unpacks the archives into the empty dev/shm and, with private_tmp, tmp below rootfd, which is the root directory of
 * the new pod or (fsched export) a directory of the caller. tmp_inodes: of
 * the files in tmp; NULL: they get any numbers. */
int files_unpack_private(int rootfd, int filesfd, bool private_tmp, struct files_inodes *tmp_inodes, struct err *err);

#endif
