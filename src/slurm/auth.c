#include "slurm/auth.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "base/util.h"

#define MUNGE_DEFAULT "/run/munge/munge.socket.2"

/* The plugins do not use libmunge, which a program of Slurm may have loaded already in another version. */
static int auth_connect(const char *path)
{
	cleanup_close int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct sockaddr_un a = { .sun_family = AF_UNIX };

	if (fd < 0)
		return -1;
	snprintf(a.sun_path, sizeof(a.sun_path), "%s", path);
	/* EAGAIN: it listens, and is busy */
	return connect(fd, (struct sockaddr *)&a, sizeof(a)) == 0 || errno == EAGAIN ? 0 : -1;
}

int auth_check_munge(const char *type, const char *socket, struct err *err)
{
	const char *path = *socket ? socket : MUNGE_DEFAULT;

	if (!type || !*type || strcasecmp(type, "auth/munge") == 0 || auth_connect(path) == 0)
		return 0;
	return err_set(err, errno,
		       "AuthType of this cluster is %s, and no munged answers at %s (%s). fsched needs MUNGE besides: install it on "
		       "all hosts, with the same key, and start munged",
		       type, path, strerror(errno));
}
