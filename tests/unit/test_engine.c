/* Which way a process's memory is taken, and who keeps which pages. */
#include "unit.h"

#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/util.h"
#include "capture/cost.h"
#include "capture/probe.h"
#include "criu/dummy_parent.h"
#include "capture/split.h"
#include "scratch.h"

#define GB (1ull << 30)

static const struct mem_node metal = { .copy_us_per_mb = 60,
				       .fork_us_per_mb = 10,
				       .huge_us_per_mb = 0.7,
				       .cow_us = 1,
				       .huge_cow_us = 1.5,
				       .notice_us = 0.4,
				       .drain_mb_per_s = 1000,
				       .compare_us_per_mb = 150 };
/* Faults are dear in virtual machines. */
static const struct mem_node guest = { .copy_us_per_mb = 60,
				       .fork_us_per_mb = 25,
				       .huge_us_per_mb = 1,
				       .cow_us = 30,
				       .huge_cow_us = 35,
				       .notice_us = 18,
				       .drain_mb_per_s = 500,
				       .compare_us_per_mb = 230 };

static enum mem_method choose_on(const struct mem_node *n, struct mem_cost_input c)
{
	char why[256];
	enum mem_method r;

	c.mapped = c.bytes;
	c.drain = c.drain ? c.drain : c.bytes;
	r = mem_choose_method(n, &c, why, sizeof(why));
	assert_true(strlen(why) > 0 && strlen(why) < sizeof(why) - 1);
	return r;
}

static enum mem_method choose(struct mem_cost_input c)
{
	return choose_on(&metal, c);
}

static void test_an_idle_process_is_forked(void **state)
{
	struct mem_cost_input c = { .bytes = 2 * GB, .room = 8 * GB, .cow_room = 8 * GB, .may_fork = true };

	assert_int_equal(choose(c), MEM_FORKED);
	c.huge = 2 * GB;
	assert_int_equal(choose(c), MEM_FORKED);
	assert_int_equal(choose_on(&guest, c), MEM_FORKED);
}

static void test_what_is_rewritten_decides(void **state)
{
	struct mem_cost_input c = {
		.bytes = 2 * GB, .rewriting = { .hot = 0.01 }, .room = 8 * GB, .cow_room = 8 * GB, .may_fork = true
	};

	/* 5243 pages: 5 ms there, 157 ms here, and a copy takes 123 ms */
	assert_int_equal(choose(c), MEM_FORKED);
	assert_int_equal(choose_on(&guest, c), MEM_STAGED);
	c.rewriting.hot = 0;
	c.rewriting.spread = 0.02; /* 4 % in 2 s, 8 % in 4 s */
	assert_int_equal(choose(c), MEM_FORKED);
	assert_int_equal(choose_on(&guest, c), MEM_STAGED);
	c.drain = 40 * GB; /* the other processes', while this one has a child */
	assert_int_equal(choose(c), MEM_STAGED);
	c.drain = 0;
	c.rewriting = (struct mem_rewriting){ .hot = 0.9, .spread = 10 };
	assert_int_equal(choose(c), MEM_STAGED);
	c.rewriting = (struct mem_rewriting){ .hot = -1 }; /* not known: the worst */
	assert_int_equal(choose(c), MEM_STAGED);
}

static void test_a_small_one_is_copied(void **state)
{
	assert_int_equal(
		choose((struct mem_cost_input){ .bytes = 16 << 20, .room = GB, .cow_room = GB, .may_fork = true }),
		MEM_STAGED);
}

static void test_no_room(void **state)
{
	struct mem_cost_input c = { .bytes = 2 * GB, .room = GB, .cow_room = 8 * GB, .may_fork = true };

	assert_int_equal(choose(c), MEM_FORKED);
	c.rewriting = (struct mem_rewriting){ .hot = 1, .spread = 10 };
	assert_int_equal(choose(c), MEM_FORKED);
	c.may_fork = false;
	assert_int_equal(choose(c), MEM_DIRECT);
	c.may_fork = true;
	c.cow_room = GB; /* the job would be killed for the pages that it rewrites */
	assert_int_equal(choose(c), MEM_DIRECT);
	c.room = 8 * GB;
	assert_int_equal(choose(c), MEM_STAGED);
}

static void test_the_probe_of_this_node(void **state)
{
	struct mem_node n;

	mem_probe_node(&n);
	assert_true(n.copy_us_per_mb > 0 && n.fork_us_per_mb > 0 && n.huge_us_per_mb > 0);
	assert_true(n.cow_us > 0 && n.huge_cow_us > 0 && n.drain_mb_per_s > 0);
}

/* ---- split: of this process ------------------------------------------------ */

#define PAGES 1000ull

static char *area, *tail;

/* A page list as criu writes it: 1000 pages of plain memory, 3 of another mapping behind which no list is needed. */
static void write_list(int dirfd)
{
	struct criu_pagemap_entry e[] = {
		{ (uint64_t)(uintptr_t)area, PAGES, CRIU_PE_PARENT },
		{ (uint64_t)(uintptr_t)tail, 2, CRIU_PE_PRESENT },
		{ (uint64_t)(uintptr_t)tail + 2 * MEM_PAGE, 3, CRIU_PE_PARENT },
	};
	struct criu_pagemap p = { .pages_id = 1, .v = e, .n = 3 };
	char old[2 * MEM_PAGE];
	int fd;

	assert_int_equal(criu_pagemap_store(dirfd, "pagemap-7.img", &p, NULL), 0);
	memset(old, 'o', sizeof(old));
	fd = openat(dirfd, "pages-1.img", O_WRONLY | O_CREAT | O_TRUNC, 0600);
	assert_int_equal(write(fd, old, sizeof(old)), sizeof(old));
	close(fd);
}

static void map_areas(void)
{
	char *all = mmap(NULL, 4096 * MEM_PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	assert_ptr_not_equal(all, MAP_FAILED);
	area = all + MEM_PAGE;
	tail = all + 2000 * MEM_PAGE;
	assert_int_equal(mprotect(area, PAGES * MEM_PAGE, PROT_READ | PROT_WRITE), 0);
	assert_int_equal(mprotect(tail, 8 * MEM_PAGE, PROT_READ), 0);
}

static void test_split(void **state)
{
	struct criu_pagemap out;
	struct mem_split sp;
	uint64_t fixed;
	char kept[200 * MEM_PAGE];
	struct err err = { 0 };

	map_areas();
	write_list(scratch_fd);
	fixed = (uint64_t)(uintptr_t)area + 500 * MEM_PAGE + 123;
	assert_int_equal(mem_split_make(&sp, scratch_fd, 7, getpid(), &fixed, 1, &err), 0);
	/* around the fixed address 33 pages, and what is not writable */
	assert_int_equal(sp.kept_pages, 33 + 3);
	assert_int_equal(sp.our_pages, PAGES - 33);
	assert_int_equal(sp.n_ours, 2);
	assert_int_equal(sp.ours[1].addr, (uint64_t)(uintptr_t)area + 517 * MEM_PAGE);
	memset(kept, 'k', sizeof(kept));
	assert_int_equal(mem_split_write_kept(&sp, scratch_fd, kept, &err), 0);
	mem_split_free(&sp);
	assert_int_equal(criu_pagemap_load(scratch_fd, "pagemap-7.img", &out, &err), 0);
	assert_int_equal(out.n, 5);
	assert_int_equal(out.v[0].flags, CRIU_PE_PARENT);
	assert_int_equal(out.v[1].flags, CRIU_PE_PRESENT);
	assert_int_equal(out.v[1].npages, 33);
	assert_int_equal(out.v[4].flags, CRIU_PE_PRESENT);
	criu_pagemap_free(&out);
}

static void test_kept_pages_are_in_order(void **state)
{
	struct stat st;
	char c;
	int fd = openat(scratch_fd, "pages-1.img", O_RDONLY);

	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(st.st_size, (33 + 2 + 3) * MEM_PAGE);
	assert_int_equal(pread(fd, &c, 1, 33 * MEM_PAGE), 1);
	assert_int_equal(c, 'o');
	assert_int_equal(pread(fd, &c, 1, 35 * MEM_PAGE), 1);
	assert_int_equal(c, 'k');
	close(fd);
}

static void test_names(void **state)
{
	assert_int_equal(criu_pagemap_pid("pagemap-12.img"), 12);
	assert_int_equal(criu_pagemap_pid("pagemap-shmem-12.img"), 0);
	assert_int_equal(criu_pagemap_pid("pagemap-12.img.new"), 0);
	assert_int_equal(criu_pagemap_pid("pagemap--1.img"), 0);
}

static void test_the_dummy_parent_has_every_page(void **state)
{
	cleanup_close int dir = -1;
	struct criu_pagemap p;
	struct err err = { 0 };
	uint64_t end = 0;

	assert_int_equal(dummy_parent_make(scratch_fd, &err), 0);
	dir = openat(scratch_fd, DUMMY_PARENT, O_RDONLY | O_DIRECTORY);
	assert_int_equal(criu_pagemap_load(dir, "pagemap-any.img", &p, &err), 0);
	for (size_t i = 0; i < p.n; i++) {
		assert_int_equal(p.v[i].addr, end);
		end += p.v[i].npages * MEM_PAGE;
	}
	assert_true(end == 1ull << 47);
	criu_pagemap_free(&p);
	dummy_parent_remove(scratch_fd);
	assert_int_equal(faccessat(scratch_fd, DUMMY_PARENT, F_OK, 0), -1);
}

/* The fewer pages change, the sooner; and never where all of them do. */
static void whether_to_track(void **state)
{
	assert_true(mem_worth_tracking(&metal, 0.3));
	assert_false(mem_worth_tracking(&metal, 0.9));
	assert_true(mem_worth_tracking(&guest, 0.02));
	assert_false(mem_worth_tracking(&guest, 0.2));
	assert_false(mem_worth_tracking(&guest, 1));
}

/* A fork copies the page tables of all the memory, however little is to be taken. */
static void little_of_much(void **state)
{
	struct mem_cost_input c = {
		.bytes = 64 << 20, .mapped = 6 * GB, .drain = 64 << 20, .room = 8 * GB, .cow_room = 8 * GB, .may_fork = true
	};
	char why[256];

	assert_int_equal(mem_choose_method(&metal, &c, why, sizeof(why)), MEM_STAGED);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(whether_to_track),
		cmocka_unit_test(little_of_much),
		cmocka_unit_test(test_an_idle_process_is_forked),
		cmocka_unit_test(test_what_is_rewritten_decides),
		cmocka_unit_test(test_a_small_one_is_copied),
		cmocka_unit_test(test_no_room),
		cmocka_unit_test(test_the_probe_of_this_node),
		cmocka_unit_test(test_split),
		cmocka_unit_test(test_kept_pages_are_in_order),
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_the_dummy_parent_has_every_page),
	};

	int rc;

	if (scratch_make(0700))
		return 1;
	rc = cmocka_run_group_tests(tests, NULL, NULL);
	scratch_remove();
	return rc;
}
