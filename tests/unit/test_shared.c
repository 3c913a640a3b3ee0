/* Objects of shared memory: taken from processes, written, found again by their marks, filled. The processes are this
 * one. */
#include "unit.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/util.h"
#include "criu/criu_pagemap.h"
#include "capture/file_data.h"
#include "image/restore_dir.h"
#include "capture/shared.h"
#include "image/writer.h"
#include "scratch.h"

#define MIB  (1u << 20)
#define SIZE (8u * MIB)

static struct err err;
static pid_t self;

static ino_t inode(int fd)
{
	struct stat st;

	assert_int_equal(fstat(fd, &st), 0);
	return st.st_ino;
}

static int make_memfd(size_t size)
{
	int fd = memfd_create("object", MFD_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, (off_t)size), 0);
	return fd;
}

/* Data at [from, from + n MiB), each page another. */
static void put_data(int fd, size_t from, size_t n)
{
	uint64_t page[MEM_PAGE / 8];

	for (size_t at = from; at < from + n * MIB; at += MEM_PAGE) {
		for (size_t i = 0; i < MEM_PAGE / 8; i++)
			page[i] = at + i;
		assert_int_equal(pwrite(fd, page, MEM_PAGE, (off_t)at), MEM_PAGE);
	}
}

static bool is_data(const uint8_t *buf, size_t at, size_t len)
{
	for (size_t i = 0; i < len / 8; i++)
		if (((const uint64_t *)(const void *)buf)[i] != at + i * 8 / MEM_PAGE * MEM_PAGE + i % (MEM_PAGE / 8))
			return false;
	return true;
}

static int take(struct mem_shared *s, ino_t ino, uint64_t size)
{
	const struct mem_shared_want want = { MEM_SHARED_ID | ino, 0, ino, size };

	return mem_shared_capture(s, &want, 1, &self, 1, 2, &err);
}

static void take_and_read(bool reserve)
{
	struct mem_shared *s = mem_shared_new();
	cleanup_close int fd = make_memfd(SIZE);
	static uint8_t buf[4 * MEM_PAGE];
	const struct mem_range *work;
	uint64_t before;
	size_t n;

	mem_shared_open(s, &self, 1, 0);
	before = mem_shared_bytes(s);
	mem_shared_free(s);
	put_data(fd, 0, 1);
	put_data(fd, 3 * MIB, 2);
	s = mem_shared_new();
	mem_shared_open(s, &self, 1, 0);
	assert_int_equal(mem_shared_bytes(s), before + 3 * MIB);
	if (reserve)
		mem_shared_reserve(s, 3 * MIB);
	assert_int_equal(take(s, inode(fd), 0), 0);
	assert_int_equal(mem_shared_needs_freeze(s), !reserve);
	work = mem_shared_ranges(s, &n);
	assert_int_equal(n, 2);
	assert_true(work[0].id == (MEM_SHARED_ID | inode(fd)) && work[0].addr == 0 && work[0].npages == MIB / MEM_PAGE);
	assert_true(work[1].addr == 3 * MIB && work[1].npages == 2 * MIB / MEM_PAGE);
	/* A copy does not change any more. */
	if (reserve)
		assert_int_equal(pwrite(fd, buf, sizeof(buf), 4 * MIB), sizeof(buf));
	assert_int_equal(mem_shared_read(s, work[1].id, 4 * MIB, buf, sizeof(buf)), 0);
	assert_true(is_data(buf, 4 * MIB, sizeof(buf)));
	assert_int_equal(mem_shared_read(s, work[0].id, 0, buf, sizeof(buf)), 0);
	assert_true(is_data(buf, 0, sizeof(buf)));
	assert_int_equal(mem_shared_read(s, MEM_SHARED_ID, 0, buf, sizeof(buf)), -1);
	if (reserve)
		assert_int_equal(mem_shared_read(s, work[0].id, 2 * MIB, buf, sizeof(buf)), -1);
	mem_shared_free(s);
}

static void a_copy(void **state)
{
	take_and_read(true);
}

static void no_room_for_a_copy(void **state)
{
	take_and_read(false);
}

static void mapped_memory_ends_where_criu_says(void **state)
{
	uint8_t *p = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	struct mem_shared *s = mem_shared_new();
	const struct mem_range *work;
	char path[64];
	struct stat st;
	size_t n;

	assert_true(p != MAP_FAILED);
	memset(p, 1, SIZE);
	assert_int_equal(munmap(p + 5 * MIB, SIZE - 5 * MIB), 0);
	snprintf(path, sizeof(path), "/proc/self/map_files/%lx-%lx", (unsigned long)p, (unsigned long)p + 5 * MIB);
	assert_int_equal(stat(path, &st), 0);
	/* Not looked at before: it is looked for now. */
	assert_int_equal(take(s, st.st_ino, 5 * MIB), 0);
	work = mem_shared_ranges(s, &n);
	assert_true(n == 1 && work[0].npages == 5 * MIB / MEM_PAGE);
	mem_shared_free(s);
	munmap(p, 5 * MIB);
}

static void what_nobody_has_is_not_taken(void **state)
{
	struct mem_shared *s = mem_shared_new();

	assert_int_equal(take(s, 0x7ffffff0, 0), -1);
	assert_int_equal(err.num, ENOENT);
	mem_shared_free(s);
}

static void system_v_is_not_seen(void **state)
{
	int id = shmget(IPC_PRIVATE, SIZE, 0600 | IPC_CREAT);
	struct mem_shared *s = mem_shared_new();
	uint64_t before;
	void *p;

	mem_shared_open(s, &self, 1, 0);
	before = mem_shared_bytes(s);
	mem_shared_free(s);
	assert_true(id >= 0);
	p = shmat(id, NULL, 0);
	shmctl(id, IPC_RMID, NULL);
	assert_true(p != (void *)-1);
	memset(p, 1, SIZE);
	s = mem_shared_new();
	mem_shared_open(s, &self, 1, 0);
	assert_int_equal(mem_shared_bytes(s), before);
	mem_shared_free(s);
	shmdt(p);
}

/* ---- an epoch --------------------------------------------------------------- */

static int read_taken(void *arg, uint64_t id, uint64_t addr, void *buf, size_t len)
{
	return mem_shared_read(arg, id, addr, buf, len);
}

static int directory(const char *name)
{
	int fd;

	assert_int_equal(mkdir(at(name), 0700), 0);
	fd = open(at(name), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(fd >= 0);
	return fd;
}

static struct mem_image *write_epoch(struct mem_shared *s, const char *name)
{
	const struct mem_source source = { read_taken, s };
	cleanup_close int dir = directory(name);
	struct mem_write_opts o;
	struct mem_image *m;
	const struct mem_range *work;
	size_t n;

	mem_write_opts_init(&o);
	work = mem_shared_ranges(s, &n);
	assert_int_equal(mem_image_write(dir, 1, &source, work, n, &o, NULL, &err), 0);
	m = mem_image_open(dir, &err);
	assert_non_null(m);
	return m;
}

static int write_back(void *arg, uint64_t id, uint64_t addr, const void *buf, size_t len)
{
	return mem_shared_write(arg, id, addr, buf, len);
}

static void assert_object(int fd)
{
	uint8_t *p = mmap(NULL, SIZE, PROT_READ, MAP_SHARED, fd, 0);
	struct stat st;

	assert_true(p != MAP_FAILED);
	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(st.st_blocks * 512, 2 * MIB);
	assert_true(is_data(p + MIB, MIB, 2 * MIB));
	/* The mark is gone. */
	for (size_t i = 0; i < MIB; i++)
		assert_int_equal(p[i], 0);
	munmap(p, SIZE);
}

/* criu's part of a restore: an object of the right size, with what the images say at its beginning. */
static int restore_mark(int imagesfd, ino_t ino)
{
	uint8_t page[MEM_PAGE];
	struct criu_pagemap p;
	char name[64];
	int fd = make_memfd(SIZE), in;

	snprintf(name, sizeof(name), "pagemap-shmem-%lu.img", (unsigned long)ino);
	assert_int_equal(criu_pagemap_load(imagesfd, name, &p, &err), 0);
	assert_true(p.n == 1 && p.v[0].addr == 0 && p.v[0].npages == 1 && p.v[0].flags == CRIU_PE_PRESENT);
	snprintf(name, sizeof(name), "pages-%u.img", p.pages_id);
	in = openat(imagesfd, name, O_RDONLY);
	assert_int_equal(read(in, page, sizeof(page)), sizeof(page));
	close(in);
	criu_pagemap_free(&p);
	assert_int_equal(pwrite(fd, page, sizeof(page), 0), sizeof(page));
	return fd;
}

static void an_object_comes_back(void **state)
{
	static const uint8_t token[] = "0123456789abcdef", other[] = "0123456789abcdeF"; /* 16 bytes are used */
	struct mem_shared *s = mem_shared_new();
	cleanup_close int fd = make_memfd(SIZE), criufd = directory("criu"), marked = directory("marked"),
			  whole = directory("whole"), again = -1, pages = -1;
	struct criu_pagemap empty = { .pages_id = 9 }, got;
	const struct mem_sink sink = { .write = write_back };
	struct mem_sink to = sink;
	struct mem_image *m;
	uint8_t buf[MEM_PAGE];
	ino_t ino = inode(fd);
	char name[64];

	put_data(fd, MIB, 2);
	assert_int_equal(take(s, ino, 0), 0);
	m = write_epoch(s, "memory");
	mem_shared_free(s);
	snprintf(name, sizeof(name), "pagemap-shmem-%lu.img", (unsigned long)ino);
	/* Images lack the list. */
	assert_int_equal(mem_restore_dir_make(m, criufd, whole, NULL, NULL, 1, &err), -1);
	assert_int_equal(criu_pagemap_store(criufd, name, &empty, &err), 0);
	/* By filling: */
	assert_int_equal(mem_restore_dir_make(m, criufd, marked, token, NULL, 1, &err), 0);
	again = restore_mark(marked, ino);
	s = mem_shared_new();
	assert_int_equal(mem_shared_open_restored(s, m, other, &self, 1, &err), -1);
	mem_shared_free(s);
	s = mem_shared_new();
	assert_int_equal(mem_shared_open_restored(s, m, token, &self, 1, &err), 0);
	to.arg = s;
	assert_int_equal(mem_image_read_pages(m, &to, NULL, NULL, &err), 0);
	/* Nothing behind the end. */
	assert_int_equal(mem_shared_write(s, MEM_SHARED_ID | ino, SIZE, buf, sizeof(buf)), 0);
	assert_object(again);
	mem_shared_free(s);
	/* By criu: */
	assert_int_equal(mem_restore_dir_make(m, criufd, whole, NULL, NULL, 1, &err), 0);
	assert_int_equal(criu_pagemap_load(whole, name, &got, &err), 0);
	assert_true(got.n == 1 && got.v[0].addr == MIB && got.v[0].npages == 2 * MIB / MEM_PAGE &&
		    got.v[0].flags == CRIU_PE_PRESENT);
	pages = openat(whole, "pages-9.img", O_RDONLY | O_CLOEXEC);
	assert_int_equal(pread(pages, buf, sizeof(buf), MIB), sizeof(buf));
	assert_true(is_data(buf, 2 * MIB, sizeof(buf)));
	criu_pagemap_free(&got);
	mem_image_close(m);
}

static void files_are_filled(void **state)
{
	struct mem_shared *s = mem_shared_new();
	cleanup_close int shm = directory("shm"), fd = -1, out = -1;
	const struct timespec old[2] = { { 1000, 1 }, { 2000, 2 } };
	struct mem_image *m;
	static uint8_t buf[2 * MIB];
	struct stat st;

	assert_int_equal(mkdir(at("shm/below"), 0700), 0);
	fd = open(at("shm/below/file"), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	assert_int_equal(ftruncate(fd, SIZE - 1), 0);
	put_data(fd, MIB, 2);
	assert_true(mem_shared_add_file(s, "below/file", fd));
	assert_false(mem_shared_add_file(s, "below/file", fd));
	assert_int_equal(mem_shared_capture(s, NULL, 0, &self, 1, 1, &err), 0);
	m = write_epoch(s, "filed");
	mem_shared_free(s);
	assert_true(mem_file_data_any(m));
	assert_int_equal(unlink(at("shm/below/file")), 0);
	assert_int_equal(mem_file_data_fill(m, shm, 1, &err), -1);
	out = open(at("shm/below/file"), O_RDWR | O_CREAT | O_CLOEXEC, 0400);
	assert_int_equal(ftruncate(out, SIZE - 1), 0);
	assert_int_equal(futimens(out, old), 0);
	assert_int_equal(mem_file_data_fill(m, shm, 1, &err), 0);
	assert_int_equal(fstat(out, &st), 0);
	assert_int_equal(st.st_size, SIZE - 1);
	assert_int_equal(st.st_mtim.tv_sec, 2000);
	assert_int_equal(pread(out, buf, sizeof(buf), MIB), sizeof(buf));
	assert_true(is_data(buf, MIB, sizeof(buf)));
	mem_image_close(m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_copy),
		cmocka_unit_test(no_room_for_a_copy),
		cmocka_unit_test(mapped_memory_ends_where_criu_says),
		cmocka_unit_test(what_nobody_has_is_not_taken),
		cmocka_unit_test(system_v_is_not_seen),
		cmocka_unit_test(an_object_comes_back),
		cmocka_unit_test(files_are_filled),
	};
	int rc;

	scratch_needs_root();
	self = getpid();
	if (scratch_make(0700))
		return 1;
	rc = cmocka_run_group_tests(tests, NULL, NULL);
	scratch_remove();
	return rc;
}
