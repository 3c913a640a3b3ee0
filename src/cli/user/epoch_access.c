#include "cli/user/epoch_access.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>

#include "base/util.h"
#include "cli/cli.h"

int epoch_open_store(struct store *s, const struct conf *c, const char *name, struct err *err)
{
	long id;

	if (name[0] == '/')
		return store_open_path(s, name, false, err);
	if (cli_number(name, 1, UINT32_MAX, &id))
		return err_set(err, EINVAL,
			       "\"%s\" is neither the id of a job nor the absolute path of a pod's directory", name);
	return store_open(s, c->dir, (uint32_t)id, false, err);
}

int epoch_open_memory(int epochfd, const struct manifest *m, struct mem_image **image, struct err *err)
{
	cleanup_close int fd = -1;

	*image = NULL;
	if (!m->memory.ours)
		return 0;
	fd = openat(epochfd, "memory", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return err_sys(err, errno, "cannot open the epoch's memory");
	*image = mem_image_open(fd, err);
	return *image ? 0 : -1;
}
