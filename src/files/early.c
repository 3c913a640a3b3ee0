/* Copies of large files that are made before the freeze, so that in the freeze only what has changed since is read and
 * written.
 *
 * A file is unchanged if its size, mtime and ctime are. Four kinds of writes could change it without that, and are
 * dealt with when it is copied:
 * - through a mapping whose pages are writable already: the file is synchronized first. The kernel then makes the pages
 *   read-only, and the next write to each sets the mtime. In file systems that are only memory it does not: their files
 *   always count as changed
 * - in the same tick of the clock as the change before, or by a call that began before: only a file whose last change
 *   is older than SETTLED_US counts as unchanged later
 * - by a long write(2), which sets the mtime when it begins: SEEK_DATA waits for it on file systems (ext4) where a
 *   write holds the lock of the inode
 *
 * A file that has changed is read in the freeze, and the blocks whose checksum differs are written. It is read whole,
 * or, in a /tmp that is an image, only where unchanged.c cannot tell that nothing has changed. For that all of /tmp is
 * synchronized once in a round, before its files are copied, since a write to the device makes unchanged.c forget.
 *
 * There are further rounds before the freeze as long as there is clearly less to read in each.
 *
 * The checksums take memory for each block, also of holes, and a job can make a hole of any size at no cost: beyond a
 * bound (HOLES_MAX) sparse files have no copy made before. */
#include "files/files_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <pthread.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/array.h"
#include "base/clock.h"
#include "base/io.h"
#include "base/util.h"
#include "base/xxh3.h"

#define SETTLED_US      INT64_C(2000000)
#define THREADS_MAX     4
#define THREAD_MIN      (UINT64_C(32) << 20) /* bytes for which another thread pays */
#define READ_BLOCKS     16                   /* that are read at once */
#define ROUNDS_MAX      4
#define LEFT_SMALL      (32u << 20) /* bytes that are read in the freeze within some 10 ms: no further round */
#define HOLES_MAX       (8u << 20)  /* blocks in holes that have checksums, of all files: 128 MiB of memory */
#define PAYS(n, before) ((n) < (before) / 10 * 7)

struct early_file {
	uint64_t dev, ino, size;
	struct timespec mtime, ctime;
	bool settled;
	bool cloned; /* by FICLONE: what has changed is cloned again */
	bool linked; /* a hard link to the copy of the epoch before, which must not be written */
	bool taken;
	unsigned number;         /* of the copy */
	uint64_t holes;          /* blocks in holes, as counted in struct files_early */
	XXH128_hash_t *sums;     /* of each block; owned */
	struct unchanged *watch; /* since before it was copied; NULL: there is none */
};

struct files_early {
	struct files_early_opts o;
	struct unchanged_files watched;
	struct early_file *v;
	size_t n, room;
	uint32_t *slots; /* hash table: device and inode -> index in v + 1 */
	size_t n_slots;  /* a power of two */
	unsigned made;
	unsigned tmp_copies; /* that belong to trees */
	unsigned round;
	uint64_t holes;        /* blocks in holes for which there are checksums */
	uint64_t read, before; /* bytes of files that were read in this round and in the one before */
	int64_t synced;        /* Unix us at which all of /tmp was last synchronized; 0: not in this round */
};

static int64_t early_us(const struct timespec *t)
{
	return timestamp_us(t->tv_sec, t->tv_nsec);
}

static void early_name(unsigned number, char name[24])
{
	snprintf(name, 24, "early-%u", number);
}

static size_t early_blocks(uint64_t size)
{
	return (size_t)((size + FILES_BLOCK - 1) / FILES_BLOCK);
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
	bool compare;        /* out is only read, until it differs */
	const bool *changed; /* of each block; NULL: all may have */
	size_t from, to;     /* blocks */
	uint64_t size;       /* of the file now */
	bool to_out;         /* out has failed, or differs */
	int error;
};

static int early_compare(const struct early_part *p, const char *buf, size_t len, uint64_t at)
{
	cleanup_free char *other = xmalloc(len);

	if (pread_all(p->out, other, len, at))
		return -1;
	errno = ESTALE;
	return memcmp(buf, other, len) ? -1 : 0;
}

/* Blocks one after the other that are read at once. */
struct early_blocks {
	size_t first, n;
	char *buf; /* READ_BLOCKS blocks */
	size_t len;
};

/* The bytes of these blocks that the file has. */
static size_t early_length(const struct early_part *p, size_t first, size_t n)
{
	const uint64_t at = (uint64_t)first * FILES_BLOCK, most = (uint64_t)n * FILES_BLOCK;

	return (size_t)(p->size - at < most ? p->size - at : most);
}

static int early_read(const struct early_part *p, const struct early_blocks *b)
{
	if (pread_all(p->in, b->buf, b->len, (uint64_t)b->first * FILES_BLOCK)) {
		if (errno != ENODATA)
			return -1;
		memset(b->buf, 0, b->len); /* it has become shorter meanwhile, so it is read again */
	}
	return 0;
}

/* Whether the block has another checksum now, which is noted. */
static bool early_differs(const struct early_part *p, const struct early_blocks *b, size_t i)
{
	const XXH128_hash_t sum = XXH3_128bits(b->buf + i * FILES_BLOCK, early_length(p, b->first + i, 1));

	if (XXH128_isEqual(sum, p->f->sums[b->first + i]))
		return false;
	p->f->sums[b->first + i] = sum;
	return true;
}

/* Brings these blocks of the copy up to date. Where blocks differ that are all zeros, it gets a hole. */
static int early_update_blocks(struct early_part *p, const struct early_blocks *b)
{
	size_t from = 0, to;

	if (early_read(p, b))
		return -1;
	for (; from < b->n; from = to + 1) {
		const char *data = b->buf + from * FILES_BLOCK;
		const uint64_t at = (uint64_t)(b->first + from) * FILES_BLOCK;
		size_t len;

		for (to = from; to < b->n && early_differs(p, b, to); to++)
			;
		if (to == from)
			continue;
		len = early_length(p, b->first + from, to - from);
		p->to_out = true;
		if (p->compare ? early_compare(p, data, len, at) : copy_block(p->out, data, len, at))
			return -1;
		p->to_out = false;
	}
	return 0;
}

/* Blocks [from, to) have data, and those between the one that was asked for and from have none. */
struct early_data {
	size_t from, to;
};

static struct early_data early_data_of(int fd, size_t block, size_t end)
{
	const off_t data = lseek(fd, (off_t)((uint64_t)block * FILES_BLOCK), SEEK_DATA);
	struct early_data d = { .from = errno == ENXIO ? end : block, .to = end };
	off_t hole;

	if (data < 0)
		return d;
	hole = lseek(fd, data, SEEK_HOLE);
	d.from = (size_t)((uint64_t)data / FILES_BLOCK);
	d.to = hole > data ? early_blocks((uint64_t)hole) : d.from + 1;
	return d;
}

/* The first data from this block on; of either file, if they are compared. */
static struct early_data early_find_data(const struct early_part *p, size_t block)
{
	const struct early_data in = early_data_of(p->in, block, p->to);
	const struct early_data out = p->compare ? early_data_of(p->out, block, p->to) : in;

	return in.from < out.from || (in.from == out.from && in.to > out.to) ? in : out;
}

/* Whether the block has to be read. data: as last found. Blocks that are holes now, and were none when they were
 * copied, are read like data. */
static bool early_is_read(const struct early_part *p, size_t block, struct early_data *data)
{
	static const XXH128_hash_t hole;

	if (p->changed && !p->changed[block])
		return false;
	if (block >= data->to)
		*data = early_find_data(p, block);
	return block >= data->from || !XXH128_isEqual(p->f->sums[block], hole);
}

static void *early_run(void *arg)
{
	struct early_part *p = arg;
	cleanup_free char *buf = xmalloc((size_t)READ_BLOCKS * FILES_BLOCK);
	struct early_blocks b = { .first = p->from, .buf = buf };
	struct early_data data = { 0 };

	for (; b.first < p->to && !p->error; b.first += b.n ? b.n : 1) {
		for (b.n = 0; b.n < READ_BLOCKS && b.first + b.n < p->to; b.n++)
			if (!early_is_read(p, b.first + b.n, &data))
				break;
		if (!b.n)
			continue;
		b.len = early_length(p, b.first, b.n);
		if (early_update_blocks(p, &b))
			p->error = errno;
	}
	return NULL;
}

/* Makes the first size bytes of the copy equal to those of the file. part: what all parts have in common. 0, or -1 with
 * errno. */
static int early_run_all(const struct early_part *part, unsigned threads, bool *to_out)
{
	struct early_part parts[THREADS_MAX];
	pthread_t ids[THREADS_MAX];
	bool started[THREADS_MAX] = { false };
	const size_t blocks = early_blocks(part->size);
	int error = 0;

	*to_out = false;
	for (unsigned i = 0; i < threads; i++) {
		parts[i] = *part;
		parts[i].from = blocks * i / threads;
		parts[i].to = blocks * (i + 1) / threads;
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

/* ---- one copy ----------------------------------------------------------------- */

static int early_open_copy(const struct files_early *e, const struct early_file *f, int flags)
{
	char name[24];

	early_name(f->number, name);
	return openat(e->o.filesfd, name, flags | O_NOFOLLOW | O_CLOEXEC, 0600);
}

static void early_remove_copy(const struct files_early *e, const struct early_file *f)
{
	char name[24];

	early_name(f->number, name);
	unlinkat(e->o.filesfd, name, 0);
}

/* Counts the blocks that the file has in holes now. False with errno if they would take too much memory. */
static bool early_count_holes(struct files_early *e, struct early_file *f, int in, uint64_t size)
{
	uint64_t blocks = early_blocks(size), data, holes;
	struct stat st;

	if (fstat(in, &st))
		return false;
	data = early_blocks(file_data_bytes(&st));
	holes = blocks > data ? blocks - data : 0;
	if (holes > f->holes && holes - f->holes > HOLES_MAX - e->holes) {
		errno = EFBIG;
		return false;
	}
	e->holes += holes - f->holes;
	f->holes = holes;
	return true;
}

/* Makes room for the checksums of a file that has another size now, and makes those of blocks that have another length
 * wrong. */
static void early_resize(struct early_file *f, uint64_t size)
{
	const size_t had = early_blocks(f->size), has = early_blocks(size);

	f->sums = xrealloc(f->sums, (has + 1) * sizeof(*f->sums));
	if (has > had)
		memset(f->sums + had, 0, (has - had) * sizeof(*f->sums));
	if (had && had <= has && size != f->size)
		f->sums[had - 1] = (XXH128_hash_t){ 1, 1 };
	if (has && size != f->size)
		f->sums[has - 1] = (XXH128_hash_t){ 1, 1 };
	f->size = size;
}

static int early_run_file(const struct early_part *part, bool *to_out)
{
	const uint64_t threads = 1 + part->f->size / THREAD_MIN;

	return early_run_all(part, (unsigned)(threads < THREADS_MAX ? threads : THREADS_MAX), to_out);
}

/* Gives the file an empty copy of its own in place of the hard link. */
static int early_replace_link(const struct files_early *e, struct early_file *f)
{
	cleanup_close int out = -1;

	early_remove_copy(e, f);
	f->linked = false;
	f->size = 0;
	out = early_open_copy(e, f, O_RDWR | O_CREAT | O_EXCL);
	return out < 0 ? -1 : 0;
}

/* A copy that is a hard link stays one if the file is still the same. */
static bool early_link_is_right(const struct files_early *e, const struct early_file *f, int in, uint64_t size,
				const bool *changed)
{
	cleanup_close int out = early_open_copy(e, f, O_RDONLY);
	const struct early_part part = { .f = f, .in = in, .out = out, .compare = true, .changed = changed, .size = size };
	bool differs;

	return out >= 0 && size == f->size && early_run_file(&part, &differs) == 0;
}

/* Brings the copy up to date. changed: of each block; NULL: all may have changed. 0, or -1 with errno. */
static int early_update(struct files_early *e, struct early_file *f, int in, uint64_t size, const bool *changed,
			bool *to_out)
{
	cleanup_close int out = -1;
	struct early_part part;

	*to_out = false;
	if (!f->cloned && !early_count_holes(e, f, in, size))
		return -1;
	*to_out = true;
	e->read += size;
	if (f->linked) {
		if (early_link_is_right(e, f, in, size, changed))
			return 0;
		changed = NULL;
		if (early_replace_link(e, f))
			return -1;
	}
	out = early_open_copy(e, f, O_RDWR);
	if (out < 0 || (f->cloned && ioctl(out, FICLONE, in)) || (size != f->size && ftruncate(out, (off_t)size)))
		return -1;
	*to_out = false;
	if (f->cloned) {
		f->size = size;
		return ftruncate(out, (off_t)size);
	}
	early_resize(f, size);
	part = (struct early_part){ .f = f, .in = in, .out = out, .changed = changed, .size = size };
	return early_run_file(&part, to_out);
}

/* ---- before the freeze ------------------------------------------------------- */

struct files_early *files_early_open(const struct files_early_opts *o)
{
	struct files_early *e = xcalloc(1, sizeof(*e));

	e->o = *o;
	e->watched.device = o->device_stat;
	return e;
}

const json_t *files_early_previous(const struct files_early *e)
{
	return e->o.previous;
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

static bool early_on_device(const struct files_early *e, const struct early_file *f)
{
	return e->o.device_stat >= 0 && f->dev == e->o.device;
}

/* Whether each block of the file, which has this size now, may have changed since it was copied; owned by the caller.
 * NULL: nothing is known. */
static bool *early_changed(const struct early_file *f, uint64_t size)
{
	const size_t blocks = early_blocks(size);
	bool *changed;

	if (!f->watch || blocks > early_blocks(f->size) + HOLES_MAX)
		return NULL;
	changed = xcalloc(blocks + 1, sizeof(*changed));
	if (unchanged_find(f->watch, size, changed))
		return changed;
	free(changed);
	return NULL;
}

/* Bytes that would be read of it in the freeze. */
static uint64_t early_left(const struct early_file *f, uint64_t size)
{
	cleanup_free bool *changed = early_changed(f, size);
	uint64_t n = 0;

	if (!changed)
		return size;
	for (size_t i = 0; i < early_blocks(size); i++)
		n += changed[i];
	return n * FILES_BLOCK;
}

static uint64_t early_left_of_watched(const struct files_early *e)
{
	uint64_t left = 0;
	struct stat st;

	for (size_t i = 0; i < e->n; i++)
		if (e->v[i].watch && unchanged_stat(e->v[i].watch, &st) == 0 && !early_is_same(&e->v[i], &st))
			left += early_left(&e->v[i], (uint64_t)st.st_size);
	return left;
}

bool files_early_begin_round(struct files_early *e, int tmp)
{
	const uint64_t left = early_left_of_watched(e);

	if (e->round == ROUNDS_MAX || (e->round && e->read <= LEFT_SMALL) || (e->round > 1 && !PAYS(e->read, e->before)))
		return false;
	e->round++;
	e->before = e->read;
	e->read = 0;
	e->synced = 0;
	if (tmp < 0 || e->o.device_stat < 0 || (e->round > 1 && left <= LEFT_SMALL))
		return true;
	e->synced = unix_us();
	if (syncfs(tmp))
		e->synced = 0;
	return true;
}

/* Fills in what the file was like before it is read, except its size, which is returned, and begins to watch it. A file
 * of a /tmp that is an image is synchronized together with all others, or not in this round. */
static int early_look(struct files_early *e, struct early_file *f, int in, uint64_t *size)
{
	int64_t since = unix_us();
	struct stat st;

	if (fstat(in, &st))
		return -1;
	f->dev = st.st_dev;
	f->ino = st.st_ino;
	*size = (uint64_t)st.st_size;
	f->mtime = st.st_mtim;
	f->ctime = st.st_ctim;
	/* What was written through a mapping after the sync may have set the mtime only once. */
	if (early_on_device(e, f))
		since = e->synced;
	f->settled = since - early_us(&st.st_mtim) > SETTLED_US && since - early_us(&st.st_ctim) > SETTLED_US;
	/* Without a sync, writes through mappings could go unnoticed. */
	if (!early_on_device(e, f) && (fdatasync(in) || early_is_memory(in)))
		f->settled = false;
	lseek(in, 0, SEEK_DATA);
	unchanged_end(f->watch);
	f->watch = e->synced && early_on_device(e, f) ? unchanged_begin(&e->watched, in, *size) : NULL;
	return 0;
}

/* Makes the copy a hard link to that of the epoch before, if that is the same. It is read for that, so what it holds is
 * what this epoch needs, whatever became of it. */
static bool early_link_previous(struct files_early *e, struct early_file *f, int in, uint64_t size, const char *was)
{
	cleanup_close int previous = -1;
	struct early_part part;
	struct stat st;
	bool differs;
	char name[24];

	if (!was || e->o.previous_filesfd < 0)
		return false;
	previous = openat(e->o.previous_filesfd, was, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	if (previous < 0 || fstat(previous, &st) || !S_ISREG(st.st_mode) || (uint64_t)st.st_size != size ||
	    !early_count_holes(e, f, in, size))
		return false;
	early_resize(f, size);
	early_name(f->number, name);
	part = (struct early_part){ .f = f, .in = in, .out = previous, .compare = true, .size = size };
	f->linked = early_run_file(&part, &differs) == 0 &&
		    linkat(e->o.previous_filesfd, was, e->o.filesfd, name, 0) == 0;
	e->read += f->linked ? size : 0;
	f->size = f->linked ? size : 0;
	return f->linked;
}

static int early_make(struct files_early *e, struct early_file *f, int in, const char *was, bool *to_out)
{
	cleanup_close int out = -1;
	uint64_t size;
	int rc;

	f->number = ++e->made;
	if (early_look(e, f, in, &size))
		return -1;
	if (early_link_previous(e, f, in, size, was))
		return 0;
	out = early_open_copy(e, f, O_RDWR | O_CREAT | O_EXCL);
	*to_out = out < 0;
	if (out < 0)
		return -1;
	f->cloned = size > 0 && ioctl(out, FICLONE, in) == 0;
	rc = early_update(e, f, in, size, NULL, to_out);
	if (rc == 0 && fdatasync(out)) { /* what is written before the freeze need not be written in a vacate's */
		*to_out = true;
		rc = -1;
	}
	return rc;
}

/* The sync of this round was written to the device, so the file is watched anew. True: it is still the same after that,
 * so its copy is right as of then. */
static bool early_watch_again(struct files_early *e, struct early_file *f, int in)
{
	struct stat st;

	unchanged_end(f->watch);
	f->watch = unchanged_begin(&e->watched, in, f->size);
	return fstat(in, &st) == 0 && early_is_same(f, &st);
}

/* A round after the first. A file that cannot be read is left to the freeze. */
static int early_refresh(struct files_early *e, struct early_file *f, int in, const struct stat *st, struct err *err)
{
	bool to_out = false;
	uint64_t size;

	if (f->watch ? !e->synced : early_is_same(f, st))
		return 0;
	if (f->watch && early_is_same(f, st) && early_watch_again(e, f, in))
		return 0;
	if (early_look(e, f, in, &size) == 0 && early_update(e, f, in, size, NULL, &to_out) == 0)
		return 0;
	f->settled = false;
	unchanged_end(f->watch);
	f->watch = NULL;
	return to_out ? err_sys(err, errno, "cannot write files/early-%u in the checkpoint", f->number) : 0;
}

static void early_drop(struct files_early *e, struct early_file *f)
{
	e->holes -= f->holes;
	early_remove_copy(e, f);
	unchanged_end(f->watch);
	free(f->sums);
}

int files_early_copy(struct files_early *e, int in, const struct stat *st, const char *was, struct err *err)
{
	struct early_file f = { .dev = st->st_dev, .ino = st->st_ino }, *known = early_find(e, st);
	bool to_out = false;
	int saved;

	if (known)
		return early_refresh(e, known, in, st, err);
	if (st->st_size < FILES_EARLY_MIN)
		return 0;
	if (early_make(e, &f, in, was, &to_out) == 0 && f.dev == st->st_dev && f.ino == st->st_ino) {
		early_add(e, &f);
		return 0;
	}
	/* A file that cannot be read is left to the freeze. */
	saved = errno;
	early_drop(e, &f);
	return to_out ? err_sys(err, saved, "cannot write files/early-%u in the checkpoint", f.number) : 0;
}

int files_early_copy_of_tree(struct files_early *e, int in, const struct stat *st, const char *data, struct err *err)
{
	char was[64];

	files_early_name_in_tree(data, st->st_ino, was);
	return files_early_copy(e, in, st, was, err);
}

/* ---- in the freeze ----------------------------------------------------------- */

static int early_catch_up(struct files_early *e, struct early_file *f, int in, uint64_t size, bool *to_out)
{
	cleanup_free bool *changed = early_changed(f, size);

	return early_update(e, f, in, size, changed, to_out);
}

int files_early_take(struct files_early *e, int in, const struct stat *st, const char *name, struct err *err)
{
	struct early_file *f = early_find(e, st);
	char early[24];
	bool to_out;

	if (!f || f->taken)
		return 0;
	early_name(f->number, early);
	if (!early_is_same(f, st) && early_catch_up(e, f, in, (uint64_t)st->st_size, &to_out))
		return to_out ? err_sys(err, errno, "cannot write files/%s in the checkpoint", early) : 0;
	if (renameat(e->o.filesfd, early, e->o.filesfd, name))
		return err_sys(err, errno, "cannot rename files/%s in the checkpoint", early);
	f->taken = true;
	return 1;
}

void files_early_name_in_tree(const char *data, uint64_t ino, char name[64])
{
	snprintf(name, 64, "%.32s-%llu.data", data, (unsigned long long)ino);
}

int files_early_take_of_tree(struct files_early *e, int in, const struct stat *st, const char *data, struct err *err)
{
	char name[64];
	int rc;

	files_early_name_in_tree(data, st->st_ino, name);
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
	if (!e)
		return;
	for (size_t i = 0; i < e->n; i++) {
		if (!e->v[i].taken)
			early_remove_copy(e, &e->v[i]);
		unchanged_end(e->v[i].watch);
		free(e->v[i].sums);
	}
	free(e->v);
	free(e->slots);
	free(e);
}
