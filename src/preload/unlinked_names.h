/* Names that criu gets for open files that have lost theirs (preload/unlinked_names.c). They are in a file that criu
 * inherits (FSCHED_NAMES=FD in its environment): entries, each followed by the name of len bytes. The worker writes the
 * file when the job is stopped, before criu looks at the files of the job. */
#ifndef FSCHED_PRELOAD_UNLINKED_NAMES_H
#define FSCHED_PRELOAD_UNLINKED_NAMES_H

#include <stdint.h>

/* deleted: the file has no link. A restore makes it again under this name, with the owner uid and gid. */
struct unlinked_name {
	uint32_t major, minor;
	uint64_t ino;
	uint32_t len, deleted, uid, gid;
};

#endif
