/* Moves the processes of a pod into the cgroups of their supervisor, because slurmstepd moves only the task that it
 * knows. */
#include "pod/pod.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/text.h"
#include "base/util.h"
#include "pod/pod_internal.h"

/* Splits a line "ID:CONTROLLERS:PATH" of /proc/PID/cgroup in place. */
static bool cgroup_split_line(char *line, char **controllers, char **path)
{
	line[strcspn(line, "\n")] = '\0';
	*controllers = strchr(line, ':');
	*path = *controllers ? strchr(*controllers + 1, ':') : NULL;
	if (!*path)
		return false;
	*(*controllers)++ = '\0';
	*(*path)++ = '\0';
	return true;
}

/* True if pid is in that cgroup, or has ended. */
static bool cgroup_has(pid_t pid, const char *controllers, const char *path)
{
	cleanup_file FILE *f = NULL;
	cleanup_free char *line = NULL;
	char name[64], *c, *p;
	size_t cap = 0;

	snprintf(name, sizeof(name), "/proc/%d/cgroup", pid);
	f = fopen(name, "re");
	if (!f)
		return true;
	while (getline(&line, &cap, f) > 0)
		if (cgroup_split_line(line, &c, &p) && !strcmp(c, controllers))
			return !strcmp(p, path);
	return true;
}

/* True if the comma-separated list has all items of the comma-separated list want. */
static bool cgroup_has_options(const char *list, const char *want)
{
	size_t n;
	const char *p;

	for (; *want; want += n + (want[n] == ',')) {
		n = strcspn(want, ",");
		for (p = list; *p; p += strcspn(p, ","), p += *p == ',')
			if (strcspn(p, ",") == n && !strncmp(p, want, n))
				break;
		if (!*p)
			return false;
	}
	return true;
}

char *pod_cgroup_directory(const char *controllers, const char *path)
{
	cleanup_file FILE *f = fopen("/proc/self/mountinfo", "re");
	cleanup_free char *line = NULL;
	char root[4096], at[4096], *type, *super;
	size_t cap = 0, n;

	while (f && getline(&line, &cap, f) > 0) {
		type = strstr(line, " - ");
		if (!type || sscanf(line, "%*d %*d %*s %4095s %4095s", root, at) != 2)
			continue;
		type += 3;
		super = strrchr(type, ' ') + 1;
		super[strcspn(super, "\n")] = '\0';
		if (controllers[0] ? strncmp(type, "cgroup ", 7) || !cgroup_has_options(super, controllers)
				   : strncmp(type, "cgroup2 ", 8))
			continue;
		unescape_octal(root);
		unescape_octal(at);
		n = strcmp(root, "/") ? strlen(root) : 0;
		if (!strncmp(path, root, n) && (path[n] == '/' || path[n] == '\0'))
			return xasprintf("%s%s", at, path + n);
	}
	return NULL;
}

static int cgroup_move_all(const char *controllers, const char *path, const pid_t *pids, int n, struct err *err)
{
	const char *name = controllers[0] ? controllers : "version 2";
	cleanup_free char *dir = NULL;
	cleanup_free char *file = NULL;
	cleanup_close int fd = -1;
	char text[16];
	int i;

	for (i = 0; i < n; i++) {
		if (cgroup_has(pids[i], controllers, path))
			continue;
		if (fd < 0) {
			dir = pod_cgroup_directory(controllers, path);
			if (!dir)
				return err_set(err, ENOENT,
					       "cannot move the pod to cgroup %s (%s): that hierarchy is not mounted",
					       path, name);
			file = xasprintf("%s/cgroup.procs", dir);
			fd = open(file, O_WRONLY | O_CLOEXEC);
			if (fd < 0)
				return err_sys(err, errno, "cannot open %s", file);
		}
		snprintf(text, sizeof(text), "%d", pids[i]);
		if (write(fd, text, strlen(text)) < 0 && errno != ESRCH)
			return err_sys(err, errno, "cannot move process %d of the pod to cgroup %s (%s)", pids[i], path,
				       name);
	}
	return 0;
}

int pod_join_my_cgroups(const pid_t *pids, int n, struct err *err)
{
	cleanup_file FILE *f = fopen("/proc/self/cgroup", "re");
	cleanup_free char *line = NULL;
	char *controllers, *path;
	size_t cap = 0;
	cpu_set_t cpus;
	int i;

	if (!f)
		return err_sys(err, errno, "cannot read /proc/self/cgroup");
	while (getline(&line, &cap, f) > 0)
		if (cgroup_split_line(line, &controllers, &path) && cgroup_move_all(controllers, path, pids, n, err))
			return -1;
	/* After the move, because a cpuset may have reset the affinity. */
	if (sched_getaffinity(0, sizeof(cpus), &cpus))
		return errno == EINVAL ? 0 /* more than 1024 CPUs */ : err_sys(err, errno, "cannot read the CPU affinity");
	for (i = 0; i < n; i++)
		if (sched_setaffinity(pids[i], sizeof(cpus), &cpus) && errno != ESRCH)
			return err_sys(err, errno, "cannot set the CPU affinity of process %d of the pod", pids[i]);
	return 0;
}

void pod_leave_cgroups(void)
{
	cleanup_file FILE *f = fopen("/proc/self/cgroup", "re");
	cleanup_free char *line = NULL;
	const pid_t self = getpid();
	char *controllers, *path;
	size_t cap = 0;

	while (f && getline(&line, &cap, f) > 0)
		if (cgroup_split_line(line, &controllers, &path))
			cgroup_move_all(controllers, "/", &self, 1, NULL);
}
