#include "unit.h"
#include "base/dir_tree.h"
#include "base/io.h"
#include "base/util.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "criu/criu_pagemap.h"
#include "image/criu_export.h"
#include "image/image.h"
#include "image/restore_dir.h"
#include "image/image_internal.h"
#include "image/writer.h"
#include "scratch.h"

static struct err err;

#define assert_ok(call)                                      \
	do {                                                 \
		if ((call) < 0)                              \
			fail_msg("%s: %s", #call, err.text); \
	} while (0)
#define assert_some(p)                                    \
	do {                                              \
		if (!(p))                                 \
			fail_msg("%s: %s", #p, err.text); \
	} while (0)
#define assert_refused(call, number)                                                               \
	do {                                                                                       \
		err.num = 0;                                                                       \
		assert_int_equal((call), -1);                                                      \
		if (err.num != (number))                                                           \
			fail_msg("%s: %d \"%s\" instead of %d", #call, err.num, err.text, number); \
	} while (0)

static uint64_t next_random(void)
{
	static uint64_t x = 88172645463325252u;

	x ^= x << 13;
	x ^= x >> 7;
	x ^= x << 17;
	return x;
}

/* ---- a machine with a few address spaces ------------------------------- */

#define SPACES  3
#define PAGES   700u
#define BASE(s) (UINT64_C(0x10000000) * ((s) + 1))
#define HOLE(i) ((i) % 97 == 13) /* pages that are not in the work list */

static uint8_t memory[SPACES][PAGES][MEM_PAGE], seen[SPACES][PAGES][MEM_PAGE];
static bool touched[SPACES][PAGES], got[SPACES][PAGES];
static atomic_uint reads, read_pages;
static uint64_t unreadable_addr; /* of space 0; 0: none */
static int read_errno;

static uint64_t id_of(int s)
{
	return s == 2 ? UINT64_C(1) << 40 : (uint64_t)(s + 2);
}
static int space_of(uint64_t id)
{
	return id == UINT64_C(1) << 40 ? 2 : (int)id - 2;
}

static void scribble(uint8_t *page)
{
	uint64_t kind = next_random() % 5;

	for (size_t i = 0; i < MEM_PAGE; i += 8) {
		uint64_t r = next_random();
		double d = 1.0 + (double)i * 1e-5;

		if (kind == 0)
			memset(page + i, 0, 8);
		else if (kind == 1)
			memcpy(page + i, &r, 8);
		else if (kind == 2)
			memcpy(page + i, &d, 8);
		else
			memset(page + i, (int)(r % 3) + 65, 8);
	}
}

static void fresh_memory(void)
{
	for (int s = 0; s < SPACES; s++)
		for (unsigned i = 0; i < PAGES; i++) {
			scribble(memory[s][i]);
			touched[s][i] = false;
		}
}

static void dirty_some(unsigned one_in)
{
	for (int s = 0; s < SPACES; s++)
		for (unsigned i = 0; i < PAGES; i++) {
			touched[s][i] = next_random() % one_in == 0;
			if (touched[s][i])
				scribble(memory[s][i]);
		}
}

static int read_memory(void *arg, uint64_t id, uint64_t addr, void *buf, size_t len)
{
	int s = space_of(id);

	(void)arg;
	assert(len > 0 && len % MEM_PAGE == 0 && len <= MEM_CHUNK && addr >= BASE(s) &&
	       addr + len <= BASE(s) + sizeof(memory[s]));
	atomic_fetch_add(&reads, 1);
	atomic_fetch_add(&read_pages, (unsigned)(len / MEM_PAGE));
	if (read_errno) {
		errno = read_errno;
		return -1;
	}
	if (s == 0 && unreadable_addr >= addr && unreadable_addr < addr + len) {
		errno = EFAULT;
		return -1;
	}
	memcpy(buf, memory[s][(addr - BASE(s)) / MEM_PAGE], len);
	return 0;
}

static const struct mem_source source = { .read = read_memory };

static int see_pages(void *arg, uint64_t id, uint64_t addr, const void *buf, size_t len)
{
	int s = space_of(id);
	size_t i = (addr - BASE(s)) / MEM_PAGE;

	memcpy(seen[s][i], buf, len);
	for (size_t k = 0; k < len / MEM_PAGE; k++) {
		if (got[s][i + k])
			*(bool *)arg = true;
		got[s][i + k] = true;
	}
	return 0;
}

static int see_zeros(void *arg, uint64_t id, uint64_t addr, uint64_t len)
{
	int s = space_of(id);
	size_t i = (addr - BASE(s)) / MEM_PAGE;

	memset(seen[s][i], 0, len);
	for (size_t k = 0; k < len / MEM_PAGE; k++) {
		if (got[s][i + k])
			*(bool *)arg = true;
		got[s][i + k] = true;
	}
	return 0;
}

/* Work or clean ranges, page by page merged, of the pages for which want is true. */
static size_t list_ranges(struct mem_range *v, bool clean)
{
	size_t n = 0;

	for (int s = 0; s < SPACES; s++)
		for (unsigned i = 0; i < PAGES; i++) {
			struct mem_range *last = n > 0 ? &v[n - 1] : NULL;

			if (clean ? touched[s][i] : HOLE(i))
				continue;
			if (last && last->id == id_of(s) && last->addr + last->npages * MEM_PAGE == BASE(s) + i * MEM_PAGE)
				last->npages++;
			else
				v[n++] = (struct mem_range){ .id = id_of(s), .addr = BASE(s) + i * MEM_PAGE, .npages = 1 };
		}
	return n;
}

static int epoch_dir(const char *name)
{
	int fd;

	mkdir(at(name), 0700);
	fd = open(at(name), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(fd >= 0);
	return fd;
}

static struct mem_range work[SPACES * PAGES], clean[SPACES * PAGES];

static int write_epoch(int dirfd, uint32_t epoch, struct mem_write_opts *o, struct mem_write_stats *s)
{
	return mem_image_write(dirfd, epoch, &source, work, list_ranges(work, false), o, s, &err);
}

static void use_clean(struct mem_write_opts *o, struct mem_image *previous)
{
	o->previous = previous;
	o->clean = clean;
	o->n_clean = list_ranges(clean, true);
}

static int fill_all(struct mem_image *m, const struct mem_read_opts *o)
{
	bool twice = false;
	const struct mem_sink sink = { .write = see_pages, .zero = see_zeros, .arg = &twice };

	memset(got, 0, sizeof(got));
	if (mem_image_read_pages(m, &sink, o, NULL, &err) < 0)
		return -1;
	assert_false(twice);
	return 0;
}

static void compare_all(struct mem_image *m)
{
	assert_ok(fill_all(m, NULL));
	for (int s = 0; s < SPACES; s++)
		for (unsigned i = 0; i < PAGES; i++) {
			assert_int_equal(got[s][i], !HOLE(i));
			if (got[s][i] && memcmp(seen[s][i], memory[s][i], MEM_PAGE) != 0)
				fail_msg("space %d page %u differs", s, i);
		}
}

static void opts_for_test(struct mem_write_opts *o)
{
	mem_write_opts_init(o);
	o->threads = 2;
	o->direct_io = MEM_DIRECT_IO_NEVER;
}

/* Opens, verifies everything, compares. */
static struct mem_image *open_and_compare(int dirfd)
{
	struct mem_image *m = mem_image_open(dirfd, &err);

	assert_some(m);
	assert_ok(mem_image_verify(m, MEM_VERIFY_OWN, 2, &err));
	assert_ok(mem_image_verify(m, MEM_VERIFY_DEEP, 1, &err));
	compare_all(m);
	return m;
}

/* ---- whole images ------------------------------------------------------ */

static void full_image(void **state)
{
	struct mem_write_opts o;
	struct mem_write_stats s;
	struct mem_totals t;

	(void)state;
	for (int level = 0; level <= 3; level++)
		for (int threads = 1; threads <= 5; threads += 2)
			for (int direct = 0; direct < (threads == 3 ? 2 : 1); direct++) {
				cleanup_close int dir = epoch_dir("full");
				cleanup_mem_image struct mem_image *m = NULL;

				fresh_memory();
				opts_for_test(&o);
				o.level = level;
				o.threads = threads;
				o.nice = threads == 3 ? 5 : 0;
				o.direct_io = direct ? MEM_DIRECT_IO_ALWAYS : MEM_DIRECT_IO_NEVER;
				assert_ok(write_epoch(dir, 7, &o, &s));
				m = open_and_compare(dir);
				mem_image_totals(m, &t);
				assert_int_equal(mem_image_epoch(m), 7);
				assert_int_equal(s.scanned, s.pages);
				assert_int_equal(s.raw + s.zero, s.pages);
				assert_int_equal(t.pages, s.pages);
				assert_int_equal(t.zero, s.zero);
				assert_int_equal(t.own, s.stored);
				assert_true(s.zero > 0 && s.zero < s.pages / 2);
				assert_true(level == 0 ? s.stored == s.raw : s.stored < s.raw);
				remove_tree_at(scratch_fd, "full");
			}
}

static void empty_image(void **state)
{
	cleanup_close int dir = epoch_dir("empty");
	cleanup_mem_image struct mem_image *m = NULL;
	struct mem_write_opts o;
	size_t n;

	(void)state;
	opts_for_test(&o);
	o.hashes = true;
	assert_ok(mem_image_write(dir, 1, &source, NULL, 0, &o, NULL, &err));
	m = mem_image_open(dir, &err);
	assert_some(m);
	assert_ok(fill_all(m, NULL));
	assert_ok(mem_image_verify(m, MEM_VERIFY_DEEP, 0, &err));
	assert_ok(mem_image_load_hashes(m, &err));
	mem_image_spaces(m, &n);
	assert_int_equal(n, 0);
}

static void only_some_pages(void **state)
{
	cleanup_close int dir = epoch_dir("some");
	cleanup_mem_image struct mem_image *m = NULL;
	struct mem_write_opts o;
	const struct mem_range only[] = { { 2, BASE(0) + 14 * MEM_PAGE, 70 }, { 3, BASE(1), 3 }, { 99, 0, 7 } };
	const struct mem_read_opts ro = { .threads = 2, .only = only, .n_only = ARRAY_SIZE(only) };

	(void)state;
	fresh_memory();
	opts_for_test(&o);
	assert_ok(write_epoch(dir, 1, &o, NULL));
	m = mem_image_open(dir, &err);
	assert_some(m);
	assert_ok(fill_all(m, &ro));
	for (int s = 0; s < SPACES; s++)
		for (unsigned i = 0; i < PAGES; i++) {
			assert_int_equal(got[s][i], (s == 0 && i >= 14 && i < 84) || (s == 1 && i < 3));
			if (got[s][i])
				assert_memory_equal(seen[s][i], memory[s][i], MEM_PAGE);
		}
}

static void unreadable_pages_are_zero(void **state)
{
	cleanup_close int dir = epoch_dir("unreadable");
	cleanup_mem_image struct mem_image *m = NULL;
	struct mem_write_opts o;
	struct mem_write_stats s;

	(void)state;
	fresh_memory();
	opts_for_test(&o);
	unreadable_addr = BASE(0) + 33 * MEM_PAGE;
	assert_ok(write_epoch(dir, 1, &o, &s));
	unreadable_addr = 0;
	assert_int_equal(s.unreadable, MEM_PAGE);
	memset(memory[0][33], 0, MEM_PAGE);
	m = open_and_compare(dir);
}

static void bad_work_is_refused(void **state)
{
	static const struct mem_range bad[][2] = {
		{ { 2, BASE(0) + 1, 1 }, { 3, BASE(1), 1 } },        { { 2, BASE(0), 0 }, { 3, BASE(1), 1 } },
		{ { 2, BASE(0), 2 }, { 2, BASE(0) + MEM_PAGE, 1 } }, { { 2, BASE(0), UINT64_MAX }, { 3, BASE(1), 1 } },
		{ { 2, UINT64_C(1) << 63, 1 }, { 3, BASE(1), 1 } },
	};
	cleanup_close int dir = epoch_dir("bad");
	struct mem_write_opts o;

	(void)state;
	opts_for_test(&o);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_refused(mem_image_write(dir, 1, &source, bad[i], 2, &o, NULL, &err), EINVAL);
	read_errno = ESRCH;
	assert_refused(write_epoch(dir, 1, &o, NULL), ESRCH);
	read_errno = 0;
}

static void can_be_cancelled(void **state)
{
	cleanup_close int dir = epoch_dir("cancel"), dir2 = epoch_dir("cancel2");
	cleanup_mem_image struct mem_image *m = NULL;
	atomic_bool cancel = true;
	const struct mem_read_opts ro = { .cancel = &cancel };
	struct mem_write_opts o;

	(void)state;
	opts_for_test(&o);
	o.cancel = &cancel;
	assert_refused(write_epoch(dir, 1, &o, NULL), ECANCELED);
	o.cancel = NULL;
	assert_ok(write_epoch(dir2, 1, &o, NULL));
	m = mem_image_open(dir2, &err);
	assert_some(m);
	assert_refused(fill_all(m, &ro), ECANCELED);
}

/* ---- increments -------------------------------------------------------- */

static unsigned count_links(int dirfd)
{
	int copy = openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	cleanup_dir DIR *d = fdopendir(copy);
	struct dirent *e;
	unsigned n = 0;

	while ((e = readdir(d))) {
		struct stat st;

		if (mem_is_chunk_file(e->d_name) && fstatat(dirfd, e->d_name, &st, 0) == 0 && st.st_nlink > 1)
			n++;
	}
	return n;
}

enum how { BY_TRACKING, BY_HASHES, BY_BOTH };

/* Five generations; the epoch before the last one is removed each time, as retention may do. */
static void generations(enum how how, unsigned compact, bool hashes)
{
	struct mem_image *previous = NULL;
	struct mem_write_opts o;
	struct mem_write_stats s, first = { 0 };

	fresh_memory();
	for (unsigned g = 1; g <= 5; g++) {
		char name[32], old[32];
		int dir;

		snprintf(name, sizeof(name), "gen%u", g);
		snprintf(old, sizeof(old), "gen%u", g - 1);
		dir = epoch_dir(name);
		if (g > 1)
			dirty_some(g == 4 ? 2 : 20);
		opts_for_test(&o);
		o.hashes = hashes;
		o.compact = compact;
		if (previous && how != BY_HASHES)
			use_clean(&o, previous);
		if (previous && how != BY_TRACKING) {
			o.previous = previous;
			o.compare = true;
			assert_ok(mem_image_load_hashes(previous, &err));
		}
		/* Tracking knows half of it. */
		if (how == BY_BOTH)
			o.n_clean /= 2;
		atomic_store(&read_pages, 0);
		assert_ok(write_epoch(dir, g, &o, &s));
		assert_int_equal(s.scanned, (uint64_t)atomic_load(&read_pages) * MEM_PAGE);
		if (g == 1)
			first = s;
		else if (g != 4)
			assert_true(s.raw - s.rewritten < first.raw / 8 && s.reused + s.rewritten > first.raw / 2);
		if (g > 1 && how == BY_TRACKING)
			assert_true(s.scanned < first.scanned * (g == 4 ? 3 : 1) / 4);
		if (g > 1 && compact == 0)
			assert_true(count_links(dir) > 0);
		assert_int_equal(s.pages, first.pages);
		mem_image_close(previous);
		if (g > 1)
			remove_tree_at(scratch_fd, old);
		previous = open_and_compare(dir);
		if (hashes)
			assert_ok(mem_image_load_hashes(previous, &err));
		close(dir);
	}
	mem_image_close(previous);
	remove_tree_at(scratch_fd, "gen5");
}

static void increments_by_tracking(void **state)
{
	(void)state;
	generations(BY_TRACKING, 0, false);
}
static void increments_by_hashes(void **state)
{
	(void)state;
	generations(BY_HASHES, 0, true);
}
static void increments_by_both(void **state)
{
	(void)state;
	generations(BY_BOTH, 25, true);
}
static void increments_with_compaction(void **state)
{
	(void)state;
	generations(BY_TRACKING, 60, true);
	generations(BY_HASHES, 101, true);
}

/* However many increments follow each other, the number of files in use has a limit. */
static void few_files_stay_in_use(void **state)
{
	struct mem_image *previous = NULL;
	struct mem_write_opts o;
	struct mem_write_stats s;

	(void)state;
	fresh_memory();
	for (unsigned g = 1; g <= 6; g++) {
		char name[32];
		int dir;

		snprintf(name, sizeof(name), "few%u", g);
		dir = epoch_dir(name);
		dirty_some(50);
		opts_for_test(&o);
		o.threads = 1;
		o.older_files = 3;
		if (previous)
			use_clean(&o, previous);
		assert_ok(write_epoch(dir, g, &o, &s));
		assert_int_equal(s.linked_files, g <= 4 ? g - 1 : 3);
		assert_int_equal(s.rewritten > 0, g > 4);
		mem_image_close(previous);
		previous = open_and_compare(dir);
		close(dir);
	}
	mem_image_close(previous);
}

/* A round of a pre-dump and the epoch itself have the same number. */
static void same_epoch_goes_on(void **state)
{
	cleanup_close int one = epoch_dir("pre"), two = epoch_dir("final");
	cleanup_mem_image struct mem_image *m = NULL, *m2 = NULL;
	struct mem_write_opts o;
	size_t n;

	(void)state;
	fresh_memory();
	opts_for_test(&o);
	assert_ok(write_epoch(one, 4, &o, NULL));
	m = mem_image_open(one, &err);
	assert_some(m);
	dirty_some(10);
	use_clean(&o, m);
	assert_ok(write_epoch(two, 4, &o, NULL));
	remove_tree_at(scratch_fd, "pre");
	m2 = open_and_compare(two);
	mem_image_files(m2, &n);
	assert_true(n >= 2 && n <= 4); /* a thread that comes too late makes no file */
	o.previous = m2;
	assert_refused(write_epoch(one, 3, &o, NULL), EINVAL);
}

/* Pages that vanish, are clean but were never stored, or move between spaces. */
static void clean_needs_something_to_refer_to(void **state)
{
	cleanup_close int one = epoch_dir("few"), two = epoch_dir("more");
	cleanup_mem_image struct mem_image *m = NULL, *m2 = NULL;
	const struct mem_range few[] = { { 2, BASE(0) + 100 * MEM_PAGE, 50 } };
	struct mem_write_opts o;
	struct mem_write_stats s;

	(void)state;
	fresh_memory();
	opts_for_test(&o);
	assert_ok(mem_image_write(one, 1, &source, few, 1, &o, NULL, &err));
	m = mem_image_open(one, &err);
	assert_some(m);
	use_clean(&o, m);
	assert_ok(write_epoch(two, 2, &o, &s));
	assert_int_equal(s.scanned, s.pages - 49 * MEM_PAGE); /* page 110 is a hole */
	m2 = open_and_compare(two);
}

/* ---- damage ------------------------------------------------------------ */

static void small_image(int one, int two)
{
	cleanup_mem_image struct mem_image *m = NULL;
	const struct mem_range small[] = { { 2, BASE(0), 5 }, { 3, BASE(1) + 3 * MEM_PAGE, 4 } };
	struct mem_range all = { 2, BASE(0), 5 };
	struct mem_write_opts o;

	opts_for_test(&o);
	o.threads = 1;
	o.hashes = true;
	o.compact = 0;
	for (int i = 0; i < 10; i++) {
		memset(memory[0][i], 'a' + i, MEM_PAGE);
		memset(memory[1][i], i % 3, MEM_PAGE);
		memset(memory[0][i], (int)(next_random() % 256), 100);
	}
	assert_ok(mem_image_write(one, 1, &source, small, 2, &o, NULL, &err));
	m = mem_image_open(one, &err);
	assert_some(m);
	assert_ok(mem_image_load_hashes(m, &err));
	all.npages = 3;
	o.previous = m;
	o.clean = &all;
	o.n_clean = 1;
	assert_ok(mem_image_write(two, 2, &source, small, 2, &o, NULL, &err));
}

/* True if opening, loading hashes and verifying or filling find something; and never are wrong pages handed out. */
static bool is_noticed(int dirfd)
{
	cleanup_mem_image struct mem_image *m = mem_image_open(dirfd, &err);
	bool noticed;

	if (!m)
		return true;
	noticed = mem_image_load_hashes(m, &err) < 0;
	noticed |= mem_image_verify(m, MEM_VERIFY_ALL, 1, &err) < 0;
	fill_all(m, &(struct mem_read_opts){ .threads = 1 });
	for (int s = 0; s < 2; s++)
		for (unsigned i = 0; i < 10; i++)
			if (got[s][i] && memcmp(seen[s][i], memory[s][i], MEM_PAGE) != 0)
				fail_msg("space %d page %u: wrong data was handed out", s, i);
	return noticed;
}

static void every_damage_is_noticed(void **state)
{
	cleanup_close int one = epoch_dir("small1"), two = epoch_dir("small2");
	static const char *const names[] = { "image", "hashes", "chunks-000001-0", "chunks-000002-0" };

	(void)state;
	small_image(one, two);
	assert_false(is_noticed(two));
	for (size_t k = 0; k < ARRAY_SIZE(names); k++) {
		cleanup_free char *was = NULL;
		ssize_t n = read_file_at(two, names[k], 1 << 20, &was);
		cleanup_close int fd = openat(two, names[k], O_RDWR | O_CLOEXEC);

		assert_true(n > 0);
		/* The older file has one chunk, which is referred to: all its bytes matter. */
		for (size_t i = 0; i < (size_t)n; i++) {
			char flipped = was[i] ^ (char)(1 << (i % 8));

			assert_int_equal(pwrite(fd, &flipped, 1, (off_t)i), 1);
			if (!is_noticed(two))
				fail_msg("%s: byte %zu", names[k], i);
			assert_int_equal(pwrite(fd, was + i, 1, (off_t)i), 1);
		}
		for (ssize_t len = 0; len < n; len += 1 + n / 50) {
			assert_int_equal(ftruncate(fd, len), 0);
			if (!is_noticed(two))
				fail_msg("%s: cut off at %zd", names[k], len);
		}
		assert_int_equal(pwrite(fd, was, (size_t)n, 0), n);
		assert_int_equal(pwrite(fd, "x", 1, n), 1);
		if (!is_noticed(two))
			fail_msg("%s: a byte more", names[k]);
		assert_int_equal(ftruncate(fd, n), 0);
		assert_int_equal(renameat(two, names[k], two, "aside"), 0);
		if (!is_noticed(two))
			fail_msg("%s: removed", names[k]);
		assert_int_equal(mkdirat(two, names[k], 0700), 0);
		if (!is_noticed(two))
			fail_msg("%s: a directory", names[k]);
		assert_int_equal(unlinkat(two, names[k], AT_REMOVEDIR), 0);
		assert_int_equal(renameat(two, "aside", two, names[k]), 0);
		assert_false(is_noticed(two));
	}
}

/* What a checksum does not stop: an image made by somebody who knows how. Every byte is changed, the checksum is right.
 */
static void no_trust_in_contents(void **state)
{
	cleanup_close int one = epoch_dir("liar1"), two = epoch_dir("liar2");
	cleanup_free char *was = NULL;
	cleanup_close int fd = -1;
	ssize_t n;

	(void)state;
	small_image(one, two);
	n = read_file_at(two, "image", 1 << 20, &was);
	assert_true(n > 16);
	for (size_t i = 0; i < (size_t)n - 16; i++)
		for (int how = 0; how < 3; how++) {
			static const uint8_t values[] = { 0xff, 0x00, 0x80 };
			cleanup_free uint8_t *lie = xmalloc((size_t)n);
			struct mem_layout l;
			uint64_t sum[2];

			memcpy(lie, was, (size_t)n);
			lie[i] = how == 2 ? lie[i] ^ values[how] : values[how];
			mem_sum128(lie, (size_t)n - 16, sum);
			memcpy(lie + n - 16, sum, 16);
			if (mem_layout_parse(lie, (size_t)n, &l, &err) == 0)
				mem_layout_free(&l);
			remove_tree_at(two, "image");
			fd = openat(two, "image", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
			assert_int_equal(write_all(fd, lie, (size_t)n), 0);
			close(steal_fd(&fd));
			{
				cleanup_mem_image struct mem_image *m = mem_image_open(two, &err);

				/* An address may be anything here, so nothing is filled: it is enough that all is
				 * decoded. */
				if (m)
					mem_image_verify(m, MEM_VERIFY_DEEP, 1, &err);
			}
		}
}

static void render_and_parse(void **state)
{
	struct mem_file file = { .epoch = 1, .index = 0, .size = 100, .own = true };
	struct mem_chunk chunk = { .offset = 0, .file = 0, .stored = 100, .npages = 2, .format = { 1, 1 } };
	struct mem_space space = { .id = 5, .first = 0, .count = 1 };
	struct mem_extent extent = { .addr = 4096, .npages = 2, .chunk = 0, .first = 0 };
	struct mem_layout l = { .epoch = 1,
				.files = &file,
				.chunks = &chunk,
				.spaces = &space,
				.extents = &extent,
				.n_files = 1,
				.n_chunks = 1,
				.n_spaces = 1,
				.n_extents = 1 };
	struct mem_layout back;
	size_t len;

	(void)state;
#define PARSES(expected)                                                 \
	do {                                                             \
		cleanup_free uint8_t *buf = mem_layout_render(&l, &len); \
		int rc = mem_layout_parse(buf, len, &back, &err);        \
		if (rc == 0)                                             \
			mem_layout_free(&back);                          \
		assert_int_equal(rc, expected);                          \
	} while (0)
	PARSES(0);
#define REFUSES(what, value)                        \
	do {                                        \
		__typeof__(what) was_ = what;       \
		what = value;                       \
		PARSES(-1);                         \
		assert_int_equal(err.num, EBADMSG); \
		what = was_;                        \
		PARSES(0);                          \
	} while (0)
	REFUSES(extent.addr, 4097);
	REFUSES(extent.addr, UINT64_C(1) << 63);
	REFUSES(extent.npages, 3);
	REFUSES(extent.npages, 0);
	REFUSES(extent.npages, UINT32_MAX);
	REFUSES(extent.first, 1);
	REFUSES(extent.chunk, 1);
	REFUSES(space.count, 2);
	REFUSES(space.count, UINT64_MAX);
	REFUSES(space.first, 1);
	REFUSES(chunk.npages, 65);
	REFUSES(chunk.npages, 0);
	REFUSES(chunk.offset, 1);
	REFUSES(chunk.offset, UINT64_MAX);
	REFUSES(chunk.stored, 99);
	REFUSES(chunk.stored, 101);
	REFUSES(chunk.stored, 0);
	REFUSES(chunk.file, 1);
	REFUSES(chunk.format.compression, 3);
	REFUSES(chunk.format.compression, 0);
	REFUSES(chunk.format.transform, 3);
	REFUSES(file.size, 101);
	REFUSES(file.size, 0);
	REFUSES(file.size, UINT64_MAX);
	REFUSES(file.epoch, 2);
	REFUSES(file.epoch, 0);
	file.own = false;
	chunk.offset = 10;
	PARSES(-1);
	file.size = 110;
	PARSES(0);
}

static void huge_counts_are_refused(void **state)
{
	cleanup_close int one = epoch_dir("huge1"), two = epoch_dir("huge2");
	cleanup_free char *was = NULL;
	struct mem_layout l;
	ssize_t n;

	(void)state;
	small_image(one, two);
	n = read_file_at(two, "image", 1 << 20, &was);
	for (size_t at = 20; at < 40; at += 4) {
		uint32_t huge = UINT32_MAX, kept;
		uint64_t sum[2];

		memcpy(&kept, was + at, 4);
		memcpy(was + at, &huge, 4);
		mem_sum128(was, (size_t)n - 16, sum);
		memcpy(was + n - 16, sum, 16);
		assert_refused(mem_layout_parse((uint8_t *)was, (size_t)n, &l, &err), EBADMSG);
		memcpy(was + at, &kept, 4);
	}
	was[8] = 2;
	assert_refused(mem_layout_parse((uint8_t *)was, (size_t)n, &l, &err), ENOTSUP);
}

/* ---- disk full --------------------------------------------------------- */

/* In a child, which mounts a file system of its own. */
static void no_space_is_an_error(void **state)
{
	pid_t pid;
	int status;

	(void)state;
	fresh_memory();
	pid = fork();
	if (pid == 0) {
		struct mem_write_opts o;
		struct mem_write_stats s;

		signal(SIGXFSZ, SIG_IGN);
		for (rlim_t limit = 0; limit < 3u << 20; limit += 500000) {
			const struct rlimit r = { limit, RLIM_INFINITY };
			int dir;

			remove_tree_at(scratch_fd, "limit");
			dir = epoch_dir("limit");
			setrlimit(RLIMIT_FSIZE, &r);
			opts_for_test(&o);
			o.level = 0;
			if (write_epoch(dir, 1, &o, &s) == 0 || err.num != EFBIG || !err.text[0])
				_exit(1);
			close(dir);
		}
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

static void full_disk_is_an_error(void **state)
{
	struct mem_write_opts o;
	int dir;

	(void)state;
	if (geteuid() != 0 || mkdir(at("disk"), 0700) < 0 || mount("none", at("disk"), "tmpfs", 0, "size=1m") < 0)
		skip();
	dir = epoch_dir("disk/memory");
	opts_for_test(&o);
	o.level = 0;
	err.num = 0;
	if (write_epoch(dir, 1, &o, NULL) == 0)
		err.num = 0;
	close(dir);
	umount2(at("disk"), MNT_DETACH);
	assert_int_equal(err.num, ENOSPC);
}

/* A previous image on another file system: nothing can be linked, everything is written again. */
static void without_links_all_is_rewritten(void **state)
{
	cleanup_close int one = epoch_dir("far1");
	cleanup_mem_image struct mem_image *m = NULL, *m2 = NULL;
	struct mem_write_opts o;
	struct mem_write_stats s;
	int two;

	(void)state;
	if (geteuid() != 0 || mkdir(at("other"), 0700) < 0 || mount("none", at("other"), "tmpfs", 0, "size=64m") < 0)
		skip();
	two = epoch_dir("other/memory");
	fresh_memory();
	opts_for_test(&o);
	o.hashes = true;
	assert_ok(write_epoch(one, 1, &o, NULL));
	m = mem_image_open(one, &err);
	assert_some(m);
	assert_ok(mem_image_load_hashes(m, &err));
	dirty_some(20);
	use_clean(&o, m);
	assert_ok(write_epoch(two, 2, &o, &s));
	assert_int_equal(s.linked_files, 0);
	assert_int_equal(s.reused, 0);
	assert_true(s.rewritten > 0);
	m2 = open_and_compare(two);
	mem_image_close(m2);
	m2 = NULL;
	close(two);
	umount2(at("other"), MNT_DETACH);
}

static void names_of_chunk_files(void **state)
{
	char buf[MEM_NAME_MAX];

	(void)state;
	assert_string_equal(mem_file_name(&(struct mem_file){ .epoch = 3, .index = 12 }, buf), "chunks-000003-12");
	assert_true(mem_is_chunk_file("chunks-000003-0"));
	assert_true(mem_is_chunk_file("chunks-4294967295-4294967295"));
	assert_false(mem_is_chunk_file("chunks-3-0"));
	assert_false(mem_is_chunk_file("chunks-000003-0 "));
	assert_false(mem_is_chunk_file("chunks-000003-"));
	assert_false(mem_is_chunk_file("chunks-000003--1"));
	assert_false(mem_is_chunk_file("image"));
}

/* ---- criu's images ----------------------------------------------------- */

static void pagemap_round_trip(void **state)
{
	struct criu_pagemap_entry v[] = { { 0x1000, 3, CRIU_PE_PRESENT },
					  { 0x4000, 1, CRIU_PE_PARENT },
					  { 0x100000, UINT64_C(1) << 33, CRIU_PE_LAZY | CRIU_PE_PRESENT } };
	const struct criu_pagemap p = { .pages_id = 7, .v = v, .n = ARRAY_SIZE(v) };
	struct criu_pagemap back;

	(void)state;
	assert_ok(criu_pagemap_store(scratch_fd, "pagemap-1.img", &p, &err));
	assert_ok(criu_pagemap_load(scratch_fd, "pagemap-1.img", &back, &err));
	assert_int_equal(back.pages_id, 7);
	assert_int_equal(back.n, 6); /* the last one in four */
	for (int i = 0; i < 2; i++)
		assert_true(back.v[i].addr == v[i].addr && back.v[i].npages == v[i].npages &&
			    back.v[i].flags == v[i].flags);
	assert_int_equal(back.v[5].addr + back.v[5].npages * MEM_PAGE, v[2].addr + v[2].npages * MEM_PAGE);
	criu_pagemap_free(&back);
	v[1].addr = 0x3000;
	assert_ok(criu_pagemap_store(scratch_fd, "pagemap-1.img", &p, &err));
	assert_refused(criu_pagemap_load(scratch_fd, "pagemap-1.img", &back, &err), EBADMSG);
	v[1] = (struct criu_pagemap_entry){ 0x4000, 1, 16 };
	assert_ok(criu_pagemap_store(scratch_fd, "pagemap-1.img", &p, &err));
	assert_refused(criu_pagemap_load(scratch_fd, "pagemap-1.img", &back, &err), EBADMSG);
	assert_refused(criu_pagemap_load(scratch_fd, "pagemap-2.img", &back, &err), ENOENT);
}

static void export_makes_plain_images(void **state)
{
	cleanup_close int dir = epoch_dir("exp"), criu = epoch_dir("criu"), out = epoch_dir("out");
	cleanup_mem_image struct mem_image *m = NULL;
	/* Pages 0-9 from the image, 14-15 criu's own, 20-29 from the image, then one that nobody has. */
	struct criu_pagemap_entry v[] = { { BASE(0), 10, CRIU_PE_PARENT },
					  { BASE(0) + 14 * MEM_PAGE, 2, CRIU_PE_PRESENT },
					  { BASE(0) + 20 * MEM_PAGE, 10, CRIU_PE_PARENT | CRIU_PE_LAZY },
					  { BASE(0) + 13 * 1000 * MEM_PAGE, 1, CRIU_PE_PARENT } };
	struct criu_pagemap p = { .pages_id = 3, .v = v, .n = 3 }, back;
	struct mem_criu_export_stats s;
	struct mem_write_opts o;
	cleanup_free char *pages = NULL;

	(void)state;
	fresh_memory();
	opts_for_test(&o);
	assert_ok(write_epoch(dir, 1, &o, NULL));
	m = mem_image_open(dir, &err);
	assert_some(m);
	assert_ok(criu_pagemap_store(criu, "pagemap-2.img", &p, &err));
	assert_refused(mem_criu_export_pages(m, 2, 2, criu, out, NULL, NULL, &s, &err), ENOENT); /* criu's pages-3.img
												  */
	put_text(at("criu/pages-3.img"), "short");
	assert_refused(mem_criu_export_pages(m, 2, 2, criu, out, NULL, NULL, &s, &err), EBADMSG);
	unlink(at("out/pages-3.img"));
	{
		cleanup_close int fd = open(at("criu/pages-3.img"), O_WRONLY | O_CLOEXEC);

		assert_int_equal(write_all(fd, memory[1][0], 2 * MEM_PAGE), 0);
	}
	assert_ok(mem_criu_export_pages(m, 2, 2, criu, out, NULL, NULL, &s, &err));
	assert_int_equal(s.from_criu, 2 * MEM_PAGE);
	assert_int_equal(s.from_image + s.zero, 20 * MEM_PAGE);
	assert_int_equal(read_file_at(out, "pages-3.img", 1 << 20, &pages), 22 * MEM_PAGE);
	assert_memory_equal(pages, memory[0][0], 10 * MEM_PAGE);
	assert_memory_equal(pages + 10 * MEM_PAGE, memory[1][0], 2 * MEM_PAGE);
	assert_memory_equal(pages + 12 * MEM_PAGE, memory[0][20], 10 * MEM_PAGE);
	assert_ok(criu_pagemap_load(out, "pagemap-2.img", &back, &err));
	assert_int_equal(back.n, 3);
	assert_int_equal(back.v[0].flags, CRIU_PE_PRESENT);
	assert_int_equal(back.v[2].flags, CRIU_PE_PRESENT | CRIU_PE_LAZY);
	criu_pagemap_free(&back);
	p.n = 4;
	unlink(at("out/pages-3.img"));
	assert_ok(criu_pagemap_store(criu, "pagemap-2.img", &p, &err));
	assert_refused(mem_criu_export_pages(m, 2, 2, criu, out, NULL, NULL, &s, &err), ENODATA);
}

/* A restore fills what the image has. What criu's list says to be there and is not would come back as zeros. */
static void a_page_that_nobody_has_is_no_page_of_zeros(void **state)
{
	static const uint8_t token[16] = { 1 };
	cleanup_close int dir = epoch_dir("whole"), criu = epoch_dir("whole.criu"), good = epoch_dir("whole.good"),
			  bad = epoch_dir("whole.bad");
	cleanup_mem_image struct mem_image *m = NULL;
	struct criu_pagemap_entry v[] = { { BASE(0), 13, CRIU_PE_PARENT },
					  { BASE(0) + 20 * MEM_PAGE, 10, CRIU_PE_PARENT } };
	struct criu_pagemap p = { .pages_id = 3, .v = v, .n = 2 };
	struct mem_write_opts o;

	fresh_memory();
	opts_for_test(&o);
	assert_ok(write_epoch(dir, 1, &o, NULL));
	m = mem_image_open(dir, &err);
	assert_some(m);
	assert_ok(criu_pagemap_store(criu, "pagemap-2.img", &p, &err));
	assert_ok(mem_restore_dir_make(m, criu, good, token, NULL, 1, &err));
	v[0].npages = 14; /* HOLE(13) */
	assert_ok(criu_pagemap_store(criu, "pagemap-2.img", &p, &err));
	assert_refused(mem_restore_dir_make(m, criu, bad, token, NULL, 1, &err), EBADMSG);
	assert_non_null(strstr(err.text, "lacks 1 pages of process 2"));
	assert_refused(mem_restore_dir_make(NULL, criu, bad, token, NULL, 1, &err), EBADMSG);
}

static int set_up(void **state)
{
	(void)state;
	return scratch_make(0700);
}

static int tear_down(void **state)
{
	(void)state;
	scratch_remove();
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(full_image),
		cmocka_unit_test(empty_image),
		cmocka_unit_test(only_some_pages),
		cmocka_unit_test(unreadable_pages_are_zero),
		cmocka_unit_test(bad_work_is_refused),
		cmocka_unit_test(can_be_cancelled),
		cmocka_unit_test(increments_by_tracking),
		cmocka_unit_test(increments_by_hashes),
		cmocka_unit_test(increments_by_both),
		cmocka_unit_test(increments_with_compaction),
		cmocka_unit_test(few_files_stay_in_use),
		cmocka_unit_test(same_epoch_goes_on),
		cmocka_unit_test(clean_needs_something_to_refer_to),
		cmocka_unit_test(every_damage_is_noticed),
		cmocka_unit_test(no_trust_in_contents),
		cmocka_unit_test(render_and_parse),
		cmocka_unit_test(huge_counts_are_refused),
		cmocka_unit_test(no_space_is_an_error),
		cmocka_unit_test(full_disk_is_an_error),
		cmocka_unit_test(without_links_all_is_rewritten),
		cmocka_unit_test(names_of_chunk_files),
		cmocka_unit_test(pagemap_round_trip),
		cmocka_unit_test(export_makes_plain_images),
		cmocka_unit_test(a_page_that_nobody_has_is_no_page_of_zeros),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
