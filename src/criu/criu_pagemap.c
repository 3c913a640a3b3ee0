#include "criu/criu_pagemap.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <string.h>

#include "base/array.h"
#include "base/io.h"
#include "base/util.h"
#include "criu/criu_image.h"
#include "criu_pagemap.pb-c.h"

#define MESSAGE_MAX 64u /* bytes; both messages are shorter */
#define IMAGE_MAX   (1u << 30)
#define RUN_MAX     (1u << 31) /* pages: fits the 32 bits of criu up to 4.1 */
#define ADDR_MAX    (UINT64_C(1) << 63)

void criu_pagemap_free(struct criu_pagemap *p)
{
	free(p->v);
	memset(p, 0, sizeof(*p));
}

void criu_pagemap_add(struct criu_pagemap *p, struct criu_pagemap_entry e)
{
	array_reserve(p->v, p->n, p->room);
	p->v[p->n++] = e;
}

/* ---- reading ----------------------------------------------------------- */

static int pagemap_damaged(struct err *err, const char *what)
{
	return err_set(err, EBADMSG, "criu's pagemap is damaged: %s", what);
}

static bool pagemap_next_message(const uint8_t **p, size_t *left, struct criu_message *m)
{
	return criu_message_next(p, left, m) == 0 && m->len <= MESSAGE_MAX;
}

static uint32_t pagemap_entry_flags(const CriuPagemapRun *r)
{
	if (r->has_flags)
		return r->flags;
	return r->has_in_parent && r->in_parent ? CRIU_PE_PARENT : CRIU_PE_PRESENT;
}

static int pagemap_take_entry(const CriuPagemapRun *r, const struct criu_pagemap *p, struct criu_pagemap_entry *e,
			      struct err *err)
{
	const uint32_t known = CRIU_PE_PARENT | CRIU_PE_LAZY | CRIU_PE_PRESENT;
	uint64_t floor = p->n > 0 ? p->v[p->n - 1].addr + p->v[p->n - 1].npages * CRIU_PAGE : 0;

	e->addr = r->vaddr;
	e->npages = r->has_nr_pages ? r->nr_pages : r->has_compat_nr_pages ? r->compat_nr_pages : 0;
	e->flags = pagemap_entry_flags(r);
	if (e->flags & ~known)
		return pagemap_damaged(err, "unknown flags");
	if (e->addr % CRIU_PAGE != 0 || e->npages == 0 || e->addr > ADDR_MAX ||
	    e->npages > (ADDR_MAX - e->addr) / CRIU_PAGE)
		return pagemap_damaged(err, "an entry that is no range of pages");
	if (e->addr < floor)
		return pagemap_damaged(err, "entries that overlap or are not ascending");
	return 0;
}

static int pagemap_parse_entries(const uint8_t *p, size_t left, struct criu_pagemap *out, struct err *err)
{
	struct criu_message m;

	while (left > 0) {
		struct criu_pagemap_entry e;
		CriuPagemapRun *r;
		int rc;

		if (!pagemap_next_message(&p, &left, &m) || !(r = criu_pagemap_run__unpack(NULL, m.len, m.v)))
			return pagemap_damaged(err, "an entry cannot be understood");
		rc = pagemap_take_entry(r, out, &e, err);
		criu_pagemap_run__free_unpacked(r, NULL);
		if (rc < 0)
			return -1;
		criu_pagemap_add(out, e);
	}
	return 0;
}

int criu_pagemap_parse(const void *buf, size_t len, struct criu_pagemap *out, struct err *err)
{
	const uint8_t *p = buf;
	CriuPagemapHead *head;
	struct criu_message m;

	memset(out, 0, sizeof(*out));
	if (criu_image_check(&p, &len, CRIU_MAGIC_COMMON, CRIU_MAGIC_PAGEMAP))
		return pagemap_damaged(err, "it does not begin as one");
	if (!pagemap_next_message(&p, &len, &m) || !(head = criu_pagemap_head__unpack(NULL, m.len, m.v)))
		return pagemap_damaged(err, "its head cannot be understood");
	out->pages_id = head->pages_id;
	criu_pagemap_head__free_unpacked(head, NULL);
	if (pagemap_parse_entries(p, len, out, err) == 0)
		return 0;
	criu_pagemap_free(out);
	return -1;
}

int criu_pagemap_load(int dirfd, const char *name, struct criu_pagemap *p, struct err *err)
{
	cleanup_free char *buf = NULL;
	ssize_t len = read_file_at(dirfd, name, IMAGE_MAX, &buf);

	memset(p, 0, sizeof(*p));
	if (len < 0)
		return err_sys(err, errno, "cannot read image %s", name);
	return criu_pagemap_parse(buf, (size_t)len, p, err) < 0 ? err_wrap(err, "image %s", name) : 0;
}

/* ---- writing ----------------------------------------------------------- */

static void pagemap_put_run(struct criu_image_buffer *o, uint64_t addr, uint32_t npages, uint32_t flags)
{
	CriuPagemapRun r = CRIU_PAGEMAP_RUN__INIT;

	r.vaddr = addr;
	r.has_compat_nr_pages = r.has_nr_pages = r.has_flags = true;
	r.compat_nr_pages = npages;
	r.nr_pages = npages;
	r.flags = flags;
	criu_pagemap_run__pack(&r, criu_image_put_message(o, criu_pagemap_run__get_packed_size(&r)));
}

static void pagemap_render(const struct criu_pagemap *p, struct criu_image_buffer *o)
{
	CriuPagemapHead head = CRIU_PAGEMAP_HEAD__INIT;

	head.pages_id = p->pages_id;
	criu_image_put_word(o, CRIU_MAGIC_COMMON);
	criu_image_put_word(o, CRIU_MAGIC_PAGEMAP);
	criu_pagemap_head__pack(&head, criu_image_put_message(o, criu_pagemap_head__get_packed_size(&head)));
	for (size_t i = 0; i < p->n; i++) {
		struct criu_pagemap_entry e = p->v[i];

		while (e.npages > 0) {
			uint32_t n = e.npages < RUN_MAX ? (uint32_t)e.npages : RUN_MAX;

			pagemap_put_run(o, e.addr, n, e.flags);
			e.addr += (uint64_t)n * CRIU_PAGE;
			e.npages -= n;
		}
	}
}

int criu_pagemap_store(int dirfd, const char *name, const struct criu_pagemap *p, struct err *err)
{
	struct criu_image_buffer o = { 0 };
	int rc;

	pagemap_render(p, &o);
	rc = criu_image_write(dirfd, name, O_TRUNC, &o) ? err_sys(err, errno, "cannot write image %s", name) : 0;
	free(o.v);
	return rc;
}

pid_t criu_pagemap_pid(const char *name)
{
	return criu_image_pid(name, "pagemap-");
}
