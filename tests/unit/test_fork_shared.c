/* Memory that processes have in common since a fork: it is found, stored once, and stays in common whoever looks at it.
 */
#include "unit.h"

#include <fcntl.h>
#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/proc.h"
#include "base/util.h"
#include "criu/criu_pagemap.h"
#include "image/fork_family.h"
#include "image/image.h"
#include "image/restore_dir.h"
#include "capture/usage.h"
#include "image/ranges.h"
#include "capture/fork_shared.h"
#include "capture/sample.h"
#include "image/writer.h"
#include "scratch.h"

#define PAGES    8192u                         /* 32 MiB */
#define OWN      100u                          /* of them each child rewrites so many, */
#define PLACE(i) (1000u * (unsigned)(i) + 500) /* from here on */
#define CHILDREN 4                             /* the last one is forked by the one before it */

static struct err err;
static uint8_t *memory;
static pid_t pids[CHILDREN + 1]; /* the first is this process: its memory is the one that all come from */

static void scribble(uint8_t *from, unsigned n, unsigned seed)
{
	for (unsigned i = 0; i < n; i++)
		for (unsigned k = 0; k < MEM_PAGE; k += 4)
			*(uint32_t *)(void *)(from + i * (size_t)MEM_PAGE + k) = seed * 2654435761u + i * 40503u + k % 64;
}

static _Noreturn void wait_for_the_end(void)
{
	for (;;)
		pause();
}

static _Noreturn void live(int i, int ready)
{
	pid_t pid = 0;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	scribble(memory + PLACE(i) * (size_t)MEM_PAGE, OWN, (unsigned)i);
	if (i == CHILDREN - 1 && (pid = fork()) == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		scribble(memory + PLACE(CHILDREN) * (size_t)MEM_PAGE, OWN, CHILDREN);
		pid = getpid();
		if (write(ready, &pid, sizeof(pid)) != sizeof(pid))
			_exit(1);
		wait_for_the_end();
	}
	if (i < CHILDREN - 1 && write(ready, &pid, sizeof(pid)) != sizeof(pid))
		_exit(1);
	wait_for_the_end();
}

static int start(void **state)
{
	int ready[2];
	pid_t pid;

	(void)state;
	if (pipe(ready) || scratch_make(0700))
		return -1;
	memory = mmap(NULL, PAGES * (size_t)MEM_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (memory == MAP_FAILED)
		return -1;
	madvise(memory, PAGES * (size_t)MEM_PAGE, MADV_NOHUGEPAGE);
	scribble(memory, PAGES, 77);
	memset(memory, 0, 10 * MEM_PAGE);
	pids[0] = getpid();
	for (int i = 1; i < CHILDREN; i++) {
		pids[i] = fork();
		if (pids[i] == 0)
			live(i, ready[1]);
		if (read(ready[0], &pid, sizeof(pid)) != sizeof(pid))
			return -1;
		pids[i + 1] = pid; /* of the last one: the next turn sets the others */
	}
	return 0;
}

static int stop(void **state)
{
	for (int i = 1; i < CHILDREN; i++)
		if (pids[i] > 0)
			kill(pids[i], SIGKILL);
	while (wait(NULL) > 0)
		;
	(void)state;
	scratch_remove();
	return 0;
}

static uint64_t id_of(int i)
{
	return (uint64_t)i + 10;
}

/* *work: all memory of all. */
static void find_shared(struct mem_fork_shared *shared, struct mem_ranges *work)
{
	struct mem_fork_shared_process p[CHILDREN + 1];

	*work = (struct mem_ranges){ 0 };
	for (int i = 0; i <= CHILDREN; i++)
		mem_ranges_add(work, id_of(i), (uintptr_t)memory, (uintptr_t)memory + PAGES * (size_t)MEM_PAGE);
	for (int i = 0; i <= CHILDREN; i++)
		p[i] = (struct mem_fork_shared_process){ id_of(i), pids[i], &work->v[i], 1 };
	mem_fork_shared_find(p, CHILDREN + 1, shared);
}

static int read_page(void *arg, uint64_t id, uint64_t addr, void *buf, size_t len)
{
	cleanup_close int mem = open_proc(pids[id - id_of(0)], "mem", O_RDONLY);

	*(uint64_t *)arg += len;
	return pread(mem, buf, len, (off_t)addr) == (ssize_t)len ? 0 : -1;
}

static void what_is_common_is_found(void **state)
{
	struct mem_fork_shared shared;
	struct mem_ranges work;
	uint64_t last = 0;

	(void)state;
	find_shared(&shared, &work);
	/* Each child has what it did not rewrite in common with the first, and the last one what the one before it has
	 * rewritten with that. */
	assert_int_equal(shared.pages, CHILDREN * PAGES - (CHILDREN + 1) * OWN + OWN);
	for (size_t i = 0; i < shared.n; i++) {
		const struct mem_range *r = &shared.v[i];

		assert_true(i == 0 || r[-1].id < r->id ||
			    (r[-1].id == r->id && r[-1].addr + r[-1].npages * MEM_PAGE <= r->addr));
		assert_true(shared.of[i] < r->id);
		if (r->id == id_of(CHILDREN) && r->addr == (uintptr_t)memory + PLACE(CHILDREN - 1) * (uintptr_t)MEM_PAGE) {
			assert_int_equal(shared.of[i], id_of(CHILDREN - 1));
			assert_int_equal(r->npages, OWN);
		} else {
			assert_int_equal(shared.of[i], id_of(0));
		}
		last = r->id;
	}
	assert_int_equal(last, id_of(CHILDREN));
	mem_fork_shared_free(&shared);
	mem_ranges_free(&work);
}

static uint64_t shared_bytes(void)
{
	uint64_t sum = 0;
	struct mem_usage u;

	for (int i = 0; i <= CHILDREN; i++) {
		assert_int_equal(mem_usage_read(pids[i], &u), 0);
		sum += u.shared;
	}
	return sum;
}

static void a_look_makes_no_copies(void **state)
{
	uint64_t anon[CHILDREN + 1], before = shared_bytes();
	struct mem_rewriting r[CHILDREN + 1];
	struct mem_usage u;

	(void)state;
	for (int i = 0; i <= CHILDREN; i++) {
		assert_int_equal(mem_usage_read(pids[i], &u), 0);
		anon[i] = u.anon;
	}
	for (int round = 0; round < 3; round++)
		mem_sample(pids, anon, CHILDREN + 1, r);
	assert_true(r[1].hot >= 0);
	/* What this process writes by itself is little. */
	assert_true(shared_bytes() + (1u << 20) > before);
}

/* What was copied from a page that its owner has written since is clean for nobody. */
static void what_the_owner_has_written_is_not_clean(void **state)
{
	const struct mem_range ranges[] = {
		{ 11, 10 * MEM_PAGE, 20 }, { 12, 5 * MEM_PAGE, 5 }, { 12, 10 * MEM_PAGE, 20 }, { 12, 40 * MEM_PAGE, 4 }
	};
	const uint64_t of[] = { 10, 11, 10, 9 };
	const struct mem_range wanted[] = { { 10, 0, 12 },
					    { 10, 15 * MEM_PAGE, 5 },
					    { 11, 0, 12 },
					    { 11, 15 * MEM_PAGE, 5 },
					    { 11, 30 * MEM_PAGE, 10 },
					    { 12, 5 * MEM_PAGE, 7 },
					    { 12, 15 * MEM_PAGE, 5 },
					    { 12, 30 * MEM_PAGE, 10 },
					    { 12, 44 * MEM_PAGE, 6 } };
	struct mem_fork_shared shared = { 0 };
	struct mem_ranges clean = { 0 };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(ranges); i++)
		mem_fork_shared_add(&shared, &ranges[i], of[i]);
	mem_ranges_add(&clean, 10, 0, 12 * MEM_PAGE);
	mem_ranges_add(&clean, 10, 15 * MEM_PAGE, 20 * MEM_PAGE);
	mem_ranges_add(&clean, 11, 0, 40 * MEM_PAGE);
	mem_ranges_add(&clean, 12, 5 * MEM_PAGE, 50 * MEM_PAGE);
	mem_fork_shared_remove_stale(&shared, &clean);
	assert_int_equal(clean.n, ARRAY_SIZE(wanted));
	for (size_t i = 0; i < clean.n; i++) {
		assert_int_equal(clean.v[i].id, wanted[i].id);
		assert_int_equal(clean.v[i].addr, wanted[i].addr);
		assert_int_equal(clean.v[i].npages, wanted[i].npages);
	}
	mem_fork_shared_free(&shared);
	mem_ranges_free(&clean);
}

/* ---- in an image -------------------------------------------------------------- */

static int compare(void *arg, uint64_t id, uint64_t addr, const void *buf, size_t len)
{
	static _Thread_local uint8_t own[MEM_CHUNK];
	uint64_t read = 0;

	if (read_page(&read, id, addr, own, len) || memcmp(own, buf, len) != 0) {
		errno = EILSEQ;
		return -1;
	}
	atomic_fetch_add((atomic_uint_fast64_t *)arg, len);
	return 0;
}

static int epoch(unsigned n)
{
	char name[16];

	snprintf(name, sizeof(name), "%u", n);
	assert_int_equal(mkdirat(scratch_fd, name, 0700), 0);
	return openat(scratch_fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

static struct mem_image *open_and_compare(int dir)
{
	atomic_uint_fast64_t compared = 0;
	const struct mem_sink sink = { .write = compare, .arg = &compared };
	struct mem_image *m = mem_image_open(dir, &err);
	const struct mem_read_opts o = { .threads = 2 };

	if (!m || mem_image_read_pages(m, &sink, &o, NULL, &err) || mem_image_verify(m, MEM_VERIFY_DEEP, 2, &err) ||
	    mem_image_load_hashes(m, &err))
		fail_msg("%s", err.text);
	assert_int_equal(atomic_load(&compared), ((CHILDREN + 1) * PAGES - 10 * (CHILDREN + 1)) * (uint64_t)MEM_PAGE);
	return m;
}

/* A full image, and two that continue it: what is in common is compared by its hash once, or known to be clean. */
static void what_is_common_is_stored_once(void **state)
{
	const uint64_t once = (PAGES + (CHILDREN + 1) * OWN - OWN) * (uint64_t)MEM_PAGE;
	cleanup_mem_image struct mem_image *previous = NULL;
	struct mem_range *clean;
	struct mem_fork_shared shared;
	struct mem_ranges work;

	(void)state;
	find_shared(&shared, &work);
	clean = &work.v[0];
	for (unsigned n = 1; n <= 3; n++) {
		cleanup_close int dir = epoch(n);
		struct mem_write_stats s;
		struct mem_write_opts o;
		struct mem_totals t;
		uint64_t read = 0;
		const struct mem_source source = { read_page, &read };

		mem_write_opts_init(&o);
		o.hashes = o.compare = true;
		o.threads = 1;
		o.previous = previous;
		o.fork_shared = &shared;
		o.clean = clean;
		o.n_clean = n == 3;
		if (mem_image_write(dir, n, &source, work.v, work.n, &o, &s, &err))
			fail_msg("%s", err.text);
		/* The last image but the first takes everything of the first process from the one before. */
		assert_int_equal(read, n == 3 ? once - PAGES * (uint64_t)MEM_PAGE : once);
		assert_int_equal(s.pages, once);
		assert_int_equal(s.fork_shared, ((CHILDREN + 1) * PAGES) * (uint64_t)MEM_PAGE - once);
		assert_int_equal(s.raw, n == 1 ? once - 10 * MEM_PAGE : 0);
		if (previous)
			mem_image_close(previous);
		previous = open_and_compare(dir);
		mem_image_totals(previous, &t);
		assert_int_equal(t.pages - t.zero, once - 10 * MEM_PAGE);
	}
	mem_fork_shared_free(&shared);
	mem_ranges_free(&work);
}

/* ---- images for criu ------------------------------------------------------------- */

/* As criu would: all pages in a parent that is not there. */
static void make_criu_images(int fd)
{
	struct criu_pagemap_entry entry = { (uintptr_t)memory, PAGES, CRIU_PE_PARENT };
	char name[32];

	for (int i = 0; i <= CHILDREN; i++) {
		const struct criu_pagemap p = { (uint32_t)id_of(i) + 100, &entry, 1 };

		snprintf(name, sizeof(name), "pagemap-%d.img", (int)id_of(i));
		assert_int_equal(criu_pagemap_store(fd, name, &p, &err), 0);
		snprintf(name, sizeof(name), "pages-%d.img", (int)id_of(i) + 100);
		close(openat(fd, name, O_WRONLY | O_CREAT | O_EXCL, 0600));
	}
}

/* As criu reads it. 1: page is filled in, 0: it is not in the images. */
static int find_in_images(int dirfd, int id, uint64_t addr, void *page)
{
	struct criu_pagemap p;
	uint64_t at = 0;
	char name[32];
	int got = 0;

	snprintf(name, sizeof(name), "pagemap-%d.img", id);
	assert_int_equal(criu_pagemap_load(dirfd, name, &p, &err), 0);
	for (size_t i = 0; i < p.n; i++) {
		const struct criu_pagemap_entry *e = &p.v[i];
		const bool inside = addr >= e->addr && addr < e->addr + e->npages * MEM_PAGE;

		if (inside && e->flags & CRIU_PE_PARENT) {
			cleanup_close int parent = openat(dirfd, "parent", O_RDONLY | O_DIRECTORY);

			got = find_in_images(parent, id, addr, page);
			assert_int_equal(got, 1);
		} else if (inside) {
			cleanup_close int pages = -1;

			snprintf(name, sizeof(name), "pages-%u.img", p.pages_id);
			pages = openat(dirfd, name, O_RDONLY);
			assert_int_equal(pread(pages, page, MEM_PAGE, (off_t)(at + addr - e->addr)), MEM_PAGE);
			got = 1;
		}
		at += e->flags & CRIU_PE_PRESENT ? e->npages * MEM_PAGE : 0;
	}
	criu_pagemap_free(&p);
	return got;
}

static bool is_in(const struct mem_ranges *r, uint64_t id, uint64_t addr)
{
	for (size_t i = 0; i < r->n; i++)
		if (r->v[i].id == id && addr >= r->v[i].addr && addr < r->v[i].addr + r->v[i].npages * MEM_PAGE)
			return true;
	return false;
}

static uint64_t size_of_images(int dirfd)
{
	uint64_t sum = 0;
	struct stat st;
	char name[32];

	for (int i = 0; i <= CHILDREN; i++) {
		snprintf(name, sizeof(name), "pages-%d.img", (int)id_of(i) + 100);
		assert_int_equal(fstatat(dirfd, name, &st, 0), 0);
		sum += (uint64_t)st.st_size;
	}
	return sum;
}

/* token: what several have is in criu's images, all else is not. Without: everything is. Once in any case. */
static void criu_gets_what_is_common_once(void **state)
{
	static const uint8_t token[16] = { 1 };
	cleanup_close int image = openat(scratch_fd, "3", O_RDONLY | O_DIRECTORY), criu = epoch(20);
	cleanup_mem_image struct mem_image *m = mem_image_open(image, &err);
	struct mem_ranges common = { 0 };
	struct mem_fork_family f, none;
	uint8_t is[MEM_PAGE], wanted[MEM_PAGE];
	uint64_t read;

	(void)state;
	make_criu_images(criu);
	mem_fork_family_find(m, UINT64_C(1) << 40, &none);
	assert_int_equal(none.n, 0);
	mem_fork_family_find(m, 1 << 20, &f);
	mem_fork_family_pages(&f, &common);
	/* The last one has its parent image from the first process, so what it has from the one before it is its own.
	 */
	assert_int_equal(f.n, CHILDREN + 1);
	assert_int_equal(f.v[0].origin, 0);
	for (int i = 1; i <= CHILDREN; i++)
		assert_int_equal(f.v[i].origin, id_of(0));
	for (int n = 0; n < 2; n++) {
		cleanup_close int dir = epoch(21 + (unsigned)n);

		if (mem_restore_dir_make(m, criu, dir, n ? token : NULL, &f, 2, &err))
			fail_msg("%s", err.text);
		for (int i = 0; i <= CHILDREN; i++)
			for (unsigned k = 10; k < PAGES; k += 33) {
				const uint64_t addr = (uintptr_t)memory + k * (uintptr_t)MEM_PAGE;

				assert_int_equal(find_in_images(dir, (int)id_of(i), addr, is),
						 !n || is_in(&common, id_of(i), addr));
				if (n && !is_in(&common, id_of(i), addr))
					continue;
				assert_int_equal(read_page(&read, id_of(i), addr, wanted, MEM_PAGE), 0);
				assert_memory_equal(is, wanted, MEM_PAGE);
			}
		assert_true(size_of_images(dir) <= (PAGES + (CHILDREN + 3) * OWN + 10 * CHILDREN) * (uint64_t)MEM_PAGE);
	}
	mem_ranges_free(&common);
	mem_fork_family_free(&f);
}

static void what_nobody_has_is_refused(void **state)
{
	const struct mem_range work[] = { { 10, (uintptr_t)memory, 10 }, { 11, (uintptr_t)memory, 20 } };
	struct mem_fork_shared shared = { 0 };
	const struct mem_range too_many = { 11, (uintptr_t)memory, 20 };
	cleanup_close int dir = epoch(9);
	struct mem_write_opts o;
	uint64_t read = 0;
	const struct mem_source source = { read_page, &read };

	(void)state;
	mem_write_opts_init(&o);
	mem_fork_shared_add(&shared, &too_many, 10);
	o.fork_shared = &shared;
	assert_int_equal(mem_image_write(dir, 9, &source, work, 2, &o, NULL, &err), -1);
	assert_int_equal(err.num, EINVAL);
	mem_fork_shared_free(&shared);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_common_is_found),
		cmocka_unit_test(a_look_makes_no_copies),
		cmocka_unit_test(what_the_owner_has_written_is_not_clean),
		cmocka_unit_test(what_is_common_is_stored_once),
		cmocka_unit_test(criu_gets_what_is_common_once),
		cmocka_unit_test(what_nobody_has_is_refused),
	};

	scratch_needs_root();
	return cmocka_run_group_tests(tests, start, stop);
}
