/* What the job can write to, while it is frozen. */
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
	"the job has a lease on it (fcntl F_SETLEASE) and not open for reading, and to open it would break the lease"

struct recorder {
	const struct files_opts *o;
	int filesfd;
	uint64_t left; /* of o->file_limit */
	unsigned n_copies;
	json_t *records, *warnings;
};

/* ---- reading the open file --------------------------------------------- */

static int reopen(int pathfd, int flags)
{
	char link[40];

	snprintf(link, sizeof(link), "/proc/self/fd/%d", pathfd);
	/* O_NONBLOCK: a lease held by a frozen task must not block us for the kernel's lease-break-time. */
	return open(link, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC | flags);
}

int reopen_as_user(int pathfd, const struct files_cred *cred)
{
	struct user_rights own;
	struct err why;
	int fd;

	if (user_rights_take(&own, cred->uid, cred->gid, cred->groups, cred->n_groups, &why) < 0) {
		errno = EPERM;
		return -1;
	}
	fd = reopen(pathfd, 0);
	user_rights_return(&own);
	return fd;
}

/* Root may read what is the job's anyway. A file of somebody else's that the job can only write to must not be read for
 * it: a copy put back elsewhere would show what is in it. */
static bool root_may_read(const struct open_file *f, const struct files_cred *cred)
{
	return f->read_write || f->mapped || f->st.st_uid == cred->uid;
}

/* Opens the very inode that was scanned, for reading. -1 with errno. */
static int open_scanned(const struct open_file *f, const struct files_cred *cred)
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
	if (!root_may_read(f, cred))
		return reopen_as_user(pathfd, cred);
	fd = reopen(pathfd, O_NOATIME);
	/* On NFS with root_squash root may not read what the job's user may. */
	if (fd < 0 && (errno == EACCES || errno == EPERM))
		fd = reopen_as_user(pathfd, cred);
	return fd;
}

/* A duplicate of the job's own descriptor if the job has a lease for writing on the file: any open would break it. -1:
 * it has none. Reading at a position and fsync leave nothing behind in the job; a duplicate shares the offset. */
static int dup_leased(const struct open_file *f)
{
	cleanup_close int pidfd = -1, fd = -1;
	int pid, number;

	if (sscanf(f->ref, "%d/fd/%d", &pid, &number) != 2)
		return -1;
	pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	fd = pidfd < 0 ? -1 : (int)syscall(SYS_pidfd_getfd, pidfd, number, 0);
	return fd >= 0 && fcntl(fd, F_GETLEASE) == F_WRLCK ? steal_fd(&fd) : -1;
}

static bool is_readable(int fd)
{
	return (fcntl(fd, F_GETFL) & O_ACCMODE) != O_WRONLY;
}

/* ---- copies ------------------------------------------------------------ */

/* Saves the first size bytes. 1 saved, 0 not (errno tells why), -1 the checkpoint cannot be written. */
static int save_copy(struct recorder *r, int in, bool leased, uint64_t size, struct file_record *rec, struct err *err)
{
	cleanup_close int out = -1;
	bool to_out;
	int saved;

	snprintf(rec->saved, sizeof(rec->saved), "%06u.data", ++r->n_copies);
	rec->saved_size = (int64_t)size;
	out = openat(r->filesfd, rec->saved, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (out < 0)
		return err_sys(err, errno, "cannot make files/%s in the checkpoint", rec->saved);
	if ((leased ? copy_positioned(in, out, size, &to_out) : copy_sparse(in, out, size, r->left, &to_out)) == 0)
		return 1;
	saved = errno;
	if (to_out)
		return err_sys(err, saved, "cannot write files/%s in the checkpoint", rec->saved);
	unlinkat(r->filesfd, rec->saved, 0);
	rec->saved[0] = '\0';
	errno = saved;
	return 0;
}

static void charge(struct recorder *r, uint64_t data)
{
	r->left -= data < r->left ? data : r->left;
}

/* "process 17 (python3), descriptor 5": from where the file was found. */
static const char *who_has(const struct open_file *f, char *buf, size_t len)
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

/* The epoch of a job that stops can be restored while the file is as it was; one that goes on changes it. */
static int not_saved(struct recorder *r, const struct open_file *f, const char *why, struct err *err)
{
	char shown[FILES_SHOWN], who[PROC_DESCRIBED + 64];

	if (r->o->runs_on)
		return err_set(err, EFBIG,
			       "\"%s\" is changed in place (%s) and cannot be saved: %s; without a copy the epoch could not be "
			       "restored",
			       show_path(f->path, shown), who_has(f, who, sizeof(who)), why);
	add_warning(r->warnings,
		    "\"%s\" is changed in place by the job and was not saved: %s. "
		    "A restore goes on only if the file is still as it was%s",
		    show_path(f->path, shown), why,
		    f->mapped ? " (changes through a memory mapping may go unnoticed)" : "");
	return 0;
}

static int too_big(struct recorder *r, const struct open_file *f, struct err *err)
{
	char size[32], limit[32], left[32], why[256];

	snprintf(why, sizeof(why),
		 "it holds %s, of CheckpointFileLimit (%s) %s are left; the administrator can raise it in fsched.conf",
		 format_size(file_data_bytes(&f->st), size, sizeof(size)),
		 format_size(r->o->file_limit, limit, sizeof(limit)), format_size(r->left, left, sizeof(left)));
	return not_saved(r, f, why, err);
}

static int record_inplace(struct recorder *r, const struct open_file *f, int in, bool leased, struct file_record *rec,
			  struct err *err)
{
	uint64_t data = file_data_bytes(&f->st);
	int rc;

	if (in < 0)
		return not_saved(r, f, strerror(errno), err);
	if (leased && !is_readable(in))
		return not_saved(r, f, LEASED, err);
	if (data > r->left)
		return too_big(r, f, err);
	rc = save_copy(r, in, leased, (uint64_t)f->st.st_size, rec, err);
	if (rc > 0)
		charge(r, data);
	else if (rc == 0 && errno == EFBIG)
		rc = too_big(r, f, err);
	else if (rc == 0)
		rc = not_saved(r, f, strerror(errno), err);
	return rc < 0 ? -1 : 0;
}

/* Only grows: its size and a digest of its end are enough. Without O_APPEND it only seems so (a program may go back and
 * rewrite a header when it is done), so the beginning is kept too. */
static int record_append(struct recorder *r, const struct open_file *f, int in, bool leased, struct file_record *rec,
			 struct err *err)
{
	uint64_t size = (uint64_t)f->st.st_size, edge = size < FILES_EDGE ? size : FILES_EDGE;
	char shown[FILES_SHOWN];

	/* files_sync() cannot open it. */
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
	if (!f->sequential || size == 0 || edge > r->left)
		return 0;
	if (save_copy(r, in, leased, edge, rec, err) < 0)
		return -1;
	charge(r, edge);
	return 0;
}

static bool in_place(const struct open_file *f)
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
	rec->class = in_place(f) ? FILE_INPLACE : FILE_APPEND;
	in = dup_leased(f);
	leased = in >= 0;
	in = leased ? in : open_scanned(f, &r->o->cred);
	rec->leased = leased;
	rc = rec->class == FILE_APPEND ? record_append(r, f, in, leased, rec, err)
				       : record_inplace(r, f, in, leased, rec, err);
	if (rc < 0)
		return -1;
	if (json_array_append_new(r->records, file_record_render(rec)) < 0)
		return err_set(err, ENOMEM, "cannot record \"%s\"", show_path(f->path, shown));
	return 0;
}

/* Small ones first: one huge file must not take the limit from all others. */
static int by_data(const void *a, const void *b)
{
	const struct open_file *x = a, *y = b;
	uint64_t dx = file_data_bytes(&x->st), dy = file_data_bytes(&y->st);

	return (dx > dy) - (dx < dy);
}

static int record_open_files(struct recorder *r, struct open_files *files, struct err *err)
{
	if (files->n)
		qsort(files->v, files->n, sizeof(*files->v), by_data);
	for (size_t i = 0; i < files->n; i++)
		if (record_file(r, &files->v[i], err) < 0)
			return -1;
	return 0;
}

/* ---- /dev/shm and /tmp ------------------------------------------------- */

static int open_private(pid_t init_pid, const char *name, struct err *err)
{
	cleanup_close int rootfd = -1;
	char root[32];
	int fd;

	snprintf(root, sizeof(root), "/proc/%d/root", (int)init_pid);
	rootfd = open(root, O_PATH | O_DIRECTORY | O_CLOEXEC);
	fd = rootfd < 0 ? -1 : open_in_root(rootfd, name);
	return fd < 0 ? err_sys(err, errno, "cannot open the job's /%s", name) : fd;
}

/* Opens both, tmp -1 if it is not private. num is EFBIG if they are too large. */
static int measure_private(const struct files_opts *o, pid_t init_pid, int *shm, int *tmp, struct err *err)
{
	uint64_t shm_bytes = 0, tmp_bytes = 0;
	char a[32], b[32], limit[32];

	*shm = open_private(init_pid, "dev/shm", err);
	if (*shm < 0 || tree_measure(*shm, &shm_bytes, err) < 0)
		return -1;
	if (o->private_tmp) {
		*tmp = open_private(init_pid, "tmp", err);
		if (*tmp < 0 || tree_measure(*tmp, &tmp_bytes, err) < 0)
			return -1;
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

	if (measure_private(r->o, init_pid, &shm, &tmp, err) < 0)
		return -1;
	if (tree_pack(shm, r->filesfd, "shm.tar", "/dev/shm", r->o, true, r->warnings, err) < 0)
		return -1;
	return tmp < 0 ? 0 : tree_pack(tmp, r->filesfd, "tmp.tar", "/tmp", r->o, false, r->warnings, err);
}

int files_record(const pid_t *pids, int n_pids, pid_t init_pid, int filesfd, const struct files_opts *o,
		 json_t *records, json_t *warnings, struct err *err)
{
	struct recorder r = { .o = o, .filesfd = filesfd, .left = o->file_limit, .records = records, .warnings = warnings };
	struct open_files files;
	int rc;

	/* First what may refuse the checkpoint: the job stands still meanwhile. */
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

/* As record_inplace() will find it. */
static int look_at(struct recorder *r, const struct open_file *f, struct err *err)
{
	cleanup_close int leased = dup_leased(f);

	if (leased >= 0 && !is_readable(leased))
		return not_saved(r, f, LEASED, err);
	return file_data_bytes(&f->st) > r->left ? too_big(r, f, err) : 0;
}

int files_look(const pid_t *pids, int n, pid_t init, const struct files_opts *o, struct err *err)
{
	struct recorder r = { .o = o, .left = o->file_limit };
	cleanup_close int shm = -1, tmp = -1;
	struct open_files files;
	struct err why = { 0 };
	int rc;

	/* A file that goes away while it is looked at says nothing. */
	if (measure_private(o, init, &shm, &tmp, &why) < 0 && why.num == EFBIG)
		return err_set(err, EFBIG, "%s", why.text);
	rc = open_files_scan(&files, pids, n, init, o, err);

	if (rc == 0 && files.n)
		qsort(files.v, files.n, sizeof(*files.v), by_data);
	for (size_t i = 0; i < files.n && rc == 0 && o->runs_on; i++) {
		if (!in_place(&files.v[i]) || !files.v[i].path)
			continue;
		rc = look_at(&r, &files.v[i], err);
		charge(&r, file_data_bytes(&files.v[i].st));
	}
	open_files_free(&files);
	return rc;
}
