#include "memory/images.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "common/util.h"
#include "memory/criu_pagemap.h"
#include "memory/export.h"
#include "memory/split.h"

struct images {
	struct mem_image *image;
	int  criufd, dirfd, threads;
	bool whole;
};

/* What refers to memory/. */
struct refers {
	pid_t *pids;
	uint32_t *pages;   /* N of their pages-N.img */
	size_t n;
};

static void refers_free(struct refers *r)
{
	free(r->pids);
	free(r->pages);
}

static void drop_ours(struct criu_pagemap *p)
{
	size_t kept = 0;

	for (size_t i = 0; i < p->n; i++)
		if (!(p->v[i].flags & CRIU_PE_PARENT))
			p->v[kept++] = p->v[i];
	p->n = kept;
}

/* A list of pages: written without what is ours, or noted. */
static int take_pagemap(const struct images *x, const char *name, struct refers *r, struct err *err)
{
	struct criu_pagemap p = { 0 };
	size_t n;
	int rc;

	if (criu_pagemap_load(x->criufd, name, &p, err))
		return -1;
	n = p.n;
	drop_ours(&p);
	if (p.n == n || !x->whole) {
		rc = criu_pagemap_store(x->dirfd, name, &p, err);
	} else {
		r->pids = xrealloc(r->pids, (r->n + 1) * sizeof(*r->pids));
		r->pages = xrealloc(r->pages, (r->n + 1) * sizeof(*r->pages));
		r->pids[r->n] = mem_pagemap_pid(name);
		r->pages[r->n++] = p.pages_id;
		rc = 0;
	}
	criu_pagemap_free(&p);
	return rc;
}

static bool is_replaced(const struct refers *r, const char *name)
{
	char pages[32];

	for (size_t i = 0; i < r->n; i++) {
		snprintf(pages, sizeof(pages), "pages-%u.img", r->pages[i]);
		if (!strcmp(pages, name))
			return true;
	}
	return false;
}

static int copy_image(const struct images *x, const char *name)
{
	cleanup_close int from = openat(x->criufd, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	cleanup_close int to = openat(x->dirfd, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	cleanup_free char *buf = xmalloc(1 << 20);
	ssize_t n;

	if (from < 0 || to < 0)
		return -1;
	while ((n = read(from, buf, 1 << 20)) > 0)
		if (write_all(to, buf, (size_t)n))
			return -1;
	return n < 0 ? -1 : 0;
}

/* Calls fn for every image. */
static int each_image(const struct images *x, int (*fn)(const struct images *x, const char *name, struct refers *r, struct err *err),
		      struct refers *r, struct err *err)
{
	int fd = openat(x->criufd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), rc = 0;
	cleanup_dir DIR *d = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *e;

	if (!d)
		return err_sys(err, errno, "cannot read the epoch's images");
	while (!rc && (e = readdir(d)))
		if (e->d_name[0] != '.')
			rc = fn(x, e->d_name, r, err);
	return rc;
}

static int take_lists(const struct images *x, const char *name, struct refers *r, struct err *err)
{
	return mem_pagemap_pid(name) ? take_pagemap(x, name, r, err) : 0;
}

static int take_others(const struct images *x, const char *name, struct refers *r, struct err *err)
{
	if (mem_pagemap_pid(name) || is_replaced(r, name))
		return 0;
	if (linkat(x->criufd, name, x->dirfd, name, 0) == 0 || copy_image(x, name) == 0)
		return 0;
	return err_sys(err, errno, "cannot provide image %s for criu", name);
}

static int materialise(const struct images *x, const struct refers *r, struct err *err)
{
	const struct mem_read_opts o = { .threads = x->threads };

	for (size_t i = 0; i < r->n; i++)
		if (mem_export_pages(x->image, (uint64_t)r->pids[i], r->pids[i], x->criufd, x->dirfd, &o, NULL, err))
			return err_wrap(err, "the memory of process %d", r->pids[i]);
	return 0;
}

int mem_images_make(struct mem_image *m, int criufd, int dirfd, bool whole, int threads, struct err *err)
{
	const struct images x = { m, criufd, dirfd, threads, whole };
	struct refers r = { 0 };
	int rc = each_image(&x, take_lists, &r, err) || each_image(&x, take_others, &r, err) || materialise(&x, &r, err) ? -1 : 0;

	refers_free(&r);
	return rc;
}
