/* Parts of files.h; nobody else includes it. */
#ifndef FSCHED_FILES_FILES_INTERNAL_H
#define FSCHED_FILES_FILES_INTERNAL_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <jansson.h>
#include "base/err.h"
#include "files/files.h"
#include "base/digest.h"

#define FILES_RECORDS_MAX 100000
#define FILES_EDGE        65536 /* bytes at the beginning and at the end of an append-only file that are kept or digested */
#define FILES_SHOWN       320 /* room for a path in a message */

/* ---- files_scan.c: regular files that the frozen tasks can write to ---- */

struct open_file {
	char *path;      /* as the pod sees it; NULL: no name leads to it any more */
	char *last_path; /* the name it had, for messages */
	struct stat st;  /* while frozen */
	char ref[80];    /* below /proc: a link to the open file itself */
	bool mapped;     /* MAP_SHARED, may be written */
	bool read_write; /* open O_RDWR without O_APPEND */
	bool midway;     /* open O_WRONLY without O_APPEND, not at its end */
	bool sequential; /* open O_WRONLY without O_APPEND, at its end */
};

struct open_files {
	struct open_file *v;
	size_t n, size;
	uint32_t *slots; /* hash of dev and inode -> index + 1 */
	size_t n_slots;  /* a power of two */
};

/* Files below /dev/shm, and below /tmp with private_tmp, are left out: they are packed as trees. */
int open_files_scan(struct open_files *f, const pid_t *pids, int n, pid_t init_pid, const struct files_opts *o,
		    struct err *err);
void open_files_free(struct open_files *f);
/* True for what is packed as a tree. */
bool path_is_packed(const char *path, bool private_tmp);

/* ---- files_names.c ----------------------------------------------------- */

/* NULL: none is known. */
const char *files_names_lookup(const struct files_names *x, const struct stat *st);

/* ---- files_ghosts.c ---------------------------------------------------- */

/* Where a restore is to make a deleted file again that was called so; NULL: where it was. Owned by the caller. */
char *ghost_place(int rootfd, const char *was, const struct stat *st, const struct files_opts *o);

/* ---- files_copy.c ------------------------------------------------------ */

/* Data of a file, holes left out. */
uint64_t file_data_bytes(const struct stat *st);
/* Copies the first size bytes of in to the empty file out: by reference where the file system can, else without the
 * holes. More data than budget: EFBIG. 0 or -1 with errno; *to_out tells whether it was writing that failed. */
int copy_sparse(int in, int out, uint64_t size, uint64_t budget, bool *to_out);
/* The same from a descriptor that the job has too: without a limit, and without moving its position. */
int copy_positioned(int in, int out, uint64_t size, bool *to_out);
/* Makes the first size bytes of target equal to those of copy, writing only what differs (readable = false:
 * everything), keeps holes, and sets the size. 0 or -1 with errno. */
int copy_back(int copy, int target, uint64_t size, bool readable);

/* ---- files_json.c: one record ------------------------------------------ */

enum file_class {
	FILE_APPEND,  /* only grows */
	FILE_INPLACE, /* changed in place */
	FILE_CLOSED,  /* was not open, but had been written; there is a whole copy */
	FILE_ABSENT,  /* had been written, was not there any more: only the path counts */
};

struct file_record {
	char path[4096];
	int64_t size;
	uint64_t dev, ino;
	mode_t mode;
	struct timespec mtime, ctime;
	enum file_class class;
	char tail[SHA256_HEX];   /* of the last min(size, FILES_EDGE) bytes; "" = could not be read */
	char digest[SHA256_HEX]; /* FILE_CLOSED: of all bytes */
	char saved[24];          /* name of the copy below files/; "" = none */
	bool leased;             /* no open may break the job's lease: durable already */
	int64_t saved_size;      /* bytes of the copy: size (all of it) or less (only the beginning) */
};

json_t *file_record_render(const struct file_record *r);
int file_record_parse(const json_t *o, struct file_record *r, struct err *err);
/* Absolute, without "." and "..", not "/". */
bool path_is_plain(const char *path);

/* ---- files_restore.c, files_undo.c: children with the job's user's rights ---- */

enum put_mode { PUT_CHECK, PUT_APPLY, PUT_SYNC, PUT_UNDO };

struct putter {
	enum put_mode mode;
	const struct files_cred *cred;
	int out;       /* pipe to the parent */
	int64_t since; /* PUT_UNDO: Unix us of the epoch's freeze */
};

/* One message to the parent. 'E' error and 'W' warning: a sentence; the others are counted, with the path:
 * 'R' removed, 'N' made again, 'M' changed since and not saved. */
void put_say(const struct putter *p, char kind, const char *path, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));
/* In the child: removes the file if it came after the epoch. */
void undo_file(const struct putter *p, const struct file_record *r);

struct put_count {
	unsigned n;
	char first[FILES_SHOWN];
};
struct put_outcome {
	unsigned errors;
	char first[700];
	struct put_count removed, remade, changed;
	json_t *warnings;
};
/* Works on up to PUT_BATCH records in a child. */
#define PUT_BATCH 128 /* records, and so descriptors */
int put_batch(struct putter *p, const struct file_record *r, int n, int filesfd, struct put_outcome *o, struct err *err);

/* ---- files_journal.c: what the agent has written down ------------------- */

struct journal {
	char **paths;
	size_t n, room;
	char **texts; /* what the paths point into */
	size_t n_texts;
	int64_t read; /* bytes taken in so far */
};

/* Takes in what has come since the last call. Paths that cannot be in a journal are left out. 0, also if there is none,
 * or -1. */
int journal_read(struct journal *j, int jobfd, bool private_tmp, struct err *err);
void journal_free(struct journal *j);

/* Records by path. */
struct record_index {
	struct record_entry {
		char *path;
		const json_t *record;
	} * v;
	size_t n;
};
void record_index_make(struct record_index *x, const json_t *records); /* borrows records */
const json_t *record_index_find(const struct record_index *x, const char *path);
void record_index_free(struct record_index *x);

/* ---- files_tree.c: private trees as archives --------------------------- */

/* Opens name (relative, e.g. "dev/shm") as it appears below root, symbolic links resolved inside of it. -1 with errno.
 */
int open_in_root(int rootfd, const char *name);
/* Data bytes of the tree; each entry counts 1 KiB more for its header. */
int tree_measure(int dirfd, uint64_t *bytes, struct err *err);
/* Writes the archive `archive` below filesfd; none if the tree is empty. carry: large files are offered to o->carry.
 * More data than o->tmp_limit: EFBIG (the tree may grow while it is read). */
int tree_pack(int dirfd, int filesfd, const char *archive, const char *shown, const struct files_opts *o, bool carry,
	      json_t *warnings, struct err *err);
/* Unpacks it into the directory; no archive = nothing to do. */
int tree_unpack(int dirfd, int filesfd, const char *archive, const char *shown, struct err *err);

/* ---- files_record.c --------------------------------------------------- */

/* Opens what an O_PATH descriptor stands for, for reading, with the job's user's rights. -1 with errno. */
int reopen_as_user(int pathfd, const struct files_cred *cred);

/* ---- shared ------------------------------------------------------------ */

/* The path without control characters, its end if it is long. */
const char *show_path(const char *path, char buf[FILES_SHOWN]);
/* Appends a sentence to an array of strings (NULL: drops it). */
void add_warning(json_t *warnings, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#endif
