#include "capture/fork_shared.h"

#include <fcntl.h>
#include <stdbool.h>
#include <string.h>
#include <unistd.h>

#include "base/proc.h"
#include "base/util.h"
#include "capture/pagemap.h"
#include "image/ranges.h"

#define ENTRIES 8192u /* of a pagemap, read at a time */
#define BLOCK   512u  /* pages whose places are kept together */
#define VERSIONS \
	16u /* memory at one address that several processes have, but not all the same; what is more is not found */
#define BUCKETS (1u << 16)
#define PLACE   ((1ULL << 55) - 1)

/* Where in the machine pages of a part of the address space are, and who has them: the first one that was seen. */
struct block {
	uint64_t number;       /* of the first page, divided by BLOCK */
	struct block *next;    /* of the same number or another: in the bucket */
	uint64_t place[BLOCK]; /* 0: none */
	uint32_t of[BLOCK];    /* index of the process */
};

struct search {
	const struct mem_same_process *p;
	struct block **buckets;
	bool *used; /* processes to whose pages others refer */
	struct mem_sames *out;
	struct mem_ranges moved; /* of them: pages that are not where they were */
};

void mem_sames_add(struct mem_sames *s, const struct mem_range *r, uint64_t of)
{
	struct mem_range *last = s->n ? &s->v[s->n - 1] : NULL;

	s->pages += r->npages;
	if (last && last->id == r->id && last->addr + last->npages * MEM_PAGE == r->addr && s->of[s->n - 1] == of) {
		last->npages += r->npages;
		return;
	}
	if (s->n == s->room) {
		s->room = s->room ? 2 * s->room : 256;
		s->v = xrealloc(s->v, s->room * sizeof(*s->v));
		s->of = xrealloc(s->of, s->room * sizeof(*s->of));
	}
	s->v[s->n] = *r;
	s->of[s->n++] = of;
}

/* ---- places -------------------------------------------------------------------- */

static struct block **bucket(const struct search *s, uint64_t number)
{
	return &s->buckets[(number * 0x9e3779b97f4a7c15ULL) >> 48 & (BUCKETS - 1)];
}

static struct block *block_add(const struct search *s, uint64_t number)
{
	struct block *b = xcalloc(1, sizeof(*b)), **at = bucket(s, number);

	/* Behind the others: older versions are looked at first. */
	while (*at)
		at = &(*at)->next;
	b->number = number;
	*at = b;
	return b;
}

/* The process that has the page that lies there at this address, which is i itself if nobody was seen with it before.
 */
static uint32_t owner(const struct search *s, uint32_t i, uint64_t page, uint64_t place)
{
	const uint64_t number = page / BLOCK, k = page % BLOCK;
	unsigned versions = 0;
	struct block *b;

	for (b = *bucket(s, number); b; b = b->next) {
		if (b->number != number)
			continue;
		if (b->place[k] == place)
			return b->of[k];
		if (!b->place[k])
			break;
		versions++;
	}
	if (!b && versions == VERSIONS)
		return i;
	b = b ? b : block_add(s, number);
	b->place[k] = place;
	b->of[k] = i;
	return i;
}

/* Is the page where process i was seen with it? */
static bool has_stayed(const struct search *s, uint32_t i, uint64_t page, uint64_t place)
{
	const uint64_t number = page / BLOCK, k = page % BLOCK;

	for (const struct block *b = *bucket(s, number); b; b = b->next)
		if (b->number == number && b->of[k] == i && b->place[k])
			return b->place[k] == place;
	return true; /* it was not seen with one */
}

/* ---- going over processes --------------------------------------------------------- */

typedef void page_fn(struct search *s, uint32_t i, uint64_t page, uint64_t entry);

static void note_page(struct search *s, uint32_t i, uint64_t page, uint64_t entry)
{
	uint64_t place = entry & PLACE;
	const struct mem_range one = { s->p[i].id, page * MEM_PAGE, 1 };
	uint32_t of;

	if (!(entry & MEM_ENTRY_IN_MEMORY) || entry & MEM_ENTRY_EXCLUSIVE || !place)
		return;
	of = owner(s, i, page, place);
	if (of == i)
		return;
	s->used[of] = true;
	mem_sames_add(s->out, &one, s->p[of].id);
}

static void check_page(struct search *s, uint32_t i, uint64_t page, uint64_t entry)
{
	if (!has_stayed(s, i, page, entry & MEM_ENTRY_IN_MEMORY ? entry & PLACE : 0))
		mem_ranges_add(&s->moved, s->p[i].id, page * MEM_PAGE, (page + 1) * MEM_PAGE);
}

/* What cannot be read is not in memory. */
static void each_page(struct search *s, uint32_t i, page_fn *fn)
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

/* ---- what has moved ---------------------------------------------------------------- */

/* The first of m that ends above addr. */
static size_t first_above(const struct mem_ranges *m, uint64_t id, uint64_t addr)
{
	size_t low = 0, high = m->n;

	while (low < high) {
		size_t mid = (low + high) / 2;
		const struct mem_range *r = &m->v[mid];

		if (r->id < id || (r->id == id && r->addr + r->npages * MEM_PAGE <= addr))
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

/* What process of[i] has of v[i] and is not in m, as pages of v[i]. */
static void owned_without(const struct mem_sames *s, size_t i, const struct mem_ranges *m, struct mem_ranges *left)
{
	const struct mem_range owned = { s->of[i], s->v[i].addr, s->v[i].npages };
	const uint64_t end = owned.addr + owned.npages * MEM_PAGE;
	size_t from = first_above(m, owned.id, owned.addr), to = from;

	while (to < m->n && m->v[to].id == owned.id && m->v[to].addr < end)
		to++;
	*left = (struct mem_ranges){ 0 };
	mem_ranges_without(left, &owned, 1, m->v + from, to - from);
	for (size_t k = 0; k < left->n; k++)
		left->v[k].id = s->v[i].id;
}

static void leave_out_moved(struct search *s)
{
	struct mem_sames all = *s->out;

	*s->out = (struct mem_sames){ 0 };
	for (size_t i = 0; i < all.n; i++) {
		struct mem_ranges left;

		owned_without(&all, i, &s->moved, &left);
		for (size_t k = 0; k < left.n; k++)
			mem_sames_add(s->out, &left.v[k], all.of[i]);
		mem_ranges_free(&left);
	}
	mem_sames_free(&all);
}

void mem_sames_distrust(const struct mem_sames *s, struct mem_ranges *clean)
{
	struct mem_ranges written = { 0 }, rest = { 0 };

	for (size_t i = 0; i < s->n; i++) {
		struct mem_ranges left;

		owned_without(s, i, clean, &left);
		for (size_t k = 0; k < left.n; k++)
			mem_ranges_add(&written, left.v[k].id, left.v[k].addr,
				       left.v[k].addr + left.v[k].npages * MEM_PAGE);
		mem_ranges_free(&left);
	}
	if (!written.n)
		return;
	mem_ranges_without(&rest, clean->v, clean->n, written.v, written.n);
	mem_ranges_free(&written);
	mem_ranges_free(clean);
	*clean = rest;
}

/* The kernel moves pages, of stopped processes too. A page that its owner had at a place before and after another one
 * was seen with it there is the same one: those that are not where they were are looked at last. */
void mem_same_find(const struct mem_same_process *p, size_t n, struct mem_sames *out)
{
	struct search s = { .p = p, .out = out };

	*out = (struct mem_sames){ 0 };
	s.buckets = xcalloc(BUCKETS, sizeof(struct block *));
	s.used = xcalloc(n + 1, sizeof(*s.used));
	for (size_t i = 0; i < n; i++)
		each_page(&s, (uint32_t)i, note_page);
	for (size_t i = 0; i < n; i++)
		if (s.used[i])
			each_page(&s, (uint32_t)i, check_page);
	if (s.moved.n)
		leave_out_moved(&s);
	for (size_t i = 0; i < BUCKETS; i++)
		for (struct block *b = s.buckets[i], *next; b; b = next) {
			next = b->next;
			free(b);
		}
	mem_ranges_free(&s.moved);
	free(s.buckets);
	free(s.used);
}

void mem_sames_free(struct mem_sames *s)
{
	free(s->v);
	free(s->of);
	*s = (struct mem_sames){ 0 };
}
