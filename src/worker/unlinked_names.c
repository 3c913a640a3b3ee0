/* The names that criu is given for open files that have lost theirs: preload/unlinked_names.h has the format. */
#include "preload/unlinked_names.h"

#include <errno.h>
#include <string.h>
#include <sys/sysmacros.h>

#include "base/io.h"
#include "worker/worker.h"

int unlinked_names_write(const struct files_names *x, const struct request *r, int fd, struct err *err)
{
	for (size_t i = 0; i < x->n; i++) {
		const struct files_name *f = &x->v[i];
		const struct unlinked_name e = {
			.major = major(f->dev),
			.minor = minor(f->dev),
			.ino = f->ino,
			.len = (uint32_t)strlen(f->path),
			.deleted = f->deleted,
			.uid = r->uid,
			.gid = r->gid,
		};

		if (write_all(fd, &e, sizeof(e)) || write_all(fd, f->path, e.len))
			return err_sys(err, errno, "cannot hand criu the names of files");
	}
	return 0;
}
