/* Checks whether the checkpoint fits on the disk. Done before the freeze, so that a full disk does not disturb the job.
 */
#include "worker/worker.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/vfs.h>

#include "base/array.h"
#include "base/dir.h"
#include "base/io.h"
#include "base/proc.h"
#include "base/text.h"
#include "base/util.h"

#define MARGIN (16u << 20) /* for images besides the pages, and for copies of files */

static uint64_t status_bytes(const char *status, const char *key)
{
	return (uint64_t)proc_status_number(status, key, 0) * 1024;
}

/* Pages that processes share since a fork are written once, except those that stay in criu's images; criu alone writes
 * them once per process. Returns the bytes of the process that are not written with it. */
static uint64_t bytes_written_elsewhere(const struct worker *w, pid_t pid)
{
	struct mem_usage u;

	if (w->conf.engine == CONF_ENGINE_CRIU || !w->criu.preload[0] || mem_usage_read(pid, &u) ||
	    !memory_shares_much(&u))
		return 0;
	return u.shared < MEMORY_KEPT ? 0 : u.shared - MEMORY_KEPT;
}

/* What a process has in memory, by kinds. */
struct resident {
	uint64_t own, shared; /* bytes */
};

static struct resident process_resident(pid_t pid)
{
	cleanup_free char *status = NULL;
	struct resident r = { 0 };
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/status", pid);
	if (read_file_at(AT_FDCWD, path, 65536, &status) <= 0)
		return r;
	r.own = status_bytes(status, "RssAnon") + status_bytes(status, "HugetlbPages") + status_bytes(status, "VmSwap");
	r.shared = status_bytes(status, "RssShmem");
	return r;
}

/* The bytes that will be written at least: anonymous pages, and shared memory once. Of shared memory the largest amount
 * of any process counts: too high an estimate would refuse checkpoints that fit. *shared: the part that is shared.
 * forks: without what processes share since a fork, which is found by a look at all pages. */
static uint64_t memory_to_write(const struct worker *w, const pid_t *pids, int n, bool forks, uint64_t *shared)
{
	uint64_t anon = 0, twice;

	*shared = 0;
	for (int i = 0; i < n; i++) {
		const struct resident r = process_resident(pids[i]);

		twice = forks ? bytes_written_elsewhere(w, pids[i]) : 0;
		anon += r.own - (twice < r.own ? twice : r.own);
		*shared = r.shared > *shared ? r.shared : *shared;
	}
	return anon + *shared;
}

/* ---- deleted files that are still open: criu saves each as a whole, up to a limit per file ---- */

#define DELETED_TOLD_APART 4096 /* files; beyond that, a file that is open twice counts twice */

struct deleted {
	uint64_t dev, ino;
};

struct deleted_set {
	struct deleted *v;
	size_t n, room;
	uint64_t bytes;
};

static bool is_noted(const struct deleted_set *s, const struct deleted *d)
{
	for (size_t i = 0; i < s->n; i++)
		if (s->v[i].dev == d->dev && s->v[i].ino == d->ino)
			return true;
	return false;
}

/* name: a link of /proc to an open or mapped file. */
static void note_deleted(struct deleted_set *s, int dirfd, const char *name)
{
	struct deleted d;
	struct statfs fs;
	struct statx st;
	char path[64];

	/* AT_STATX_DONT_SYNC: a hanging file server must not hang the worker. */
	if (statx(dirfd, name, AT_STATX_DONT_SYNC, STATX_TYPE | STATX_NLINK | STATX_INO | STATX_BLOCKS, &st) ||
	    !S_ISREG(st.stx_mode) || st.stx_nlink > 0)
		return;
	d = (struct deleted){ (uint64_t)st.stx_dev_major << 32 | st.stx_dev_minor, st.stx_ino };
	if (is_noted(s, &d))
		return;
	snprintf(path, sizeof(path), "/proc/self/fd/%d/%.30s", dirfd, name);
	/* Their data is memory, which memory_to_write() counts. */
	if (statfs(path, &fs) || fs.f_type == TMPFS_MAGIC || fs.f_type == HUGETLBFS_MAGIC)
		return;
	s->bytes += st.stx_blocks * 512;
	if (s->n == DELETED_TOLD_APART)
		return;
	array_reserve(s->v, s->n, s->room);
	s->v[s->n++] = d;
}

static int note_links(struct deleted_set *s, pid_t pid, const char *which, struct err *err)
{
	static const char mark[] = " (deleted)";
	cleanup_dir DIR *dir = NULL;
	const struct dirent *e;
	char path[64], link[4200];
	int more = 0;

	snprintf(path, sizeof(path), "/proc/%d/%s", pid, which);
	dir = opendir(path);
	while (dir && (more = dir_next(dir, &e)) > 0) {
		ssize_t n = readlinkat(dirfd(dir), e->d_name, link, sizeof(link));

		if (n > (ssize_t)sizeof(mark) && link[0] == '/' &&
		    !memcmp(link + n - (sizeof(mark) - 1), mark, sizeof(mark) - 1))
			note_deleted(s, dirfd(dir), e->d_name);
	}
	return (dir || errno == ENOENT) && more == 0 ? 0 : err_sys(err, errno, "cannot read %s", path);
}

static int check_deleted(const struct worker *w, const pid_t *pids, int n, uint64_t *bytes, struct err *err)
{
	struct deleted_set s = { 0 };
	char a[16], b[16];
	int rc = 0;

	for (int i = 0; i < n && !rc; i++)
		rc = note_links(&s, pids[i], "fd", err) || note_links(&s, pids[i], "map_files", err) ? -1 : 0;
	free(s.v);
	if (rc)
		return -1;
	*bytes = s.bytes;
	if (!w->conf.file_limit || s.bytes <= w->conf.file_limit)
		return 0;
	return err_set(
		err, EFBIG,
		"the job holds deleted files of %s open, which are part of a checkpoint and more than CheckpointFileLimit "
		"(%s) allows: it should close them, or the administrator raise CheckpointFileLimit in fsched.conf",
		format_size(s.bytes, a, sizeof(a)), format_size(w->conf.file_limit, b, sizeof(b)));
}

/* What an epoch of the job will take, by kinds. */
struct need {
	uint64_t memory, shared, files, deleted, all;
};

static void space_add(char *buf, size_t len, const char *what, uint64_t bytes)
{
	const size_t used = strlen(buf);
	char size[16];

	if (bytes)
		snprintf(buf + used, len - used, "%s%s %s", used ? ", " : "", what,
			 format_size(bytes, size, sizeof(size)));
}

/* "memory 3.0 GiB, files 12.0 GiB (the largest: \"/tmp/scratch\" 11.0 GiB)" */
static const char *space_text(const struct worker *w, const struct need *n, char *buf, size_t len)
{
	char path[320], size[16];
	size_t used;

	buf[0] = '\0';
	space_add(buf, len, "memory", n->memory);
	space_add(buf, len, "deleted files that are open", n->deleted);
	space_add(buf, len, "files of /tmp, of /dev/shm and changed in place", n->files);
	used = strlen(buf);
	if (n->files && w->files.path[0])
		snprintf(buf + used, len - used, " (the largest: \"%s\" %s)",
			 printable(w->files.path, path, sizeof(path)), format_size(w->files.largest, size, sizeof(size)));
	return buf;
}

static int space_measure(struct worker *w, const pid_t *pids, int n, struct need *need, struct err *err)
{
	const struct files_cost *f = &w->files;

	w->resident = memory_to_write(w, pids, n, false, &need->shared);
	w->memory = need->memory = memory_to_write(w, pids, n, true, &need->shared);
	/* What processes map of /dev/shm counts as their memory. */
	need->files = f->tmp + f->open + (f->shm > need->shared ? f->shm - need->shared : 0);
	if (check_deleted(w, pids, n, &need->deleted, err))
		return -1;
	need->all = need->memory + need->files + need->deleted;
	return 0;
}

int space_check(struct worker *w, const pid_t *pids, int n, struct err *err)
{
	struct need need = { 0 };
	char a[16], b[16], text[600];
	struct statvfs v;
	uint64_t room;

	if (space_measure(w, pids, n, &need, err))
		return -1;
	if (w->conf.job_limit && need.all > w->conf.job_limit)
		return err_set(
			err, EFBIG,
			"the job needs about %s for an epoch, CheckpointJobLimit allows %s: %s; "
			"the job was not stopped. It should delete files, or the administrator raise the limit in fsched.conf",
			format_size(need.all, a, sizeof(a)), format_size(w->conf.job_limit, b, sizeof(b)),
			space_text(w, &need, text, sizeof(text)));
	if (fstatvfs(w->store.epochsfd, &v))
		return err_sys(err, errno, "cannot look up the free space of %s", w->store.path);
	room = (uint64_t)v.f_bavail * v.f_frsize;
	w->reserved = need.all;
	if (room >= need.all + MARGIN)
		return quota_check(w, need.all, err);
	return err_set(err, ENOSPC,
		       "not enough space in %.200s: the job needs about %s, %s are free: %s; "
		       "the job was not stopped. Free some space or keep fewer epochs",
		       w->store.path, format_size(need.all + MARGIN, a, sizeof(a)), format_size(room, b, sizeof(b)),
		       space_text(w, &need, text, sizeof(text)));
}

/* ---- after that: the job runs on while files are copied, and can notice that -------------------------- */

/* Small differences are those of an estimate. */
static bool space_has_grown(const struct worker *w, uint64_t bytes)
{
	return bytes > w->reserved + w->reserved / 8 + MARGIN;
}

int space_check_written(struct worker *w, uint64_t bytes, struct err *err)
{
	char a[16], b[16], c[16];

	if (!space_has_grown(w, bytes))
		return 0;
	if (w->conf.job_limit && bytes > w->conf.job_limit)
		return err_set(err, EFBIG,
			       "the job has grown since it was measured, before it was stopped: it needs %s for an epoch, it was "
			       "measured with %s, and CheckpointJobLimit allows %s",
			       format_size(bytes, a, sizeof(a)), format_size(w->reserved, b, sizeof(b)),
			       format_size(w->conf.job_limit, c, sizeof(c)));
	if (quota_check(w, bytes, err))
		return -1;
	w->reserved = bytes;
	return 0;
}

int space_check_stopped(struct worker *w, const pid_t *pids, int n, struct err *err)
{
	uint64_t shared, memory = memory_to_write(w, pids, n, false, &shared);

	/* The job stands still: its pages are looked at only if there is a reason to. */
	if (memory <= w->resident || !space_has_grown(w, w->reserved + memory - w->resident))
		return 0;
	memory = memory_to_write(w, pids, n, true, &shared);
	return memory > w->memory ? space_check_written(w, w->reserved + memory - w->memory, err) : 0;
}
