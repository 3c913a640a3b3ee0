/* POSIX ACLs. A file of its own, because the SPANK plugin needs nothing else of what records files. */
#include "files/files_internal.h"

#include <errno.h>
#include <sys/xattr.h>

bool file_has_acl(int fd)
{
	return fgetxattr(fd, "system.posix_acl_access", NULL, 0) >= 0 || (errno != ENODATA && errno != EOPNOTSUPP);
}
