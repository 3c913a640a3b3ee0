#include "capture/collapse.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/uio.h>

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
#define STEP      (4 * HUGE_PAGE) /* the process's page faults wait for one at a time */
#define NICE      19

struct noted {
	pid_t pid;
	int pidfd;
	struct vmas before;
};

struct mem_huge {
	struct noted *v;
	size_t n;
	pthread_t thread;
	bool running;
	uint64_t bytes;
};

struct mem_huge *mem_huge_new(void)
{
	return xcalloc(1, sizeof(struct mem_huge));
}

void mem_huge_note(struct mem_huge *h, pid_t pid)
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
	h->v = xrealloc(h->v, (h->n + 1) * sizeof(*h->v));
	h->v[h->n++] = x;
}

/* ---- collapsing ------------------------------------------------------------ */

/* False also for a piece of which something is swapped out: that is not worth reading it in. And if another process has
 * a page of it, too, since a fork: it would become a copy. */
static bool is_whole(int pagemap, uint64_t addr)
{
	uint64_t e[HUGE_PAGE / MEM_PAGE];

	if (pread(pagemap, e, sizeof(e), (off_t)(addr / MEM_PAGE * sizeof(*e))) != sizeof(e))
		return false;
	for (size_t i = 0; i < ARRAY_SIZE(e); i++)
		if (!(e[i] & MEM_ENTRY_IN_MEMORY) || !(e[i] & MEM_ENTRY_EXCLUSIVE))
			return false;
	return true;
}

/* False: there is no use in going on. */
static bool collapse(struct mem_huge *h, const struct noted *x, uint64_t addr, uint64_t len)
{
	struct iovec v = { (void *)(uintptr_t)addr, len };
	int64_t began = now_us();
	long got = syscall(SYS_process_madvise, x->pidfd, &v, 1, MADV_COLLAPSE, 0);

	if (got > 0)
		h->bytes += (uint64_t)got;
	/* EINVAL of a piece that cannot be collapsed, or of a kernel that cannot: told apart by whether any could. */
	if (got < 0 &&
	    (errno == ESRCH || errno == ENOSYS || errno == EPERM || errno == ENOMEM || (errno == EINVAL && !h->bytes)))
		return false;
	usleep((useconds_t)(now_us() - began)); /* the process runs for at least half of the time */
	return true;
}

static bool collapse_mapping(struct mem_huge *h, const struct noted *x, int pagemap, const struct vma *v)
{
	uint64_t at = (v->start + HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE, begin = at;

	for (; at + HUGE_PAGE <= v->end; at += HUGE_PAGE) {
		bool whole = is_whole(pagemap, at);

		if (at > begin && (!whole || at - begin == STEP)) {
			if (!collapse(h, x, begin, at - begin))
				return false;
			begin = at;
		}
		if (!whole)
			begin = at + HUGE_PAGE;
	}
	return at <= begin || collapse(h, x, begin, at - begin);
}

static uint64_t huge_within(const struct vmas *m, uint64_t start, uint64_t end)
{
	uint64_t sum = 0;

	for (const struct vma *v = vmas_find(m, start); v && v < m->v + m->n && v->start < end; v++)
		sum += v->huge;
	return sum;
}

static void collapse_process(struct mem_huge *h, const struct noted *x)
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

static void *run(void *arg)
{
	struct mem_huge *h = arg;

	setpriority(PRIO_PROCESS, (id_t)syscall(SYS_gettid), NICE);
	for (size_t i = 0; i < h->n; i++)
		collapse_process(h, &h->v[i]);
	return NULL;
}

void mem_huge_begin(struct mem_huge *h)
{
	if (h->n)
		h->running = pthread_create(&h->thread, NULL, run, h) == 0;
}

uint64_t mem_huge_end(struct mem_huge *h)
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
