/* A dump: worker -> helper -> driver -> criu.
 *
 * The helper enters the pod's PID, mount, network and UTS namespaces and forks the driver (dump_driver.c). A network
 * or UTS namespace that is criu's own is not dumped, which saves 50 ms of the freeze. The driver and criu see the pod's
 * /proc: criu finds its client by the pid of SO_PEERCRED, and opens the directories as
 * /proc/PID/fd/N. The work during the freeze needs host pids and host files, so the driver forwards criu's
 * notifications to the worker and waits for the answer. All files that criu needs to start are opened before the
 * namespaces are entered, because a private /tmp may hide them.
 *
 * The driver also enforces the limit of the freeze. Therefore it opens no file and waits for nothing without a timeout.
 */
#include "criu/criu_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

#include "base/clock.h"
#include "base/util.h"
#include "criu/dump_relay.h"
#include "criu/dump_session.h"

/* ---- helper: enters the namespaces ---- */

static void dump_helper_main(const struct dump_session *s)
{
	pid_t driver;

	criu_die_with_parent();
	criu_ignore_signals();
	close(s->relay[0]);
	if (s->remote_call[0] >= 0)
		close(s->remote_call[0]);
	umask(077);
	if (setns(s->pid_ns, CLONE_NEWPID) || setns(s->net_ns, CLONE_NEWNET) || setns(s->uts_ns, CLONE_NEWUTS) ||
	    setns(s->mnt_ns, CLONE_NEWNS) || chdir("/")) {
		relay_errno(s->relay[1], "cannot enter the pod's namespaces");
		_exit(1);
	}
	driver = fork();
	if (driver == 0)
		dump_driver_main(s);
	if (driver < 0)
		relay_errno(s->relay[1], "cannot fork inside the pod");
	close(s->relay[1]);
	while (driver > 0 && waitpid(driver, NULL, 0) < 0 && errno == EINTR)
		;
	_exit(0);
}

/* ---- worker ---- */

bool criu_still_frozen(const struct criu_dump *d)
{
	struct pollfd p = { d->watch_fd, POLLIN, 0 };

	return d->watch_fd >= 0 && poll(&p, 1, 0) == 0;
}

void criu_dump_allow(const struct criu_dump *d, unsigned seconds)
{
	char text[16];

	snprintf(text, sizeof(text), "%u", seconds);
	if (d->watch_fd >= 0)
		relay_send(d->watch_fd, RELAY_EXTEND, text);
}

/* criu sends "query-ext-files" as soon as all tasks are stopped, and "post-dump" when all images are written and the
 * tasks are still stopped. */
static bool dump_on_notify(struct dump_session *s, const char *script)
{
	struct criu_dump *d = s->dump;
	int rc;

	if (!strcmp(script, "query-ext-files")) {
		d->freeze_began = unix_us();
		if (d->phase)
			d->phase(d->arg, "frozen");
		return d->stopped(d->arg, &s->callback) == 0;
	}
	if (strcmp(script, "post-dump") || !d->frozen)
		return true;
	d->watch_fd = s->relay[0];
	rc = d->frozen(d->arg, &s->callback);
	d->watch_fd = -1;
	s->killed = rc > 0;
	return rc >= 0;
}

/* Serves the driver's messages until criu has ended. Returns 0, or -1 with err. */
static int dump_follow(struct dump_session *s, struct err *err)
{
	struct relay m = { 0 };

	relay_send(s->relay[0], RELAY_CONTINUE, "");
	while (relay_recv(s->relay[0], &m) == 0) {
		if (m.kind == RELAY_SUCCESS)
			return 0;
		if (m.kind != RELAY_NOTIFY)
			break;
		relay_send(s->relay[0], dump_on_notify(s, m.text) ? RELAY_CONTINUE : RELAY_FAIL, "");
		if (s->killed)
			return 0;
		m.text[0] = '\0';
	}
	/* A failure of the callback is a consequence of this. */
	if (m.kind == RELAY_FREEZE_TIMEOUT)
		return err_set(err, ETIME, "%s", m.text);
	if (s->callback.text[0]) {
		if (err)
			*err = s->callback;
		return -1;
	}
	if (m.kind == RELAY_DRIVER_FAILED || m.kind == RELAY_TRY_AGAIN)
		return err_set(err, m.kind == RELAY_TRY_AGAIN ? EAGAIN : 0, "%s", m.text);
	return criu_explain(err, s->work_fd, CRIU_DUMP_LOG, m.text, s->errors);
}

int criu_dump(const struct criu_bin *b, struct criu_dump *d, struct err *err)
{
	struct dump_session s;
	pid_t helper;
	int rc = -1;

	d->frozen_us = d->freeze_began = 0;
	d->watch_fd = d->remote_call = -1;
	if (dump_session_open(&s, b, d, err))
		goto out;
	/* Files of an earlier dump must not be mistaken for those of this one. */
	unlinkat(s.work_fd, CRIU_STATS, 0);
	unlinkat(s.work_fd, CRIU_DUMP_LOG, 0);
	helper = fork();
	if (helper == 0)
		dump_helper_main(&s);
	if (helper < 0) {
		err_sys(err, errno, "cannot fork");
		goto out;
	}
	dump_session_close_fd(&s.relay[1]);
	dump_session_close_fd(&s.remote_call[1]);
	rc = dump_follow(&s, err);
	dump_session_close_fd(&s.relay[0]);
	while (waitpid(helper, NULL, 0) < 0 && errno == EINTR)
		;
	if (rc == 0 && !s.killed)
		d->frozen_us = criu_read_frozen_us(s.work_fd);
out:
	dump_session_close(&s);
	return rc;
}
