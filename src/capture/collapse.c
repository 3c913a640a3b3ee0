#include "capture/collapse.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#include "base/array.h"
#include "base/proc.h"
#include "base/clock.h"
#include "base/util.h"
#include "image/image.h"
#include "capture/pagemap.h"
#include "base/vmas.h"

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif

#define HUGE_PAGE (2ull << 20)
#define STEP      (4 * HUGE_PAGE) /* bytes per call: page faults of the process wait for it */
#define NICE      19

struct noted {
	pid_t pid;
	int pidfd;
	struct vmas before;
};

struct mem_collapse {
	struct noted *v;
	size_t n, room;
	pthread_t thread;
	bool running;
	uint64_t bytes;
};

struct mem_collapse *mem_collapse_new(void)
{
	return xcalloc(1, sizeof(struct mem_collapse));
}

void mem_collapse_note(struct mem_collapse *h, pid_t pid)
{
	struct noted x = { .pid = pid };
	uint64_t huge = 0;

	if (vmas_read_filled(pid, &x.before, NULL))
		return;
	for (size_t i = 0; i < x.before.n; i++)
		huge += x.before.v[i].huge;
	x.pidfd = huge ? pidfd_open(pid, 0) : -1;
	if (x.pidfd < 0) {
		vmas_free(&x.before);
		return;
	}
	array_reserve(h->v, h->n, h->room);
	h->v[h->n++] = x;
}

/* ---- collapsing ------------------------------------------------------------ */

/* True if all small pages of a huge page are in memory and exclusive to the process. A swapped-out page is not worth
 * reading in; a page that is shared since a fork would become a copy. */
static bool collapse_is_whole(int pagemap, uint64_t addr)
{
	uint64_t e[HUGE_PAGE / MEM_PAGE];

	if (pread(pagemap, e, sizeof(e), (off_t)(addr / MEM_PAGE * sizeof(*e))) != sizeof(e))
		return false;
	for (size_t i = 0; i < ARRAY_SIZE(e); i++)
		if (!(e[i] & MEM_ENTRY_IN_MEMORY) || !(e[i] & MEM_ENTRY_EXCLUSIVE))
			return false;
	return true;
}

/* False: further calls for this process would fail, too. */
static bool collapse_range(struct mem_collapse *h, const struct noted *x, uint64_t addr, uint64_t len)
{
	struct iovec v = { (void *)(uintptr_t)addr, len };
	int64_t began = now_us();
	long got = syscall(SYS_process_madvise, x->pidfd, &v, 1, MADV_COLLAPSE, 0);

	if (got > 0)
		h->bytes += (uint64_t)got;
	/* EINVAL means that this range cannot be collapsed, or that the kernel has no MADV_COLLAPSE. It is the latter
	 * if no range could be collapsed before. */
	if (got < 0 &&
	    (errno == ESRCH || errno == ENOSYS || errno == EPERM || errno == ENOMEM || (errno == EINVAL && !h->bytes)))
		return false;
	usleep((useconds_t)(now_us() - began)); /* the process runs for at least half of the time */
	return true;
}

static bool collapse_mapping(struct mem_collapse *h, const struct noted *x, int pagemap, const struct vma *v)
{
	uint64_t at = (v->start + HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE, begin = at;

	for (; at + HUGE_PAGE <= v->end; at += HUGE_PAGE) {
		bool whole = collapse_is_whole(pagemap, at);

		if (at > begin && (!whole || at - begin == STEP)) {
			if (!collapse_range(h, x, begin, at - begin))
				return false;
			begin = at;
		}
		if (!whole)
			begin = at + HUGE_PAGE;
	}
	return at <= begin || collapse_range(h, x, begin, at - begin);
}

static uint64_t huge_within(const struct vmas *m, uint64_t start, uint64_t end)
{
	uint64_t sum = 0;

	for (const struct vma *v = vmas_find(m, start); v && v < m->v + m->n && v->start < end; v++)
		sum += v->huge;
	return sum;
}

static void collapse_process(struct mem_collapse *h, const struct noted *x)
{
	cleanup_close int pagemap = open_proc(x->pid, "pagemap", O_RDONLY);
	struct vmas now;

	if (pagemap < 0 || vmas_read_filled(x->pid, &now, NULL))
		return;
	for (size_t i = 0; i < x->before.n; i++) {
		const struct vma *v = &x->before.v[i];

		if (v->huge > huge_within(&now, v->start, v->end) && !collapse_mapping(h, x, pagemap, v))
			break;
	}
	vmas_free(&now);
}

static void *collapse_thread(void *arg)
{
	struct mem_collapse *h = arg;

	setpriority(PRIO_PROCESS, (id_t)syscall(SYS_gettid), NICE);
	for (size_t i = 0; i < h->n; i++)
		collapse_process(h, &h->v[i]);
	return NULL;
}

void mem_collapse_begin(struct mem_collapse *h)
{
	if (h->n)
		h->running = pthread_create(&h->thread, NULL, collapse_thread, h) == 0;
}

uint64_t mem_collapse_end(struct mem_collapse *h)
{
	uint64_t bytes;

	if (!h)
		return 0;
	if (h->running)
		pthread_join(h->thread, NULL);
	for (size_t i = 0; i < h->n; i++) {
		close(h->v[i].pidfd);
		vmas_free(&h->v[i].before);
	}
	bytes = h->bytes;
	free(h->v);
	free(h);
	return bytes;
}
