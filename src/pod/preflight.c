#include "pod/preflight.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/util.h"
#include "pod/preflight_internal.h"

const char *preflight_describe(const struct scan *s, pid_t pid, char *buf, size_t len)
{
	cleanup_free char *status = NULL;
	char name[64], comm[64] = "?", clean[64];
	int inner = pid;

	snprintf(name, sizeof(name), "%d/status", pid);
	if (read_file_at(s->proc, name, 65536, &status) > 0) {
		sscanf(status, "Name:\t%63[^\n]", comm);
		inner = (int)proc_status_number(status, "NSpid", pid);
	}
	snprintf(buf, len, "process %d (%s)", inner, printable(comm, clean, sizeof(clean)));
	return buf;
}

int preflight_refuse(const struct scan *s, pid_t pid, struct err *err, const char *what, const char *advice)
{
	char who[160];

	return err_set(err, 0, "%s %s, which cannot be checkpointed%s%s", preflight_describe(s, pid, who, sizeof(who)), what,
		       advice[0] ? "; " : "", advice);
}

int preflight(const pid_t *pids, int n, pid_t init, int agent_port, struct err *err)
{
	cleanup_close int proc = open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct scan s = { .proc = proc };
	int rc;

	if (proc < 0)
		return err_sys(err, errno, "cannot open /proc");
	rc = preflight_find_leader(&s, pids, n, err);
	for (int i = 0; i < n && rc == 0; i++) {
		rc = preflight_status(&s, pids[i], err);
		if (rc == 0)
			rc = preflight_namespaces(&s, pids[i], err);
		if (rc == 0)
			rc = preflight_fds(&s, pids[i], err);
		if (rc == 0)
			rc = preflight_maps(&s, pids[i], err);
	}
	if (rc == 0)
		rc = preflight_tcp(&s, agent_port, err);
	free(s.sockets);
	return rc;
}
