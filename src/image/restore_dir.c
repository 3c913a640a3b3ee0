#include "image/restore_dir.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#include "base/dir.h"
#include "base/array.h"
#include "base/io.h"
#include "base/util.h"
#include "criu/criu_pagemap.h"
#include "image/criu_export.h"
#include "criu/criu_ghost.h"
#include "image/ghost_data.h"
#include "image/ranges.h"
#include "image/space_id.h"

#define CRIU_PARENT "parent" /* criu's name for the directory of parent images, in the directory of images */

struct restore_dir {
	struct mem_image *image;
	int criufd, dirfd, threads;
	const uint8_t *token; /* NULL: all memory is written into the images */
	const struct mem_fork_family *family;
	bool export; /* no file may be a link to one of the epoch */
};

/* Images of criu that refer to pages of the memory image, and are written anew. */
struct replaced_images {
	struct replaced_image {
		uint64_t id;
		uint32_t pages;
	} * v; /* id of the space; N of its pages-N.img */
	size_t n, room;
};

static void replaced_images_add(struct replaced_images *r, uint64_t id, uint32_t pages)
{
	array_reserve(r->v, r->n, r->room);
	r->v[r->n++] = (struct replaced_image){ id, pages };
}

static char *shared_name(uint64_t id, char buf[48])
{
	snprintf(buf, 48, "pagemap-shmem-%llu.img", (unsigned long long)(id & ~MEM_SHARED_ID));
	return buf;
}

/* Checks that the memory image has all pages that criu's list refers to its parent. mem_image_read_pages() fills in the
 * pages that the image has and does not know the list, so a page that the image lacks would be restored as zeros.
 * (mem_criu_export_pages() makes this check itself.) */
static int restore_dir_check_image_pages(const struct restore_dir *x, const char *name, const struct criu_pagemap *p,
					 struct err *err)
{
	struct mem_ranges ours = { 0 }, lacks = { 0 };
	int rc = 0;

	for (size_t i = 0; i < p->n; i++)
		if (p->v[i].flags & CRIU_PE_PARENT)
			mem_ranges_add(&ours, (uint64_t)criu_pagemap_pid(name), p->v[i].addr,
				       p->v[i].addr + p->v[i].npages * MEM_PAGE);
	mem_ranges_not_in_image(&lacks, ours.v, ours.n, x->image);
	if (lacks.n)
		rc = err_set(
			err, EBADMSG,
			"memory/image lacks %llu pages of process %d, the first at 0x%llx, that are in no image of criu's either",
			(unsigned long long)lacks.pages, criu_pagemap_pid(name), (unsigned long long)lacks.v[0].addr);
	mem_ranges_free(&ours);
	mem_ranges_free(&lacks);
	return rc;
}

static char *list_name(uint64_t id, char buf[48])
{
	snprintf(buf, 48, "pagemap-%llu.img", (unsigned long long)id);
	return buf;
}

static bool restore_dir_any_image_pages(const struct criu_pagemap *p)
{
	for (size_t i = 0; i < p->n; i++)
		if (p->v[i].flags & CRIU_PE_PARENT)
			return true;
	return false;
}

/* Which pages of a process are written into criu's images. */
static struct mem_criu_export_parts restore_dir_parts_of(const struct restore_dir *x, uint64_t id)
{
	static const struct mem_ranges none;
	const struct mem_fork_member *m = mem_fork_family_member(x->family, id);

	return (struct mem_criu_export_parts){ m ? &m->from : NULL, !x->token ? NULL : m ? &m->own : &none };
}

/* A list of pages: notes it if pages of the memory image have to be written with it; else writes it without them. */
static int restore_dir_take_pagemap(const struct restore_dir *x, const char *name, struct replaced_images *r,
				    struct err *err)
{
	const uint64_t id = (uint64_t)criu_pagemap_pid(name);
	const struct mem_criu_export_parts parts = restore_dir_parts_of(x, id);
	struct criu_pagemap p = { 0 };
	int rc = 0;

	if (criu_pagemap_load(x->criufd, name, &p, err))
		return -1;
	if (x->token && restore_dir_check_image_pages(x, name, &p, err)) {
		criu_pagemap_free(&p);
		return -1;
	}
	if (restore_dir_any_image_pages(&p) && (!parts.own || parts.own->n)) {
		replaced_images_add(r, id, p.pages_id);
	} else {
		mem_criu_export_filter(&p, &parts);
		rc = criu_pagemap_store(x->dirfd, name, &p, err);
	}
	criu_pagemap_free(&p);
	return rc;
}

/* Notes the shared memory objects and the deleted files of the memory image. */
static int restore_dir_list_objects(const struct restore_dir *x, struct replaced_images *r, struct err *err)
{
	size_t n = 0;
	const struct mem_space *s = x->image ? mem_image_spaces(x->image, &n) : NULL;
	char name[48];

	for (size_t i = 0; i < n; i++) {
		struct criu_pagemap p = { 0 };

		if (mem_is_ghost(s[i].id))
			replaced_images_add(r, s[i].id, 0);
		if (!mem_is_shared(s[i].id))
			continue;
		if (criu_pagemap_load(x->criufd, shared_name(s[i].id, name), &p, err))
			return -1;
		replaced_images_add(r, s[i].id, p.pages_id);
		criu_pagemap_free(&p);
	}
	return 0;
}

static bool restore_dir_is_replaced(const struct replaced_images *r, const char *name)
{
	char pages[32], list[48], ghost[CRIU_GHOST_NAME_MAX];

	for (size_t i = 0; i < r->n; i++) {
		if (mem_is_ghost(r->v[i].id)) {
			if (!strcmp(criu_ghost_name((uint32_t)r->v[i].id, ghost), name))
				return true;
			continue;
		}
		snprintf(pages, sizeof(pages), "pages-%u.img", r->v[i].pages);
		if (!strcmp(pages, name) || (mem_is_shared(r->v[i].id) && !strcmp(shared_name(r->v[i].id, list), name)))
			return true;
	}
	return false;
}

static int restore_dir_copy(const struct restore_dir *x, const char *name)
{
	cleanup_close int from = openat(x->criufd, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	cleanup_close int to = openat(x->dirfd, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	cleanup_free char *buf = xmalloc(1 << 20);
	ssize_t n;

	if (from < 0 || to < 0)
		return -1;
	if (ioctl(to, FICLONE, from) == 0)
		return 0;
	while ((n = read(from, buf, 1 << 20)) > 0)
		if (write_all(to, buf, (size_t)n))
			return -1;
	return n < 0 ? -1 : 0;
}

/* Calls fn for every image. */
static int restore_dir_each(const struct restore_dir *x,
			    int (*fn)(const struct restore_dir *x, const char *name, struct replaced_images *r,
				      struct err *err),
			    struct replaced_images *r, struct err *err)
{
	cleanup_dir DIR *d = dir_open_at(x->criufd, ".");
	const struct dirent *e;
	int more = -1, rc = 0;

	while (!rc && d && (more = dir_next(d, &e)) > 0)
		if (e->d_name[0] != '.')
			rc = fn(x, e->d_name, r, err);
	return more < 0 ? err_sys(err, errno, "cannot read the epoch's images") : rc;
}

static int restore_dir_take_lists(const struct restore_dir *x, const char *name, struct replaced_images *r,
				  struct err *err)
{
	return criu_pagemap_pid(name) ? restore_dir_take_pagemap(x, name, r, err) : 0;
}

static int restore_dir_link_others(const struct restore_dir *x, const char *name, struct replaced_images *r,
				   struct err *err)
{
	if (criu_pagemap_pid(name) || restore_dir_is_replaced(r, name))
		return 0;
	if ((!x->export && linkat(x->criufd, name, x->dirfd, name, 0) == 0) || restore_dir_copy(x, name) == 0)
		return 0;
	return err_sys(err, errno, "cannot provide image %s for criu", name);
}

/* Writes the images of a shared memory object that has one page with a mark. */
static int restore_dir_write_mark(const struct restore_dir *x, const struct replaced_image *r, const char *name,
				  struct err *err)
{
	struct criu_pagemap_entry entry = { 0, 1, CRIU_PE_PRESENT };
	const struct criu_pagemap p = { .pages_id = r->pages, .v = &entry, .n = 1 };
	uint8_t page[MEM_PAGE] = { 0 };
	cleanup_close int fd = -1;
	struct mem_mark mark;
	char pages[32];

	mem_mark_make(&mark, x->token, r->id);
	memcpy(page, &mark, sizeof(mark));
	snprintf(pages, sizeof(pages), "pages-%u.img", r->pages);
	fd = openat(x->dirfd, pages, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0 || write_all(fd, page, sizeof(page)))
		return err_sys(err, errno, "cannot write image %s", pages);
	return criu_pagemap_store(x->dirfd, name, &p, err);
}

static int restore_dir_write_anew(const struct restore_dir *x, const struct replaced_image *r, struct err *err)
{
	const struct mem_read_opts o = { .threads = x->threads };
	char name[48];

	if (mem_is_ghost(r->id))
		return ghost_data_write(x->image, r->id, (uint32_t)r->id, x->criufd, x->dirfd, &o, err);
	if (!mem_is_shared(r->id)) {
		const struct mem_criu_export_parts parts = restore_dir_parts_of(x, r->id);

		if (mem_criu_export_pages(x->image, r->id, (int)r->id, x->criufd, x->dirfd, &parts, &o, NULL, err))
			return err_wrap(err, "the memory of process %d", (int)r->id);
		return 0;
	}
	if (x->token)
		return restore_dir_write_mark(x, r, shared_name(r->id, name), err);
	return mem_criu_export_shared(x->image, r->id, shared_name(r->id, name), x->criufd, x->dirfd, &o, err);
}

/* ---- parent images ---------------------------------------------------------- */

static int restore_dir_link_parent(const struct restore_dir *x, int parentfd, const struct mem_fork_member *m,
				   struct err *err)
{
	struct criu_pagemap p = { 0 };
	char list[48], of[48], pages[32];

	if (criu_pagemap_load(x->dirfd, list_name(m->origin, of), &p, err))
		return -1;
	snprintf(pages, sizeof(pages), "pages-%u.img", p.pages_id);
	criu_pagemap_free(&p);
	if (linkat(x->dirfd, of, parentfd, list_name(m->id, list), 0) ||
	    (linkat(x->dirfd, pages, parentfd, pages, 0) && errno != EEXIST))
		return err_sys(err, errno, "cannot provide %s as a parent image of process %d", of, (int)m->id);
	return 0;
}

/* The parent image of a process consists of the list and the pages of its origin. criu takes the pages that it needs.
 */
static int restore_dir_make_parents(const struct restore_dir *x, struct err *err)
{
	cleanup_close int fd = -1;
	int rc = 0;

	if (mkdirat(x->dirfd, CRIU_PARENT, 0700) ||
	    (fd = openat(x->dirfd, CRIU_PARENT, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)) < 0)
		return err_sys(err, errno, "cannot make the directory of parent images for criu");
	for (size_t i = 0; i < x->family->n && !rc; i++)
		if (x->family->v[i].origin)
			rc = restore_dir_link_parent(x, fd, &x->family->v[i], err);
	return rc;
}

static int restore_dir_fill(const struct restore_dir *x, struct err *err)
{
	struct replaced_images r = { 0 };
	int rc = restore_dir_each(x, restore_dir_take_lists, &r, err) || restore_dir_list_objects(x, &r, err) ||
				 restore_dir_each(x, restore_dir_link_others, &r, err)
			 ? -1
			 : 0;

	for (size_t i = 0; i < r.n && !rc; i++)
		rc = restore_dir_write_anew(x, &r.v[i], err);
	if (!rc && x->family && x->family->n)
		rc = restore_dir_make_parents(x, err);
	free(r.v);
	return rc;
}

int mem_restore_dir_make(struct mem_image *m, int criufd, int dirfd, const uint8_t *token,
			 const struct mem_fork_family *f, int threads, struct err *err)
{
	const struct restore_dir x = { m, criufd, dirfd, threads, token, f, false };

	return restore_dir_fill(&x, err);
}

int mem_restore_dir_export(struct mem_image *m, int criufd, int dirfd, int threads, struct err *err)
{
	const struct restore_dir x = { .image = m, .criufd = criufd, .dirfd = dirfd, .threads = threads, .export = true };

	return restore_dir_fill(&x, err);
}
