/* The memory of a checkpoint, taken by fsched's own engine.
 *
 * Before the freeze the way of taking the memory is chosen for each process (capture/cost.h), and memory for copies is
 * allocated. In the freeze the snapshot is taken. It is written after the thaw, or in the freeze if the tree stays
 * frozen anyway (vacate) or if a process can only be written directly. */
#include "worker/worker.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "base/array.h"
#include "base/dir.h"
#include "base/dir_tree.h"
#include "base/io.h"
#include "base/text.h"
#include "base/util.h"
#include "capture/headroom.h"
#include "capture/probe.h"
#include "capture/usage.h"
#include "criu/dummy_parent.h"

#define KEPT_RESERVE    (4u << 20) /* bytes for what stays in criu's images, besides MEMORY_KEPT for each process */
#define DRAIN_NICE      10
/* Until the freeze a process may grow by SLACK bytes, and up to SLACK_PROCESSES processes by SLACK_EACH more. */
#define SLACK(bytes)    ((bytes) / 8)
#define SLACK_EACH      (1u << 20)
#define SLACK_PROCESSES 16

/* ---- before the freeze ----------------------------------------------------- */

static void memory_read_usage(struct memory_step *s, const struct tree *t)
{
	s->wanted = xcalloc((size_t)t->n + 1, sizeof(*s->wanted));
	s->n_wanted = t->n;
	for (int i = 0; i < t->n; i++) {
		s->wanted[i].host = t->pids[i];
		if (mem_usage_read(t->pids[i], &s->wanted[i].usage))
			continue; /* the process has ended */
		s->shared += s->wanted[i].usage.shared;
	}
}

static void memory_sample(struct memory_step *s, const struct tree *t)
{
	cleanup_free struct mem_rewriting *r = xcalloc((size_t)t->n + 1, sizeof(*r));
	cleanup_free uint64_t *anon = xcalloc((size_t)t->n + 1, sizeof(*anon));

	for (int i = 0; i < t->n; i++)
		anon[i] = s->wanted[i].usage.anon;
	mem_sample(t->pids, anon, (size_t)t->n, r);
	for (int i = 0; i < t->n; i++)
		s->wanted[i].rewriting = r[i];
}

static void memory_note_huge(struct memory_step *s)
{
	if (s->huge)
		return; /* a pre-dump, which splits huge pages, has done it before its rounds */
	s->huge = mem_collapse_new();
	for (int i = 0; i < s->n_wanted; i++)
		if (s->wanted[i].usage.huge)
			mem_collapse_note(s->huge, s->wanted[i].host);
}

static enum mem_method forced_way(const struct worker *w, enum mem_method r)
{
	return fault(w, FAULT_FORCE_DIRECT)   ? MEM_DIRECT
	       : fault(w, FAULT_FORCE_STAGED) ? MEM_STAGED
	       : fault(w, FAULT_FORCE_FORK)   ? MEM_FORKED
					      : r;
}

/* The bytes that will probably have to be taken of process i. */
static uint64_t bytes_to_take(struct memory_step *s, const struct tree *t, int i)
{
	uint64_t all = s->wanted[i].usage.anon, same = s->wanted[i].fork_shared, expected;

	all -= same < all ? same : all;
	return tracking_expects(&s->tracking, (uint64_t)t->inner[i], &expected) && expected < all ? expected : all;
}

/* Chooses the way for each process. room: bytes available for copies. Returns the bytes to allocate for copies. */
static uint64_t memory_choose_ways(struct memory_step *s, const struct worker *w, const struct tree *t, uint64_t room)
{
	uint64_t reserve, all = 0;
	struct mem_node node;

	reserve = (uint64_t)(s->n_wanted < SLACK_PROCESSES ? s->n_wanted : SLACK_PROCESSES) * SLACK_EACH;
	mem_probe_node(&node);
	room -= room < reserve ? room : reserve;
	s->cow_room = mem_headroom(w->req.init);
	for (int i = 0; i < s->n_wanted; i++)
		all += bytes_to_take(s, t, i);
	for (int i = 0; i < s->n_wanted; i++) {
		struct memory_wanted *m = &s->wanted[i];
		const uint64_t take = bytes_to_take(s, t, i), bytes = take + SLACK(take);
		const struct mem_cost_input c = {
			.bytes = take,
			.mapped = m->usage.anon,
			.huge = m->usage.huge,
			.drain = all,
			.rewriting = m->rewriting,
			.room = room,
			.cow_room = s->cow_room,
			.may_fork = true,
		};

		m->method = mem_choose_method(&node, &c, m->why, sizeof(m->why));
		m->method = forced_way(w, m->method);
		if (m->method != MEM_STAGED)
			continue;
		reserve += bytes;
		room -= room < bytes ? room : bytes;
	}
	return reserve;
}

/* The copy counts against the job's memory limit. If the job grows meanwhile, the OOM killer is to choose the worker,
 * not the job.
 */
static void memory_offer_to_oom(void)
{
	cleanup_close int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);

	if (fd >= 0 && write_all(fd, "1000", 4))
		errno = 0;
}

void memory_begin(struct memory_step *s, struct worker *w, int criufd)
{
	const int threads = w->conf.threads ? (int)w->conf.threads : (int)sysconf(_SC_NPROCESSORS_ONLN);
	uint64_t reserve = 0, room;
	struct err err = { 0 };
	struct tree t;

	if (memory_why_criu(w)) {
		snprintf(s->why_criu, sizeof(s->why_criu), "%s", memory_why_criu(w));
		return;
	}
	if (tree_read(w->req.init, &t, &err)) {
		snprintf(s->why_criu, sizeof(s->why_criu), "%.300s", err.text);
		return;
	}
	if (dummy_parent_make(criufd, &err)) {
		snprintf(s->why_criu, sizeof(s->why_criu), "%.300s", err.text);
		worker_warn(w, "criu writes the memory itself: %s", err.text);
	} else {
		s->on = true;
		memory_read_usage(s, &t);
		memory_offer_to_oom();
		room = mem_headroom(getpid());
		if (!s->leave_shared)
			memory_shared_begin(s, w, &t, &room);
		if (!w->req.vacate) {
			memory_note_huge(s);
			memory_fork_shared_scan(s, &t);
			memory_sample(s, &t);
			reserve = memory_choose_ways(s, w, &t, room);
		}
		s->stats = xcalloc(1, sizeof(*s->stats));
		s->snapshot = mem_snapshot_new(reserve + KEPT_RESERVE + (uint64_t)t.n * MEMORY_KEPT, threads);
	}
	tree_free(&t);
}

/* ---- in the freeze ----------------------------------------------------------- */

static bool is_stopped(const struct criu_facts *f, pid_t pid)
{
	for (size_t i = 0; i < f->n_stopped; i++)
		if (f->stopped[i] == pid)
			return true;
	return false;
}

static void process_set_way(const struct memory_step *s, const struct worker *w, struct mem_process *p,
			    const struct criu_facts *f)
{
	const struct memory_wanted *m = memory_wanted(s, p->split.host);

	if (w->req.vacate) {
		p->wanted = MEM_DIRECT;
		snprintf(p->why, sizeof(p->why), "the job stays frozen");
		return;
	}
	p->wanted = m ? m->method : MEM_STAGED;
	snprintf(p->why, sizeof(p->why), "%s", m ? m->why : "it is new");
	/* No fork: a stop signal to the process, or to the child, would interfere with it. */
	if (p->wanted == MEM_FORKED && (is_stopped(f, p->split.inner) || f->subreaper)) {
		p->wanted = MEM_STAGED;
		snprintf(p->why, sizeof(p->why), "%s",
			 f->subreaper ? "a process of the job adopts orphans, it would see the child of a fork"
				      : "it is stopped by a signal");
	}
}

static int add_process(struct memory_step *s, const struct worker *w, int criufd, const struct tree *t,
		       const struct criu_facts *f, pid_t inner, struct err *err)
{
	pid_t host = tree_host_of(t, (uint64_t)inner);
	struct mem_process *p;

	if (!host)
		return err_set(err, ESRCH, "criu has saved a process %d that is not found", inner);
	array_reserve(s->procs, s->n_procs, s->procs_room);
	p = &s->procs[s->n_procs];
	memset(p, 0, sizeof(*p));
	if (mem_split_make(&p->split, criufd, inner, host, f->rseq, f->n_rseq, err))
		return -1;
	s->n_procs++;
	mem_ranges_without(&p->take, p->split.ours, p->split.n_ours, s->tracking.clean.v, s->tracking.clean.n);
	process_set_way(s, w, p, f);
	return 0;
}

static int process_by_inner(const void *a, const void *b)
{
	const struct mem_process *x = a, *y = b;

	return x->split.inner < y->split.inner ? -1 : x->split.inner > y->split.inner;
}

static int add_processes(struct memory_step *s, const struct worker *w, int criufd, const struct criu_facts *f,
			 struct err *err)
{
	cleanup_dir DIR *d = dir_open_at(criufd, ".");
	const struct dirent *e;
	int more = -1, rc = 0;
	struct tree t;
	pid_t inner;

	if (tree_read(w->req.init, &t, err))
		return -1;
	while (!rc && d && (more = dir_next(d, &e)) > 0)
		if ((inner = criu_pagemap_pid(e->d_name)) > 0)
			rc = add_process(s, w, criufd, &t, f, inner, err);
	if (more < 0)
		rc = err_sys(err, errno, "cannot read the directory of criu's images");
	tree_free(&t);
	if (s->n_procs)
		qsort(s->procs, s->n_procs, sizeof(*s->procs), process_by_inner);
	return rc;
}

/* ---- private and shared memory as one source ---------------------------------------------- */

struct two_sources {
	struct mem_source snapshot;
	const struct mem_shared *objects;
};

static int read_two_sources(void *arg, uint64_t id, uint64_t addr, void *buf, size_t len)
{
	const struct two_sources *b = arg;

	return mem_is_object(id) ? mem_shared_read(b->objects, id, addr, buf, len)
				 : b->snapshot.read(b->snapshot.arg, id, addr, buf, len);
}

/* All ranges to write, private and shared. The caller frees. */
static struct mem_range *memory_all_work(const struct memory_step *s, size_t *n)
{
	size_t n_private, n_shared = 0;
	const struct mem_range *private = mem_snapshot_ranges(s->snapshot, &n_private);
	const struct mem_range *shared = s->objects ? mem_shared_ranges(s->objects, &n_shared) : NULL;
	struct mem_range *v = xcalloc(n_private + n_shared + 1, sizeof(*v));

	for (size_t i = 0; i < n_private; i++)
		v[i] = private[i];
	for (size_t i = 0; i < n_shared; i++)
		v[n_private + i] = shared[i];
	*n = n_private + n_shared;
	return v;
}

/* Counts what is stored, from the finished image: with a pre-dump it includes what the rounds have stored. */
static int memory_count_stored(struct memory_step *s, int dirfd, struct err *err)
{
	cleanup_mem_image struct mem_image *image = mem_image_open(dirfd, err);
	struct mem_totals t;

	if (!image)
		return -1;
	mem_image_totals(image, &t);
	s->stats->scanned += s->tracking.scanned;
	s->stats->pages = t.pages;
	s->stats->zero = t.zero;
	s->stats->reused = t.older_pages;
	s->stats->raw = t.pages - t.zero - t.older_pages;
	s->stats->stored = t.own;
	s->stats->linked_files = t.older_files;
	return 0;
}

/* previous: NULL for a full image. */
static int memory_write_work(struct memory_step *s, const struct worker *w, int epochfd, struct mem_image *previous,
			     bool frozen, struct err *err)
{
	struct two_sources both = { mem_snapshot_source(s->snapshot), s->objects };
	const struct mem_source source = { read_two_sources, &both };
	cleanup_free struct mem_range *work = NULL;
	cleanup_close int dirfd = -1;
	struct mem_write_opts o;
	size_t n;

	work = memory_all_work(s, &n);
	if (!n)
		return 0;
	if (mkdirat(epochfd, "memory", 0700) && errno != EEXIST)
		return err_sys(err, errno, "cannot make the directory for the job's memory");
	dirfd = openat(epochfd, "memory", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (dirfd < 0)
		return err_sys(err, errno, "cannot open the directory for the job's memory");
	memory_write_opts(w, &o);
	o.nice = frozen ? 0 : DRAIN_NICE;
	o.previous = previous;
	o.compare = true;
	o.clean = s->tracking.clean.v;
	o.n_clean = s->tracking.clean.n;
	o.fork_shared = &s->fork_shared;
	if (mem_image_write(dirfd, w->req.epoch, &source, work, n, &o, s->stats, err))
		return -1;
	mem_probe_note_drain(s->stats->scanned, s->stats->wall_us);
	return s->tracking.image || s->tracking.clean.n ? memory_count_stored(s, dirfd, err) : 0;
}

/* Writing an increment may read chunks of older epochs (compaction) and then find them damaged. */
static bool is_image_damage(const struct err *err)
{
	return err->num == EBADMSG || err->num == EIO || err->num == ENODATA;
}

static int memory_write_image(struct memory_step *s, struct worker *w, int epochfd, int criufd, bool frozen,
			      struct err *err)
{
	struct mem_image *previous = tracking_image(s);

	if (mem_snapshot_write_kept(s->snapshot, criufd, err))
		return -1;
	s->written = true;
	if (previous)
		return memory_write_work(s, w, epochfd, previous, frozen, err);
	previous = memory_previous(s, w);
	if (!memory_write_work(s, w, epochfd, previous, frozen, err)) {
		if (previous)
			mem_probe_note_compare(s->stats->scanned, s->stats->raw, s->stats->cpu_us);
		return 0;
	}
	if (!previous || !is_image_damage(err) || remove_tree_at(epochfd, "memory"))
		return -1;
	worker_warn(w, "the memory is saved in full, because epoch %u cannot be continued: %.500s",
		    mem_image_epoch(previous), err->text);
	return memory_write_work(s, w, epochfd, NULL, frozen, err);
}

/* Writes the image in the freeze: there was no memory for a copy, or the job is to stay frozen anyway. */
static int memory_write_frozen(struct memory_step *s, struct worker *w, int epochfd, int criufd,
			       const struct criu_dump *d, struct err *err)
{
	if (freeze_allow(w, d, w->req.vacate ? conf_checkpoint_seconds(&w->conf) : freeze_limit(w, 0, w->memory), err))
		return -1;
	fault_hang(w, FAULT_HANG_IN_WRITE);
	return memory_write_image(s, w, epochfd, criufd, true, err);
}

int memory_freeze(struct memory_step *s, struct worker *w, int epochfd, int criufd, const struct criu_dump *d,
		  struct err *err)
{
	struct criu_facts f;
	const int tracer_fd = d->remote_call;
	int rc;

	if (!s->on)
		return 0;
	s->failed = true;
	fault_die(w, FAULT_DIE_BEFORE_SNAPSHOT);
	fault_criu_dies(w, FAULT_CRIU_DIES_BEFORE_SNAPSHOT, w->req.init);
	fault_target_dies(w, FAULT_TARGET_DIES);
	fault_hang(w, FAULT_HANG_BEFORE_SNAPSHOT);
	fault_criu_hangs(w, FAULT_CRIU_HANGS_IN_CALL, w->req.init);
	if (fault(w, FAULT_SNAPSHOT_FAILS))
		return err_set(err, 0, "a fault on purpose");
	if (criu_read_facts(criufd, &f, err))
		return -1;
	tracking_freeze(s);
	rc = add_processes(s, w, criufd, &f, err);
	fault_in_call(w, FAULT_CRIU_DIES_IN_CALL, tracer_fd);
	if (!rc)
		memory_fork_shared_freeze(s);
	if (!rc)
		rc = mem_snapshot_take(s->snapshot, s->procs, s->n_procs, f.subreaper || w->req.vacate ? -1 : tracer_fd,
				       s->cow_room, err);
	if (!rc)
		rc = memory_shared_freeze(s, w, &f, criufd, tracer_fd, err);
	criu_facts_free(&f);
	fault_hang(w, FAULT_HANG_AFTER_SNAPSHOT);
	fault_die(w, FAULT_DIE_AFTER_SNAPSHOT);
	fault_criu_dies(w, FAULT_CRIU_DIES_AFTER_SNAPSHOT, w->req.init);
	if (!rc && (mem_snapshot_needs_freeze(s->snapshot) || (s->objects && mem_shared_needs_freeze(s->objects))))
		rc = memory_write_frozen(s, w, epochfd, criufd, d, err);
	if (rc)
		return err_wrap(err, "the job's memory cannot be saved");
	s->failed = false;
	return 0;
}

/* ---- after it ------------------------------------------------------------------ */

static void memory_warn_dropped(const struct memory_step *s, struct worker *w)
{
	for (size_t i = 0; i < s->n_procs; i++)
		if (s->procs[i].fell_back)
			worker_warn(w, "memory of process %d: %s instead of %s, because: %s", s->procs[i].split.inner,
				    mem_method_name(s->procs[i].method), mem_method_name(s->procs[i].wanted),
				    s->procs[i].why);
}

/* Bytes of shared memory. *ghosts: the part that is in deleted files. */
static uint64_t memory_shared_bytes(const struct memory_step *s, uint64_t *ghosts)
{
	size_t n = 0;
	const struct mem_range *v = s->objects ? mem_shared_ranges(s->objects, &n) : NULL;
	uint64_t bytes = 0;

	*ghosts = 0;
	for (size_t i = 0; i < n; i++) {
		bytes += v[i].npages * MEM_PAGE;
		*ghosts += mem_is_ghost(v[i].id) ? v[i].npages * MEM_PAGE : 0;
	}
	return bytes;
}

/* criu does not report that it has left nothing out. If the library is loaded but never called (a criu that makes other
 * calls than those that the library replaces), nothing fails: only the freeze takes as long as with criu alone. Returns
 * the bytes of private memory that criu has written itself. */
static uint64_t memory_not_elided(const struct memory_step *s)
{
	uint64_t anon = 0;

	for (size_t i = 0; i < s->n_procs; i++)
		if (s->procs[i].split.kept_pages || s->procs[i].split.our_pages)
			return 0;
	for (int i = 0; i < s->n_wanted; i++)
		anon += s->wanted[i].usage.anon;
	return anon;
}

#define NOT_ELIDED "criu has written the job's private memory itself although it was to leave it to fsched"

static void warn_not_elided(const struct memory_step *s, struct worker *w)
{
	const uint64_t bytes = memory_not_elided(s);
	char size[16];

	if (bytes)
		worker_warn(w,
			    NOT_ELIDED " (%s): the freeze depends on its size; `fsched doctor' on this node may tell why",
			    format_size(bytes, size, sizeof(size)));
}

/* Describes a memory that criu has written. */
static void memory_describe_criu(struct manifest *m, const char *why)
{
	snprintf(m->memory.method, sizeof(m->memory.method), MANIFEST_CRIU);
	snprintf(m->memory.why, sizeof(m->memory.why), "%s", why);
}

static void memory_describe_small(struct manifest *m)
{
	char size[16];

	snprintf(m->memory.method, sizeof(m->memory.method), MANIFEST_SMALL);
	snprintf(m->memory.why, sizeof(m->memory.why),
		 "no area of it is as large as %s, so all of it is in criu's images",
		 format_size(MEM_PIECE_MIN * MEM_PAGE, size, sizeof(size)));
}

/* Describes the way of the largest process, such as "fork" with the reason "process 12, 2 GiB: copy 130 ms, fork 60 ms
 * with what is rewritten". */
static void memory_describe_method(const struct memory_step *s, struct manifest *m)
{
	const struct mem_process *largest = NULL;
	char size[16];

	for (size_t i = 0; i < s->n_procs; i++)
		if (!largest || s->procs[i].split.our_pages > largest->split.our_pages)
			largest = &s->procs[i];
	m->memory.increment = s->stats->linked_files > 0;
	if (!m->memory.ours) {
		if (memory_not_elided(s))
			memory_describe_criu(m, NOT_ELIDED);
		else
			memory_describe_small(m);
		return;
	}
	if (!largest || !largest->split.our_pages) {
		snprintf(m->memory.method, sizeof(m->memory.method), "%s",
			 mem_method_name(s->objects && mem_shared_needs_freeze(s->objects) ? MEM_DIRECT : MEM_STAGED));
		snprintf(m->memory.why, sizeof(m->memory.why), "there is shared memory only");
		return;
	}
	snprintf(m->memory.method, sizeof(m->memory.method), "%s", mem_method_name(largest->method));
	snprintf(m->memory.why, sizeof(m->memory.why), "process %d, %s: %s", largest->split.inner,
		 format_size(largest->take.pages * MEM_PAGE, size, sizeof(size)), largest->why);
}

static void memory_fill_manifest(const struct memory_step *s, struct manifest *m)
{
	m->memory.ours = s->stats->pages > 0;
	m->memory.pages = s->stats->pages;
	m->memory.zero = s->stats->zero;
	m->memory.reused = s->stats->reused;
	m->memory.scanned = s->stats->scanned;
	m->memory.raw = s->stats->raw;
	m->memory.stored = s->stats->stored;
	m->memory.shared = s->shared;
	m->memory.objects = memory_shared_bytes(s, &m->memory.ghosts);
	m->memory.rounds = s->tracking.rounds;
	snprintf(m->memory.tracking, sizeof(m->memory.tracking), "%s",
		 mem_tracking_name(tracking_image(s) ? s->tracking.how : MEM_TRACK_NONE));
	for (size_t i = 0; i < s->n_procs; i++)
		m->memory.taken += s->procs[i].take.pages * MEM_PAGE;
	for (size_t i = 0; i < s->n_procs; i++)
		m->memory.criu += s->procs[i].split.kept_pages * MEM_PAGE;
	memory_describe_method(s, m);
}

int memory_finish(struct memory_step *s, struct worker *w, int epochfd, int criufd, struct manifest *m, struct err *err)
{
	if (!s->on) {
		memory_describe_criu(m, s->why_criu);
		return 0;
	}
	dummy_parent_remove(criufd);
	if (!s->written) {
		event_phase("memory");
		fault_die(w, FAULT_DIE_IN_DRAIN);
		if (memory_write_image(s, w, epochfd, criufd, false, err)) {
			s->failed = true;
			return err_wrap(err, "the job's memory cannot be saved");
		}
	}
	if (s->stats->unreadable || mem_snapshot_unreadable(s->snapshot))
		worker_warn(w, "%llu pages of the job's memory cannot be read by anybody and are saved as zeros",
			    (unsigned long long)(s->stats->unreadable / MEM_PAGE + mem_snapshot_unreadable(s->snapshot)));
	fault_die(w, FAULT_DIE_AFTER_DRAIN);
	memory_fill_manifest(s, m);
	warn_not_elided(s, w);
	memory_warn_dropped(s, w);
	/* Ends the children of forks: from now on writes of the job cause no more copies of pages. */
	mem_snapshot_free(s->snapshot);
	mem_shared_free(s->objects);
	s->snapshot = NULL;
	s->objects = NULL;
	tracking_decide(s, w);
	predump_end(&s->tracking, epochfd);
	if (s->huge)
		mem_collapse_begin(s->huge);
	return 0;
}

void memory_end(struct memory_step *s, int epochfd)
{
	mem_snapshot_free(s->snapshot);
	mem_shared_free(s->objects);
	tracking_end(s, epochfd);
	mem_collapse_end(s->huge);
	for (size_t i = 0; i < s->n_procs; i++) {
		mem_split_free(&s->procs[i].split);
		mem_ranges_free(&s->procs[i].take);
	}
	mem_fork_shared_free(&s->fork_shared);
	free(s->procs);
	free(s->wanted);
	free(s->stats);
	if (s->previous.image)
		mem_image_close(s->previous.image);
	*s = (struct memory_step){ 0 };
}
