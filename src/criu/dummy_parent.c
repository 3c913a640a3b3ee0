#include "criu/dummy_parent.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>

#include "base/dir_tree.h"
#include "base/io.h"
#include "base/util.h"

/* Magic numbers of criu's images. */
#define COMMON_MAGIC    0x54564319u
#define PAGEMAP_MAGIC   0x56084025u
#define INVENTORY_MAGIC 0x58313116u

#define PE_PRESENT      4
#define CRIU_LINK       "parent" /* criu's name for a parent in the child's directory */

struct image {
	uint8_t bytes[512];
	size_t n;
};

static void put_word(struct image *im, uint32_t v)
{
	memcpy(im->bytes + im->n, &v, sizeof(v));
	im->n += sizeof(v);
}

static void put_varint(struct image *im, uint64_t v)
{
	for (; v >= 128; v >>= 7)
		im->bytes[im->n++] = (uint8_t)(v | 128);
	im->bytes[im->n++] = (uint8_t)v;
}

static void put_field(struct image *im, unsigned number, uint64_t v)
{
	put_varint(im, number << 3);
	put_varint(im, v);
}

/* A message is preceded by its length: begin, fields, end. */
static size_t begin_message(struct image *im)
{
	put_word(im, 0);
	return im->n;
}

static void end_message(struct image *im, size_t start)
{
	uint32_t len = (uint32_t)(im->n - start);

	memcpy(im->bytes + start - sizeof(len), &len, sizeof(len));
}

/* img_version 2; dump_uptime so late that no process is younger: criu takes younger ones for others with the same pid.
 */
static void make_inventory(struct image *im)
{
	size_t m;

	put_word(im, INVENTORY_MAGIC);
	m = begin_message(im);
	put_field(im, 1, 2);
	put_field(im, 8, 1ULL << 60);
	end_message(im, m);
}

/* Pages id 1, and all addresses up to 2^47: the number of pages had 32 bits up to criu 4.1 (field 2), it has 64 since
 * (field 5). */
static void make_pagemap(struct image *im)
{
	size_t m;

	put_word(im, COMMON_MAGIC);
	put_word(im, PAGEMAP_MAGIC);
	m = begin_message(im);
	put_field(im, 1, 1);
	end_message(im, m);
	for (uint64_t part = 0; part < 16; part++) {
		m = begin_message(im);
		put_field(im, 1, part << 43);
		put_field(im, 2, 1ULL << 31);
		put_field(im, 4, PE_PRESENT);
		put_field(im, 5, 1ULL << 31);
		end_message(im, m);
	}
}

static int dummy_parent_write(int dirfd, const char *name, const struct image *im)
{
	cleanup_close int fd = openat(dirfd, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);

	return fd < 0 || write_all(fd, im->bytes, im->n) ? -1 : 0;
}

int dummy_parent_make(int images_fd, struct err *err)
{
	struct image inventory = { .n = 0 }, pagemap = { .n = 0 }, pages = { .n = 0 };
	cleanup_close int dirfd = -1;

	make_inventory(&inventory);
	make_pagemap(&pagemap);
	if (mkdirat(images_fd, DUMMY_PARENT, 0700))
		return err_sys(err, errno, "cannot make %s for criu", DUMMY_PARENT);
	dirfd = openat(images_fd, DUMMY_PARENT, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (dirfd < 0 || dummy_parent_write(dirfd, "inventory.img", &inventory) ||
	    dummy_parent_write(dirfd, "pagemap-any.img", &pagemap) || dummy_parent_write(dirfd, "pages-1.img", &pages))
		return err_sys(err, errno, "cannot write %s for criu", DUMMY_PARENT);
	return 0;
}

void dummy_parent_remove(int images_fd)
{
	unlinkat(images_fd, CRIU_LINK, 0);
	remove_tree_at(images_fd, DUMMY_PARENT);
}
