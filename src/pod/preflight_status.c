/* Preflight: credentials, tracers and namespaces of processes. */
#include "pod/preflight_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "common/util.h"

/* Pid 2 of the pod, by whose user and namespaces all others are measured: not pid 1, for criu restores the tree into an IPC
 * namespace of its own. */
int preflight_find_leader(struct scan *s, const pid_t *pids, int n, struct err *err)
{
	char name[64];
	const char *p;

	for (int i = 0; i < n; i++) {
		cleanup_free char *status = NULL;

		snprintf(name, sizeof(name), "%d/status", pids[i]);
		if (read_file_at(s->proc, name, 65536, &status) <= 0)
			continue;
		if (proc_status_number(status, "NSpid", 0) != 2)
			continue;
		p = strstr(status, "\nUid:");
		s->leader = pids[i];
		if (p && sscanf(p, "\nUid: %u", &s->uid) == 1)
			return 0;
	}
	return err_set(err, ESRCH, "the job's first process is gone, the job is ending");
}

/* A program with the set-user-ID bit, above all. Restored it would be a way to become that user. */
static int check_user(const struct scan *s, pid_t pid, const char *status, struct err *err)
{
	const char *p = strstr(status, "\nUid:");
	unsigned id[4];

	if (!p || sscanf(p, "\nUid: %u %u %u %u", &id[0], &id[1], &id[2], &id[3]) != 4)
		return 0;
	for (size_t i = 0; i < ARRAY_SIZE(id); i++)
		if (id[i] != s->uid)
			return preflight_refuse(s, pid, err, "runs under another user than the job", "wait until it has ended");
	return 0;
}

int preflight_status(const struct scan *s, pid_t pid, struct err *err)
{
	cleanup_free char *status = NULL;
	char name[64], what[96];
	int tracer;

	snprintf(name, sizeof(name), "%d/status", pid);
	if (read_file_at(s->proc, name, 65536, &status) <= 0)
		return 0;
	if (strstr(status, "\nState:\tZ") || strstr(status, "\nState:\tX"))
		return 0;
	tracer = (int)proc_status_number(status, "TracerPid", 0);
	if (tracer > 0) {
		snprintf(what, sizeof(what), "is being traced by process %d of the node (a debugger or strace)", tracer);
		return preflight_refuse(s, pid, err, what, "detach it and try again");
	}
	if (!strncmp(status, "Name:\tsrun\n", 11))
		return preflight_refuse(s, pid, err, "is a job step started by srun",
			      "its tasks run outside of the batch script; wait until the step has ended, or start the program without srun");
	return check_user(s, pid, status, err);
}

/* ---- namespaces ---- */

int preflight_namespaces(const struct scan *s, pid_t pid, struct err *err)
{
	static const struct { const char *file, *name; } ns[] = {
		{ "pid", "PID" }, { "mnt", "mount" }, { "user", "user" }, { "ipc", "IPC" }, { "net", "network" },
		{ "uts", "UTS" }, { "cgroup", "cgroup" }, { "time", "time" },
	};
	struct stat a, b;
	char path[64], what[96];

	for (size_t i = 0; i < ARRAY_SIZE(ns); i++) {
		snprintf(path, sizeof(path), "%d/ns/%s", s->leader, ns[i].file);
		if (fstatat(s->proc, path, &a, 0))
			continue;
		snprintf(path, sizeof(path), "%d/ns/%s", pid, ns[i].file);
		if (fstatat(s->proc, path, &b, 0) || (a.st_dev == b.st_dev && a.st_ino == b.st_ino))
			continue;
		snprintf(what, sizeof(what), "is in another %s namespace than the job (a container or unshare)", ns[i].name);
		return preflight_refuse(s, pid, err, what, "");
	}
	return 0;
}
