/* CRIU_PreDump: most of the memory is copied before the freeze, while the job runs.
 *
 * The first round copies all pages; from then on the kernel tracks writes (capture/track.h). After CRIU_PreDumpDelay,
 * which gives a disturbed job time to return to its normal pace, further rounds copy the pages written meanwhile, as
 * long as their number falls clearly from round to round. Only pages written since the last round are taken in the
 * freeze. Each round is an image of its own that refers to files of the round before. At the end the epoch's image
 * refers to them, and the directories of the rounds are removed. */
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
#define LEFT_SMALL      (32u << 20) /* no further round for so few bytes: copying them in the freeze takes a few ms */
#define WAIT_US         100000
#define PAYS(n, before) ((n) < (before) / 10 * 7)
#define ROUND_NICE      5

static const char *round_name(unsigned n, char buf[32])
{
	snprintf(buf, 32, "pre-dump-%u", n);
	return buf;
}

/* ---- rounds ----------------------------------------------------------------------- */

static struct mem_image *predump_open_round(int epochfd, unsigned n, bool hashes, struct err *err)
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

/* A round reads no shared memory and no files of /dev/shm. Its image still refers to what older epochs have of these,
 * because the epoch's image is compared with it. */
static void predump_carry_shared(const struct mem_image *from, struct mem_ranges *present, struct mem_ranges *clean)
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

/* p->fork_shared belongs to the image that is being written. */
static int predump_write_round(struct memory_step *s, struct worker *w, int epochfd, struct mem_ranges *present,
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
	/* The first scan tells what is clean since the epoch in which tracking began; an image of another epoch cannot
	 * use that. */
	if (!p->image && o.previous && mem_image_epoch(o.previous) != p->since)
		mem_ranges_free(clean);
	predump_carry_shared(o.previous, present, clean);
	o.compare = true;
	o.clean = clean->v;
	o.n_clean = clean->n;
	o.fork_shared = &p->fork_shared;
	if (mem_image_write(dirfd, w->req.epoch, &source, present->v, present->n, &o, &stats, err))
		return -1;
	image = predump_open_round(epochfd, p->rounds + 1, o.hashes, err);
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

/* Scans and copies. *bytes: the bytes that had to be copied. */
static int predump_round(struct memory_step *s, struct worker *w, int epochfd, uint64_t *bytes, struct err *err)
{
	struct tracking *p = &s->tracking;
	struct mem_ranges clean = { 0 }, present = { 0 }, left = { 0 };
	size_t dropped = mem_track_scan(p->track, true, &clean, &present);
	int rc;

	if (dropped)
		worker_warn(w, "pre-dump: %zu processes could not be scanned", dropped);
	mem_fork_shared_remove_stale(&p->fork_shared, &clean);
	mem_ranges_without(&left, present.v, present.n, clean.v, clean.n);
	*bytes = left.pages * MEM_PAGE;
	tracking_set_used(p, &present);
	fault_die(w, FAULT_DIE_IN_PRE_DUMP);
	memory_fork_shared_round(p, &present, &clean);
	rc = fault(w, FAULT_PRE_DUMP_FAILS) ? err_set(err, 0, "a fault on purpose")
					    : predump_write_round(s, w, epochfd, &present, &clean, err);
	mem_ranges_free(&clean);
	mem_ranges_free(&present);
	mem_ranges_free(&left);
	return rc;
}

/* Sets how much of each process was written since the last scan. Returns the sum in bytes. */
static uint64_t predump_count_written(struct tracking *p)
{
	struct mem_ranges clean = { 0 };
	uint64_t sum;

	mem_track_scan_frozen(p->track, &clean);
	mem_fork_shared_remove_stale(&p->fork_shared, &clean);
	sum = tracking_set_left(p, &clean);
	mem_ranges_free(&clean);
	return sum;
}

static void predump_wait(const struct worker *w)
{
	int64_t until = now_us() + (int64_t)w->conf.pre_dump_delay * 1000000, left;

	while ((left = until - now_us()) > 0 && tree_is_there(w->req.init) && !request_hurried())
		usleep((useconds_t)(left < WAIT_US ? left : WAIT_US));
}

static int predump_rounds(struct memory_step *s, struct worker *w, int epochfd, struct err *err)
{
	struct tracking *p = &s->tracking;
	uint64_t bytes, before, left;

	if (predump_round(s, w, epochfd, &before, err))
		return -1;
	predump_wait(w);
	while (p->rounds < ROUNDS_MAX) {
		left = predump_count_written(p);
		if (left <= LEFT_SMALL || !PAYS(left, before) || request_hurried())
			return 0;
		if (predump_round(s, w, epochfd, &bytes, err))
			return -1;
		before = bytes;
	}
	predump_count_written(p);
	return 0;
}

/* ---- what tracking.c calls ---------------------------------------------------------- */

bool predump_wanted(const struct worker *w)
{
	return w->conf.pre_dump && w->conf.engine != CONF_ENGINE_CRIU && w->criu.preload[0] &&
	       strcmp(w->req.reason, "preempt") != 0 && strcmp(w->req.reason, "limit") != 0;
}

int predump_run(struct memory_step *s, struct worker *w, int epochfd)
{
	struct err err = { 0 };

	if (!predump_rounds(s, w, epochfd, &err))
		return 0;
	worker_warn(w, "pre-dump: %s; the memory is copied as without one", err.text);
	return -1;
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
