#include "pod/preflight.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/proc.h"
#include "base/util.h"
#include "pod/preflight_internal.h"

int preflight_refuse(const struct scan *s, pid_t pid, struct err *err, const char *what, const char *advice)
{
	char who[PROC_DESCRIBED];

	return err_set(err, 0, "%s %s, which cannot be checkpointed%s%s", proc_describe(pid, who, sizeof(who)), what,
		       advice[0] ? "; " : "", advice);
}

int preflight_inner(const struct scan *s, pid_t pid)
{
	for (int i = 0; i < s->job->n; i++)
		if (s->job->pids[i] == pid)
			return s->job->inner[i];
	return 0;
}

/* What the processes are comes first: what a debugger has open says less than that there is one. */
static int check_processes(struct scan *s, struct err *err)
{
	const struct preflight_job *job = s->job;

	for (int i = 0; i < job->n; i++)
		if (preflight_namespaces(s, job->pids[i], err) || preflight_status(s, job->pids[i], err))
			return -1;
	for (int i = 0; i < job->n; i++)
		if (preflight_fds(s, job->pids[i], err) || preflight_maps(s, job->pids[i], err))
			return -1;
	return 0;
}

int preflight(const struct preflight_job *job, struct err *err)
{
	cleanup_close int proc = open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct scan s = { .job = job, .proc = proc };
	int rc;

	if (proc < 0)
		return err_sys(err, errno, "cannot open /proc");
	s.access = access_list_new();
	rc = preflight_find_leader(&s, err) || check_processes(&s, err) ? -1 : 0;
	if (rc == 0)
		rc = preflight_tcp(&s, err) || preflight_access(&s, err) || preflight_confined(&s, err) ? -1 : 0;
	access_list_free(s.access);
	free(s.suspects);
	free(s.devices);
	free(s.sockets);
	return rc;
}

int preflight_stopped(const struct preflight_job *job, struct err *err)
{
	cleanup_close int proc = open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct scan s = { .job = job, .proc = proc };

	if (proc < 0)
		return err_sys(err, errno, "cannot open /proc");
	return preflight_find_leader(&s, err) || preflight_namespaces(&s, s.leader, err) ? -1 : 0;
}
