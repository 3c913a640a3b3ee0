/* Records the files that the job can write to, while it is frozen. */
#include "files/files_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/user_rights.h"
#include "base/proc.h"
#include "base/text.h"
#include "base/util.h"

#define LEASED \
	"the job holds a lease on it (fcntl F_SETLEASE) and has it open for writing only, and opening it would break the lease"

struct recorder {
	const struct files_opts *o;
	int filesfd;
	uint64_t left; /* bytes left of o->file_limit */
	unsigned n_copies;
	json_t *records, *warnings;
};

/* ---- reading the open file --------------------------------------------- */

/* True if root may read the file for the job: the job can read it anyway. A file of another user that the job can only
 * write to must not be read with root's rights, because a copy that is put back elsewhere would show its content. */
static bool record_root_may_read(const struct open_file *f, const struct files_cred *cred)
{
	return f->read_write || f->mapped || f->st.st_uid == cred->uid;
}

/* Opens the inode that was scanned for reading. -1 with errno; ESTALE: the link leads to another file now. */
static int record_open_scanned(const struct open_file *f, const struct files_cred *cred)
{
	cleanup_close int pathfd = -1;
	char link[96];
	struct stat st;
	int fd;

	snprintf(link, sizeof(link), "/proc/%s", f->ref);
	pathfd = open(link, O_PATH | O_CLOEXEC);
	if (pathfd < 0 || fstat(pathfd, &st) < 0)
		return -1;
	if (!S_ISREG(st.st_mode) || st.st_dev != f->st.st_dev || st.st_ino != f->st.st_ino) {
		errno = ESTALE;
		return -1;
	}
	if (!record_root_may_read(f, cred))
		return reopen_as_user(pathfd, cred);
	fd = file_reopen(pathfd, O_NOATIME);
	/* On NFS with root_squash, the job's user may read files that root may not. */
	if (fd < 0 && (errno == EACCES || errno == EPERM))
		fd = reopen_as_user(pathfd, cred);
	return fd;
}

/* Returns a duplicate of the job's own descriptor if the job holds a write lease on the file, because any open() would
 * break the lease, or a lease that is being broken, because an open() would fail. -1: there is no lease. The duplicate
 * shares the offset with the job, so it may only be used for pread() and fsync(), which do not change the job's state.
 */
static int record_dup_leased(const struct open_file *f)
{
	cleanup_close int pidfd = -1, fd = -1;
	int pid, number;

	if (sscanf(f->ref, "%d/fd/%d", &pid, &number) != 2)
		return -1;
	pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	fd = pidfd < 0 ? -1 : (int)syscall(SYS_pidfd_getfd, pidfd, number, 0);
	return fd >= 0 && (f->breaking || fcntl(fd, F_GETLEASE) == F_WRLCK) ? steal_fd(&fd) : -1;
}

static bool is_readable(int fd)
{
	return (fcntl(fd, F_GETFL) & O_ACCMODE) != O_WRONLY;
}

/* ---- copies ------------------------------------------------------------ */

/* Saves the first size bytes. 1 = saved, 0 = not saved (errno tells why), -1 = the checkpoint cannot be written. */
static int record_save_copy(struct recorder *r, int in, bool leased, uint64_t size, struct file_record *rec,
			    struct err *err)
{
	cleanup_close int out = -1;
	bool to_out;
	int saved;

	snprintf(rec->saved, sizeof(rec->saved), "%06u.data", ++r->n_copies);
	rec->saved_size = (int64_t)size;
	out = openat(r->filesfd, rec->saved, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (out < 0)
		return err_sys(err, errno, "cannot make files/%s in the checkpoint", rec->saved);
	if ((leased ? copy_positioned(in, out, size, r->left, &to_out) : copy_sparse(in, out, size, r->left, &to_out)) ==
	    0)
		return 1;
	saved = errno;
	if (to_out)
		return err_sys(err, saved, "cannot write files/%s in the checkpoint", rec->saved);
	unlinkat(r->filesfd, rec->saved, 0);
	rec->saved[0] = '\0';
	errno = saved;
	return 0;
}

/* The same with the copy that was made before the freeze, if there is one. */
static int record_take_early(struct recorder *r, const struct open_file *f, int in, struct file_record *rec,
			     struct err *err)
{
	int rc;

	if (!r->o->early)
		return 0;
	snprintf(rec->saved, sizeof(rec->saved), "%06u.data", r->n_copies + 1);
	rc = files_early_take(r->o->early, in, &f->st, rec->saved, err);
	if (rc > 0) {
		r->n_copies++;
		rec->saved_size = f->st.st_size;
	} else {
		rec->saved[0] = '\0';
	}
	return rc;
}

static void record_charge(struct recorder *r, uint64_t data)
{
	r->left -= data < r->left ? data : r->left;
}

/* Where the file was found: "process 17 (python3), descriptor 5". */
static const char *record_holder_text(const struct open_file *f, char *buf, size_t len)
{
	const char *last = strrchr(f->ref, '/') + 1;
	char who[PROC_DESCRIBED];

	proc_describe((pid_t)atoi(f->ref), who, sizeof(who));
	if (strstr(f->ref, "/fd/"))
		snprintf(buf, len, "%s, descriptor %s", who, last);
	else
		snprintf(buf, len, "%s, mapped at %s", who, last);
	return buf;
}

/* Without a copy, the epoch of a job that ends with the checkpoint can be restored as long as nobody changes the file:
 * a warning. A job that runs on changes the file itself: an error. */
static int record_not_saved(struct recorder *r, const struct open_file *f, const char *why, struct err *err)
{
	char shown[FILES_SHOWN], who[PROC_DESCRIBED + 64];

	if (r->o->must_save)
		return err_set(err, EFBIG,
			       "\"%s\" is changed in place (%s) and cannot be saved: %s; without a copy the epoch could not be "
			       "restored",
			       show_path(f->path, shown), record_holder_text(f, who, sizeof(who)), why);
	add_warning(r->warnings,
		    "\"%s\" is changed in place by the job and was not saved: %s. "
		    "A restore goes on only if the file is still as it was%s",
		    show_path(f->path, shown), why,
		    f->mapped ? " (changes through a memory mapping may go unnoticed)" : "");
	return 0;
}

static int record_too_big(struct recorder *r, const struct open_file *f, struct err *err)
{
	char size[32], limit[32], left[32], why[256];

	snprintf(why, sizeof(why),
		 "it holds %s, of CheckpointFileLimit (%s) %s are left; the administrator can raise it in fsched.conf",
		 format_size(file_data_bytes(&f->st), size, sizeof(size)),
		 format_size(r->o->file_limit, limit, sizeof(limit)), format_size(r->left, left, sizeof(left)));
	return record_not_saved(r, f, why, err);
}

static int record_inplace(struct recorder *r, const struct open_file *f, int in, bool leased, struct file_record *rec,
			  struct err *err)
{
	uint64_t data = file_data_bytes(&f->st);
	int rc;

	if (in < 0)
		return record_not_saved(r, f, strerror(errno), err);
	if (leased && !is_readable(in))
		return record_not_saved(r, f, LEASED, err);
	if (data > r->left)
		return record_too_big(r, f, err);
	rc = leased ? 0 : record_take_early(r, f, in, rec, err);
	if (rc == 0)
		rc = record_save_copy(r, in, leased, (uint64_t)f->st.st_size, rec, err);
	if (rc > 0)
		record_charge(r, data);
	else if (rc == 0 && errno == EFBIG)
		rc = record_too_big(r, f, err);
	else if (rc == 0)
		rc = record_not_saved(r, f, strerror(errno), err);
	return rc < 0 ? -1 : 0;
}

/* A file that only grows needs its size and a digest of its end. Without O_APPEND the program may still go back and
 * rewrite a header when it is done, so the beginning is copied too. A small file is copied as a whole: logs are emptied
 * (copytruncate) or removed. */
static int record_append(struct recorder *r, const struct open_file *f, int in, bool leased, struct file_record *rec,
			 struct err *err)
{
	uint64_t size = (uint64_t)f->st.st_size, edge = size < FILES_EDGE ? size : FILES_EDGE;
	char shown[FILES_SHOWN];

	/* files_sync() must not open it. */
	if (leased && fsync(in))
		return err_sys(err, errno, "\"%s\" cannot be written to the disk", show_path(f->path, shown));
	if (leased && !is_readable(in))
		return 0;
	if (in < 0 || digest_range(in, size - edge, edge, rec->tail) < 0) {
		add_warning(r->warnings, "\"%s\" cannot be read (%s): at a restore only its size will be checked",
			    show_path(f->path, shown), strerror(errno));
		rec->tail[0] = '\0';
		return 0;
	}
	if ((!f->sequential && size > edge) || size == 0 || edge > r->left)
		return 0;
	if (record_save_copy(r, in, leased, edge, rec, err) < 0)
		return -1;
	record_charge(r, edge);
	return 0;
}

static bool is_changed_in_place(const struct open_file *f)
{
	return f->mapped || f->read_write || f->midway;
}

static int record_file(struct recorder *r, const struct open_file *f, struct err *err)
{
	cleanup_free struct file_record *rec = xcalloc(1, sizeof(*rec));
	cleanup_close int in = -1;
	char shown[FILES_SHOWN];
	bool leased;
	int rc;

	if (!f->path)
		return err_set(err, ENOENT,
			       "\"%s\" is open for writing, but its name was deleted or replaced while the file has another, which "
			       "was not found: a restore could not open it",
			       show_path(f->last_path, shown));
	if (snprintf(rec->path, sizeof(rec->path), "%s", f->path) >= (int)sizeof(rec->path))
		return 0;
	rec->size = f->st.st_size;
	rec->dev = f->st.st_dev;
	rec->ino = f->st.st_ino;
	rec->mode = f->st.st_mode & 07777;
	rec->mtime = f->st.st_mtim;
	rec->ctime = f->st.st_ctim;
	rec->class = is_changed_in_place(f) ? FILE_INPLACE : FILE_APPEND;
	rec->appends = rec->class == FILE_APPEND && f->appends && !f->sequential;
	in = record_dup_leased(f);
	leased = in >= 0;
	in = leased ? in : record_open_scanned(f, &r->o->cred);
	rec->leased = leased;
	rec->gid = f->st.st_gid;
	rec->acl = file_has_acl(in);
	rc = rec->class == FILE_APPEND ? record_append(r, f, in, leased, rec, err)
				       : record_inplace(r, f, in, leased, rec, err);
	if (rc < 0)
		return -1;
	if (json_array_append_new(r->records, file_record_render(rec)) < 0)
		return err_set(err, ENOMEM, "cannot record \"%s\"", show_path(f->path, shown));
	return 0;
}

/* Orders small files first, so that one huge file does not use up the limit for all others. */
static int open_file_by_data(const void *a, const void *b)
{
	const struct open_file *x = a, *y = b;
	uint64_t dx = file_data_bytes(&x->st), dy = file_data_bytes(&y->st);

	return (dx > dy) - (dx < dy);
}

static int record_open_files(struct recorder *r, struct open_files *files, struct err *err)
{
	if (files->n)
		qsort(files->v, files->n, sizeof(*files->v), open_file_by_data);
	for (size_t i = 0; i < files->n; i++)
		if (record_file(r, &files->v[i], err) < 0)
			return -1;
	return 0;
}

/* ---- /dev/shm and /tmp ------------------------------------------------- */

static int record_open_private(pid_t init_pid, const char *name, struct err *err)
{
	cleanup_close int rootfd = -1;
	char root[32];
	int fd;

	snprintf(root, sizeof(root), "/proc/%d/root", (int)init_pid);
	rootfd = open(root, O_PATH | O_DIRECTORY | O_CLOEXEC);
	fd = rootfd < 0 ? -1 : open_in_root(rootfd, name);
	return fd < 0 ? err_sys(err, errno, "cannot open the job's /%s", name) : fd;
}

/* Opens a scratch directory. -1: it is gone, or not the user's any more. */
static int record_open_scratch(const struct files_opts *o, size_t i)
{
	return scratch_open(o->scratch->v[i].path, o->cred.uid);
}

static size_t record_count_scratch(const struct files_opts *o)
{
	return o->scratch ? o->scratch->n : 0;
}

static int record_measure_scratch(const struct files_opts *o, uint64_t *bytes, struct files_cost *cost, struct err *err)
{
	for (size_t i = 0; i < record_count_scratch(o); i++) {
		cleanup_close int fd = record_open_scratch(o, i);
		cleanup_free char *prefix = xasprintf("%s/", o->scratch->v[i].path);

		if (fd >= 0 && tree_measure(fd, prefix, o->cred.uid, bytes, cost, err) < 0)
			return -1;
	}
	return 0;
}

/* One of the trees of scratch directories. */
struct scratch_tree {
	char archive[32], data[32], shown[FILES_SHOWN];
	struct packed_tree tree;
};

static const struct packed_tree *record_scratch_tree(const struct files_opts *o, size_t i, struct scratch_tree *t)
{
	scratch_names((unsigned)i, t->archive, t->data);
	t->tree = (struct packed_tree){ t->archive, show_path(o->scratch->v[i].path, t->shown), t->data, o->cred.uid };
	return &t->tree;
}

static int record_scratch(const struct recorder *r, struct err *err)
{
	struct scratch_tree t;

	for (size_t i = 0; i < record_count_scratch(r->o); i++) {
		cleanup_close int fd = record_open_scratch(r->o, i);

		record_scratch_tree(r->o, i, &t);
		if (fd < 0)
			return err_sys(err, errno, "the scratch directory \"%s\" cannot be opened", t.shown);
		if (tree_pack(fd, r->filesfd, &t.tree, r->o, false, r->warnings, err))
			return -1;
	}
	return 0;
}

static int record_early_scratch(struct files_early *e, const struct files_opts *o, struct err *err)
{
	struct scratch_tree t;

	for (size_t i = 0; i < record_count_scratch(o); i++) {
		cleanup_close int fd = record_open_scratch(o, i);

		if (fd >= 0 && tree_copy_early(fd, record_scratch_tree(o, i, &t), e, err))
			return -1;
	}
	return 0;
}

/* Opens /dev/shm and, if it is private, /tmp, and measures them. *tmp stays as it is without a private /tmp. EFBIG:
 * they are over the limit. */
static int record_measure_private(const struct files_opts *o, pid_t init_pid, int *shm, int *tmp,
				  struct files_cost *cost, struct err *err)
{
	uint64_t shm_bytes = 0, tmp_bytes = 0;
	char a[32], b[32], limit[32];

	*shm = record_open_private(init_pid, "dev/shm", err);
	if (*shm < 0 || tree_measure(*shm, "/dev/shm/", (uid_t)-1, &shm_bytes, NULL, err) < 0)
		return -1;
	if (o->private_tmp) {
		*tmp = record_open_private(init_pid, "tmp", err);
		if (*tmp < 0 || tree_measure(*tmp, "/tmp/", (uid_t)-1, &tmp_bytes, cost, err) < 0)
			return -1;
	}
	if (record_measure_scratch(o, &tmp_bytes, cost, err))
		return -1;
	if (cost) {
		cost->shm = shm_bytes;
		cost->tmp = tmp_bytes;
	}
	if (shm_bytes + tmp_bytes <= o->tmp_limit)
		return 0;
	return err_set(err, EFBIG,
		       "the job's private /tmp (%s) and /dev/shm (%s) hold more than CheckpointTmpLimit (%s) allows: "
		       "the job should delete files there, or the administrator raise CheckpointTmpLimit in fsched.conf",
		       format_size(tmp_bytes, a, sizeof(a)), format_size(shm_bytes, b, sizeof(b)),
		       format_size(o->tmp_limit, limit, sizeof(limit)));
}

static int record_private(struct recorder *r, pid_t init_pid, struct err *err)
{
	cleanup_close int shm = -1, tmp = -1;

	if (record_measure_private(r->o, init_pid, &shm, &tmp, NULL, err) < 0)
		return -1;
	if (tree_pack(shm, r->filesfd, &files_tree_shm, r->o, true, r->warnings, err) < 0 ||
	    (tmp >= 0 && tree_pack(tmp, r->filesfd, &files_tree_tmp, r->o, false, r->warnings, err) < 0))
		return -1;
	return record_scratch(r, err);
}

int files_record(const pid_t *pids, int n_pids, pid_t init_pid, int filesfd, const struct files_opts *o,
		 json_t *records, json_t *warnings, struct err *err)
{
	struct recorder r = { .o = o, .filesfd = filesfd, .left = o->file_limit, .records = records, .warnings = warnings };
	struct open_files files;
	int rc;

	/* Checks that can refuse the checkpoint come first, because the job is frozen meanwhile. */
	rc = record_private(&r, init_pid, err);
	if (rc < 0)
		return -1;
	rc = open_files_scan(&files, pids, n_pids, init_pid, o, err);
	if (rc == 0)
		rc = record_open_files(&r, &files, err);
	open_files_free(&files);
	return rc;
}

/* ---- before the freeze --------------------------------------------------- */

/* Makes the same checks as record_inplace(). */
static int record_check_inplace(struct recorder *r, const struct open_file *f, struct err *err)
{
	cleanup_close int leased = record_dup_leased(f);

	if (leased >= 0 && !is_readable(leased))
		return record_not_saved(r, f, LEASED, err);
	return file_data_bytes(&f->st) > r->left ? record_too_big(r, f, err) : 0;
}

/* The name of the whole copy of the file in the epoch before. NULL: there is none. */
static const char *record_previous_copy(const struct record_index *x, const struct open_file *f, struct file_record *r)
{
	const json_t *o = record_index_find(x, f->path);

	return o && file_record_parse(o, r, NULL) == 0 && r->saved[0] && r->saved_size == f->st.st_size ? r->saved : NULL;
}

static int record_early_open_files(struct files_early *e, const struct open_files *files, const struct files_opts *o,
				   struct err *err)
{
	cleanup_free struct file_record *previous = xcalloc(1, sizeof(*previous));
	struct record_index index = { 0 };
	uint64_t left = o->file_limit;
	int rc = 0;

	record_index_make(&index, files_early_previous(e));
	for (size_t i = 0; i < files->n && rc == 0; i++) {
		const struct open_file *f = &files->v[i];
		cleanup_close int leased = -1, in = -1;

		if (!is_changed_in_place(f) || !f->path || file_data_bytes(&f->st) > left)
			continue;
		leased = record_dup_leased(f);
		in = leased >= 0 ? -1 : record_open_scanned(f, &o->cred);
		if (in < 0)
			continue;
		left -= file_data_bytes(&f->st);
		rc = files_early_copy(e, in, &f->st, record_previous_copy(&index, f, previous), err);
	}
	record_index_free(&index);
	return rc;
}

/* One round. tmp: -1 = it is not private. */
static int record_early(struct files_early *e, int tmp, const pid_t *pids, int n, pid_t init,
			const struct files_opts *o, struct err *err)
{
	struct open_files files;
	int rc;

	if ((tmp >= 0 && tree_copy_early(tmp, &files_tree_tmp, e, err)) || record_early_scratch(e, o, err))
		return -1;
	rc = open_files_scan(&files, pids, n, init, o, err);
	if (rc == 0 && files.n)
		qsort(files.v, files.n, sizeof(*files.v), open_file_by_data);
	if (rc == 0)
		rc = record_early_open_files(e, &files, o, err);
	open_files_free(&files);
	return rc;
}

int files_early_prepare(struct files_early *e, const pid_t *pids, int n, pid_t init, const struct files_opts *o,
			struct err *err)
{
	cleanup_close int tmp = o->private_tmp ? record_open_private(init, "tmp", err) : -1;

	if (o->private_tmp && tmp < 0)
		return -1;
	while (files_early_begin_round(e, tmp)) {
		if (record_early(e, tmp, pids, n, init, o, err))
			return -1;
		if (!o->runs_on)
			return 0; /* nobody waits for the end of the freeze */
	}
	return 0;
}

int files_can_record(const pid_t *pids, int n, pid_t init, const struct files_opts *o, struct files_cost *cost,
		     struct err *err)
{
	struct recorder r = { .o = o, .left = o->file_limit };
	cleanup_close int shm = -1, tmp = -1;
	struct open_files files;
	struct err why = { 0 };
	int rc;

	/* Other errors do not count: the job runs and may remove a file while it is measured. */
	if (cost)
		memset(cost, 0, sizeof(*cost));
	if (record_measure_private(o, init, &shm, &tmp, cost, &why) < 0 && why.num == EFBIG)
		return err_set(err, EFBIG, "%s", why.text);
	rc = open_files_scan(&files, pids, n, init, o, err);

	if (rc == 0 && files.n)
		qsort(files.v, files.n, sizeof(*files.v), open_file_by_data);
	for (size_t i = 0; i < files.n && rc == 0 && o->must_save; i++) {
		const uint64_t data = file_data_bytes(&files.v[i].st);

		if (!is_changed_in_place(&files.v[i]) || !files.v[i].path)
			continue;
		rc = record_check_inplace(&r, &files.v[i], err);
		record_charge(&r, data);
		if (cost)
			cost->open += data;
		files_cost_note(cost, data, "", files.v[i].path);
	}
	open_files_free(&files);
	return rc;
}
