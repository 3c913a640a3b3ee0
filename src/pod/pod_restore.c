#include "pod/pod.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "base/util.h"
#include "pod/alone.h"
#include "pod/pod_internal.h"
#include "pod/pod_tmp.h"

/* The fixed arguments: fsched-init restore CTLFD IMAGESFD WORKFD CALLFD LASTPID -- */
enum { INIT_ARGS = 8, FDS = 4 };

static char **pod_restore_init_argv(const struct pod_restore *r, const int *fds)
{
	char **v;
	int i, n = 0;

	while (r->argv[n])
		n++;
	v = xcalloc((size_t)n + INIT_ARGS + 1, sizeof(*v));
	v[0] = xstrdup("fsched-init");
	v[1] = xstrdup("restore");
	for (i = 0; i < FDS; i++)
		v[2 + i] = xasprintf("%d", fds[i]);
	v[6] = xasprintf("%d", r->last_pid);
	v[7] = xstrdup("--");
	for (i = 0; i < n; i++)
		v[INIT_ARGS + i] = r->argv[i];
	return v;
}

static int pod_restore_run_init(const struct pod_spec *spec, const struct pod_restore *r, struct err *err)
{
	const int given[FDS] = { r->ctl, r->images_fd, r->work_fd, r->remote_call };
	char path[4200];
	cleanup_free int *kept = xcalloc(FDS + POD_TMP_FDS + (size_t)r->n_terminal_fds, sizeof(*kept));
	int fds[FDS], i, n = r->remote_call < 0 ? FDS - 1 : FDS;

	if ((spec->alone && alone_cgroup_enter(spec->alone, err)) || pod_make_namespace(spec, err))
		return -1;
	if (r->pre && r->pre(r->arg, err))
		return -1;
	/* Above 12, because fsched-init gives criu its descriptors as 10 to 12. 0 = none. */
	fds[FDS - 1] = 0;
	for (i = 0; i < n; i++) {
		fds[i] = fcntl(given[i], F_DUPFD_CLOEXEC, 13);
		if (fds[i] < 0)
			return err_sys(err, errno, "cannot duplicate descriptor %d for the pod", given[i]);
		kept[i] = fds[i];
	}
	pod_tmp_keep(spec, kept, &n);
	for (i = 0; i < r->n_terminal_fds; i++)
		if (fcntl(POD_TERMINALS_FD + i, F_GETFD) >= 0)
			kept[n++] = POD_TERMINALS_FD + i;
	snprintf(path, sizeof(path), "%s/fsched-init", spec->libexec);
	/* The arguments are not freed: the process executes another program or ends. */
	pod_exec(path, pod_restore_init_argv(r, fds), r->envp, kept, n, err);
	return -1;
}

int pod_restore(const struct pod_spec *spec, const struct pod_restore *r, struct pod *pod, struct err *err)
{
	int rep[2];
	cleanup_close int mine = -1;
	cleanup_close int theirs = -1;
	struct report report = { 0 };
	struct err failure = { 0 };
	int got;

	*pod = (struct pod){ -1, -1, -1 };
	got = report_pair(rep, err);
	mine = rep[0];
	theirs = rep[1];
	if (got)
		return -1;
	pod->init = pod_fork_init(err);
	if (pod->init < 0)
		return -1;
	if (pod->init == 0) {
		pod_restore_run_init(spec, r, &failure);
		report_send(theirs, REPORT_ERROR, &failure);
		_exit(1);
	}
	close(steal_fd(&theirs));
	got = report_recv(mine, &report);
	if (got == 0 && !pod_has_ended(pod->init))
		return 0;
	if (got < 0)
		err_sys(err, errno, "cannot read from the pod");
	else if (got > 0 && err)
		*err = report.err;
	else if (got == 0)
		err_set(err, 0, "the pod died while it was made (out of memory?)");
	pod_abandon(pod->init);
	pod->init = -1;
	return -1;
}
