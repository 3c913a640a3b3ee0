#include "criu/dummy_parent.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <sys/stat.h>

#include "base/dir_tree.h"
#include "base/util.h"
#include "criu/criu_image.h"
#include "criu/criu_pagemap.h"
#include "criu_images.pb-c.h"

#define PARENT_LINK   "parent" /* the name of criu's link to the parent in the directory of the child's images */
#define IMAGE_VERSION 2
#define PAGES_ID      1
#define ADDRESSES     (UINT64_C(1) << 47)

static int dummy_parent_write_inventory(int dirfd)
{
	InventoryEntry e = INVENTORY_ENTRY__INIT;
	struct criu_image_buffer b = { 0 };
	int rc;

	e.img_version = IMAGE_VERSION;
	e.has_dump_uptime = 1;
	/* criu takes a process that is younger than the parent for another one with the same pid. With this uptime no
	 * process is younger. */
	e.dump_uptime = UINT64_C(1) << 60;
	criu_image_put_word(&b, CRIU_MAGIC_INVENTORY);
	inventory_entry__pack(&e, criu_image_put_message(&b, inventory_entry__get_packed_size(&e)));
	rc = criu_image_write(dirfd, "inventory.img", O_EXCL, &b);
	free(b.v);
	return rc;
}

static int dummy_parent_write_pagemap(int dirfd, struct err *err)
{
	struct criu_pagemap_entry all = { 0, ADDRESSES / CRIU_PAGE, CRIU_PE_PRESENT };
	const struct criu_pagemap map = { .pages_id = PAGES_ID, .v = &all, .n = 1 };

	return criu_pagemap_store(dirfd, "pagemap-any.img", &map, err);
}

int dummy_parent_make(int images_fd, struct err *err)
{
	const struct criu_image_buffer no_pages = { 0 };
	cleanup_close int dirfd = -1;

	if (mkdirat(images_fd, DUMMY_PARENT, 0700))
		return err_sys(err, errno, "cannot make %s for criu", DUMMY_PARENT);
	dirfd = openat(images_fd, DUMMY_PARENT, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (dirfd < 0 || dummy_parent_write_inventory(dirfd) || criu_image_write(dirfd, "pages-1.img", O_EXCL, &no_pages))
		return err_sys(err, errno, "cannot write %s for criu", DUMMY_PARENT);
	return dummy_parent_write_pagemap(dirfd, err) ? err_wrap(err, "cannot write %s for criu", DUMMY_PARENT) : 0;
}

void dummy_parent_remove(int images_fd)
{
	unlinkat(images_fd, PARENT_LINK, 0);
	remove_tree_at(images_fd, DUMMY_PARENT);
}
