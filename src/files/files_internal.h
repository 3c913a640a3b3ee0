/* What the files of this room share. Outside of it only tests and slurm/plugin/spank_output.c include this header. */
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

#define FILES_RECORDS_MAX 100000 /* files per epoch */
#define FILES_EDGE        65536 /* bytes at the beginning and at the end of an append-only file that are kept or digested */
#define FILES_SHOWN       320 /* buffer size for a path in a message */

/* Trees that are saved whole, besides /dev/shm. */
struct packed {
	bool private_tmp;
	const struct files_scratch *scratch; /* NULL: none */
};

/* ---- open_files.c: regular files that the frozen tasks can write to ---- */

struct open_file {
	char *path;      /* absolute, as the pod sees it; NULL if no known name leads to the file any more */
	char *last_path; /* the name under which it was opened, for messages */
	struct stat st;  /* taken in the freeze */
	char ref[80];    /* path relative to /proc of a link to the open file itself: "17/fd/5", "17/map_files/..." */
	bool mapped;     /* mapped with MAP_SHARED, and may be written through the mapping */
	bool read_write; /* open O_RDWR without O_APPEND */
	bool midway;     /* open O_WRONLY without O_APPEND, the offset is not at the end of the file */
	bool sequential; /* open O_WRONLY without O_APPEND, the offset is at the end of the file */
	bool appends;    /* open with O_APPEND */
	bool breaking; /* a lease of the job on it is being broken: until the job gives it up, nobody can open the file
			*/
};

struct open_files {
	struct open_file *v;
	size_t n, room;
	uint32_t *slots; /* hash table: device and inode -> index in v + 1 */
	size_t n_slots;  /* a power of two */
};

/* Fills *f with the regular files that have a link and that a process can write to through a descriptor or a shared
 * mapping. Files for which path_is_packed() is true and files of the kernel's own file systems are left out. pids and
 * init_pid are host pids. *f is to be freed with open_files_free() after an error too. 0 or -1. */
int open_files_scan(struct open_files *f, const pid_t *pids, int n, pid_t init_pid, const struct files_opts *o,
		    struct err *err);
void open_files_free(struct open_files *f);

/* ---- hard_links.c ------------------------------------------------------ */

/* The path of a file whose own name is gone, as found by files_names_find(). Owned by x. NULL if none is known. */
const char *files_names_lookup(const struct files_names *x, const struct stat *st);

/* ---- ghosts.c ---------------------------------------------------------- */

/* The path under which a restore is to recreate a deleted file. was: the path that it had; rootfd: the pod's root
 * directory. NULL if it can be recreated there. The caller frees it. */
char *ghost_place(int rootfd, const char *was, const struct stat *st, const struct files_opts *o);

/* ---- copy.c ------------------------------------------------------------ */

/* Bytes of data in a file, holes not counted. */
uint64_t file_data_bytes(const struct stat *st);
/* Copies the first size bytes of in to the empty file out, by reflink (FICLONE) where the file system can, else without
 * the holes. Fails with EFBIG if they hold more than budget bytes of data. 0, or -1 with errno; *to_out is true if
 * writing to out failed. */
int copy_sparse(int in, int out, uint64_t size, uint64_t budget, bool *to_out);
/* The same for a descriptor whose open file description the job shares: without moving the offset, so it cannot ask for
 * holes. Blocks that are all zeros become holes, and do not count. */
int copy_positioned(int in, int out, uint64_t size, uint64_t budget, bool *to_out);
/* Makes the first size bytes of target equal to those of copy and sets its size. Writes only blocks that differ
 * (everything if readable is false) and keeps holes. 0, or -1 with errno. */
int copy_back(int copy, int target, uint64_t size, bool readable);

/* Writes a block. One of zeros becomes a hole, where the file system has them. 0, or -1 with errno. */
int copy_block(int out, const char *buf, size_t len, uint64_t at);

/* ---- unchanged.c: what has not changed in a file since a given moment, without reading it ---- */

#define FILES_BLOCK   (16u << 10) /* bytes of a block, in which changes are told apart */
#define UNCHANGED_MIN (1u << 20)  /* bytes of a file from which on this pays */

struct unchanged;
/* Descriptors and memory are needed for each file, so there is a limit for all. */
struct unchanged_files {
	int device; /* borrowed: "stat" in sysfs of the device that holds nothing but their file system; -1: none */
	unsigned n;
	uint64_t bytes;
};
/* From now on. *all is borrowed until the end. NULL: not possible here. */
struct unchanged *unchanged_begin(struct unchanged_files *all, int fd, uint64_t size);
/* Sets changed[] for each block of the size bytes that the file has now: whether it may have changed. False: nothing is
 * known of any. While it runs, nobody may write to the file. */
bool unchanged_find(const struct unchanged *u, uint64_t size, bool *changed);
int unchanged_stat(const struct unchanged *u, struct stat *st); /* of the file now. 0, or -1 with errno */
void unchanged_end(struct unchanged *u);                        /* u may be NULL */

/* ---- early.c ----------------------------------------------------------- */

/* Before the freeze: copies a file, if it is large enough, or brings its copy up to date. was: name of its copy in the
 * epoch before, which becomes this epoch's too if it is the same; NULL: there is none. -1: the copy cannot be written.
 */
int files_early_copy(struct files_early *e, int in, const struct stat *st, const char *was, struct err *err);
/* The same for a file of a tree, whose copy is named after its inode. data: the beginning of the name. */
int files_early_copy_of_tree(struct files_early *e, int in, const struct stat *st, const char *data, struct err *err);
/* Begins a round in which files_early_copy() is called for all files. tmp: descriptor of the private /tmp, -1: there is
 * none. False: the rounds before have left little. */
bool files_early_begin_round(struct files_early *e, int tmp);
/* In the freeze: brings the copy of a file up to date and gives it the name. st: its state in the freeze. 1 = done, 0 =
 * there is no copy or it cannot be read, -1 = the checkpoint cannot be written. */
int files_early_take(struct files_early *e, int in, const struct stat *st, const char *name, struct err *err);
/* The same for a file of a tree. */
int files_early_take_of_tree(struct files_early *e, int in, const struct stat *st, const char *data, struct err *err);
void files_early_name_in_tree(const char *data, uint64_t ino, char name[64]);
/* The records of the epoch before; NULL: none. */
const json_t *files_early_previous(const struct files_early *e);

/* ---- files_json.c: one record ------------------------------------------ */

enum file_class {
	FILE_APPEND,  /* only grows */
	FILE_INPLACE, /* changed in place */
	FILE_CLOSED,  /* not open at the checkpoint but written before; the copy is complete */
	FILE_ABSENT,  /* written before, did not exist at the checkpoint; only the path is set */
};

struct file_record {
	char path[4096];
	int64_t size;
	uint64_t dev, ino;
	mode_t mode;
	gid_t gid; /* (gid_t)-1: not known, in records of older versions */
	bool acl;  /* it had an ACL, so the bits of the mode for the group are not the rights of the group */
	struct timespec mtime, ctime;
	enum file_class class;
	char tail[SHA256_HEX];   /* SHA-256 of the last min(size, FILES_EDGE) bytes; "" = the file could not be read */
	char digest[SHA256_HEX]; /* FILE_CLOSED: SHA-256 of all bytes */
	char saved[24];          /* name of the copy below files/; "" = no copy */
	bool leased;             /* the job holds a lease that an open would break; the file is durable already */
	bool appends;            /* FILE_APPEND: open with O_APPEND only, or not at all */
	int64_t saved_size;      /* bytes in the copy: size, or fewer if only the beginning was copied */
};

/* A JSON object, owned by the caller; NULL if memory is short. */
json_t *file_record_render(const struct file_record *r);
/* 0, or -1 with EBADMSG. */
int file_record_parse(const json_t *o, struct file_record *r, struct err *err);
bool same_timestamp(const struct timespec *a, const struct timespec *b);

/* ---- file_batch.c: a child with the rights of the job's user works on a batch of files ---- */

#define FILE_BATCH_MAX 128 /* records in a batch, and so descriptors of copies in the child */

struct file_batch {
	/* Runs in the child for each record. copy: the open copy of the record, -1 = none. A result below 0 ends the
	 * batch if stop_at_error is set. */
	int (*step)(const struct file_batch *b, const struct file_record *r, int copy);
	const struct files_cred *cred; /* the user that the child becomes */
	bool open_copies;              /* the step needs the copies of the records */
	bool stop_at_error;
	bool check_only; /* the step must not change anything */
	int out;         /* pipe to the parent; file_batch_run() sets it */
};

/* Messages of the child to the parent. */
enum batch_message {
	BATCH_ERROR = 'E',
	BATCH_WARNING = 'W',
	BATCH_REMOVED = 'R', /* the last four are counted */
	BATCH_MOVED = 'V',
	BATCH_REMADE = 'N',
	BATCH_CHANGED = 'M', /* changed after the checkpoint and not saved */
};

/* For steps. The message is the path in quotes, a blank, and the text. file_batch_error() returns -1. */
int file_batch_error(const struct file_batch *b, const char *path, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
void file_batch_warn(const struct file_batch *b, const char *path, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
void file_batch_count(const struct file_batch *b, enum batch_message kind, const char *path);

struct batch_count {
	unsigned n;
	char first[FILES_SHOWN]; /* the first path */
};
struct batch_outcome { /* is added to by each batch */
	unsigned errors;
	char first[700]; /* the first error */
	struct batch_count removed, moved, remade, changed;
	json_t *warnings; /* NULL: warnings are dropped */
};
/* Runs the step in a child for n <= FILE_BATCH_MAX records and waits for it. filesfd: the epoch's files/, -1 if
 * open_copies is false. 0 if the child has finished, whatever it reported in *o; -1 if it could not be started or ended
 * early. */
int file_batch_run(struct file_batch *b, const struct file_record *r, int n, int filesfd, struct batch_outcome *o,
		   struct err *err);

/* ---- journal.c: the list of files that the agent keeps ------------------ */

struct journal {
	char **paths; /* they point into texts */
	size_t n, room;
	char **texts;
	size_t n_texts, texts_room;
	int64_t read; /* bytes of the file that have been read */
};

/* Appends the paths that were added to the journal since the last call. Skips paths that are not plain, too long, or
 * packed as a tree. 0, also if there is no journal, or -1. */
int journal_read(struct journal *j, int jobfd, const struct packed *packed, struct err *err);
/* Appends the paths of a text of len bytes, which was read at offset j->read. *j owns text from now on. */
void journal_add_text(struct journal *j, char *text, size_t len, const struct packed *packed);
/* Adds one path; *j owns it from now on. */
void journal_add_path(struct journal *j, char *path, const struct packed *packed);
void journal_free(struct journal *j);

/* Records of an array, found by path. */
struct record_index {
	struct record_entry {
		char *path;
		const json_t *record;
	} * v;
	size_t n;
};
/* The index refers to records, which must live as long as the index. NULL: the index is empty. */
void record_index_make(struct record_index *x, const json_t *records);
const json_t *record_index_find(const struct record_index *x, const char *path); /* NULL: none */
void record_index_free(struct record_index *x);

/* ---- tree.c: private trees as archives --------------------------------- */

struct packed_tree {
	const char *archive; /* its name */
	const char *shown;   /* of the tree, in messages */
	const char *data;    /* files whose data are not in the archive: they are in DATA-INODE.data */
	uid_t owner;         /* what belongs to others is left out; (uid_t)-1: nothing is */
};

extern const struct packed_tree files_tree_shm, files_tree_tmp;

/* Opens the directory name (relative, "dev/shm") below rootfd. Symbolic links are resolved inside rootfd. -1 with
 * errno. */
int open_in_root(int rootfd, const char *name);
/* Adds to *bytes the bytes of data in the tree and, for each entry, 1 KiB for its header and what its extended
 * attributes take in the archive. prefix: that of the name of the largest file in *cost, which is updated. */
int tree_measure(int dirfd, const char *prefix, uid_t owner, uint64_t *bytes, struct files_cost *cost, struct err *err);
/* Notes a file if it is larger than those before. path: relative to prefix. */
void files_cost_note(struct files_cost *cost, uint64_t bytes, const char *prefix, const char *path);
/* Copies the large files before the freeze. */
int tree_copy_early(int dirfd, const struct packed_tree *t, struct files_early *e, struct err *err);
/* Writes the archive below filesfd; writes no file if the tree is empty. carry: large files are offered to o->carry.
 * Fails with EFBIG if there is more data than o->tmp_limit, because processes can make the tree grow while it is read.
 */
int tree_pack(int dirfd, int filesfd, const struct packed_tree *t, const struct files_opts *o, bool carry,
	      json_t *warnings, struct err *err);
/* Unpacks the archive into the directory. as: with the rights of that user, whose everything then is; NULL: as root.
 * inodes may be NULL. 0 if there is no archive. */
int tree_unpack(int dirfd, int filesfd, const struct packed_tree *t, const struct files_cred *as,
		struct files_inodes *inodes, struct err *err);

/* ---- scratch.c ---------------------------------------------------------- */

/* Opens a scratch directory. -1 with errno; EPERM: it is not the user's. */
int scratch_open(const char *path, uid_t uid);
/* True for the directories and for what is below them. s may be NULL. */
bool scratch_has(const struct files_scratch *s, const char *path);
/* The names of the archive, and of files beside it (struct packed_tree), of a directory. */
void scratch_names(unsigned number, char archive[32], char data[32]);

/* ---- files_record.c ---------------------------------------------------- */

/* ---- paths.c ------------------------------------------------------------ */

/* True for an absolute path without empty, "." and ".." components that is not "/", as readlink() in /proc returns it.
 */
bool path_is_plain(const char *path);
/* True if the path is saved as part of a tree. */
bool path_is_packed(const char *path, const struct packed *packed);
bool path_is_below(const char *path, const char *dir);

/* ---- acl.c -------------------------------------------------------------- */

/* Whether an open file has an ACL; true if that cannot be read. */
bool file_has_acl(int fd);

/* ---- reopen.c ----------------------------------------------------------- */

/* Opens the file of pathfd (O_PATH) for reading, without waiting for a lease. flags are added. A descriptor, or -1 with
 * errno. */
int file_reopen(int pathfd, int flags);
/* Opens the file of an O_PATH descriptor for reading, with the rights of the job's user. -1 with errno. */
int reopen_as_user(int pathfd, const struct files_cred *cred);

/* ---- user_paths.c ------------------------------------------------------- */

/* files_open_dir() for the file itself, which may be a symbolic link. */
int open_path_of(int rootfd, const char *path, uid_t uid);
const char *open_path_error(int error);
/* Looks at a name of the job's; follows no link at its end, and mounts nothing. Where root may not look, as in a home
 * directory on NFS, the job's user does. -1 with errno. */
int stat_for_job(int dirfd, const char *name, const struct files_cred *cred, struct stat *st);

/* ---- messages ---------------------------------------------------------- */

/* The path with control characters replaced; only the end of a long one. Returns buf. */
const char *show_path(const char *path, char buf[FILES_SHOWN]);
/* Appends a sentence to a JSON array of strings. NULL: drops it. */
void add_warning(json_t *warnings, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#endif
