#include "capture/sample.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/proc.h"
#include "base/clock.h"
#include "base/util.h"
#include "image/image.h"
#include "capture/pagemap.h"
#include "base/vmas.h"
#include "base/xxh3.h"

#define PAGES_MAX 1024u /* of one process */
#define PAGES_ALL 8192u /* of all */
#define PAGES_MIN 64u
#define TRIES     32u /* attempts to find a page in a mapping, which may have holes */
#define ROUNDS    2u

struct sample {
	pid_t pid;
	uint64_t *addr;
	uint64_t *hash;
	bool *changed;
	unsigned n;
	unsigned n_changed[ROUNDS]; /* up to and including each round */
	int64_t at[ROUNDS];
};

/* ---- which pages ------------------------------------------------------------- */

static uint64_t random_next(uint64_t *x)
{
	*x ^= *x << 13;
	*x ^= *x >> 7;
	*x ^= *x << 17;
	return *x;
}

/* A random page of the mapping that is in memory, or 0. Reading any other address would allocate a page. */
static uint64_t sample_find_page(int pagemap, const struct vma *v, uint64_t *seed)
{
	for (unsigned i = 0; i < TRIES; i++) {
		uint64_t addr = v->start + random_next(seed) % ((v->end - v->start) / MEM_PAGE) * MEM_PAGE, entry;

		if (pread(pagemap, &entry, sizeof(entry), (off_t)(addr / MEM_PAGE * sizeof(entry))) == sizeof(entry) &&
		    entry & MEM_ENTRY_IN_MEMORY)
			return addr;
	}
	return 0;
}

/* Each mapping is sampled in proportion to the memory in it, not to its length. */
static void sample_pick_pages(struct sample *s, const struct vmas *m, int pagemap, unsigned max)
{
	uint64_t total = 0, passed = 0, seed = (uint64_t)now_us() | 1;

	for (size_t i = 0; i < m->n; i++)
		total += m->v[i].plain ? m->v[i].anon : 0;
	for (size_t i = 0; i < m->n; i++) {
		if (!m->v[i].plain || !m->v[i].anon)
			continue;
		passed += m->v[i].anon;
		for (unsigned due = (unsigned)((double)passed / (double)total * max); s->n < due; s->n++) {
			uint64_t addr = sample_find_page(pagemap, &m->v[i], &seed);

			if (!addr)
				break;
			s->addr[s->n] = addr;
		}
	}
}

static void sample_begin(struct sample *s, pid_t pid, unsigned max)
{
	cleanup_close int pagemap = open_proc(pid, "pagemap", O_RDONLY);
	struct vmas m;

	*s = (struct sample){ .pid = pid };
	if (pagemap < 0 || vmas_read_filled(pid, &m, NULL))
		return;
	s->addr = xcalloc(max, sizeof(*s->addr));
	s->hash = xcalloc(max, sizeof(*s->hash));
	s->changed = xcalloc(max, sizeof(*s->changed));
	sample_pick_pages(s, &m, pagemap, max);
	vmas_free(&m);
}

/* ---- reading ------------------------------------------------------------------- */

/* Never 0 for a page that can be read; 0 if it has gone. Does not use process_vm_readv(), which pins the pages: a page
 * that is shared since a fork would become a copy. */
static uint64_t sample_hash_page(int mem, uint64_t addr)
{
	uint8_t page[MEM_PAGE];

	return pread(mem, page, MEM_PAGE, (off_t)addr) == MEM_PAGE ? XXH3_64bits(page, MEM_PAGE) | 1 : 0;
}

static void sample_read_first(struct sample *s)
{
	cleanup_close int mem = s->n ? open_proc(s->pid, "mem", O_RDONLY) : -1;

	for (unsigned i = 0; i < s->n; i++)
		s->hash[i] = sample_hash_page(mem, s->addr[i]);
}

static void sample_read_again(struct sample *s, unsigned round)
{
	cleanup_close int mem = s->n ? open_proc(s->pid, "mem", O_RDONLY) : -1;

	s->at[round] = now_us();
	for (unsigned i = 0; i < s->n; i++) {
		uint64_t hash = s->changed[i] ? 0 : sample_hash_page(mem, s->addr[i]);

		s->changed[i] |= hash != s->hash[i];
		s->n_changed[round] += s->changed[i];
	}
}

static struct mem_rewriting sample_rates(const struct sample *s)
{
	double seconds = (double)(s->at[1] - s->at[0]) / 1e6;
	struct mem_rewriting r = { -1, 0 };

	if (s->n < PAGES_MIN / 2 || seconds <= 0)
		return r;
	r.hot = (double)s->n_changed[1] / s->n;
	r.spread = (double)(s->n_changed[1] - s->n_changed[0]) / s->n / seconds;
	return r;
}

static unsigned sample_pages_each(const uint64_t *anon, size_t n)
{
	size_t watched = 0;
	unsigned each;

	for (size_t i = 0; i < n; i++)
		watched += anon[i] >= MEM_SAMPLE_BYTES;
	each = watched ? (unsigned)(PAGES_ALL / watched) : PAGES_MAX;
	return each < PAGES_MIN ? PAGES_MIN : each > PAGES_MAX ? PAGES_MAX : each;
}

void mem_sample(const pid_t *pids, const uint64_t *anon, size_t n, struct mem_rewriting *out)
{
	cleanup_free struct sample *s = xcalloc(n + 1, sizeof(*s));
	const unsigned each = sample_pages_each(anon, n);

	for (size_t i = 0; i < n; i++)
		if (anon[i] >= MEM_SAMPLE_BYTES)
			sample_begin(&s[i], pids[i], each);
	for (size_t i = 0; i < n; i++)
		sample_read_first(&s[i]);
	for (unsigned round = 0; round < ROUNDS; round++) {
		usleep(MEM_SAMPLE_MS * 1000 / ROUNDS);
		for (size_t i = 0; i < n; i++)
			sample_read_again(&s[i], round);
	}
	for (size_t i = 0; i < n; i++) {
		out[i] = sample_rates(&s[i]);
		free(s[i].addr);
		free(s[i].hash);
		free(s[i].changed);
	}
}
