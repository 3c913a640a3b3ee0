/* CRIU_PreDump: most of the memory is copied before the freeze, while the job runs.
 *
 * A first round copies all pages, and from then on the kernel notices what is written (capture/track.h). After
 * CRIU_PreDumpDelay, which lets a job settle that was disturbed, further rounds copy what was written meanwhile, as
 * long as that becomes clearly less from round to round. In the freeze only what was written since the last round is
 * left to be taken. Each round is an image of its own, which refers to the files of the one before; in the end the
 * epoch's image does, and the rounds' directories go. */
#include "worker/worker.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "base/dir_tree.h"
#include "base/clock.h"
#include "base/util.h"
#include "capture/shared.h"
#include "trace/tracer.h"

#define ROUNDS_MAX      6
#define SMALL           (32u << 20) /* bytes that are left: to copy them in the freeze takes a few ms */
#define WAIT_US         100000
#define PAYS(n, before) ((n) < (before) / 10 * 7)
#define ROUND_NICE      5

static const char *round_name(unsigned n, char buf[32])
{
	snprintf(buf, 32, "pre-dump-%u", n);
	return buf;
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

/* What older epochs have of shared memory and of /dev/shm stays known, though no round looks at it: the epoch's image
 * compares with it. */
static void carry_shared(const struct mem_image *from, struct mem_ranges *present, struct mem_ranges *clean)
{
	size_t n = 0, count;
	const struct mem_space *s = from ? mem_image_spaces(from, &n) : NULL;

	for (size_t i = 0; i < n; i++) {
		const struct mem_extent *e = mem_image_extents(from, s[i].id, &count);

		for (size_t k = 0; k < count && mem_is_object(s[i].id); k++) {
			mem_ranges_add(present, s[i].id, e[k].addr, e[k].addr + (uint64_t)e[k].npages * MEM_PAGE);
			mem_ranges_add(clean, s[i].id, e[k].addr, e[k].addr + (uint64_t)e[k].npages * MEM_PAGE);
		}
	}
}

/* p->same is about the image that is made. */
static int write_round(struct memory_step *s, struct worker *w, int epochfd, struct mem_ranges *present,
		       struct mem_ranges *clean, struct err *err)
{
	struct tracking *p = &s->tracking;
	const struct mem_source source = { mem_track_read, p->track };
	cleanup_close int dirfd = -1;
	struct mem_write_stats stats = { 0 };
	struct mem_write_opts o;
	struct mem_image *image;
	char name[32];

	round_name(p->rounds + 1, name);
	if (mkdirat(epochfd, name, 0700) ||
	    (dirfd = openat(epochfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)) < 0)
		return err_sys(err, errno, "cannot make the directory of a pre-dump");
	memory_write_opts(w, &o);
	o.nice = ROUND_NICE;
	o.previous = p->image ? p->image : memory_previous(s, w);
	/* What the first look says is about the epoch that it was tracked since. */
	if (!p->image && o.previous && mem_image_epoch(o.previous) != p->since)
		mem_ranges_free(clean);
	carry_shared(o.previous, present, clean);
	o.compare = true;
	o.clean = clean->v;
	o.n_clean = clean->n;
	o.same = &p->same;
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
static int round_once(struct memory_step *s, struct worker *w, int epochfd, uint64_t *bytes, struct err *err)
{
	struct tracking *p = &s->tracking;
	struct mem_ranges clean = { 0 }, present = { 0 }, left = { 0 };
	size_t dropped = mem_track_look(p->track, true, &clean, &present);
	int rc;

	if (dropped)
		worker_warn(w, "pre-dump: %zu processes could not be looked at", dropped);
	mem_sames_distrust(&p->same, &clean);
	mem_ranges_without(&left, present.v, present.n, clean.v, clean.n);
	*bytes = left.pages * MEM_PAGE;
	tracking_set_used(p, &present);
	fault_die(w, FAULT_DIE_IN_PRE_DUMP);
	memory_same_round(p, &present, &clean);
	rc = fault(w, FAULT_PRE_DUMP_FAILS) ? err_set(err, 0, "a fault on purpose")
					    : write_round(s, w, epochfd, &present, &clean, err);
	mem_ranges_free(&clean);
	mem_ranges_free(&present);
	mem_ranges_free(&left);
	return rc;
}

/* Fills in how much of each process was written since the last look. Returns the sum. */
static uint64_t written_by_now(struct tracking *p)
{
	struct mem_ranges clean = { 0 };
	uint64_t sum;

	mem_track_last(p->track, &clean);
	mem_sames_distrust(&p->same, &clean);
	sum = tracking_set_left(p, &clean);
	mem_ranges_free(&clean);
	return sum;
}

static void wait_for_delay(const struct worker *w)
{
	int64_t until = now_us() + (int64_t)w->conf.pre_dump_delay * 1000000, left;

	while ((left = until - now_us()) > 0 && tree_is_there(w->req.init) && !request_hurried())
		usleep((useconds_t)(left < WAIT_US ? left : WAIT_US));
}

static int all_rounds(struct memory_step *s, struct worker *w, int epochfd, struct err *err)
{
	struct tracking *p = &s->tracking;
	uint64_t bytes, before, left;

	if (round_once(s, w, epochfd, &before, err))
		return -1;
	wait_for_delay(w);
	while (p->rounds < ROUNDS_MAX) {
		left = written_by_now(p);
		if (left <= SMALL || !PAYS(left, before) || request_hurried())
			return 0;
		if (round_once(s, w, epochfd, &bytes, err))
			return -1;
		before = bytes;
	}
	written_by_now(p);
	return 0;
}

/* ---- what tracking.c calls ---------------------------------------------------------- */

bool predump_wanted(const struct worker *w)
{
	return w->conf.pre_dump && w->conf.engine != CONF_ENGINE_CRIU && w->criu.preload[0] &&
	       strcmp(w->req.reason, "preempt") != 0 && strcmp(w->req.reason, "limit") != 0;
}

void predump_run(struct memory_step *s, struct worker *w, int epochfd)
{
	struct err err = { 0 };

	if (!all_rounds(s, w, epochfd, &err))
		return;
	worker_warn(w, "pre-dump: %s; the memory is copied as without one", err.text);
	tracking_end(s, epochfd);
}

void predump_end(struct tracking *p, int epochfd)
{
	char name[32];

	if (p->image)
		mem_image_close(p->image);
	p->image = NULL;
	for (unsigned n = 1; p->rounds_wanted && n <= ROUNDS_MAX; n++)
		remove_tree_at(epochfd, round_name(n, name));
}
