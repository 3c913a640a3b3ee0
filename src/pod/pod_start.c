#include "pod/pod.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/io.h"
#include "base/util.h"
#include "pod/pod_internal.h"
#include "pod/pod_tmp.h"

/* Four processes (docs/internals.md): T is the caller, P1 becomes fsched-init, P2 fsched-leader, and P3 the script. */
struct start {
	const struct pod_spec *spec;
	pid_t hint;
	char init[4200], leader[4200]; /* paths of the programs */
	char **leader_argv;            /* P2 sets [1], the script's pid */
	int ctl[2];                    /* control socket: agent's end, fsched-init's end */
	int rep[2];                    /* report socket: T's end, the pod's end */
	int go[2];                     /* T sends one byte, upon which P3 continues */
};

static char *const no_env[] = { NULL };

static void pod_start_close(int *fd)
{
	cleanup_closep(fd);
	*fd = -1;
}

static void pod_start_close_pair(int *p)
{
	pod_start_close(&p[0]);
	pod_start_close(&p[1]);
}

static void pod_start_done(struct start *s)
{
	int i;

	pod_start_close_pair(s->ctl);
	pod_start_close_pair(s->rep);
	pod_start_close_pair(s->go);
	for (i = 0; s->leader_argv && s->leader_argv[i]; i++)
		free(s->leader_argv[i]);
	free(s->leader_argv);
}

/* fsched-leader SCRIPT_PID UID GID [GROUP]… */
static char **leader_argv(const struct pod_cred *c)
{
	char **v = xcalloc((size_t)c->n_groups + 5, sizeof(*v));
	int i;

	v[0] = xstrdup("fsched-leader");
	v[1] = xcalloc(1, 16);
	v[2] = xasprintf("%u", c->uid);
	v[3] = xasprintf("%u", c->gid);
	for (i = 0; i < c->n_groups; i++)
		v[4 + i] = xasprintf("%u", c->groups[i]);
	return v;
}

static int pod_start_set_last_pid(pid_t last, struct err *err)
{
	cleanup_close int fd = open("/proc/sys/kernel/ns_last_pid", O_WRONLY | O_CLOEXEC);
	char text[16];

	snprintf(text, sizeof(text), "%d", last);
	if (fd < 0 || write_all(fd, text, strlen(text)))
		return err_sys(
			err, errno,
			"cannot write %s to /proc/sys/kernel/ns_last_pid (does the kernel have CONFIG_CHECKPOINT_RESTORE?)",
			text);
	return 0;
}

__attribute__((noreturn)) static void pod_start_give_up(const struct start *s, const struct err *err)
{
	report_send(s->rep[1], REPORT_ERROR, err);
	_exit(1);
}

/* P3: reports its pid and waits until the pod is complete. */
static void pod_start_script(struct start *s)
{
	ssize_t n;
	char c;

	setpgid(0, 0);
	report_send(s->rep[1], REPORT_SCRIPT, NULL);
	pod_start_close_pair(s->rep);
	pod_start_close_pair(s->ctl);
	pod_start_close(&s->go[1]);
	do
		n = read(s->go[0], &c, 1);
	while (n < 0 && errno == EINTR);
	if (n != 1)
		_exit(1);
}

/* P2. Returns only in P3. */
static void pod_start_leader(struct start *s)
{
	struct err err;
	pid_t script;

	if (setsid() < 0 || prctl(PR_SET_CHILD_SUBREAPER, 1)) {
		err_sys(&err, errno, "cannot become session leader and reaper of the pod");
		pod_start_give_up(s, &err);
	}
	if (s->hint > 2 && pod_start_set_last_pid(s->hint - 1, &err))
		pod_start_give_up(s, &err);
	script = fork();
	if (script == 0) {
		pod_start_script(s);
		return;
	}
	if (script < 0) {
		err_sys(&err, errno, "cannot fork the script's process");
		pod_start_give_up(s, &err);
	}
	report_send(s->rep[1], REPORT_LEADER, NULL);
	snprintf(s->leader_argv[1], 16, "%d", script);
	/* By path in the new mount namespace, because criu opens the file by that path. */
	pod_exec(s->leader, s->leader_argv, no_env, NULL, 0, &err);
	pod_start_give_up(s, &err);
}

/* P1. Returns only in P3. */
static void pod_start_init(struct start *s)
{
	char fd[16], leader[16], script[16];
	int kept[1 + POD_TMP_FDS] = { s->ctl[1] }, n = 1;
	char *argv[] = { (char[]){ "fsched-init" }, (char[]){ "run" }, fd, leader, script, NULL };
	struct err err;
	pid_t pid;

	if (pod_make_namespace(s->spec, &err))
		pod_start_give_up(s, &err);
	pid = fork();
	if (pid == 0) {
		pod_start_leader(s);
		return;
	}
	if (pid < 0) {
		err_sys(&err, errno, "cannot fork fsched-leader");
		pod_start_give_up(s, &err);
	}
	snprintf(fd, sizeof(fd), "%d", s->ctl[1]);
	snprintf(leader, sizeof(leader), "%d", pid);
	/* pod_start_leader() requests this pid; no other process in the new namespace can have it. */
	snprintf(script, sizeof(script), "%d", s->hint > 2 ? s->hint : pid + 1);
	pod_tmp_keep(s->spec, kept, &n);
	pod_exec(s->init, argv, no_env, kept, n, &err);
	pod_start_give_up(s, &err);
}

/* T: reads reports until the pod is complete or has failed. */
static int pod_start_await(struct start *s, struct pod *pod, pid_t *script, struct err *err)
{
	struct report r = { 0 };
	int got;

	while ((got = report_recv(s->rep[0], &r)) > 0) {
		if (r.kind == REPORT_ERROR) {
			if (err)
				*err = r.err;
			return -1;
		}
		*(r.kind == REPORT_LEADER ? &pod->leader : script) = r.pid;
	}
	if (got < 0)
		return err_sys(err, errno, "cannot read from the pod");
	if (pod->leader <= 0 || *script <= 0 || pod_has_ended(pod->init))
		return err_set(err, 0, "the pod died while it was made (out of memory?)");
	return 0;
}

static int pod_start_prepare(struct start *s, struct err *err)
{
	const char *libexec = s->spec->libexec;

	snprintf(s->init, sizeof(s->init), "%s/fsched-init", libexec);
	snprintf(s->leader, sizeof(s->leader), "%s/fsched-leader", libexec);
	if (pod_socketpair(s->ctl, err) || report_pair(s->rep, err))
		return -1;
	if (pod_socketpair(s->go, err))
		return -1;
	s->leader_argv = leader_argv(&s->spec->cred);
	return 0;
}

int pod_start(const struct pod_spec *spec, pid_t pid_hint, struct pod *pod, pid_t *script_pid, struct err *err)
{
	struct start s = { .spec = spec, .hint = pid_hint, .ctl = { -1, -1 }, .rep = { -1, -1 }, .go = { -1, -1 } };
	int rc = -1;

	*pod = (struct pod){ -1, -1, -1 };
	*script_pid = -1;
	if (pod_start_prepare(&s, err))
		goto out;
	pod->init = pod_fork_init(err);
	if (pod->init == 0) {
		pod_start_init(&s);
		pod_start_done(&s);
		return 1; /* P3 */
	}
	if (pod->init < 0)
		goto out;
	pod_start_close(&s.rep[1]);
	pod_start_close(&s.ctl[1]);
	pod_start_close(&s.go[0]);
	if (pod_start_await(&s, pod, script_pid, err))
		goto abandon;
	if (send(s.go[1], "g", 1, MSG_NOSIGNAL) != 1) {
		err_sys(err, errno, "the script's process died while the pod was made");
		goto abandon;
	}
	pod->ctl = steal_fd(&s.ctl[0]);
	rc = 0;
	goto out;
abandon:
	pod_abandon(pod->init);
	*pod = (struct pod){ -1, -1, -1 };
	*script_pid = -1;
out:
	pod_start_done(&s);
	return rc;
}
