#include "pod/outer_namespaces.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#define ADVICE \
	"; take CLONE_NEWPID and CLONE_NEWUSER out of clone_ns_flags in Slurm's namespace.yaml for nodes that run such jobs"

static int namespaces_read(const char *name, char text[NAMESPACE_NAME])
{
	const ssize_t n = readlink(name, text, NAMESPACE_NAME - 1);

	text[n > 0 ? n : 0] = '\0';
	return n > 0 ? 0 : -1;
}

void outer_namespaces_note(char user[NAMESPACE_NAME])
{
	namespaces_read("/proc/self/ns/user", user);
}

int outer_namespaces_check(const char *user, struct err *err)
{
	char now[NAMESPACE_NAME], children[NAMESPACE_NAME];

	/* A process that has entered only the mount namespace has the /proc of a PID namespace in which it is not. */
	if (namespaces_read("/proc/self/ns/pid", now))
		return err_set(err, errno,
			       errno == ENOENT ? "Slurm's namespace plugin has given it a PID namespace of its own" ADVICE
					       : "/proc/self/ns/pid cannot be read");
	/* ENOENT: it has no process yet */
	if (namespaces_read("/proc/self/ns/pid_for_children", children) || strcmp(now, children) != 0)
		return err_set(err, EINVAL, "Slurm's namespace plugin has given it a PID namespace of its own" ADVICE);
	if (*user && namespaces_read("/proc/self/ns/user", now) == 0 && strcmp(user, now) != 0)
		return err_set(err, EINVAL, "Slurm's namespace plugin has given it a user namespace of its own" ADVICE);
	return 0;
}
