/* Pages that processes share since a fork are taken, read and stored once.
 *
 * They are searched for before the freeze, to learn how much each process has to itself (take_memory.c chooses the way
 * of taking its memory by that), and again in the freeze, where the answer is exact. In a round of a pre-dump the
 * processes run: a page that one of them writes before the next scan may be the one that was copied for the others,
 * too, so it is clean for none of them (mem_fork_shared_remove_stale()). Looking up a page costs a fraction of copying
 * it. Processes that share little are left out. */
#include "worker/worker.h"

#include <fcntl.h>
#include <stdlib.h>

#include "base/util.h"
#include "capture/pagemap.h"
#include "base/vmas.h"
#include "base/proc.h"

/* A process that shares less than this part of its memory is left out: looking up its pages costs more than copying
 * what it shares. */
#define SHARE_MIN_PART 16

bool memory_shares_much(const struct mem_usage *u)
{
	return u->shared && u->shared >= u->anon / SHARE_MIN_PART;
}

/* Removes pages that an image already has. Each remaining piece lies within one of the ranges found. */
static void shared_without_clean(struct mem_fork_shared *found, const struct mem_ranges *clean)
{
	struct mem_ranges rest = { 0 };
	struct mem_fork_shared all = *found;
	size_t k = 0;

	*found = (struct mem_fork_shared){ 0 };
	mem_ranges_without(&rest, all.v, all.n, clean->v, clean->n);
	for (size_t i = 0; i < rest.n; i++) {
		while (all.v[k].id != rest.v[i].id || all.v[k].addr + all.v[k].npages * MEM_PAGE <= rest.v[i].addr)
			k++;
		mem_fork_shared_add(found, &rest.v[i], all.of[k]);
	}
	mem_ranges_free(&rest);
	mem_fork_shared_free(&all);
}

/* ---- before the freeze ----------------------------------------------------------- */

struct running {
	uint64_t id;
	pid_t host;
	int index;
	struct mem_ranges pages;
};

static int running_by_id(const void *a, const void *b)
{
	const struct running *x = a, *y = b;

	return x->id < y->id ? -1 : x->id > y->id;
}

static void list_pages(struct running *r)
{
	cleanup_close int pagemap = open_proc(r->host, "pagemap", O_RDONLY);
	struct vmas m;

	if (pagemap < 0 || vmas_read(r->host, &m, NULL))
		return;
	for (size_t i = 0; i < m.n; i++)
		if (m.v[i].plain &&
		    mem_pagemap_collect(pagemap, MEM_PAGES_PRESENT, r->id, m.v[i].start, m.v[i].end, &r->pages))
			break;
	vmas_free(&m);
}

void memory_fork_shared_scan(struct memory_step *s, const struct tree *t)
{
	cleanup_free struct running *r = xcalloc((size_t)t->n + 1, sizeof(*r));
	cleanup_free struct mem_fork_shared_process *p = xcalloc((size_t)t->n + 1, sizeof(*p));
	struct mem_fork_shared found;
	size_t n = 0;

	for (int i = 0; i < t->n; i++)
		if (memory_shares_much(&s->wanted[i].usage))
			r[n++] = (struct running){ .id = (uint64_t)t->inner[i], .host = t->pids[i], .index = i };
	qsort(r, n, sizeof(*r), running_by_id);
	for (size_t i = 0; i < n; i++) {
		list_pages(&r[i]);
		p[i] = (struct mem_fork_shared_process){ r[i].id, r[i].host, r[i].pages.v, r[i].pages.n };
	}
	mem_fork_shared_find(p, n, &found);
	for (size_t i = 0, k = 0; i < n; i++) {
		for (; k < found.n && found.v[k].id == r[i].id; k++)
			s->wanted[r[i].index].fork_shared += found.v[k].npages * MEM_PAGE;
		mem_ranges_free(&r[i].pages);
	}
	mem_fork_shared_free(&found);
}

/* ---- in a round of a pre-dump ------------------------------------------------------- */

void memory_fork_shared_round(struct tracking *p, const struct mem_ranges *present, const struct mem_ranges *clean)
{
	const size_t n = mem_track_count(p->track);
	cleanup_free struct mem_fork_shared_process *v = xcalloc(n + 1, sizeof(*v));
	size_t n_v = 0, at = 0;

	for (size_t i = 0; i < n; i++) {
		struct mem_tracked t;
		struct mem_usage u;
		size_t from;

		mem_track_get(p->track, i, &t);
		while (at < present->n && present->v[at].id < t.id)
			at++;
		for (from = at; at < present->n && present->v[at].id == t.id; at++)
			;
		if (mem_usage_read(t.host, &u) == 0 && memory_shares_much(&u))
			v[n_v++] = (struct mem_fork_shared_process){ t.id, t.host, present->v + from, at - from };
	}
	mem_fork_shared_free(&p->fork_shared);
	mem_fork_shared_find(v, n_v, &p->fork_shared);
	shared_without_clean(&p->fork_shared, clean);
}

/* ---- in the freeze ----------------------------------------------------------------- */

/* A process that was forked after the scan shares pages with its parent. */
static bool is_any_new(const struct memory_step *s)
{
	for (size_t i = 0; i < s->n_procs; i++)
		if (!memory_wanted(s, s->procs[i].split.host))
			return true;
	return false;
}

static void take_without_shared(struct memory_step *s, struct mem_process *p, size_t *at)
{
	struct mem_ranges take = { 0 };
	size_t from = *at;

	while (*at < s->fork_shared.n && s->fork_shared.v[*at].id == (uint64_t)p->split.inner)
		++*at;
	if (*at == from)
		return;
	mem_ranges_without(&take, p->take.v, p->take.n, s->fork_shared.v + from, *at - from);
	mem_ranges_free(&p->take);
	p->take = take;
}

void memory_fork_shared_freeze(struct memory_step *s)
{
	cleanup_free struct mem_fork_shared_process *v = xcalloc(s->n_procs + 1, sizeof(*v));
	const bool any_new = is_any_new(s);
	size_t n = 0, at = 0;

	for (size_t i = 0; i < s->n_procs; i++) {
		struct mem_process *p = &s->procs[i];
		const struct memory_wanted *m = memory_wanted(s, p->split.host);

		p->shares = any_new || m->usage.shared;
		if (!m || memory_shares_much(&m->usage))
			v[n++] = (struct mem_fork_shared_process){ (uint64_t)p->split.inner, p->split.host,
								   p->split.ours, p->split.n_ours };
	}
	mem_fork_shared_find(v, n, &s->fork_shared);
	shared_without_clean(&s->fork_shared, &s->tracking.clean);
	for (size_t i = 0; i < s->n_procs; i++)
		take_without_shared(s, &s->procs[i], &at);
}
