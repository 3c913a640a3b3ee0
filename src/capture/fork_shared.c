#include "capture/fork_shared.h"

#include <fcntl.h>
#include <stdbool.h>
#include <string.h>
#include <unistd.h>

#include "base/array.h"
#include "base/proc.h"
#include "base/util.h"
#include "capture/pagemap.h"
#include "image/ranges.h"

#define ENTRIES  8192u /* of a pagemap, read at a time */
#define BLOCK    512u  /* pages per struct pfn_block */
#define VERSIONS 16u   /* different pages at one address that are remembered; further ones are not found */
#define BUCKETS  (1u << 16)
#define PFN_MASK ((1ULL << 55) - 1)

/* The page frame numbers of BLOCK pages of the address space, and the first process that was seen with each. */
struct pfn_block {
	uint64_t number;        /* of the first page, divided by BLOCK */
	struct pfn_block *next; /* in the bucket; its number may be another one */
	uint64_t pfn[BLOCK];    /* 0: none */
	uint32_t of[BLOCK];     /* index of the process */
};

struct fork_shared_search {
	const struct mem_fork_shared_process *p;
	struct pfn_block **buckets;
	bool *used; /* processes to whose pages others refer */
	struct mem_fork_shared *out;
	struct mem_ranges moved; /* pages of these processes whose frame has changed */
};

void mem_fork_shared_add(struct mem_fork_shared *s, const struct mem_range *r, uint64_t of)
{
	struct mem_range *last = s->n ? &s->v[s->n - 1] : NULL;

	s->pages += r->npages;
	if (last && last->id == r->id && mem_range_end(last) == r->addr && s->of[s->n - 1] == of) {
		last->npages += r->npages;
		return;
	}
	array_reserve(s->of, s->n, s->of_room);
	array_reserve(s->v, s->n, s->room);
	s->v[s->n] = *r;
	s->of[s->n++] = of;
}

/* ---- page frames ---------------------------------------------------------------- */

static struct pfn_block **block_bucket(const struct fork_shared_search *s, uint64_t number)
{
	return &s->buckets[(number * 0x9e3779b97f4a7c15ULL) >> 48 & (BUCKETS - 1)];
}

static struct pfn_block *block_add(const struct fork_shared_search *s, uint64_t number)
{
	struct pfn_block *b = xcalloc(1, sizeof(*b)), **at = block_bucket(s, number);

	/* At the end: older versions are searched first. */
	while (*at)
		at = &(*at)->next;
	b->number = number;
	*at = b;
	return b;
}

/* The first process that was seen with this page frame at this address: i itself if there is none before it. */
static uint32_t fork_shared_owner(const struct fork_shared_search *s, uint32_t i, uint64_t page, uint64_t pfn)
{
	const uint64_t number = page / BLOCK, k = page % BLOCK;
	unsigned versions = 0;
	struct pfn_block *b;

	for (b = *block_bucket(s, number); b; b = b->next) {
		if (b->number != number)
			continue;
		if (b->pfn[k] == pfn)
			return b->of[k];
		if (!b->pfn[k])
			break;
		versions++;
	}
	if (!b && versions == VERSIONS)
		return i;
	b = b ? b : block_add(s, number);
	b->pfn[k] = pfn;
	b->of[k] = i;
	return i;
}

/* True if the page of process i is still in the frame that was noted for it. */
static bool fork_shared_has_stayed(const struct fork_shared_search *s, uint32_t i, uint64_t page, uint64_t pfn)
{
	const uint64_t number = page / BLOCK, k = page % BLOCK;

	for (const struct pfn_block *b = *block_bucket(s, number); b; b = b->next)
		if (b->number == number && b->of[k] == i && b->pfn[k])
			return b->pfn[k] == pfn;
	return true; /* no frame was noted */
}

/* ---- walking through the pages of a process --------------------------------------- */

typedef void page_fn(struct fork_shared_search *s, uint32_t i, uint64_t page, uint64_t entry);

static void fork_shared_note_page(struct fork_shared_search *s, uint32_t i, uint64_t page, uint64_t entry)
{
	uint64_t pfn = entry & PFN_MASK;
	const struct mem_range one = { s->p[i].id, page * MEM_PAGE, 1 };
	uint32_t of;

	if (!(entry & MEM_ENTRY_IN_MEMORY) || entry & MEM_ENTRY_EXCLUSIVE || !pfn)
		return;
	of = fork_shared_owner(s, i, page, pfn);
	if (of == i)
		return;
	s->used[of] = true;
	mem_fork_shared_add(s->out, &one, s->p[of].id);
}

static void fork_shared_check_page(struct fork_shared_search *s, uint32_t i, uint64_t page, uint64_t entry)
{
	if (!fork_shared_has_stayed(s, i, page, entry & MEM_ENTRY_IN_MEMORY ? entry & PFN_MASK : 0))
		mem_ranges_add(&s->moved, s->p[i].id, page * MEM_PAGE, (page + 1) * MEM_PAGE);
}

/* Calls fn for every page in question. A page whose entry cannot be read counts as not in memory. */
static void fork_shared_each_page(struct fork_shared_search *s, uint32_t i, page_fn *fn)
{
	cleanup_free uint64_t *entries = xmalloc(ENTRIES * sizeof(*entries));
	cleanup_close int pagemap = open_proc(s->p[i].host, "pagemap", O_RDONLY);

	for (size_t r = 0; r < s->p[i].n; r++) {
		uint64_t page = s->p[i].v[r].addr / MEM_PAGE, end = page + s->p[i].v[r].npages;

		while (page < end) {
			uint64_t n = end - page < ENTRIES ? end - page : ENTRIES;
			ssize_t got = pagemap < 0 ? -1
						  : pread(pagemap, entries, n * sizeof(*entries),
							  (off_t)(page * sizeof(*entries)));
			uint64_t has = got < 0 ? 0 : (uint64_t)got / sizeof(*entries);

			memset(entries + has, 0, (n - has) * sizeof(*entries));
			for (uint64_t k = 0; k < n; k++)
				fn(s, i, page + k, entries[k]);
			page += n;
		}
	}
}

/* ---- pages whose frame has changed -------------------------------------------------- */

/* Index of the first range of m that ends above addr. */
static size_t fork_shared_first_above(const struct mem_ranges *m, uint64_t id, uint64_t addr)
{
	size_t low = 0, high = m->n;

	while (low < high) {
		size_t mid = (low + high) / 2;
		const struct mem_range *r = &m->v[mid];

		if (r->id < id || (r->id == id && mem_range_end(r) <= addr))
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

/* The pages of v[i] whose counterparts in process of[i] are not in m. */
static void fork_shared_owned_without(const struct mem_fork_shared *s, size_t i, const struct mem_ranges *m,
				      struct mem_ranges *left)
{
	const struct mem_range owned = { s->of[i], s->v[i].addr, s->v[i].npages };
	const uint64_t end = owned.addr + owned.npages * MEM_PAGE;
	size_t from = fork_shared_first_above(m, owned.id, owned.addr), to = from;

	while (to < m->n && m->v[to].id == owned.id && m->v[to].addr < end)
		to++;
	*left = (struct mem_ranges){ 0 };
	mem_ranges_without(left, &owned, 1, m->v + from, to - from);
	for (size_t k = 0; k < left->n; k++)
		left->v[k].id = s->v[i].id;
}

static void fork_shared_remove_moved(struct fork_shared_search *s)
{
	struct mem_fork_shared all = *s->out;

	*s->out = (struct mem_fork_shared){ 0 };
	for (size_t i = 0; i < all.n; i++) {
		struct mem_ranges left;

		fork_shared_owned_without(&all, i, &s->moved, &left);
		for (size_t k = 0; k < left.n; k++)
			mem_fork_shared_add(s->out, &left.v[k], all.of[i]);
		mem_ranges_free(&left);
	}
	mem_fork_shared_free(&all);
}

void mem_fork_shared_remove_stale(const struct mem_fork_shared *s, struct mem_ranges *clean)
{
	struct mem_ranges written = { 0 }, rest = { 0 };

	for (size_t i = 0; i < s->n; i++) {
		struct mem_ranges left;

		fork_shared_owned_without(s, i, clean, &left);
		for (size_t k = 0; k < left.n; k++)
			mem_ranges_add(&written, left.v[k].id, left.v[k].addr, mem_range_end(&left.v[k]));
		mem_ranges_free(&left);
	}
	if (!written.n)
		return;
	mem_ranges_without(&rest, clean->v, clean->n, written.v, written.n);
	mem_ranges_free(&written);
	mem_ranges_free(clean);
	*clean = rest;
}

/* The kernel migrates pages, even those of stopped processes. So a frame number alone proves nothing: the frame may
 * have been reused between the reads of two processes. A page is the same if its owner had the frame before and after
 * another process was seen with it. Therefore the owners are read again at the end, and pages whose frame has changed
 * are removed. */
void mem_fork_shared_find(const struct mem_fork_shared_process *p, size_t n, struct mem_fork_shared *out)
{
	struct fork_shared_search s = { .p = p, .out = out };

	*out = (struct mem_fork_shared){ 0 };
	s.buckets = xcalloc(BUCKETS, sizeof(struct pfn_block *));
	s.used = xcalloc(n + 1, sizeof(*s.used));
	for (size_t i = 0; i < n; i++)
		fork_shared_each_page(&s, (uint32_t)i, fork_shared_note_page);
	for (size_t i = 0; i < n; i++)
		if (s.used[i])
			fork_shared_each_page(&s, (uint32_t)i, fork_shared_check_page);
	if (s.moved.n)
		fork_shared_remove_moved(&s);
	for (size_t i = 0; i < BUCKETS; i++)
		for (struct pfn_block *b = s.buckets[i], *next; b; b = next) {
			next = b->next;
			free(b);
		}
	mem_ranges_free(&s.moved);
	free(s.buckets);
	free(s.used);
}

void mem_fork_shared_free(struct mem_fork_shared *s)
{
	free(s->v);
	free(s->of);
	*s = (struct mem_fork_shared){ 0 };
}
