/* Copies of large files that are made before the freeze, so that in the freeze only what has changed since is read and
 * written.
 *
 * A file is unchanged if its size, mtime and ctime are. Four kinds of writes could change it without that, and are
 * dealt with when it is copied:
 * - through a mapping whose pages are writable already: the file is synchronized first. The kernel then makes the pages
 *   read-only, and the next write to each sets the mtime. In file systems that are only memory it does not: their files
 *   always count as changed
 * - in the same tick of the clock as the change before, or by a call that began before: only a file whose last change
 * is older than SETTLED_US counts as unchanged later
 * - by a long write(2), which sets the mtime when it begins: SEEK_DATA waits for it on file systems (ext4) where a
 * write holds the lock of the inode A file that has changed is read whole in the freeze, and the blocks whose checksum
 * differs are written. */
#include "files/files_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <pthread.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

#include <xxhash.h>

#include "base/array.h"
#include "base/io.h"
#include "base/util.h"

#define BLOCK       (64u << 10)
#define SETTLED_US  INT64_C(2000000)
#define THREADS_MAX 4
#define THREAD_MIN  (UINT64_C(32) << 20) /* bytes for which another thread pays */

struct early_file {
	uint64_t dev, ino, size;
	struct timespec mtime, ctime;
	bool settled;
	bool cloned; /* by FICLONE: what has changed is cloned again */
	bool taken;
	unsigned number;     /* of the copy */
	XXH128_hash_t *sums; /* of each block; owned */
};

struct files_early {
	int filesfd;
	struct early_file *v;
	size_t n, room;
	uint32_t *slots; /* hash table: device and inode -> index in v + 1 */
	size_t n_slots;  /* a power of two */
	unsigned made;
	unsigned tmp_copies; /* that belong to tmp.tar */
};

static int64_t early_us(const struct timespec *t)
{
	return (int64_t)t->tv_sec * 1000000 + t->tv_nsec / 1000;
}

static void early_name(unsigned number, char name[24])
{
	snprintf(name, 24, "early-%u", number);
}

static size_t early_blocks(uint64_t size)
{
	return (size_t)((size + BLOCK - 1) / BLOCK);
}

/* ---- the table --------------------------------------------------------------- */

static uint32_t *early_slot(const struct files_early *e, uint64_t dev, uint64_t ino)
{
	size_t i = (size_t)((ino * UINT64_C(0x9e3779b97f4a7c15) + dev) >> 20) & (e->n_slots - 1);

	while (e->slots[i] && (e->v[e->slots[i] - 1].ino != ino || e->v[e->slots[i] - 1].dev != dev))
		i = (i + 1) & (e->n_slots - 1);
	return &e->slots[i];
}

static struct early_file *early_find(const struct files_early *e, const struct stat *st)
{
	uint32_t at = e && e->n ? *early_slot(e, st->st_dev, st->st_ino) : 0;

	return at ? &e->v[at - 1] : NULL;
}

static void early_add(struct files_early *e, const struct early_file *f)
{
	array_reserve(e->v, e->n, e->room);
	e->v[e->n++] = *f;
	if (2 * e->n > e->n_slots) {
		free(e->slots);
		e->n_slots = e->n_slots ? 2 * e->n_slots : 256;
		e->slots = xcalloc(e->n_slots, sizeof(*e->slots));
		for (size_t i = 0; i + 1 < e->n; i++)
			*early_slot(e, e->v[i].dev, e->v[i].ino) = (uint32_t)i + 1;
	}
	*early_slot(e, f->dev, f->ino) = (uint32_t)e->n;
}

/* ---- blocks ------------------------------------------------------------------ */

/* One thread's part of a file. */
struct early_part {
	const struct early_file *f;
	int in, out;
	size_t from, to; /* blocks */
	uint64_t size;   /* of the file now */
	bool to_out;     /* writing has failed */
	int error;
};

static bool early_is_zero(const char *buf, size_t len)
{
	return !buf[0] && !memcmp(buf, buf + 1, len - 1);
}

/* Brings one block of the copy up to date. A block of zeros is a hole. */
static int early_block(struct early_part *p, size_t block, char *buf)
{
	const uint64_t at = (uint64_t)block * BLOCK;
	const size_t len = p->size - at < BLOCK ? (size_t)(p->size - at) : BLOCK;
	XXH128_hash_t sum;

	if (pread_all(p->in, buf, len, at)) {
		if (errno != ENODATA)
			return -1;
		memset(buf, 0, len); /* it has become shorter meanwhile, so it is read again */
	}
	sum = XXH3_128bits(buf, len);
	if (XXH128_isEqual(sum, p->f->sums[block]))
		return 0;
	p->f->sums[block] = sum;
	p->to_out = true;
	if (early_is_zero(buf, len) ? fallocate(p->out, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)at, (off_t)len)
				    : pwrite_all(p->out, buf, len, at)) {
		if (errno != EOPNOTSUPP || pwrite_all(p->out, buf, len, at))
			return -1;
	}
	p->to_out = false;
	return 0;
}

/* The first block with data from this one on. */
static size_t early_next_data(const struct early_part *p, size_t block)
{
	off_t data = lseek(p->in, (off_t)((uint64_t)block * BLOCK), SEEK_DATA);

	return data >= 0 ? (size_t)((uint64_t)data / BLOCK) : errno == ENXIO ? p->to : block;
}

/* Blocks that are holes now, and were none when they were copied, are read like data. */
static void *early_run(void *arg)
{
	struct early_part *p = arg;
	cleanup_free char *buf = xmalloc(BLOCK);
	static const XXH128_hash_t hole;
	size_t data = p->from;

	for (size_t b = p->from; b < p->to; b++) {
		if (b >= data)
			data = early_next_data(p, b);
		if (b < data && XXH128_isEqual(p->f->sums[b], hole))
			continue;
		if (early_block(p, b, buf)) {
			p->error = errno;
			break;
		}
	}
	return NULL;
}

/* Makes the first size bytes of the copy equal to those of the file. 0, or -1 with errno. */
static int early_run_all(const struct early_file *f, int in, int out, uint64_t size, unsigned threads, bool *to_out)
{
	struct early_part parts[THREADS_MAX];
	pthread_t ids[THREADS_MAX];
	bool started[THREADS_MAX] = { false };
	const size_t blocks = early_blocks(size);
	int error = 0;

	*to_out = false;
	for (unsigned i = 0; i < threads; i++) {
		parts[i] = (struct early_part){ f,    in,    out, blocks * i / threads, blocks * (i + 1) / threads,
						size, false, 0 };
		started[i] = i + 1 < threads && pthread_create(&ids[i], NULL, early_run, &parts[i]) == 0;
		if (!started[i])
			early_run(&parts[i]);
	}
	for (unsigned i = 0; i < threads; i++) {
		if (started[i])
			pthread_join(ids[i], NULL);
		error = error ? error : parts[i].error;
		*to_out |= parts[i].to_out;
	}
	errno = error;
	return error ? -1 : 0;
}

/* ---- before the freeze ------------------------------------------------------- */

struct files_early *files_early_open(int filesfd)
{
	struct files_early *e = xcalloc(1, sizeof(*e));

	e->filesfd = filesfd;
	return e;
}

static bool early_is_same(const struct early_file *f, const struct stat *st)
{
	return f->settled && f->size == (uint64_t)st->st_size && same_timestamp(&f->mtime, &st->st_mtim) &&
	       same_timestamp(&f->ctime, &st->st_ctim);
}

static bool early_is_memory(int fd)
{
	struct statfs fs;

	return fstatfs(fd, &fs) || (unsigned long)fs.f_type == TMPFS_MAGIC ||
	       (unsigned long)fs.f_type == HUGETLBFS_MAGIC || (unsigned long)fs.f_type == RAMFS_MAGIC;
}

/* Fills in what the file was like before it is read. */
static int early_look(struct early_file *f, int in)
{
	struct timespec now;
	struct stat st;

	clock_gettime(CLOCK_REALTIME, &now);
	if (fstat(in, &st))
		return -1;
	f->dev = st.st_dev;
	f->ino = st.st_ino;
	f->size = (uint64_t)st.st_size;
	f->mtime = st.st_mtim;
	f->ctime = st.st_ctim;
	f->settled = early_us(&now) - early_us(&st.st_mtim) > SETTLED_US &&
		     early_us(&now) - early_us(&st.st_ctim) > SETTLED_US;
	/* Without a sync, writes through mappings could go unnoticed. */
	if (fdatasync(in) || early_is_memory(in))
		f->settled = false;
	lseek(in, 0, SEEK_DATA);
	return 0;
}

static int early_make(struct files_early *e, struct early_file *f, int in, bool *to_out, struct err *err)
{
	cleanup_close int out = -1;
	char name[24];
	int rc;

	f->number = ++e->made;
	early_name(f->number, name);
	out = openat(e->filesfd, name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (out < 0)
		return err_sys(err, errno, "cannot make files/%s in the checkpoint", name);
	f->cloned = f->size > 0 && ioctl(out, FICLONE, in) == 0;
	if (f->cloned)
		return 0;
	f->sums = xcalloc(early_blocks(f->size) + 1, sizeof(*f->sums));
	rc = ftruncate(out, (off_t)f->size) || early_run_all(f, in, out, f->size, 1, to_out) ? -1 : 0;
	if (rc == 0 && fdatasync(out)) /* what is written before the freeze need not be written in a vacate's */
		*to_out = true;
	return rc || *to_out ? -1 : 0;
}

/* A file that cannot be read, or that there is no more, is left to the freeze. */
int files_early_copy(struct files_early *e, int in, const struct stat *st, struct err *err)
{
	struct early_file f = { 0 };
	bool to_out = false;
	char name[24];
	int saved;

	if (st->st_size < FILES_EARLY_MIN || early_find(e, st))
		return 0;
	if (early_look(&f, in) == 0 && f.dev == st->st_dev && f.ino == st->st_ino) {
		if (early_make(e, &f, in, &to_out, err) == 0) {
			early_add(e, &f);
			return 0;
		}
		saved = errno;
		free(f.sums);
		early_name(f.number, name);
		unlinkat(e->filesfd, name, 0);
		if (to_out)
			return err_sys(err, saved, "cannot write files/%s in the checkpoint", name);
	}
	return 0;
}

/* ---- in the freeze ----------------------------------------------------------- */

static int early_update(struct files_early *e, struct early_file *f, int in, uint64_t size, bool *to_out)
{
	cleanup_close int out = -1;
	size_t had = early_blocks(f->size), has = early_blocks(size);
	uint64_t threads = 1 + size / THREAD_MIN;
	char name[24];

	early_name(f->number, name);
	out = openat(e->filesfd, name, O_RDWR | O_NOFOLLOW | O_CLOEXEC);
	*to_out = true;
	if (out < 0 || (f->cloned ? ioctl(out, FICLONE, in) : ftruncate(out, (off_t)size)))
		return -1;
	*to_out = false;
	if (f->cloned)
		return ftruncate(out, (off_t)size);
	f->sums = xrealloc(f->sums, (has + 1) * sizeof(*f->sums));
	if (has > had)
		memset(f->sums + had, 0, (has - had) * sizeof(*f->sums));
	/* The last block has another length than before. */
	if (had && had <= has && size != f->size)
		f->sums[had - 1] = (XXH128_hash_t){ 1, 1 };
	if (has && size != f->size)
		f->sums[has - 1] = (XXH128_hash_t){ 1, 1 };
	return early_run_all(f, in, out, size, (unsigned)(threads < THREADS_MAX ? threads : THREADS_MAX), to_out);
}

int files_early_take(struct files_early *e, int in, const struct stat *st, const char *name, struct err *err)
{
	struct early_file *f = early_find(e, st);
	char early[24];
	bool to_out;

	if (!f || f->taken)
		return 0;
	early_name(f->number, early);
	if (!early_is_same(f, st) && early_update(e, f, in, (uint64_t)st->st_size, &to_out))
		return to_out ? err_sys(err, errno, "cannot write files/%s in the checkpoint", early) : 0;
	if (renameat(e->filesfd, early, e->filesfd, name))
		return err_sys(err, errno, "cannot rename files/%s in the checkpoint", early);
	f->taken = true;
	return 1;
}

void files_early_tmp_name(uint64_t ino, char name[32])
{
	snprintf(name, 32, "tmp-%llu.data", (unsigned long long)ino);
}

int files_early_take_tmp(struct files_early *e, int in, const struct stat *st, struct err *err)
{
	char name[32];
	int rc;

	files_early_tmp_name(st->st_ino, name);
	rc = files_early_take(e, in, st, name, err);
	e->tmp_copies += rc > 0;
	return rc;
}

bool files_early_used_for_tmp(const struct files_early *e)
{
	return e && e->tmp_copies;
}

void files_early_close(struct files_early *e)
{
	char name[24];

	for (size_t i = 0; e && i < e->n; i++) {
		early_name(e->v[i].number, name);
		if (!e->v[i].taken)
			unlinkat(e->filesfd, name, 0);
		free(e->v[i].sums);
	}
	if (e) {
		free(e->v);
		free(e->slots);
	}
	free(e);
}
