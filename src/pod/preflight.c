/* The checks before a checkpoint, in their order. */
#include "pod/preflight.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/proc.h"
#include "base/util.h"
#include "pod/preflight_internal.h"

/* First what the processes are, then what they have open: that a debugger runs says more than the files that it has
 * open. */
static int preflight_processes(struct preflight_scan *s, struct err *err)
{
	const struct preflight_job *job = s->job;

	for (int i = 0; i < job->n; i++)
		if (preflight_namespaces(s, job->pids[i], err) || preflight_status(s, job->pids[i], err))
			return -1;
	for (int i = 0; i < job->n; i++)
		if (preflight_fds(s, job->pids[i], err) || preflight_maps(s, job->pids[i], err))
			return -1;
	return preflight_tty_pairs(s, err);
}

int preflight(const struct preflight_job *job, struct err *err)
{
	cleanup_close int proc = open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct preflight_scan s = { .job = job, .proc = proc };
	int rc;

	if (proc < 0)
		return err_sys(err, errno, "cannot open /proc");
	s.access = access_list_new();
	rc = preflight_find_leader(&s, err) || preflight_processes(&s, err) ? -1 : 0;
	if (rc == 0)
		rc = preflight_watches(&s, err) || preflight_tcp(&s, err) || preflight_access(&s, err) ||
				     preflight_confined(&s, err)
			     ? -1
			     : 0;
	access_list_free(s.access);
	mount_table_free(s.pod_mounts);
	mount_table_free(s.own_mounts);
	watch_list_free(&s.nameless);
	watch_list_free(&s.watches);
	free(s.suspects);
	free(s.ttys);
	free(s.devices);
	free(s.sockets);
	return rc;
}

int preflight_stopped(const struct preflight_job *job, struct err *err)
{
	cleanup_close int proc = open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct preflight_scan s = { .job = job, .proc = proc };

	if (proc < 0)
		return err_sys(err, errno, "cannot open /proc");
	return preflight_find_leader(&s, err) || preflight_namespaces(&s, s.leader, err) ? -1 : 0;
}
