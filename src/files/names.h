/* Names: what the job has done to directory entries since an epoch, and how it is undone.
 *
 * The agent notes which names the job's processes change (agent/name_list.h) in FILES_NAMES in the job's directory. An
 * epoch has a list of all names in the directories that the job has changed so far (NAMES_TABLE). Both are sequences of
 * records, each ended by NUL, with fields separated by tabs:
 *
 *   B NUMBER                      journal: an interval begins. An epoch notes the number of the one after it
 *   D NUMBER ID PATH              a directory, and its number in this file. In the table: all its names follow
 *   N NUMBER WAS KIND PUT NAME    journal: a name that the job has changed in this interval.
 *                                 WAS: the ID of the file that it led to before; "-" = none, "?" = not known.
 *                                 KIND: "d" if WAS is a directory, else "f"
 *                                 PUT: the last file that the job has given this name in this interval; "-" = none
 *   L TEXT                        journal: other changes in this interval are not known, and why
 *   E NUMBER ID KIND MODE NAME    table: a name. KIND as in enum name_kind; MODE is octal
 *   T TARGET                      table: the target of the symbolic link before
 *
 * (The letter and the first field are not separated.) An ID is the kernel's file handle, which holds the number of the
 * inode and its generation, so a new file with an old inode number has another ID. The order of changes is not kept,
 * because the kernel merges events: what matters is what a name led to at the epoch, and whether the job has put there
 * what is there now. */
#ifndef FSCHED_FILES_NAMES_H
#define FSCHED_FILES_NAMES_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>
#include "base/err.h"

#define NAMES_TABLE    "names.list"
#define NAMES_FILE_MAX (64u << 20) /* bytes of a journal or a table */
#define NAME_ID        300         /* size of a buffer for an ID */

/* ---- IDs ---------------------------------------------------------------- */

struct name_fs {
	uint32_t fsid[2]; /* of a file that is seen through an overlay (files_seen_through()): of the node's file system
			   */
};

/* The file system of an open file. 0 or -1 with errno. */
int name_fs_of(int fd, struct name_fs *fs);
/* The ID of a handle as in an event of fanotify. */
void name_id_render(const struct name_fs *fs, int type, const unsigned char *handle, unsigned bytes, char id[NAME_ID]);
/* The ID of a file below dirfd, which is not followed if it is a symbolic link; name "": of dirfd itself. 0 or -1 with
 * errno. */
int name_id_of(const struct name_fs *fs, int dirfd, const char *name, char id[NAME_ID]);
/* Whether the file was made at `us` (Unix) or later. False if its file system does not tell. */
bool name_born_since(const struct statx *st, int64_t us);
/* Opens the file. fsfd: a descriptor (not O_PATH) of any file of its file system. Needs CAP_DAC_READ_SEARCH. -1 with
 * errno; ESTALE: the file is gone; EXDEV: it is of another file system. */
int name_id_open(int fsfd, const char *id, int flags);

/* ---- a journal or a table in memory -------------------------------------- */

enum name_kind { KIND_FILE = 'f', KIND_DIR = 'd', KIND_LINK = 'l', KIND_FIFO = 'p', KIND_OTHER = 'o' };

enum name_kind name_kind_of(mode_t mode);

struct name_dir {
	const char *id, *path;
	bool listed;  /* the table has all its names */
	bool changed; /* the journal has names of it */
	char *now;    /* its present path; owned; NULL = it is gone or was not searched for */
	int fd;
};

struct name_entry {
	unsigned dir; /* index */
	const char *name;
	const char *was; /* an ID, NULL = no file; see known */
	const char *put; /* NULL = none */
	const char *target;
	enum name_kind kind; /* of `was`; 0 = not known */
	mode_t mode;
	bool known;   /* was is known */
	bool listed;  /* in the table */
	bool changed; /* in the journal */
	bool ever;    /* in the journal: it led to a file before some interval, or may have done so */
};

struct name_slots {
	uint32_t *v; /* hash table: index + 1 */
	size_t n;    /* a power of two */
};

struct names {
	struct name_dir *dirs;
	size_t n_dirs, dirs_room;
	struct name_entry *v;
	size_t n, room;
	struct name_slots dir_slots, slots;
	char **texts; /* to which all const char * above point; owned */
	size_t n_texts, texts_room;
	const char *lost; /* the first record L; NULL = none */
};

/* One file that is read, perhaps in several steps. */
struct names_source {
	bool table;
	int64_t from;     /* journal: records N and L of earlier intervals are skipped */
	bool clears;      /* a new interval clears name_dir.changed */
	int64_t interval; /* the number that was read last, 0 = none */
	int64_t read;     /* bytes of whole records */
	unsigned *local;  /* number of a directory in the file -> index + 1; owned */
	size_t n_local;   /* the highest number so far + 1 */
	size_t local_room;
	struct name_entry *last; /* to which a record T belongs */
};

/* Goes on with h over the bytes of text (FNV-1a); NAMES_HASH at first. */
#define NAMES_HASH 2166136261u
uint32_t names_hash(uint32_t h, const char *text);

/* Adds the records of a text of len bytes, which is followed by a NUL. *x owns it from now on. A last record without
 * NUL is not read. Records that are no such thing are skipped. */
void names_add_text(struct names *x, struct names_source *s, char *text, size_t len);
/* Reads what was added to the file since the last call. 0, also if there is no such file, or -1. */
int names_read(struct names *x, struct names_source *s, int dirfd, const char *file, struct err *err);
/* Removes from a copy of a journal's first records those of the names for which needless[index] is set. Returns the new
 * length. x and s have read these records, and perhaps more. */
size_t names_drop(const struct names *x, const struct names_source *s, const bool *needless, char *text, size_t len);
/* -1: none. */
long names_find_dir(const struct names *x, const char *id);
long names_find(const struct names *x, unsigned dir, const char *name);
void names_free(struct names *x);
void names_source_free(struct names_source *s);

/* Finds the present paths of the directories with `changed` set, or all, as root and by handle: `now`. rootfd: of the
 * pod, -1 = of this process. */
void names_locate(struct names *x, int rootfd, uid_t uid, bool all);

#endif
