/* Puts the job's files on shared file systems back as they were at the checkpoint, checks whether that is possible, and
 * makes them durable. Each function here runs in a child that has the rights of the job's user (file_batch.c); the
 * entry points at the end run in the parent. */
#include "files/files_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/user.h"
#include "base/io.h"
#include "base/text.h"
#include "base/util.h"

/* ---- opening ----------------------------------------------------------- */

static const char *restore_kind_text(mode_t mode)
{
	switch (mode & S_IFMT) {
	case S_IFDIR: return "a directory";
	case S_IFLNK: return "a symbolic link";
	case S_IFIFO: return "a fifo";
	case S_IFSOCK: return "a socket";
	default: return "a device";
	}
}

struct target {
	int pathfd; /* O_PATH descriptor of the file to which the path leads now; -1 = missing */
	int fd;     /* open for reading, or for reading and writing */
	bool readable;
	bool mode_changed; /* made writable temporarily */
	struct stat st;
};

static void target_close(struct target *t)
{
	if (t->fd >= 0)
		close(t->fd);
	if (t->pathfd >= 0)
		close(t->pathfd);
}
#define cleanup_target __attribute__((cleanup(target_close)))

/* Finds the file with O_PATH, so that a fifo or a device has no side effect. A missing file is no error: pathfd is -1.
 */
static int target_find(const struct file_batch *b, const struct file_record *r, struct target *t)
{
	t->pathfd = open_path_of(-1, r->path, b->cred->uid);
	if (t->pathfd < 0 && errno == ENOENT)
		return 0;
	if (t->pathfd < 0)
		return file_batch_error(b, r->path, "cannot be reached: %s", open_path_error(errno));
	if (fstat(t->pathfd, &t->st) < 0)
		return file_batch_error(b, r->path, "cannot be examined: %s", strerror(errno));
	if (!S_ISREG(t->st.st_mode))
		return file_batch_error(b, r->path, "was a regular file that the job writes, now it is %s",
					restore_kind_text(t->st.st_mode));
	return 0;
}

static int target_open_pathfd(int pathfd, int flags)
{
	char link[40];

	snprintf(link, sizeof(link), "/proc/self/fd/%d", pathfd);
	return open(link, flags | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
}

static int target_chmod_pathfd(int pathfd, mode_t mode)
{
	char link[40];

	snprintf(link, sizeof(link), "/proc/self/fd/%d", pathfd);
	return chmod(link, mode);
}

static int target_open_reading(struct target *t)
{
	t->fd = target_open_pathfd(t->pathfd, O_RDONLY);
	t->readable = t->fd >= 0;
	return t->fd < 0 ? -1 : 0;
}

static int target_try_writing(struct target *t)
{
	t->fd = target_open_pathfd(t->pathfd, O_RDWR);
	t->readable = t->fd >= 0;
	if (t->fd < 0 && errno == EACCES)
		t->fd = target_open_pathfd(t->pathfd, O_WRONLY);
	return t->fd < 0 ? -1 : 0;
}

/* Opens the file for writing. A program may have a file open whose mode does not permit to open it for writing again;
 * the owner may change the mode temporarily. With check_only, only checks that this is possible. */
static int target_open_writing(const struct file_batch *b, const struct file_record *r, struct target *t)
{
	if (t->fd >= 0)
		close(t->fd);
	if (target_try_writing(t) == 0)
		return 0;
	if (errno == EACCES && t->st.st_uid == b->cred->uid && b->check_only)
		return 0;
	if (errno == EACCES && t->st.st_uid == b->cred->uid &&
	    target_chmod_pathfd(t->pathfd, (t->st.st_mode & 07777) | 0600) == 0) {
		t->mode_changed = true;
		if (target_try_writing(t) == 0)
			return 0;
	}
	if (errno == EACCES)
		return file_batch_error(b, r->path,
					"has to be set back, but the job's user (uid %u) may not write to it: "
					"it belongs to uid %u, mode %04o",
					(unsigned)b->cred->uid, (unsigned)t->st.st_uid,
					(unsigned)(t->st.st_mode & 07777));
	return file_batch_error(b, r->path, "has to be set back, but cannot be opened for writing: %s", strerror(errno));
}

/* The bits of a mode by which a program acts for its owner or group. They are never set again: the file may have
 * belonged to another user, who chose its content and its mode, and what is made of it belongs to the job's user. Where
 * the group may not execute the file, S_ISGID is no such bit but a mark for locks. */
static mode_t restore_set_id_bits(mode_t mode)
{
	return mode & (mode_t)(S_ISUID | (mode & S_IXGRP ? S_ISGID : 0));
}

/* The bits for the group that may be set on a file of that group. Those of another group, and those that were the mask
 * of another ACL, would open the file to people who could not open it before, except for what everybody may do. */
static mode_t restore_group_bits(const struct file_record *r, gid_t gid, bool same_acl)
{
	return r->gid == gid && same_acl ? r->mode & 070 : r->mode & (r->mode & 07) << 3;
}

/* Sets the group of a file that was made again, and returns the mode that the file is to get. */
static mode_t restore_group(const struct file_batch *b, const struct file_record *r, const struct target *t)
{
	const bool made = t->pathfd < 0, acl = file_has_acl(t->fd), same = acl == r->acl && !(made && acl);
	mode_t mode = r->mode & ~restore_set_id_bits(r->mode) & ~(mode_t)070;
	struct stat now;

	if (made && r->gid != (gid_t)-1 && fchown(t->fd, (uid_t)-1, r->gid) < 0)
		file_batch_warn(b, r->path, "does not belong to group %u any more: %s", (unsigned)r->gid,
				strerror(errno));
	if (fstat(t->fd, &now) == 0)
		mode |= restore_group_bits(r, now.st_gid, same);
	return made ? mode : mode | (r->mode & t->st.st_mode & 070);
}

/* Sets mode and modification time as at the checkpoint. A file of another user keeps its own. */
static void restore_set_attributes(const struct file_batch *b, const struct file_record *r, struct target *t)
{
	struct timespec times[2] = { { .tv_nsec = UTIME_OMIT }, r->mtime };
	const mode_t mode = restore_group(b, r, t);

	if (((t->st.st_mode & 07777) != r->mode || t->mode_changed) && fchmod(t->fd, mode) < 0)
		file_batch_warn(b, r->path, "keeps its mode %04o, it was %04o at the checkpoint: %s",
				(unsigned)(t->st.st_mode & 07777), (unsigned)r->mode, strerror(errno));
	else if (restore_set_id_bits(r->mode))
		file_batch_warn(b, r->path, "was a set-user-ID or set-group-ID program, which a restore does not make");
	else if (((t->st.st_mode & 07777) != r->mode || t->mode_changed) && mode != r->mode)
		file_batch_warn(b, r->path,
				"gives its group no more rights than everybody: its mode %04o at the checkpoint was for another group "
				"or an ACL",
				(unsigned)r->mode);
	if (futimens(t->fd, times) < 0 && errno != EPERM)
		file_batch_warn(b, r->path, "keeps its time of modification: %s", strerror(errno));
}

/* ---- missing files ----------------------------------------------------- */

/* Copies the first directory of the path that does not exist to out. False if all exist. */
static bool restore_missing_parent(const char *path, char out[PATH_MAX])
{
	struct stat st;

	snprintf(out, PATH_MAX, "%s", path);
	for (char *slash = strchr(out + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
		*slash = '\0';
		if (stat(out, &st) < 0 && errno == ENOENT)
			return true;
		*slash = '/';
	}
	return false;
}

static bool record_has_whole_copy(const struct file_record *r)
{
	return r->size == 0 || (*r->saved && r->saved_size == r->size);
}

/* True if missing directories of the file are recreated: the job had closed the file and may have removed its directory
 * too, and the restored job expects both. */
static bool record_brings_directories(const struct file_record *r)
{
	return r->class == FILE_CLOSED;
}

static const char *restore_why_no_copy(const struct file_record *r)
{
	return r->class == FILE_APPEND ? "it only grew, or was large and closed"
				       : "it was over CheckpointFileLimit or not readable";
}

/* Copies to dir the existing directory in which the first missing component of the path is to be made. */
static void restore_existing_parent(const char *path, char dir[PATH_MAX])
{
	char *slash;

	if (!restore_missing_parent(path, dir))
		snprintf(dir, PATH_MAX, "%s", path);
	slash = strrchr(dir, '/');
	slash[slash == dir] = '\0';
}

/* The group that a file made again can get: its own, if that is one of the job's. */
static gid_t restore_new_group(const struct file_batch *b, const struct file_record *r)
{
	bool member = r->gid == b->cred->gid;

	for (int i = 0; i < b->cred->n_groups && !member; i++)
		member = b->cred->groups[i] == r->gid;
	return member ? r->gid : (gid_t)-2;
}

static int restore_check_recreate(const struct file_batch *b, const struct file_record *r)
{
	char parent[PATH_MAX], shown[FILES_SHOWN];

	if (!record_brings_directories(r) && restore_missing_parent(r->path, parent))
		return file_batch_error(b, r->path, "is gone together with directory \"%s\": make the directory again",
					show_path(parent, shown));
	if (!record_has_whole_copy(r))
		return file_batch_error(b, r->path,
					"is gone, it had %lld bytes at the checkpoint and no copy was made of it, because %s: "
					"put it back or restart from another epoch",
					(long long)r->size, restore_why_no_copy(r));
	/* criu opens no file that has another mode than at the checkpoint. */
	if (r->class != FILE_CLOSED && restore_set_id_bits(r->mode))
		return file_batch_error(
			b, r->path,
			"is gone, and it was a set-user-ID or set-group-ID program (mode %04o), which a restore does "
			"not make again: put it back",
			(unsigned)r->mode);
	if (r->class != FILE_CLOSED && restore_group_bits(r, restore_new_group(b, r), !r->acl) != (r->mode & 070))
		return file_batch_error(
			b, r->path, "is gone, and its mode %04o was for %s, so that it cannot be made again: put it back",
			(unsigned)r->mode, r->acl ? "an ACL" : "a group that is not the job's");
	restore_existing_parent(r->path, parent);
	if (faccessat(AT_FDCWD, parent, W_OK | X_OK, AT_EACCESS) < 0)
		return file_batch_error(b, r->path, "is gone and cannot be made again in \"%s\": %s",
					show_path(parent, shown), strerror(errno));
	return 0;
}

static int restore_make_parents(const struct file_batch *b, const struct file_record *r)
{
	char dir[PATH_MAX], shown[FILES_SHOWN];
	const char *name;

	while (record_brings_directories(r) && restore_missing_parent(r->path, dir)) {
		cleanup_close int above = files_open_dir(-1, dir, b->cred->uid, &name);

		if (above < 0 || mkdirat(above, name, 0700) < 0)
			return file_batch_error(b, r->path, "is gone and its directory \"%s\" cannot be made again: %s",
						show_path(dir, shown), open_path_error(errno));
		file_batch_warn(b, dir, "was gone and has been made again as a directory of mode 0700");
	}
	return 0;
}

static int restore_recreate(const struct file_batch *b, const struct file_record *r, int copy)
{
	cleanup_target struct target t = { .pathfd = -1, .fd = -1 };
	cleanup_close int dir = -1;
	int rc = restore_check_recreate(b, r);
	const char *name;

	if (rc < 0 || b->check_only)
		return rc;
	if (restore_make_parents(b, r) < 0)
		return -1;
	dir = files_open_dir(-1, r->path, b->cred->uid, &name);
	t.fd = dir < 0 ? -1 : openat(dir, name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (t.fd < 0)
		return file_batch_error(b, r->path, "is gone and cannot be made again: %s", open_path_error(errno));
	if (r->size > 0 && copy_back(copy, t.fd, (uint64_t)r->size, true) < 0) {
		int saved = errno;

		unlinkat(dir, name, 0);
		return file_batch_error(b, r->path, "is gone and cannot be written again: %s", strerror(saved));
	}
	t.mode_changed = true;
	restore_set_attributes(b, r, &t);
	if (r->class == FILE_CLOSED)
		file_batch_count(b, BATCH_REMADE, r->path);
	else
		file_batch_warn(b, r->path, "was gone and has been made again with its content at the checkpoint");
	return 0;
}

/* ---- changed files ----------------------------------------------------- */

static bool target_is_untouched(const struct file_record *r, const struct target *t)
{
	return t->st.st_size == r->size && (uint64_t)t->st.st_ino == r->ino &&
	       same_timestamp(&t->st.st_mtim, &r->mtime) && same_timestamp(&t->st.st_ctim, &r->ctime);
}

/* Others may have written to a file of another user, too. */
static void restore_tell_undone(const struct file_batch *b, const struct file_record *r, const struct target *t)
{
	if (t->st.st_uid != b->cred->uid && !target_is_untouched(r, t))
		file_batch_warn(
			b, r->path,
			"belongs to uid %u: what was written to it after the checkpoint was undone, whoever wrote it",
			(unsigned)t->st.st_uid);
}

static int restore_put_copy(const struct file_batch *b, const struct file_record *r, struct target *t, int copy)
{
	if (target_open_writing(b, r, t) < 0)
		return -1;
	if (b->check_only)
		return 0;
	if (copy_back(copy, t->fd, (uint64_t)r->size, t->readable) < 0)
		return file_batch_error(b, r->path, "cannot be set back to its %lld bytes at the checkpoint: %s",
					(long long)r->size, strerror(errno));
	restore_set_attributes(b, r, t);
	restore_tell_undone(b, r, t);
	return 0;
}

/* A file without a copy can be used only if nobody has changed it. */
static int restore_unsaved(const struct file_batch *b, const struct file_record *r, const struct target *t)
{
	if (target_is_untouched(r, t))
		return 0;
	return file_batch_error(
		b, r->path,
		"was changed after the checkpoint (now %lld bytes, then %lld) and no copy was made of it, because it was over "
		"CheckpointFileLimit or not readable: cannot continue byte-identical",
		(long long)t->st.st_size, (long long)r->size);
}

/* Compares the end of the recorded part. 1 = unchanged, 0 = changed, -1 with errno. */
static int target_tail_matches(const struct file_record *r, struct target *t)
{
	uint64_t edge = r->size < FILES_EDGE ? (uint64_t)r->size : FILES_EDGE;
	char hex[SHA256_HEX];

	if (t->st.st_size < r->size)
		return 0;
	if (target_open_reading(t) < 0)
		return -1;
	if (digest_range(t->fd, (uint64_t)r->size - edge, edge, hex) < 0)
		return errno == ENODATA ? 0 : -1;
	return strcmp(hex, r->tail) == 0;
}

/* Compares the beginning with its copy. 1 = changed, 0 = unchanged, or there is no copy, -1 with errno. */
static int target_head_differs(const struct file_record *r, struct target *t, int copy)
{
	char was[SHA256_HEX], is[SHA256_HEX];

	if (!*r->saved || r->saved_size == 0)
		return 0;
	if (digest_range(copy, 0, (uint64_t)r->saved_size, was) < 0 ||
	    digest_range(t->fd, 0, (uint64_t)r->saved_size, is) < 0)
		return -1;
	return strcmp(was, is) != 0;
}

static int restore_write_head(const struct file_record *r, int copy, int fd)
{
	cleanup_free char *buf = xmalloc((size_t)r->saved_size);
	size_t n = (size_t)r->saved_size;

	if (pread(copy, buf, n, 0) != (ssize_t)n || lseek(fd, 0, SEEK_SET) < 0)
		return -1;
	return write_all(fd, buf, n);
}

/* Whether what was added to a file after the checkpoint stays in it: the file belongs to another user, and it may have
 * been added by others, which the job's user must not undo. Of a file that is open otherwise than for appending criu
 * expects the size that it had. */
static bool target_keeps_growth(const struct file_batch *b, const struct file_record *r, const struct target *t)
{
	if (t->st.st_uid == b->cred->uid || t->st.st_size <= r->size || (r->class != FILE_CLOSED && !r->appends))
		return false;
	file_batch_warn(b, r->path,
			"belongs to uid %u and has grown from %lld to %lld bytes after the checkpoint: what was added stays, because "
			"others may have added it; what the job has added since will be there twice",
			(unsigned)t->st.st_uid, (long long)r->size, (long long)t->st.st_size);
	return true;
}

static int restore_truncate(const struct file_batch *b, const struct file_record *r, struct target *t, bool head, int copy)
{
	if (!head && target_keeps_growth(b, r, t))
		return 0;
	if (target_open_writing(b, r, t) < 0)
		return -1;
	if (b->check_only)
		return 0;
	if (t->st.st_size != r->size && ftruncate(t->fd, (off_t)r->size) < 0)
		return file_batch_error(b, r->path, "cannot be truncated to its %lld bytes at the checkpoint: %s",
					(long long)r->size, strerror(errno));
	if (head && restore_write_head(r, copy, t->fd) < 0)
		return file_batch_error(b, r->path, "cannot be set back at its beginning: %s", strerror(errno));
	restore_set_attributes(b, r, t);
	restore_tell_undone(b, r, t);
	return 0;
}

/* For a file that could not be read when it was recorded, only the size is known. */
static int restore_by_size(const struct file_batch *b, const struct file_record *r, struct target *t)
{
	if (t->st.st_size < r->size)
		return file_batch_error(
			b, r->path, "is now %lld bytes, it was %lld at the checkpoint: cannot continue byte-identical",
			(long long)t->st.st_size, (long long)r->size);
	return t->st.st_size == r->size ? 0 : restore_truncate(b, r, t, false, -1);
}

/* Whoever writes to a file that only grows makes it longer. This one has its size and its ends, and was written to. */
static void restore_tell_rewritten(const struct file_batch *b, const struct file_record *r, const struct target *t)
{
	if (t->st.st_dev == r->dev && t->st.st_ino == r->ino && !same_timestamp(&t->st.st_mtim, &r->mtime))
		file_batch_warn(
			b, r->path,
			"was written to after the checkpoint without becoming longer, and there is no copy of it: only its first "
			"and last 64 KiB are known to be as they were. If the job changes it in place, restart from another "
			"epoch or start the job over");
}

static int restore_append(const struct file_batch *b, const struct file_record *r, struct target *t, int copy)
{
	int fits, head;

	if (!*r->tail)
		return restore_by_size(b, r, t);
	fits = target_tail_matches(r, t);
	if (fits < 0 && errno == EACCES) {
		file_batch_warn(b, r->path, "may not be read by the job's user: only its size was checked");
		return restore_by_size(b, r, t);
	}
	if (fits == 0 && record_has_whole_copy(r) && *r->saved)
		return restore_put_copy(b, r, t, copy);
	if (fits == 0)
		return file_batch_error(
			b, r->path,
			"is now %lld bytes, it was %lld at the checkpoint: its content before the checkpoint was changed, "
			"cannot continue byte-identical",
			(long long)t->st.st_size, (long long)r->size);
	head = fits < 0 ? -1 : target_head_differs(r, t, copy);
	if (head < 0)
		return file_batch_error(b, r->path, "cannot be compared with its content at the checkpoint: %s",
					strerror(errno));
	if (t->st.st_size != r->size || head)
		return restore_truncate(b, r, t, head > 0, copy);
	restore_tell_rewritten(b, r, t);
	return 0;
}

/* No process had the file open or mapped at the checkpoint, so its times tell whether it was changed afterwards. */
static int restore_closed(const struct file_batch *b, const struct file_record *r, struct target *t, int copy)
{
	char hex[SHA256_HEX];

	if (target_is_untouched(r, t))
		return 0;
	if (t->st.st_size < r->size || target_open_reading(t) < 0 ||
	    digest_range(t->fd, 0, (uint64_t)r->size, hex) < 0 || strcmp(hex, r->digest) != 0)
		return restore_put_copy(b, r, t, copy);
	if (t->st.st_size > r->size)
		return target_keeps_growth(b, r, t) ? 0 : restore_put_copy(b, r, t, copy);
	if (!b->check_only)
		restore_set_attributes(b, r, t);
	return 0;
}

static int restore_file(const struct file_batch *b, const struct file_record *r, int copy)
{
	cleanup_target struct target t = { .pathfd = -1, .fd = -1 };

	if (r->class == FILE_ABSENT)
		return 0;
	if (target_find(b, r, &t) < 0)
		return -1;
	if (t.pathfd < 0)
		return restore_recreate(b, r, copy);
	if (r->class == FILE_APPEND)
		return restore_append(b, r, &t, copy);
	if (r->class == FILE_CLOSED && record_has_whole_copy(r))
		return restore_closed(b, r, &t, copy);
	/* The whole content is compared, because the file's times show neither writes through a mapping nor a second
	 * write within one clock tick. */
	return record_has_whole_copy(r) ? restore_put_copy(b, r, &t, copy) : restore_unsaved(b, r, &t);
}

static int restore_sync_file(const struct file_batch *b, const struct file_record *r, int copy)
{
	cleanup_target struct target t = { .pathfd = -1, .fd = -1 };

	(void)copy;
	/* A complete copy is durable with the epoch and will be put back, whatever the disk has lost. */
	if (r->leased || r->class == FILE_ABSENT || (r->class != FILE_APPEND && record_has_whole_copy(r)))
		return 0;
	t.pathfd = open(r->path, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	/* A file that was removed meanwhile, or that the user may not open, does not fail the checkpoint: a restore
	 * reports it if it matters. */
	if (t.pathfd < 0 || fstat(t.pathfd, &t.st) < 0 || !S_ISREG(t.st.st_mode) ||
	    (target_open_reading(&t) < 0 && target_try_writing(&t) < 0))
		return 0;
	if (fsync(t.fd) < 0 && errno != EINVAL)
		return file_batch_error(b, r->path, "cannot be written to the disk: %s", strerror(errno));
	return 0;
}

static int restore_run(struct file_batch *b, const json_t *records, int filesfd, json_t *warnings, struct err *err)
{
	cleanup_free struct file_record *batch = xcalloc(FILE_BATCH_MAX, sizeof(*batch));
	struct batch_outcome o = { .warnings = warnings };
	size_t n = json_array_size(records);

	if (!json_is_array(records) || n > FILES_RECORDS_MAX)
		return err_set(err, EBADMSG, "the list of the job's files is damaged");
	for (size_t i = 0; i < n;) {
		int in_batch = 0;

		for (; i < n && in_batch < FILE_BATCH_MAX; i++, in_batch++)
			if (file_record_parse(json_array_get(records, i), &batch[in_batch], err) < 0)
				return err_wrap(err, "the record of file %zu is damaged", i);
		if (file_batch_run(b, batch, in_batch, filesfd, &o, err) < 0)
			return -1;
		if (o.errors && b->stop_at_error)
			break;
	}
	if (o.remade.n)
		add_warning(warnings, "%u %s that the job had deleted after the checkpoint %s again, first %s",
			    o.remade.n, o.remade.n == 1 ? "file" : "files", o.remade.n == 1 ? "was made" : "were made",
			    o.remade.first);
	if (o.errors > 1)
		return err_set(err, EBUSY, "%s (and %u more)", o.first, o.errors - 1);
	return o.errors ? err_set(err, EBUSY, "%s", o.first) : 0;
}

int files_check(const json_t *records, int filesfd, const struct files_cred *cred, struct err *err)
{
	struct file_batch b = { .step = restore_file, .cred = cred, .open_copies = true, .check_only = true };

	return restore_run(&b, records, filesfd, NULL, err);
}

int files_put_back(const json_t *records, int filesfd, const struct files_cred *cred, json_t *warnings, struct err *err)
{
	struct file_batch b = { .step = restore_file, .cred = cred, .open_copies = true, .stop_at_error = true };

	return restore_run(&b, records, filesfd, warnings, err);
}

int files_sync(const json_t *records, const struct files_cred *cred, struct err *err)
{
	struct file_batch b = { .step = restore_sync_file, .cred = cred };

	return restore_run(&b, records, -1, NULL, err);
}
