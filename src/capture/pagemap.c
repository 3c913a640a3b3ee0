#include "capture/pagemap.h"

#include <errno.h>
#include <fcntl.h>

#include <sys/mman.h>
#include <unistd.h>

#include "base/util.h"
#include "capture/uffd.h"

#define ENTRIES 8192u /* read at a time: 32 MiB of memory */
#define REGIONS 4096u

/* Linux 6.7, <linux/fs.h>; older headers do not have it. */
struct pagemap_scan {
	uint64_t size, flags, start, end, walk_end, vec, vec_len, max_pages;
	uint64_t category_inverted, category_mask, category_anyof_mask, return_mask;
};
struct pagemap_region {
	uint64_t start, end, categories;
};
#define SCAN             _IOWR('f', 16, struct pagemap_scan)
#define SCAN_PROTECT     (1u << 0) /* PM_SCAN_WP_MATCHING */
#define PAGE_PROTECTABLE (1u << 0) /* PAGE_IS_WPALLOWED */
#define PAGE_WRITTEN     (1u << 1)
#define PAGE_PRESENT     (1u << 3)
#define PAGE_SWAPPED     (1u << 4)

/* ---- by entries ------------------------------------------------------------ */

static int pagemap_collect_entries(int pagemap, uint64_t unwanted, uint64_t id, uint64_t start, uint64_t end,
				   struct mem_ranges *out)
{
	cleanup_free uint64_t *entries = xmalloc(ENTRIES * sizeof(*entries));

	while (start < end) {
		uint64_t n = (end - start) / MEM_PAGE < ENTRIES ? (end - start) / MEM_PAGE : ENTRIES;
		ssize_t got = pread(pagemap, entries, n * sizeof(*entries), (off_t)(start / MEM_PAGE * sizeof(*entries)));

		if (got < (ssize_t)sizeof(*entries)) {
			errno = got < 0 ? errno : ESRCH;
			return -1;
		}
		n = (uint64_t)got / sizeof(*entries);
		for (uint64_t i = 0; i < n; i++, start += MEM_PAGE)
			if (entries[i] & MEM_ENTRY_PRESENT && !(entries[i] & unwanted))
				mem_ranges_add(out, id, start, start + MEM_PAGE);
	}
	return 0;
}

/* ---- by PAGEMAP_SCAN --------------------------------------------------------- */

/* Only present pages are protected: protecting others leaves markers in the page tables, which criu takes for
 * swapped-out pages. */
static int pagemap_collect_scan(int pagemap, enum mem_pages what, uint64_t id, uint64_t start, uint64_t end,
				struct mem_ranges *out)
{
	cleanup_free struct pagemap_region *regions = xmalloc(REGIONS * sizeof(*regions));
	struct pagemap_scan s = {
		.size = sizeof(s),
		.flags = what == MEM_PAGES_PROTECT ? SCAN_PROTECT : 0,
		.start = start,
		.end = end,
		.vec = (uintptr_t)regions,
		.vec_len = REGIONS,
		.category_anyof_mask = PAGE_PRESENT | PAGE_SWAPPED,
		.return_mask = PAGE_WRITTEN | PAGE_PROTECTABLE,
	};

	while (s.start < end) {
		int n = ioctl(pagemap, SCAN, &s);

		if (n < 0)
			return -1;
		for (int i = 0; i < n; i++)
			if (what == MEM_PAGES_PRESENT ||
			    (regions[i].categories & (PAGE_WRITTEN | PAGE_PROTECTABLE)) == PAGE_PROTECTABLE)
				mem_ranges_add(out, id, regions[i].start, regions[i].end);
		/* When the kernel has reached the end, walk_end may be the end of an earlier part of the walk (seen
		 * in 6.18). A second scan from there would find written pages protected. */
		s.start = n < (int)REGIONS ? end : s.walk_end > regions[n - 1].end ? s.walk_end : regions[n - 1].end;
	}
	return 0;
}

int mem_pagemap_collect(int pagemap, enum mem_pages what, uint64_t id, uint64_t start, uint64_t end,
			struct mem_ranges *out)
{
	if (what == MEM_PAGES_SOFT_CLEAN)
		return pagemap_collect_entries(pagemap, MEM_ENTRY_SOFT_DIRTY, id, start, end, out);
	if (pagemap_collect_scan(pagemap, what, id, start, end, out) == 0)
		return 0;
	return what == MEM_PAGES_PRESENT && errno == ENOTTY ? pagemap_collect_entries(pagemap, 0, id, start, end, out)
							    : -1;
}

/* ---- what the kernel supports -------------------------------------------------- */

/* Runs a test on a page of ours that has just been written. pagemap: our own. */
static bool pagemap_try_on_page(bool (*test)(int pagemap, uint8_t *p))
{
	cleanup_close int pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	uint8_t *p = mmap(NULL, MEM_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	bool ok;

	if (p == MAP_FAILED)
		return false;
	*(volatile uint8_t *)p = 1;
	ok = pagemap >= 0 && test(pagemap, p);
	munmap(p, MEM_PAGE);
	return ok;
}

static bool pagemap_soft_dirty(int pagemap, uint8_t *p)
{
	uint64_t entry = 0;

	return pread(pagemap, &entry, sizeof(entry), (off_t)((uintptr_t)p / MEM_PAGE * sizeof(entry))) == sizeof(entry) &&
	       entry & MEM_ENTRY_SOFT_DIRTY;
}

/* A written page must not be listed; listed after no write; and not listed after another write. */
static bool pagemap_protects(int pagemap, uint8_t *p)
{
	const uint64_t start = (uintptr_t)p, end = start + MEM_PAGE;
	cleanup_close int fd = uffd_open_own();
	struct mem_ranges seen[3] = { 0 };
	bool ok = fd >= 0 && uffd_register(fd, start, end) == 0;

	for (int i = 0; i < 3 && ok; i++) {
		ok = mem_pagemap_collect(pagemap, MEM_PAGES_PROTECT, 1, start, end, &seen[i]) == 0;
		if (i == 1)
			*(volatile uint8_t *)p = 2;
	}
	ok = ok && seen[0].pages == 0 && seen[1].pages == 1 && seen[2].pages == 0;
	for (int i = 0; i < 3; i++)
		mem_ranges_free(&seen[i]);
	return ok;
}

/* mremap() of a page removes its protection. Kernels before 6.13 without the fix 0cef0bb836e3 leave a marker in its
 * entry: once the new address is registered, the page would count as protected whatever is written to it. */
static bool pagemap_forgets_moved(int pagemap, uint8_t *p)
{
	const uint64_t start = (uintptr_t)p, end = start + MEM_PAGE;
	cleanup_close int fd = uffd_open_own();
	struct mem_ranges seen = { 0 };
	uint8_t *to = MAP_FAILED;
	bool ok = fd >= 0 && uffd_register(fd, start, end) == 0 &&
		  mem_pagemap_collect(pagemap, MEM_PAGES_PROTECT, 1, start, end, &seen) == 0;

	if (ok)
		to = mremap(p, MEM_PAGE, MEM_PAGE, MREMAP_MAYMOVE | MREMAP_DONTUNMAP, NULL);
	if (to != MAP_FAILED) {
		const uint64_t there = (uintptr_t)to;

		mem_ranges_free(&seen);
		*(volatile uint8_t *)to = 2;
		ok = uffd_register(fd, there, there + MEM_PAGE) == 0 &&
		     mem_pagemap_collect(pagemap, MEM_PAGES_PROTECT, 1, there, there + MEM_PAGE, &seen) == 0 &&
		     seen.pages == 0;
		munmap(to, MEM_PAGE);
	}
	mem_ranges_free(&seen);
	return ok && to != MAP_FAILED;
}

bool mem_pagemap_can_protect(void)
{
	return pagemap_try_on_page(pagemap_protects) && pagemap_try_on_page(pagemap_forgets_moved);
}

bool mem_pagemap_has_soft_dirty(void)
{
	return pagemap_try_on_page(pagemap_soft_dirty);
}
