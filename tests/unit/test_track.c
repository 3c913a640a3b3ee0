/* Sets of pages, and what the kernel tells of written ones: on a real child, with whatever this kernel has. */
#include "unit.h"

#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/mailbox.h"
#include "base/io.h"
#include "base/util.h"
#include "capture/track.h"

#define PAGES 4096
#define MOVE  PAGES /* orders besides numbers of pages */
#define ODD   (PAGES + 1)
#define HOLES (PAGES + 2)

static void sets(void **state)
{
	struct mem_ranges a = { 0 }, b = { 0 }, without = { 0 }, common = { 0 };

	mem_ranges_add(&a, 1, 0, 8 * MEM_PAGE);
	mem_ranges_add(&a, 1, 8 * MEM_PAGE, 10 * MEM_PAGE); /* joined */
	mem_ranges_add(&a, 2, 0, 4 * MEM_PAGE);
	mem_ranges_add(&a, 2, 4 * MEM_PAGE, 4 * MEM_PAGE); /* nothing */
	assert_int_equal(a.n, 2);
	assert_int_equal(a.pages, 14);
	mem_ranges_add(&b, 1, 2 * MEM_PAGE, 3 * MEM_PAGE);
	mem_ranges_add(&b, 1, 9 * MEM_PAGE, 20 * MEM_PAGE);
	mem_ranges_add(&b, 3, 0, 4 * MEM_PAGE);
	mem_ranges_without(&without, a.v, a.n, b.v, b.n);
	mem_ranges_common(&common, a.v, a.n, b.v, b.n);
	assert_int_equal(without.n, 3);
	assert_int_equal(without.pages, 12);
	assert_int_equal(without.v[1].addr, 3 * MEM_PAGE);
	assert_int_equal(without.v[1].npages, 6);
	assert_int_equal(common.n, 2);
	assert_int_equal(common.pages, 2);
	assert_int_equal(common.v[1].addr, 9 * MEM_PAGE);
	mem_ranges_free(&without);
	mem_ranges_without(&without, a.v, a.n, NULL, 0);
	assert_int_equal(without.pages, a.pages);
	mem_ranges_free(&a);
	mem_ranges_free(&b);
	mem_ranges_free(&without);
	mem_ranges_free(&common);
}

/* Ranges that touch but come from two of a stay two: each lies in one mapping. */
static void pieces_keep_to_their_range(void **state)
{
	const struct mem_range a[] = { { 1, 0, 4 }, { 1, 4 * MEM_PAGE, 4 } }, b[] = { { 1, 2 * MEM_PAGE, 4 } };
	struct mem_ranges common = { 0 };

	mem_ranges_common(&common, a, 2, b, 1);
	assert_int_equal(common.n, 2);
	assert_int_equal(common.v[0].npages, 2);
	assert_int_equal(common.v[1].npages, 2);
	mem_ranges_free(&common);
}

/* ---- a child that writes on request --------------------------------------------- */

struct child {
	pid_t pid;
	uint8_t *pages;
	int to, from;
};

static void serve(uint8_t *pages, int in, int out)
{
	unsigned n;

	while (read(in, &n, sizeof(n)) == sizeof(n)) {
		if (n < PAGES)
			pages[n * MEM_PAGE]++;
		for (unsigned i = 1; n == ODD && i < PAGES; i += 2)
			pages[i * MEM_PAGE]++;
		for (unsigned i = 1; n == HOLES && i < PAGES; i += 2)
			madvise(pages + i * MEM_PAGE, MEM_PAGE, MADV_DONTNEED);
		if (n == MOVE && mremap(pages, PAGES * MEM_PAGE, PAGES * MEM_PAGE, MREMAP_MAYMOVE | MREMAP_FIXED,
					pages + 2 * PAGES * MEM_PAGE) == MAP_FAILED)
			_exit(1);
		if (write(out, &n, 1) != 1)
			break;
	}
	_exit(0);
}

static void start(struct child *c)
{
	int to[2], from[2];

	/* Room for the place to which it is moved. */
	c->pages = mmap(NULL, 4 * PAGES * MEM_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_true(c->pages != MAP_FAILED);
	assert_int_equal(pipe(to) | pipe(from), 0);
	c->pid = fork();
	if (c->pid == 0) {
		close(to[1]);
		memset(c->pages, 1, PAGES * MEM_PAGE);
		if (write(from[1], "", 1) == 1)
			serve(c->pages, to[0], from[1]);
		_exit(1);
	}
	close(to[0]);
	close(from[1]);
	c->to = to[1];
	c->from = from[0];
	assert_int_equal(read(c->from, to, 1), 1);
}

static void order(const struct child *c, unsigned n)
{
	assert_int_equal(write(c->to, &n, sizeof(n)), sizeof(n));
	assert_int_equal(read(c->from, &n, 1), 1);
}

static void stop(struct child *c)
{
	int status;

	close(c->to);
	close(c->from);
	assert_int_equal(waitpid(c->pid, &status, 0), c->pid);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	munmap(c->pages, 4 * PAGES * MEM_PAGE);
}

static uint64_t clean_in(const struct mem_ranges *clean, const uint8_t *start, size_t pages)
{
	const struct mem_range area = { 7, (uintptr_t)start, pages };
	struct mem_ranges common = { 0 };
	uint64_t n;

	mem_ranges_common(&common, clean->v, clean->n, &area, 1);
	n = common.pages;
	mem_ranges_free(&common);
	return n;
}

static void look(struct mem_track *t, struct mem_ranges *clean)
{
	struct mem_ranges present = { 0 };

	mem_ranges_free(clean);
	assert_int_equal(mem_track_scan(t, true, clean, &present), 0);
	assert_true(present.pages >= PAGES);
	mem_ranges_free(&present);
}

static void follow(enum mem_tracking how)
{
	struct mem_track *t = mem_track_new(how);
	struct mem_ranges clean = { 0 };
	uint8_t page[MEM_PAGE];
	struct child c;

	start(&c);
	assert_int_equal(mem_track_add(t, c.pid, 7, NULL), 0);
	look(t, &clean);
	assert_int_equal(clean.pages, 0); /* the first: everything is to be copied */
	order(&c, 3);
	look(t, &clean);
	assert_int_equal(clean_in(&clean, c.pages, PAGES), PAGES - 1);
	assert_int_equal(clean_in(&clean, c.pages + 3 * MEM_PAGE, 1), 0);
	assert_int_equal(mem_track_read(t, 7, (uintptr_t)c.pages + 3 * MEM_PAGE, page, sizeof(page)), 0);
	assert_int_equal(page[0], 2);
	order(&c, 5);
	mem_ranges_free(&clean);
	mem_track_scan_frozen(t, &clean); /* does not begin anew */
	assert_int_equal(clean_in(&clean, c.pages, PAGES), PAGES - 1);
	look(t, &clean);
	order(&c, ODD); /* more pieces than the kernel tells at a time */
	look(t, &clean);
	assert_int_equal(clean_in(&clean, c.pages, PAGES), PAGES / 2);
	for (size_t i = 1; i < clean.n; i++)
		assert_true(clean.v[i - 1].addr + clean.v[i - 1].npages * MEM_PAGE <= clean.v[i].addr);
	look(t, &clean);
	assert_int_equal(clean_in(&clean, c.pages, PAGES), PAGES);
	order(&c, MOVE); /* moved: nothing of it is known */
	look(t, &clean);
	assert_int_equal(clean_in(&clean, c.pages, 4 * PAGES), 0);
	mem_ranges_free(&clean);
	mem_track_free(t);
	stop(&c);
}

static void by_protection(void **state)
{
	if (mem_tracking_probe() != MEM_TRACK_PROTECT)
		skip();
	follow(MEM_TRACK_PROTECT);
}

static void by_soft_dirty_bits(void **state)
{
	struct mem_track *t = mem_track_new(MEM_TRACK_SOFT_DIRTY);

	mem_track_free(t);
	if (mem_tracking_probe() != MEM_TRACK_SOFT_DIRTY)
		skip();
	follow(MEM_TRACK_SOFT_DIRTY);
}

/* " uw" in VmFlags: write-protected by userfaultfd. */
static bool registered(pid_t pid)
{
	cleanup_free char *smaps = NULL;
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/smaps", pid);
	assert_true(read_file_at(AT_FDCWD, path, 1 << 20, &smaps) > 0);
	return strstr(smaps, " uw") != NULL;
}

/* Memory in many small pieces is let go, too. */
static void lets_go(void **state)
{
	struct mem_ranges clean = { 0 }, present = { 0 };
	struct mem_track *t;
	struct child c;

	if (mem_tracking_probe() != MEM_TRACK_PROTECT)
		skip();
	t = mem_track_new(MEM_TRACK_PROTECT);
	start(&c);
	order(&c, HOLES);
	assert_int_equal(mem_track_add(t, c.pid, 7, NULL), 0);
	assert_int_equal(mem_track_scan(t, true, &clean, &present), 0);
	assert_true(present.n >= PAGES / 2);
	mem_ranges_free(&clean);
	mem_ranges_free(&present);
	assert_true(registered(c.pid));
	mem_track_free(t);
	assert_false(registered(c.pid));
	order(&c, 4);
	stop(&c);
}

/* The child is tracked from now on, by nobody but a mailbox, of which it has nothing. */
static void leave(const struct child *c, struct mailbox *box)
{
	struct mem_track *t = mem_track_new(MEM_TRACK_PROTECT);
	struct mem_ranges clean = { 0 };
	struct mem_tracked one;

	assert_int_equal(mailbox_make(box), 0);
	assert_int_equal(mem_track_add(t, c->pid, 7, NULL), 0);
	look(t, &clean);
	mem_track_get(t, 0, &one);
	assert_int_equal(mailbox_put(box, &one, sizeof(one), (const int[]){ one.pidfd, one.uffd }, 2), 0);
	mem_track_detach(t);
	mem_ranges_free(&clean);
}

/* From one tracker to another by way of a mailbox: what the first one protected, the second one knows to be clean. */
static void handed_on(void **state)
{
	struct mem_ranges clean = { 0 };
	struct mem_tracked sent, got = { 0 };
	struct mailbox box;
	struct mem_track *t;
	int fds[MAILBOX_FDS];
	size_t n_fds;
	struct child c;

	if (mem_tracking_probe() != MEM_TRACK_PROTECT)
		skip();
	start(&c);
	leave(&c, &box);
	order(&c, 3);
	assert_int_equal(mailbox_take(&box, &got, sizeof(got), fds, &n_fds), sizeof(got));
	assert_int_equal(n_fds, 2);
	assert_int_equal(mailbox_take(&box, &sent, sizeof(sent), fds + 2, &n_fds), 0);
	got.pidfd = fds[0];
	got.uffd = fds[1];
	t = mem_track_new(MEM_TRACK_PROTECT);
	assert_int_equal(mem_track_adopt(t, &got), 0);
	look(t, &clean);
	assert_int_equal(clean_in(&clean, c.pages, PAGES), PAGES - 1);
	assert_int_equal(clean_in(&clean, c.pages + 3 * MEM_PAGE, 1), 0);
	mem_track_remove(t, 8);
	assert_int_equal(mem_track_count(t), 1);
	mem_track_remove(t, 7);
	assert_int_equal(mem_track_count(t), 0);
	assert_false(registered(c.pid));
	mem_ranges_free(&clean);
	mem_track_free(t);
	mailbox_close(&box);
	stop(&c);
}

/* Nobody has taken it: with the mailbox it goes. */
static void left_and_lost(void **state)
{
	struct mailbox box;
	struct child c;

	if (mem_tracking_probe() != MEM_TRACK_PROTECT)
		skip();
	start(&c);
	leave(&c, &box);
	assert_true(registered(c.pid));
	mailbox_close(&box);
	assert_false(registered(c.pid));
	stop(&c);
}

static void not_adopted(void **state)
{
	struct mem_track *t = mem_track_new(MEM_TRACK_PROTECT), *first = mem_track_new(MEM_TRACK_PROTECT);
	struct mem_tracked one;
	struct child c;

	if (mem_tracking_probe() == MEM_TRACK_PROTECT) {
		start(&c);
		assert_int_equal(mem_track_add(first, c.pid, 7, NULL), 0);
		mem_track_get(first, 0, &one);
		one.pidfd = dup(one.pidfd);
		one.uffd = dup(one.uffd);
		kill(c.pid, SIGKILL);
		waitpid(c.pid, NULL, 0);
		assert_int_equal(mem_track_adopt(t, &one), -1); /* it has ended */
		assert_int_equal(mem_track_count(t), 0);
		close(c.to);
		close(c.from);
		munmap(c.pages, 4 * PAGES * MEM_PAGE);
	}
	mem_track_free(first);
	mem_track_free(t);
}

static void not_trackable(void **state)
{
	struct mem_track *t = mem_track_new(mem_tracking_probe());
	struct mem_ranges clean = { 0 }, present = { 0 };
	struct err err = { 0 };
	struct child c;

	assert_int_equal(mem_track_add(t, 0x7ffffff0, 1, &err), -1);
	start(&c);
	if (mem_tracking_probe() != MEM_TRACK_NONE) {
		assert_int_equal(mem_track_add(t, c.pid, 7, &err), 0);
		kill(c.pid, SIGKILL);
		waitpid(c.pid, NULL, 0);
		assert_int_equal(mem_track_scan(t, true, &clean, &present), 1);
		assert_int_equal(mem_track_count(t), 0);
		assert_int_equal(clean.pages + present.pages, 0);
	} else {
		assert_int_equal(mem_track_add(t, c.pid, 7, &err), -1);
		kill(c.pid, SIGKILL);
		waitpid(c.pid, NULL, 0);
	}
	close(c.to);
	close(c.from);
	munmap(c.pages, 4 * PAGES * MEM_PAGE);
	mem_track_free(t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sets),          cmocka_unit_test(pieces_keep_to_their_range),
		cmocka_unit_test(by_protection), cmocka_unit_test(by_soft_dirty_bits),
		cmocka_unit_test(lets_go),       cmocka_unit_test(handed_on),
		cmocka_unit_test(left_and_lost), cmocka_unit_test(not_adopted),
		cmocka_unit_test(not_trackable),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
