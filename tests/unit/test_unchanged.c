/* files/unchanged.c and files/early.c on a file system of their own: what is said to be unchanged is unchanged,
 * whatever is done to the file, and little is said to be changed when little is. */
#include "unit.h"
#include "base/util.h"

#include <errno.h>
#include <linux/falloc.h>
#include <sys/mman.h>
#include <sys/sysmacros.h>
#include <time.h>

#include "scratch.h"
#include "files/files_internal.h"

#define SIZE   (2u << 20)
#define BLOCKS (SIZE / FILES_BLOCK)
#define PAGE   4096u
#define TRIALS 100

static int device = -1, top = -1;
static char command[512];
static struct err err;

static int run(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
static int run(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(command, sizeof(command), fmt, ap);
	va_end(ap);
	return system(command);
}

static int set_up(void **state)
{
	char path[128];
	struct stat st;

	(void)state;
	if (scratch_make(0700) ||
	    run("cd %s && mkdir m && mount -t tmpfs unchanged m && cd m && truncate -s 96M image && mkdir m && mke2fs -q -F -t ext4 -O ^has_journal -E nodiscard image && "
		"mount -o loop,nobarrier,discard image m",
		scratch))
		return -1;
	snprintf(path, sizeof(path), "%s/m/m", scratch);
	top = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (top < 0 || fstat(top, &st))
		return -1;
	snprintf(path, sizeof(path), "/sys/dev/block/%u:%u/stat", major(st.st_dev), minor(st.st_dev));
	device = open(path, O_RDONLY | O_CLOEXEC);
	return device < 0;
}

static int tear_down(void **state)
{
	(void)state;
	close(top);
	close(device);
	run("umount -l %s/m/m; umount -l %s/m", scratch, scratch);
	scratch_remove();
	return 0;
}

static void fill(char *buf, size_t len)
{
	for (size_t i = 0; i < len; i += sizeof(long))
		*(long *)(void *)(buf + i) = random();
}

static int make_file(const char *name)
{
	cleanup_free char *buf = xmalloc(SIZE);
	int fd;

	fill(buf, SIZE);
	unlinkat(top, name, 0);
	fd = openat(top, name, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	assert_int_equal(pwrite_all(fd, buf, SIZE, 0), 0);
	assert_int_equal(syncfs(top), 0);
	return fd;
}

static bool supported(int fd)
{
	struct unchanged_files all = { .device = device };
	struct unchanged *u = unchanged_begin(&all, fd, SIZE);
	const bool yes = u != NULL;

	unchanged_end(u);
	return yes;
}

static void one_write(int fd, uint64_t at, size_t len)
{
	char buf[3 * PAGE];

	fill(buf, sizeof(buf));
	assert_int_equal(pwrite_all(fd, buf, len, at), 0);
}

static void by_mapping(int fd, uint64_t at)
{
	char *map = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	struct stat st;

	assert_true(map != MAP_FAILED);
	if (fstat(fd, &st) == 0 && at < (uint64_t)st.st_size)
		map[at]++;
	munmap(map, SIZE);
}

static void direct(const char *name, uint64_t at)
{
	int fd = openat(top, name, O_RDWR | O_DIRECT | O_CLOEXEC);
	char *buf = aligned_alloc(PAGE, PAGE);

	fill(buf, PAGE);
	if (pwrite(fd, buf, PAGE, (off_t)(at & ~(uint64_t)(PAGE - 1))) < 0)
		errno = 0;
	free(buf);
	close(fd);
}

/* Something that programs do to files. */
static void change(const char *name, int fd)
{
	const uint64_t at = (uint64_t)random() % SIZE, page = at & ~(uint64_t)(PAGE - 1);
	const off_t n = (off_t)PAGE * (1 + random() % 40);

	switch (random() % 15) {
	case 0:
	case 1: one_write(fd, at, 1 + (size_t)random() % (3 * PAGE)); break;
	case 2: by_mapping(fd, at); break;
	case 3: direct(name, at); break;
	case 4: fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)at, n); break;
	case 5: fallocate(fd, FALLOC_FL_COLLAPSE_RANGE, (off_t)page, n); break;
	case 6: fallocate(fd, FALLOC_FL_INSERT_RANGE, (off_t)page, n); break;
	case 7: fallocate(fd, FALLOC_FL_ZERO_RANGE, (off_t)at, n); break;
	case 8:
		assert_int_equal(ftruncate(fd, (off_t)at), 0);
		assert_int_equal(ftruncate(fd, random() % 2 ? SIZE : (off_t)at), 0);
		break;
	case 9: fdatasync(fd); break;
	case 10: syncfs(top); break;
	case 11: sync_file_range(fd, (off_t)page, n, SYNC_FILE_RANGE_WRITE); break;
	case 12: posix_fadvise(fd, (off_t)page, n, POSIX_FADV_DONTNEED); break;
	case 13: /* there and back: the file is as it was, but a copy that was read between is not */
		if (fallocate(fd, FALLOC_FL_INSERT_RANGE, (off_t)page, n) == 0 && random() % 2)
			fallocate(fd, FALLOC_FL_COLLAPSE_RANGE, (off_t)page, n);
		break;
	default: readahead(fd, (off_t)page, (size_t)n); break;
	}
}

static void changes(const char *name, int fd, int most)
{
	for (long n = random() % (most + 1); n > 0; n--)
		change(name, fd);
}

static void read_up_to(int fd, char *buf, uint64_t from, uint64_t to)
{
	ssize_t n;

	memset(buf + from, 0, to - from);
	for (uint64_t at = from; at < to && (n = pread(fd, buf + at, to - at, (off_t)at)) > 0; at += (uint64_t)n)
		;
}

static void test_what_is_unchanged_is_unchanged(void **state)
{
	cleanup_free char *copy = xmalloc(SIZE), *now = xmalloc(SIZE);
	struct unchanged_files all = { .device = device };
	bool changed[4 * BLOCKS];
	unsigned known = 0, same = 0;
	const long seed = time(NULL);

	(void)state;
	srandom((unsigned)seed);
	for (int trial = 0; trial < TRIALS; trial++) {
		cleanup_close int fd = make_file("p");
		struct unchanged *u;
		struct stat st;

		if (!supported(fd))
			skip();
		changes("p", fd, 2);
		fstat(fd, &st);
		u = unchanged_begin(&all, fd, (uint64_t)st.st_size < SIZE ? (uint64_t)st.st_size : SIZE);
		if (!u)
			continue; /* too short now, or a write was in flight */
		/* As a copy is made: in pieces, while the file changes. */
		for (unsigned part = 0; part < 4; part++) {
			read_up_to(fd, copy, SIZE / 4 * part, SIZE / 4 * (part + 1));
			changes("p", fd, part == 3 || trial % 2 ? 2 : 0);
		}
		fstat(fd, &st);
		st.st_size = st.st_size < SIZE ? st.st_size : SIZE;
		if (unchanged_find(u, (uint64_t)st.st_size, changed)) {
			read_up_to(fd, now, 0, SIZE);
			known++;
			for (uint64_t b = 0; b * FILES_BLOCK < (uint64_t)st.st_size; b++) {
				uint64_t len = (uint64_t)st.st_size - b * FILES_BLOCK;

				len = len < FILES_BLOCK ? len : FILES_BLOCK;
				same += !changed[b];
				if (!changed[b] && memcmp(copy + b * FILES_BLOCK, now + b * FILES_BLOCK, len))
					fail_msg("seed %ld, trial %d: block %d has changed", seed, trial, (int)b);
			}
		}
		unchanged_end(u);
		assert_int_equal(all.n, 0);
	}
	assert_true(known > TRIALS / 20 && same > known);
}

static unsigned count_changed(const struct unchanged *u)
{
	bool changed[BLOCKS];
	unsigned n = 0;

	if (!unchanged_find(u, SIZE, changed))
		return BLOCKS + 1;
	for (unsigned i = 0; i < BLOCKS; i++)
		n += changed[i];
	return n;
}

static void test_little_is_changed(void **state)
{
	cleanup_close int fd = make_file("p");
	struct unchanged_files all = { .device = device };
	struct unchanged *u = unchanged_begin(&all, fd, SIZE);

	(void)state;
	if (!u)
		skip();
	assert_int_equal(count_changed(u), 0);
	one_write(fd, 5 * FILES_BLOCK + 10, 100);
	by_mapping(fd, 40 * FILES_BLOCK);
	/* The kernel may keep the file in folios of up to 2 MiB, which are dirty as a whole. */
	assert_in_range(count_changed(u), 2, BLOCKS);
	fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 20 * FILES_BLOCK, FILES_BLOCK);
	assert_in_range(count_changed(u), 3, BLOCKS);
	fdatasync(fd);
	assert_int_equal(count_changed(u), BLOCKS + 1);
	unchanged_end(u);
}

/* ---- copies ---------------------------------------------------------------- */

static int filesfd_of(const char *name)
{
	mkdirat(scratch_fd, name, 0700);
	return openat(scratch_fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

static void round_of(struct files_early *e, int fd, const char *was)
{
	struct stat st;

	fstat(fd, &st);
	if (files_early_begin_round(e, top))
		assert_int_equal(files_early_copy(e, fd, &st, was, &err), 0);
}

static void assert_copy(int filesfd, const char *name, int fd)
{
	cleanup_free char *a = xmalloc(SIZE), *b = xmalloc(SIZE);
	cleanup_close int copy = openat(filesfd, name, O_RDONLY | O_CLOEXEC);
	struct stat x, y;

	assert_true(copy >= 0);
	fstat(fd, &x);
	fstat(copy, &y);
	assert_int_equal(x.st_size, y.st_size);
	read_up_to(fd, a, 0, SIZE);
	read_up_to(copy, b, 0, SIZE);
	assert_memory_equal(a, b, SIZE);
}

/* What the freeze takes is the file, whatever was done to it between and in the rounds. */
static void test_copies_are_right(void **state)
{
	cleanup_close int filesfd = filesfd_of("files");
	const long seed = time(NULL);

	(void)state;
	srandom((unsigned)seed);
	print_message("seed %ld\n", seed);
	for (int trial = 0; trial < TRIALS; trial++) {
		cleanup_close int fd = make_file("p");
		struct files_early_opts o = { .filesfd = filesfd, .previous_filesfd = -1, .device_stat = device };
		struct files_early *e;
		struct stat st;
		char name[32];
		int rc;

		fstat(fd, &st);
		o.device = st.st_dev;
		e = files_early_open(&o);
		for (int k = 0; k < 3; k++) {
			round_of(e, fd, NULL);
			changes("p", fd, 2);
		}
		/* The file is not longer than the buffers. */
		fstat(fd, &st);
		if (st.st_size > SIZE)
			assert_int_equal(ftruncate(fd, SIZE), 0);
		fstat(fd, &st);
		snprintf(name, sizeof(name), "%d", trial);
		rc = files_early_take(e, fd, &st, name, &err);
		assert_true(rc == 1);
		assert_copy(filesfd, name, fd);
		files_early_close(e);
		unlinkat(filesfd, name, 0);
	}
}

/* An epoch's copy is the one of the epoch before, until the file changes; that of the epoch before never changes. */
static void test_copies_of_the_epoch_before(void **state)
{
	cleanup_close int a = filesfd_of("a"), b = filesfd_of("b"), c = filesfd_of("c"), fd = make_file("q");
	cleanup_close int first = openat(top, "first", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	const int dirs[] = { a, b, c };
	cleanup_free char *buf = xmalloc(SIZE);
	struct stat st, copy;

	(void)state;
	read_up_to(fd, buf, 0, SIZE);
	assert_int_equal(pwrite_all(first, buf, SIZE, 0), 0);
	for (int k = 0; k < 3; k++) {
		struct files_early_opts o = { .filesfd = dirs[k],
					      .previous_filesfd = k ? dirs[k - 1] : -1,
					      .device_stat = -1 };
		struct files_early *e = files_early_open(&o);

		round_of(e, fd, "data");
		if (k == 2)
			one_write(fd, 100000, 10); /* in the time before the freeze */
		fstat(fd, &st);
		st.st_size = SIZE;
		assert_int_equal(files_early_take(e, fd, &st, "data", &err), 1);
		assert_copy(dirs[k], "data", fd);
		files_early_close(e);
		assert_int_equal(fstatat(dirs[k], "data", &copy, 0), 0);
		assert_int_equal(copy.st_nlink, k == 1 ? 2 : 1);
	}
	assert_copy(a, "data", first);
	assert_copy(b, "data", first);
	/* A copy that is not the same is not taken, and is left alone. */
	assert_int_equal(pwrite_all(first, "x", 1, SIZE - 1), 0);
	{
		cleanup_close int d = filesfd_of("d");
		struct files_early_opts o = { .filesfd = d, .previous_filesfd = b, .device_stat = -1 };
		struct files_early *e = files_early_open(&o);

		round_of(e, first, "data");
		fstat(first, &st);
		assert_int_equal(files_early_take(e, first, &st, "data", &err), 1);
		assert_copy(d, "data", first);
		files_early_close(e);
	}
}

static int make_sparse(const char *name, off_t size)
{
	int fd = make_file(name);

	assert_int_equal(ftruncate(fd, size), 0);
	return fd;
}

static int take(struct files_early *e, int fd, const char *name)
{
	struct stat st;

	fstat(fd, &st);
	return files_early_take(e, fd, &st, name, &err);
}

/* Checksums of holes take memory, and a job makes a hole of any size by one call. */
static void test_holes_take_little_memory(void **state)
{
	const off_t some = INT64_C(60) << 30, huge = INT64_C(1) << 40;
	cleanup_close int filesfd = filesfd_of("holes"), a = make_sparse("a", huge), b = make_sparse("b", some),
			  c = make_sparse("c", some), d = make_sparse("d", some), g = make_file("g");
	struct files_early_opts o = { .filesfd = filesfd, .previous_filesfd = -1, .device_stat = device };
	struct files_early *e;
	struct stat st;

	(void)state;
	fstat(a, &st);
	o.device = st.st_dev;
	e = files_early_open(&o);
	assert_true(files_early_begin_round(e, top));
	for (size_t i = 0; i < 5; i++) {
		const int fd = (const int[]){ a, b, c, d, g }[i];

		fstat(fd, &st);
		assert_int_equal(files_early_copy(e, fd, &st, NULL, &err), 0);
	}
	/* grows when it has a copy */
	assert_int_equal(ftruncate(g, huge), 0);
	assert_int_equal(take(e, a, "a"), 0);
	assert_int_equal(take(e, b, "b"), 1);
	assert_copy(filesfd, "b", b);
	assert_int_equal(take(e, c, "c"), 1);
	assert_int_equal(take(e, d, "d"), 0);
	assert_int_equal(take(e, g, "g"), 0);
	files_early_close(e);
	for (size_t i = 0; i < 5; i++)
		unlinkat(top, (const char *[]){ "a", "b", "c", "d", "g" }[i], 0);
	/* nothing is left of those without a copy */
	assert_int_equal(unlinkat(filesfd, "b", 0) || unlinkat(filesfd, "c", 0), 0);
	assert_int_equal(unlinkat(scratch_fd, "holes", AT_REMOVEDIR), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_what_is_unchanged_is_unchanged),
		cmocka_unit_test(test_little_is_changed),
		cmocka_unit_test(test_copies_are_right),
		cmocka_unit_test(test_copies_of_the_epoch_before),
		cmocka_unit_test(test_holes_take_little_memory),
	};

	scratch_needs_root();
	return cmocka_run_group_tests(tests, set_up, tear_down);
}
