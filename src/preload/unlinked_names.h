/* Names that criu is told instead of those that are gone (preload/unlinked_names.c): a file, inherited as
 * FSCHED_NAMES=FD in criu's environment, of entries, each followed by len bytes, the name. The worker writes it when
 * the job is stopped and before criu looks at its files. */
#ifndef FSCHED_PRELOAD_UNLINKED_NAMES_H
#define FSCHED_PRELOAD_UNLINKED_NAMES_H

#include <stdint.h>

/* deleted: of a file without a link, which a restore makes again under that name, as uid's and gid's. */
struct unlinked_name {
	uint32_t major, minor;
	uint64_t ino;
	uint32_t len, deleted, uid, gid;
};

#endif
