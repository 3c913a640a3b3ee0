/* Pages that need not be taken in the freeze because an existing image has them: the image of the last round of a
 * pre-dump (predump.c), or that of the epoch before, if the kernel has tracked the job's writes since then
 * (CRIU_Incremental).
 *
 * Between two checkpoints only the agent runs. A worker therefore leaves the descriptors of its tracking
 * (capture/track.h) in the agent's mailbox, and the next worker takes them out. If the agent dies, the kernel ends the
 * tracking. A page that is write-protected before the freeze of one epoch and not written until the freeze of the next
 * is the same in both. Each tracked write costs the job a page fault, so writes are tracked only while that costs less
 * than comparing all memory by hashes (capture/cost.h). Processes with many huge pages, which tracking would split, are
 * not tracked. */
#include "worker/worker.h"

#include <errno.h>

#include "base/array.h"
#include "base/util.h"
#include "capture/kept_tracking.h"
#include "capture/probe.h"
#include "capture/usage.h"
#include "trace/tracer.h"

/* A process with more than this part of its memory in huge pages is not tracked between checkpoints. */
#define HUGE_SHARE  8
/* Bytes that a process is assumed to write between the last scan and the freeze, besides a share of what it wrote
 * before. */
#define TAKEN_SLACK (1u << 20)

/* Processes for which the mailbox has no room are not tracked any more. */
static void tracking_keep(struct tracking *p, const struct worker *w)
{
	const size_t n = mem_track_count(p->track);
	cleanup_free struct mem_tracked *v = xcalloc(n + 1, sizeof(*v));

	for (size_t i = 0; i < n; i++)
		mem_track_get(p->track, i, &v[i]);
	kept_tracking_put(&w->mailbox, w->req.epoch, v, n);
}

/* ---- which processes ------------------------------------------------------------ */

struct sorted {
	pid_t inner, host;
};

static int sorted_by_inner(const void *a, const void *b)
{
	const struct sorted *x = a, *y = b;

	return x->inner < y->inner ? -1 : x->inner > y->inner;
}

static bool has_huge_pages(pid_t host)
{
	struct mem_usage u;

	return mem_usage_read(host, &u) || u.huge > u.anon / HUGE_SHARE;
}

/* Remembers it, because the rounds split its huge pages and the freeze cannot see them any more. */
static void tracking_note_huge(struct tracking *p, uint64_t id)
{
	array_reserve(p->huge, p->n_huge, p->huge_room);
	p->huge[p->n_huge++] = id;
}

/* True if the mailbox had the process and it is still tracked. */
static bool tracking_adopt(struct tracking *p, struct kept_tracking *f, const struct sorted *process)
{
	for (size_t i = 0; i < f->n; i++) {
		const struct mem_tracked one = f->v[i];

		if (one.id != (uint64_t)process->inner || one.host != process->host)
			continue;
		f->v[i] = f->v[--f->n];
		return mem_track_adopt(p->track, &one) == 0;
	}
	return false;
}

/* others: also track processes that were not tracked before. */
static void track_processes(struct tracking *p, struct worker *w, const struct tree *t, struct kept_tracking *f,
			    bool others)
{
	cleanup_free struct sorted *v = xcalloc((size_t)t->n + 1, sizeof(*v));
	struct err err = { 0 };

	for (int i = 0; i < t->n; i++)
		v[i] = (struct sorted){ t->inner[i], t->pids[i] };
	qsort(v, (size_t)t->n, sizeof(*v), sorted_by_inner);
	for (int i = 0; i < t->n; i++) {
		const bool huge = has_huge_pages(v[i].host);

		if (huge && p->rounds_wanted)
			tracking_note_huge(p, (uint64_t)v[i].inner);
		if (huge && !p->rounds_wanted)
			continue;
		if (tracking_adopt(p, f, &v[i]) || !others)
			continue;
		if (mem_track_add(p->track, v[i].host, (uint64_t)v[i].inner, &err) && err.num != ESRCH && p->rounds_wanted)
			worker_warn(w, "pre-dump: %s; its memory is copied as without one", err.text);
	}
}

/* ---- whether it pays ----------------------------------------------------------------- */

static bool tracking_pays(const struct worker *w, uint64_t pages, uint64_t changed)
{
	struct mem_node node;

	if (fault(w, FAULT_FORCE_TRACKING))
		return true;
	mem_probe_node(&node);
	return pages > 0 && mem_worth_tracking(&node, (double)changed / (double)pages);
}

/* Goes by the epoch before, if hashes have told how much of it had changed. */
static bool tracking_pays_to_begin(const struct worker *w)
{
	const unsigned newest = store_previous_epoch(&w->store, w->req.epoch);
	cleanup_close int epochfd = newest ? store_open_epoch(&w->store, newest, NULL) : -1;
	struct manifest m;
	bool yes;

	if (fault(w, FAULT_FORCE_TRACKING))
		return true;
	if (epochfd < 0 || manifest_load(epochfd, &m, NULL))
		return false;
	yes = m.memory.increment &&
	      tracking_pays(w, m.memory.pages - m.memory.zero, m.memory.pages - m.memory.zero - m.memory.reused);
	manifest_free(&m);
	return yes;
}

static bool tracking_pays_to_continue(const struct memory_step *s, const struct worker *w)
{
	const struct mem_write_stats *st = s->stats;
	uint64_t used = 0, left = 0;

	if (st->linked_files)
		return tracking_pays(w, st->pages - st->zero, st->pages - st->zero - st->reused);
	/* A full epoch does not tell what has changed. */
	for (size_t i = 0; i < s->tracking.n_uses; i++) {
		used += s->tracking.uses[i].used;
		left += s->tracking.uses[i].left;
	}
	if (s->tracking.since)
		return tracking_pays(w, used, left);
	return !s->tracking.rounds_wanted || tracking_pays_to_begin(w);
}

/* ---- before the freeze ------------------------------------------------------------------ */

/* Pages unchanged until now are clean for this checkpoint; writes from now on count for the next. */
static void tracking_scan(struct memory_step *s, struct worker *w)
{
	struct tracking *p = &s->tracking;
	struct mem_ranges present = { 0 };

	mem_track_scan(p->track, false, &p->before, &present);
	tracking_set_used(p, &present);
	tracking_set_left(p, &p->before);
	mem_ranges_free(&present);
	/* A full epoch continues nothing. */
	p->continues = p->since && p->since == store_previous_epoch(&w->store, w->req.epoch) && memory_previous(s, w);
}

static void tracking_start(struct memory_step *s, struct worker *w, int epochfd, const struct tree *t)
{
	struct tracking *p = &s->tracking;
	struct kept_tracking f = { 0 };
	bool others;

	p->track = mem_track_new(p->how);
	if (p->how == MEM_TRACK_PROTECT && w->conf.incremental)
		kept_tracking_take(&w->mailbox, &f);
	p->since = f.epoch;
	if (p->rounds_wanted && !w->req.vacate) {
		s->huge = mem_collapse_new();
		for (int i = 0; i < t->n; i++)
			mem_collapse_note(s->huge, t->pids[i]);
	}
	fault_in_call(w, FAULT_DIE_IN_CALL, TRACER_SELF);
	others = p->rounds_wanted || (!w->req.vacate && (f.n > 0 || tracking_pays_to_begin(w)));
	/* It reads the memory usage of every process, so it is called only if there is something to track. */
	if (f.n > 0 || others)
		track_processes(p, w, t, &f, others);
	kept_tracking_free(&f);
	if (!mem_track_count(p->track))
		return;
	if (!p->rounds_wanted)
		tracking_scan(s, w);
	else if (predump_run(s, w, epochfd))
		tracking_end(s, epochfd); /* all memory is taken in the freeze */
}

void tracking_begin(struct memory_step *s, struct worker *w, int epochfd)
{
	struct tracking *p = &s->tracking;
	struct tree t;

	p->rounds_wanted = predump_wanted(w);
	if (w->conf.engine == CONF_ENGINE_CRIU || !w->criu.preload[0] || (!p->rounds_wanted && !w->conf.incremental) ||
	    tree_read(w->req.init, &t, NULL))
		return;
	if (p->rounds_wanted)
		event_phase("pre-dump");
	p->how = mem_tracking_probe();
	if (p->rounds_wanted && fault(w, FAULT_FORCE_SOFT_DIRTY))
		p->how = MEM_TRACK_SOFT_DIRTY;
	if (p->rounds_wanted && p->how == MEM_TRACK_NONE)
		worker_warn(w, "CRIU_PreDump has no effect: this kernel cannot tell which pages were written");
	/* Any process may clear soft-dirty bits: they are relied on during one checkpoint only, not from one to the
	 * next. */
	if (p->how == MEM_TRACK_PROTECT || (p->rounds_wanted && p->how == MEM_TRACK_SOFT_DIRTY))
		tracking_start(s, w, epochfd, &t);
	tree_free(&t);
}

bool tracking_expects(struct tracking *p, uint64_t id, uint64_t *bytes)
{
	uint64_t left;

	if ((!p->image && !p->continues) || !mem_track_has(p->track, id))
		return false;
	left = tracking_use_of(p, id)->left;
	/* The time since the last round is about the time that will pass until the freeze. The time since the epoch
	 * before is far longer. */
	*bytes = left + (p->rounds ? left : left / 8) + TAKEN_SLACK;
	return true;
}

/* ---- in the freeze and after it ------------------------------------------------------------ */

struct mem_image *tracking_image(const struct memory_step *s)
{
	return s->tracking.image ? s->tracking.image : s->tracking.continues ? s->previous.image : NULL;
}

void tracking_freeze(struct memory_step *s)
{
	struct tracking *p = &s->tracking;
	struct mem_image *image = tracking_image(s);
	struct mem_ranges clean = { 0 }, both = { 0 };

	if (!image)
		return;
	mem_track_scan_frozen(p->track, &clean);
	mem_fork_shared_remove_stale(&p->fork_shared, &clean);
	if (p->rounds) {
		mem_ranges_in_image(&p->clean, clean.v, clean.n, image);
	} else {
		mem_ranges_common(&both, p->before.v, p->before.n, clean.v, clean.n);
		mem_ranges_in_image(&p->clean, both.v, both.n, image);
	}
	mem_ranges_free(&both);
	mem_ranges_free(&clean);
}

void tracking_decide(struct memory_step *s, const struct worker *w)
{
	struct tracking *p = &s->tracking;

	if (w->req.vacate) {
		mem_track_detach(p->track); /* the processes are frozen: nothing waits while the kernel removes all
					      protection at exit */
		p->track = NULL;
	}
	if (!p->track || p->how != MEM_TRACK_PROTECT || !w->conf.incremental || w->mailbox.in < 0 ||
	    !tracking_pays_to_continue(s, w)) {
		mem_track_free(p->track);
		p->track = NULL;
		return;
	}
	for (size_t i = 0; i < p->n_huge; i++)
		mem_track_remove(p->track, p->huge[i]);
}

void tracking_leave(struct memory_step *s, const struct worker *w)
{
	if (!s->on || !s->tracking.track)
		return;
	tracking_keep(&s->tracking, w);
	mem_track_detach(s->tracking.track);
	s->tracking.track = NULL;
}

void tracking_end(struct memory_step *s, int epochfd)
{
	struct tracking *p = &s->tracking;

	predump_end(p, epochfd);
	mem_track_free(p->track);
	mem_ranges_free(&p->before);
	mem_ranges_free(&p->clean);
	mem_fork_shared_free(&p->fork_shared);
	free(p->uses);
	free(p->huge);
	*p = (struct tracking){ 0 };
}
