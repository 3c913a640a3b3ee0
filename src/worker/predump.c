/* CRIU_PreDump: most of the memory is copied before the freeze, while the job runs.
 *
 * A first round copies all pages, and from then on the kernel notices what is written (memory/track.h). After CRIU_PreDumpDelay, which
 * lets a job settle that was disturbed, further rounds copy what was written meanwhile, as long as that becomes clearly less from
 * round to round. In the freeze only what was written since the last round is left to be taken. Each round is an image of its own,
 * which refers to the files of the one before; in the end the epoch's image does, and the rounds' directories go. */
#include "worker/worker.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "common/util.h"
#include "memory/shared.h"
#include "memory/tracer.h"

#define ROUNDS_MAX  6
#define SMALL       (32u << 20)   /* bytes that are left: to copy them in the freeze takes a few ms */
#define SLACK       (1u << 20)    /* what a process writes between the last round and the freeze, besides what it wrote before that */
#define WAIT_US     100000
#define PAYS(n, before) ((n) < (before) / 10 * 7)
#define ROUND_NICE  5

static const char *round_name(unsigned n, char buf[32])
{
	snprintf(buf, 32, "pre-dump-%u", n);
	return buf;
}

/* What is known of a process. The caller of many goes through them in ascending order. */
static struct predump_use *use_of(struct predump *p, uint64_t id)
{
	for (size_t i = p->n_uses; i > 0; i--)
		if (p->uses[i - 1].id == id)
			return &p->uses[i - 1];
	p->uses = xrealloc(p->uses, (p->n_uses + 1) * sizeof(*p->uses));
	p->uses[p->n_uses] = (struct predump_use){ .id = id };
	return &p->uses[p->n_uses++];
}

/* ---- rounds ----------------------------------------------------------------------- */

static struct mem_image *open_round(int epochfd, unsigned n, bool hashes, struct err *err)
{
	cleanup_mem_image struct mem_image *image = NULL;
	cleanup_close int dirfd = -1;
	char name[32];

	dirfd = openat(epochfd, round_name(n, name), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (dirfd < 0) {
		err_sys(err, errno, "cannot open the directory of a pre-dump");
		return NULL;
	}
	image = mem_image_open(dirfd, err);
	if (!image || (hashes && mem_image_load_hashes(image, err)))
		return NULL;
	return steal_ptr(&image);
}

/* What older epochs have of shared memory and of /dev/shm stays known, though no round looks at it: the epoch's image compares with it. */
static void carry_shared(const struct mem_image *from, struct mem_ranges *present, struct mem_ranges *clean)
{
	size_t n = 0, count;
	const struct mem_space *s = from ? mem_image_spaces(from, &n) : NULL;

	for (size_t i = 0; i < n; i++) {
		const struct mem_extent *e = mem_image_extents(from, s[i].id, &count);

		for (size_t k = 0; k < count && (mem_is_shared(s[i].id) || mem_is_file(s[i].id)); k++) {
			mem_ranges_add(present, s[i].id, e[k].addr, e[k].addr + (uint64_t)e[k].npages * MEM_PAGE);
			mem_ranges_add(clean, s[i].id, e[k].addr, e[k].addr + (uint64_t)e[k].npages * MEM_PAGE);
		}
	}
}

static int write_round(struct predump *p, struct worker *w, int epochfd, struct mem_ranges *present, struct mem_ranges *clean, struct err *err)
{
	const struct mem_source source = { mem_track_read, p->track };
	cleanup_mem_image struct mem_image *previous = p->image ? NULL : previous_open(w);
	cleanup_close int dirfd = -1;
	struct mem_write_stats stats = { 0 };
	struct mem_write_opts o;
	struct mem_image *image;
	char name[32];

	round_name(p->rounds + 1, name);
	if (mkdirat(epochfd, name, 0700) || (dirfd = openat(epochfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)) < 0)
		return err_sys(err, errno, "cannot make the directory of a pre-dump");
	memory_write_opts(w, &o);
	o.nice = ROUND_NICE;
	o.previous = p->image ? p->image : previous;
	carry_shared(o.previous, present, clean);
	o.compare = true;
	o.clean = clean->v;
	o.n_clean = clean->n;
	if (mem_image_write(dirfd, w->req.epoch, &source, present->v, present->n, &o, &stats, err))
		return -1;
	image = open_round(epochfd, p->rounds + 1, o.hashes, err);
	if (!image)
		return -1;
	p->scanned += stats.scanned;
	if (p->image) {
		mem_image_close(p->image);
		remove_tree_at(epochfd, round_name(p->rounds, name));
	}
	p->image = image;
	p->rounds++;
	return 0;
}

/* Looks and copies. *bytes: that were to be copied. */
static int round_once(struct predump *p, struct worker *w, int epochfd, uint64_t *bytes, struct err *err)
{
	struct mem_ranges clean = { 0 }, present = { 0 }, left = { 0 };
	size_t dropped = mem_track_look(p->track, &clean, &present);
	int rc;

	if (dropped)
		worker_warn(w, "pre-dump: %zu processes could not be looked at", dropped);
	mem_ranges_without(&left, present.v, present.n, clean.v, clean.n);
	*bytes = left.pages * MEM_PAGE;
	p->n_uses = 0;
	for (size_t i = 0; i < present.n; i++)
		use_of(p, present.v[i].id)->used += present.v[i].npages * MEM_PAGE;
	fault_die(w, FAULT_DIE_IN_PRE_DUMP);
	rc = fault(w, FAULT_PRE_DUMP_FAILS) ? err_set(err, 0, "a fault on purpose") : write_round(p, w, epochfd, &present, &clean, err);
	mem_ranges_free(&clean);
	mem_ranges_free(&present);
	mem_ranges_free(&left);
	return rc;
}

/* Fills in how much of each process was written since the last look. Returns the sum. */
static uint64_t written_by_now(struct predump *p)
{
	struct mem_ranges clean = { 0 };
	uint64_t sum = 0;

	mem_track_last(p->track, &clean);
	for (size_t i = 0; i < p->n_uses; i++)
		p->uses[i].left = p->uses[i].used;
	for (size_t i = 0; i < clean.n; i++) {
		struct predump_use *u = use_of(p, clean.v[i].id);
		uint64_t bytes = clean.v[i].npages * MEM_PAGE;

		u->left -= bytes < u->left ? bytes : u->left;
	}
	mem_ranges_free(&clean);
	for (size_t i = 0; i < p->n_uses; i++)
		sum += p->uses[i].left;
	return sum;
}

static void wait_for_delay(const struct worker *w)
{
	int64_t until = now_us() + (int64_t)w->conf.pre_dump_delay * 1000000, left;

	while ((left = until - now_us()) > 0 && tree_is_there(w->req.init) && !request_hurried())
		usleep((useconds_t)(left < WAIT_US ? left : WAIT_US));
}

static int all_rounds(struct predump *p, struct worker *w, int epochfd, struct err *err)
{
	uint64_t bytes, before, left;

	if (round_once(p, w, epochfd, &before, err))
		return -1;
	wait_for_delay(w);
	while (p->rounds < ROUNDS_MAX) {
		left = written_by_now(p);
		if (left <= SMALL || !PAYS(left, before) || request_hurried())
			return 0;
		if (round_once(p, w, epochfd, &bytes, err))
			return -1;
		before = bytes;
	}
	written_by_now(p);
	return 0;
}

/* ---- what checkpoint.c and memory.c call ------------------------------------------- */

struct sorted { pid_t inner, host; };

static int by_inner(const void *a, const void *b)
{
	const struct sorted *x = a, *y = b;

	return x->inner < y->inner ? -1 : x->inner > y->inner;
}

static void track_all(struct predump *p, struct worker *w, const struct tree *t)
{
	cleanup_free struct sorted *v = xcalloc((size_t)t->n + 1, sizeof(*v));
	struct err err = { 0 };

	for (int i = 0; i < t->n; i++)
		v[i] = (struct sorted){ t->inner[i], t->pids[i] };
	qsort(v, (size_t)t->n, sizeof(*v), by_inner);
	for (int i = 0; i < t->n; i++)
		if (mem_track_add(p->track, v[i].host, (uint64_t)v[i].inner, &err) && err.num != ESRCH)
			worker_warn(w, "pre-dump: %s; its memory is copied as without one", err.text);
}

/* Neither where Slurm waits for the job to go, nor where there is nothing to gain by it. */
static bool wanted(const struct worker *w)
{
	return w->conf.pre_dump && w->conf.engine != CONF_ENGINE_CRIU && w->criu.preload[0] && strcmp(w->req.reason, "preempt") != 0 &&
	       strcmp(w->req.reason, "limit") != 0;
}

void predump_run(struct memory_step *s, struct worker *w, int epochfd)
{
	struct predump *p = &s->predump;
	struct err err = { 0 };
	struct tree t;

	if (!wanted(w) || tree_read(w->req.init, &t, NULL))
		return;
	event_phase("pre-dump");
	p->how = mem_tracking_probe();
	if (fault(w, FAULT_FORCE_SOFT_DIRTY))
		p->how = MEM_TRACK_SOFT_DIRTY;
	if (p->how == MEM_TRACK_NONE) {
		worker_warn(w, "CRIU_PreDump has no effect: this kernel cannot tell which pages were written");
	} else {
		if (!w->req.vacate) {
			s->huge = mem_huge_new();
			for (int i = 0; i < t.n; i++)
				mem_huge_note(s->huge, t.pids[i]);
		}
		p->track = mem_track_new(p->how);
		fault_in_call(w, FAULT_DIE_IN_CALL, TRACER_SELF);
		track_all(p, w, &t);
		if (mem_track_count(p->track) > 0 && all_rounds(p, w, epochfd, &err)) {
			worker_warn(w, "pre-dump: %s; the memory is copied as without one", err.text);
			predump_end(p, epochfd);
		}
	}
	tree_free(&t);
}

bool predump_expects(struct predump *p, uint64_t id, uint64_t *bytes)
{
	if (!p->image || !mem_track_has(p->track, id))
		return false;
	*bytes = 2 * use_of(p, id)->left + SLACK;
	return true;
}

void predump_freeze(struct predump *p)
{
	struct mem_ranges clean = { 0 };

	if (!p->image)
		return;
	mem_track_last(p->track, &clean);
	mem_ranges_in_image(&p->clean, clean.v, clean.n, p->image);
	mem_ranges_free(&clean);
}

void predump_end(struct predump *p, int epochfd)
{
	char name[32];

	if (p->image)
		mem_image_close(p->image);
	for (unsigned n = 1; p->track && n <= ROUNDS_MAX; n++)
		remove_tree_at(epochfd, round_name(n, name));
	mem_track_free(p->track);
	mem_ranges_free(&p->clean);
	free(p->uses);
	*p = (struct predump){ 0 };
}
