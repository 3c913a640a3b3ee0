/* Pages that need not be taken in the freeze, because an image that is there has them: of the last round of a pre-dump
 * (predump.c), or of the epoch before, since which the kernel has noticed the job's writes (CRIU_Incremental).
 *
 * Between two checkpoints nothing of fsched runs but the agent. So a worker leaves what it tracks with
 * (capture/track.h) in the agent's mailbox, and the next one takes it out; an agent that dies takes it all away. What
 * is protected before the freeze of one epoch and was not written until the freeze of the next is in both the same.
 * Each write that is noticed costs the job a page fault, so this is done only for as long as it costs less than to
 * compare all memory with hashes (capture/cost.h), and huge pages, which it would split, are left alone. */
#include "worker/worker.h"

#include <errno.h>
#include <string.h>

#include "base/util.h"
#include "capture/node.h"
#include "trace/tracer.h"

#define HUGE_SHARE \
	8 /* of a process's memory: with more in huge pages it is not tracked from one checkpoint to the next */
#define TAKEN_SLACK \
	(1u << 20) /* what a process writes between the last look and the freeze, besides what it wrote before that */
#define SENT_MAX (MAILBOX_FDS / 2)

/* What lies in the mailbox: pidfd and userfaultfd of each process. */
struct sent {
	uint32_t version, epoch, n, unused;
	struct {
		uint64_t id;
		int64_t host;
	} v[SENT_MAX];
};
#define SENT_VERSION 1u

/* ---- the mailbox -------------------------------------------------------------- */

struct found {
	struct mem_tracked *v;
	size_t n;
	unsigned epoch;
};

static void found_free(struct found *f)
{
	for (size_t i = 0; i < f->n; i++) {
		close(f->v[i].pidfd);
		close(f->v[i].uffd);
	}
	free(f->v);
	*f = (struct found){ 0 };
}

static void found_add(struct found *f, const struct sent *m, const int *fds)
{
	/* A checkpoint that failed has left nothing; one that was made in between without tracking has left what is
	 * older. */
	if (m->epoch != f->epoch)
		found_free(f);
	f->epoch = m->epoch;
	f->v = xrealloc(f->v, (f->n + m->n) * sizeof(*f->v));
	for (uint32_t i = 0; i < m->n; i++)
		f->v[f->n++] = (struct mem_tracked){ (pid_t)m->v[i].host, m->v[i].id, fds[2 * i], fds[2 * i + 1] };
}

static void empty_mailbox(const struct worker *w, struct found *f)
{
	struct sent m;
	int fds[MAILBOX_FDS];
	size_t n_fds;
	ssize_t got;

	while ((got = mailbox_take(&w->mailbox, &m, sizeof(m), fds, &n_fds)) != 0)
		if (got == (ssize_t)sizeof(m) && m.version == SENT_VERSION && m.n > 0 && m.n <= SENT_MAX &&
		    n_fds == 2 * m.n)
			found_add(f, &m, fds);
		else if (got < 0 && errno != EMSGSIZE)
			break;
		else
			for (size_t i = 0; i < n_fds; i++)
				close(fds[i]);
}

/* What finds no room is not tracked. */
static void leave_in_mailbox(struct tracking *p, const struct worker *w)
{
	const size_t n = mem_track_count(p->track);
	struct mem_tracked one;
	int fds[MAILBOX_FDS];

	for (size_t i = 0; i < n; i += SENT_MAX) {
		struct sent m = { .version = SENT_VERSION,
				  .epoch = w->req.epoch,
				  .n = (uint32_t)(n - i < SENT_MAX ? n - i : SENT_MAX) };

		for (uint32_t k = 0; k < m.n; k++) {
			mem_track_get(p->track, i + k, &one);
			m.v[k].id = one.id;
			m.v[k].host = one.host;
			fds[2 * k] = one.pidfd;
			fds[2 * k + 1] = one.uffd;
		}
		if (mailbox_put(&w->mailbox, &m, sizeof(m), fds, 2 * m.n))
			return;
	}
}

/* ---- which processes ------------------------------------------------------------ */

struct sorted {
	pid_t inner, host;
};

static int by_inner(const void *a, const void *b)
{
	const struct sorted *x = a, *y = b;

	return x->inner < y->inner ? -1 : x->inner > y->inner;
}

static bool has_huge_pages(pid_t host)
{
	struct mem_usage u;

	return mem_usage_read(host, &u) || u.huge > u.anon / HUGE_SHARE;
}

/* After the rounds it has none any more. */
static void note_huge(struct tracking *p, uint64_t id)
{
	p->huge = xrealloc(p->huge, (p->n_huge + 1) * sizeof(*p->huge));
	p->huge[p->n_huge++] = id;
}

/* True if the process was found and is tracked as before. */
static bool adopt(struct tracking *p, struct found *f, const struct sorted *process)
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

/* others: those that were not tracked before, too. */
static void track_all(struct tracking *p, struct worker *w, const struct tree *t, struct found *f, bool others)
{
	cleanup_free struct sorted *v = xcalloc((size_t)t->n + 1, sizeof(*v));
	struct err err = { 0 };

	for (int i = 0; i < t->n; i++)
		v[i] = (struct sorted){ t->inner[i], t->pids[i] };
	qsort(v, (size_t)t->n, sizeof(*v), by_inner);
	for (int i = 0; i < t->n; i++) {
		const bool huge = has_huge_pages(v[i].host);

		if (huge && p->rounds_wanted)
			note_huge(p, (uint64_t)v[i].inner);
		if (huge && !p->rounds_wanted)
			continue;
		if (adopt(p, f, &v[i]) || !others)
			continue;
		if (mem_track_add(p->track, v[i].host, (uint64_t)v[i].inner, &err) && err.num != ESRCH && p->rounds_wanted)
			worker_warn(w, "pre-dump: %s; its memory is copied as without one", err.text);
	}
}

/* ---- whether it pays ----------------------------------------------------------------- */

static bool pays(const struct worker *w, uint64_t pages, uint64_t changed)
{
	struct mem_node node;

	if (fault(w, FAULT_FORCE_TRACKING))
		return true;
	mem_node_probe(&node);
	return pages > 0 && mem_worth_tracking(&node, (double)changed / (double)pages);
}

/* As far as the epoch before tells, if hashes have told it. */
static bool pays_to_begin(const struct worker *w)
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
	      pays(w, m.memory.pages - m.memory.zero, m.memory.pages - m.memory.zero - m.memory.reused);
	manifest_free(&m);
	return yes;
}

static bool pays_to_go_on(const struct memory_step *s, const struct worker *w)
{
	const struct mem_write_stats *st = s->stats;
	uint64_t used = 0, left = 0;

	if (st->linked_files)
		return pays(w, st->pages - st->zero, st->pages - st->zero - st->reused);
	/* A full epoch says nothing of what has changed. */
	for (size_t i = 0; i < s->tracking.n_uses; i++) {
		used += s->tracking.uses[i].used;
		left += s->tracking.uses[i].left;
	}
	if (s->tracking.since)
		return pays(w, used, left);
	return !s->tracking.rounds_wanted || pays_to_begin(w);
}

/* ---- before the freeze ------------------------------------------------------------------ */

struct tracking_use *tracking_use_of(struct tracking *p, uint64_t id)
{
	for (size_t i = p->n_uses; i > 0; i--)
		if (p->uses[i - 1].id == id)
			return &p->uses[i - 1];
	p->uses = xrealloc(p->uses, (p->n_uses + 1) * sizeof(*p->uses));
	p->uses[p->n_uses] = (struct tracking_use){ .id = id };
	return &p->uses[p->n_uses++];
}

void tracking_set_used(struct tracking *p, const struct mem_ranges *present)
{
	p->n_uses = 0;
	for (size_t i = 0; i < present->n; i++)
		tracking_use_of(p, present->v[i].id)->used += present->v[i].npages * MEM_PAGE;
}

uint64_t tracking_set_left(struct tracking *p, const struct mem_ranges *clean)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < p->n_uses; i++)
		p->uses[i].left = p->uses[i].used;
	for (size_t i = 0; i < clean->n; i++) {
		struct tracking_use *u = tracking_use_of(p, clean->v[i].id);
		uint64_t bytes = clean->v[i].npages * MEM_PAGE;

		u->left -= bytes < u->left ? bytes : u->left;
	}
	for (size_t i = 0; i < p->n_uses; i++)
		sum += p->uses[i].left;
	return sum;
}

/* Written from now on counts for the next checkpoint, and what was not written until now for this one. */
static void look(struct memory_step *s, struct worker *w)
{
	struct tracking *p = &s->tracking;
	struct mem_ranges present = { 0 };

	mem_track_look(p->track, false, &p->before, &present);
	tracking_set_used(p, &present);
	tracking_set_left(p, &p->before);
	mem_ranges_free(&present);
	/* In a full epoch there is none. */
	p->continues = p->since && p->since == store_previous_epoch(&w->store, w->req.epoch) && memory_previous(s, w);
}

static void begin(struct memory_step *s, struct worker *w, int epochfd, const struct tree *t)
{
	struct tracking *p = &s->tracking;
	struct found f = { 0 };
	bool others;

	p->track = mem_track_new(p->how);
	if (p->how == MEM_TRACK_PROTECT && w->conf.incremental)
		empty_mailbox(w, &f);
	p->since = f.epoch;
	if (p->rounds_wanted && !w->req.vacate) {
		s->huge = mem_huge_new();
		for (int i = 0; i < t->n; i++)
			mem_huge_note(s->huge, t->pids[i]);
	}
	fault_in_call(w, FAULT_DIE_IN_CALL, TRACER_SELF);
	others = p->rounds_wanted || (!w->req.vacate && (f.n > 0 || pays_to_begin(w)));
	/* It looks at every process's memory. */
	if (f.n > 0 || others)
		track_all(p, w, t, &f, others);
	found_free(&f);
	if (!mem_track_count(p->track))
		return;
	if (p->rounds_wanted)
		predump_run(s, w, epochfd);
	else
		look(s, w);
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
	/* Soft-dirty bits are any process's to clear: for as long as a checkpoint takes, and no longer, they are
	 * believed. */
	if (p->how == MEM_TRACK_PROTECT || (p->rounds_wanted && p->how == MEM_TRACK_SOFT_DIRTY))
		begin(s, w, epochfd, &t);
	tree_free(&t);
}

bool tracking_expects(struct tracking *p, uint64_t id, uint64_t *bytes)
{
	uint64_t left;

	if ((!p->image && !p->continues) || !mem_track_has(p->track, id))
		return false;
	left = tracking_use_of(p, id)->left;
	/* Since a round not much more time has passed than will pass until the freeze; since the epoch before, far
	 * more. */
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
	mem_track_last(p->track, &clean);
	mem_sames_distrust(&p->same, &clean);
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
		mem_track_leave(p->track); /* the processes stand still: nothing waits while the kernel lets go of all
					      at once */
		p->track = NULL;
	}
	if (!p->track || p->how != MEM_TRACK_PROTECT || !w->conf.incremental || w->mailbox.in < 0 ||
	    !pays_to_go_on(s, w)) {
		mem_track_free(p->track);
		p->track = NULL;
		return;
	}
	for (size_t i = 0; i < p->n_huge; i++)
		mem_track_drop(p->track, p->huge[i]);
}

void tracking_leave(struct memory_step *s, const struct worker *w)
{
	if (!s->on || !s->tracking.track)
		return;
	leave_in_mailbox(&s->tracking, w);
	mem_track_leave(s->tracking.track);
	s->tracking.track = NULL;
}

void tracking_end(struct memory_step *s, int epochfd)
{
	struct tracking *p = &s->tracking;

	predump_end(p, epochfd);
	mem_track_free(p->track);
	mem_ranges_free(&p->before);
	mem_ranges_free(&p->clean);
	mem_sames_free(&p->same);
	free(p->uses);
	free(p->huge);
	*p = (struct tracking){ 0 };
}
