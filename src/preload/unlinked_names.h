/* Names that criu gets for open files that have lost theirs (preload/unlinked_names.c). They are in a file that criu
 * inherits (FSCHED_NAMES=FD in its environment): entries, each followed by the name of len bytes. The worker writes the
 * file when the job is stopped, before criu looks at the files of the job. */
#ifndef FSCHED_PRELOAD_UNLINKED_NAMES_H
#define FSCHED_PRELOAD_UNLINKED_NAMES_H

#include <stdint.h>

/* deleted: the file has no link. A restore makes it again under this name, with the owner uid and gid. */
/* Values of deleted in entries that the library appends (moved_sockets.c). The name is then FROM, a NUL byte, and TO:
 * the name of a socket by bind(), and the name to which its file was renamed or linked. */
#define UNLINKED_NAME_MOVED  2
#define UNLINKED_NAME_LINKED 3
/* The driver of criu appends such an entry for each TCP connection that is to be closed in the restored job
 * (tcp_closed.c). ino: the socket's. The name is for people: "descriptor 5 of process 17 (python3) to 10.0.0.2:7001".
 */
#define UNLINKED_NAME_CLOSED 4

struct unlinked_name {
	uint32_t major, minor;
	uint64_t ino;
	uint32_t len, deleted, uid, gid;
};

#endif
