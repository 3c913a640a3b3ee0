#include "agent/pod_watch.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/log.h"
#include "base/io.h"
#include "base/clock.h"
#include "base/util.h"
#include "pod/pod.h"

static void pod_watch_on_message(struct pod_watch *p, const char *msg)
{
	int n;

	if (strcmp(msg, "up") == 0) {
		p->up(p->arg);
	} else if (sscanf(msg, "signal %d", &n) == 1) {
		signals_init(p->signals, n);
	} else if (sscanf(msg, "exit %d", &n) == 1) {
		p->exited = true;
		p->exited_with(p->arg, n);
	} else if (sscanf(msg, "alone %d", &n) == 1) {
		p->lost_leader(p->arg, n);
	} else if (strcmp(msg, "fenced") == 0) {
		p->fenced(p->arg);
	} else {
		log_debug("pod: %s", msg);
	}
}

static void pod_watch_close_ctl(struct pod_watch *p)
{
	int fd = p->ctl.fd;

	loop_remove(p->loop, &p->ctl);
	if (fd >= 0)
		close(fd);
}

/* False when there is no more to read now. */
static bool pod_watch_read_ctl(struct pod_watch *p)
{
	char msg[512];
	int rc;

	if (p->ctl.fd < 0)
		return false;
	rc = pod_recv(p->ctl.fd, msg, sizeof(msg));
	if (rc > 0) {
		pod_watch_on_message(p, msg);
		return true;
	}
	if (rc < 0 && (errno == EAGAIN || errno == EINTR))
		return false;
	/* only the end of fsched-init closes the other end */
	pod_watch_close_ctl(p);
	return false;
}

void pod_watch_listen(struct pod_watch *p)
{
	while (pod_watch_read_ctl(p))
		;
}

static void pod_watch_on_ctl(void *arg)
{
	pod_watch_read_ctl(arg);
}

static void pod_watch_on_init_end(void *arg, int status)
{
	struct pod_watch *p = arg;

	/* its last messages may still be in the socket */
	pod_watch_listen(p);
	p->init = 0;
	p->signals->init_pid = 0;
	if (!p->exited)
		p->died(p->arg, status);
}

void pod_watch_adopt(struct pod_watch *p, pid_t init, int ctl, const char *dir)
{
	p->init = init;
	p->script = 0;
	p->script_fd = p->ctl.fd = -1;
	p->exited = false;
	snprintf(p->dir, sizeof(p->dir), "%s", dir);
	p->signals->init_pid = init;
	loop_watch(p->loop, &p->child, init, pod_watch_on_init_end, p);
	if (ctl >= 0) {
		fcntl(ctl, F_SETFL, O_NONBLOCK);
		loop_add(p->loop, &p->ctl, ctl, pod_watch_on_ctl, p);
	}
}

void pod_watch_tell_lease(struct pod_watch *p, int64_t until)
{
	char text[40];
	int64_t left = (until - now_us()) / 1000;

	if (!until || p->ctl.fd < 0)
		return;
	snprintf(text, sizeof(text), "lease %lld", (long long)(left > 1 ? left : 1));
	/* the reader notices an end of file */
	if (send(p->ctl.fd, text, strlen(text), MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
		log_debug("the pod cannot be told of its lease: %s", strerror(errno));
}

void pod_watch_set_script(struct pod_watch *p, pid_t pid)
{
	if (p->script_fd >= 0)
		close(p->script_fd);
	p->script = pid;
	p->script_fd = pid > 0 ? (int)syscall(SYS_pidfd_open, pid, 0) : -1;
}

int pod_watch_find_script(struct pod_watch *p, struct err *err)
{
	pid_t script = pod_script(p->init);

	pod_watch_set_script(p, script);
	return script > 0 ? 0 : err_set(err, ESRCH, "the script's process was not found in the restored pod");
}

void pod_watch_release(struct pod_watch *p)
{
	if (p->init) {
		loop_unwatch(p->loop, &p->child);
		kill(p->init, SIGKILL); /* the kernel kills the rest of the pod; reaped by the loop */
	}
	pod_watch_close_ctl(p);
	pod_watch_set_script(p, 0);
	p->init = 0;
	p->signals->init_pid = 0;
}

static void pod_watch_to_group(struct pod_watch *p, int sig)
{
	/* while the pidfd says that the script lives, its pid belongs to no other process */
	if (syscall(SYS_pidfd_send_signal, p->script_fd, 0, NULL, 0) == 0 && kill(-p->script, sig) < 0 && errno == ESRCH)
		syscall(SYS_pidfd_send_signal, p->script_fd, sig, NULL, 0);
}

void pod_watch_deliver(struct pod_watch *p, int sig, enum sig_scope scope)
{
	log_debug("signal %d: %s", sig,
		  scope == SIG_SCOPE_ALL     ? "everybody got it"
		  : scope == SIG_SCOPE_GROUP ? "to the script's group"
					     : "to the script");
	if (scope == SIG_SCOPE_ALL || p->script_fd < 0)
		return;
	if (scope == SIG_SCOPE_GROUP)
		pod_watch_to_group(p, sig);
	else
		syscall(SYS_pidfd_send_signal, p->script_fd, sig, NULL, 0);
}

/* Whether the process belongs to uid and has a handler for the signal or blocks it, which one does who waits for it. */
static bool pod_watch_handles(pid_t pid, int sig, uid_t uid)
{
	char path[64], line[256];
	unsigned long long mask, all = 0;
	unsigned owner = 0;

	snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
	cleanup_file FILE *f = fopen(path, "re");
	while (f && fgets(line, sizeof(line), f)) {
		if (sscanf(line, "SigCgt: %llx", &mask) == 1 || sscanf(line, "SigBlk: %llx", &mask) == 1)
			all |= mask;
		sscanf(line, "Uid: %u", &owner);
	}
	return f && owner == uid && all >> (sig - 1) & 1;
}

int pod_watch_notify(struct pod_watch *p, int sig, bool script_only, uid_t uid)
{
	pid_t *pids = NULL;
	int n = script_only ? 0 : pod_pids(p->init, &pids, NULL), got = 0;

	if (script_only)
		return p->script > 0 && pod_watch_handles(p->script, sig, uid) &&
		       syscall(SYS_pidfd_send_signal, p->script_fd, sig, NULL, 0) == 0;
	for (int i = 0; i < n; i++) {
		/* opened first: so what /proc says then is of the process that gets the signal */
		cleanup_close int fd = (int)syscall(SYS_pidfd_open, pids[i], 0);

		if (fd >= 0 && pod_watch_handles(pids[i], sig, uid) &&
		    syscall(SYS_pidfd_send_signal, fd, sig, NULL, 0) == 0)
			got++;
	}
	free(pids);
	return got;
}

static char pod_watch_proc_state(pid_t pid)
{
	cleanup_free char *text = NULL;
	const char *close;
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	if (read_file_at(AT_FDCWD, path, 4096, &text) < 0)
		return 0;
	/* the name may hold anything, also a parenthesis */
	close = strrchr(text, ')');
	return close && close[1] == ' ' ? close[2] : 0;
}

int pod_watch_stopped(const struct pod_watch *p, pid_t **pids)
{
	int n = pod_pids(p->init, pids, NULL), stopped = 0;

	for (int i = 0; i < n; i++) {
		char state = pod_watch_proc_state((*pids)[i]);

		if (state == 'T' || state == 't')
			(*pids)[stopped++] = (*pids)[i];
	}
	return stopped;
}

void pod_watch_continue(struct pod_watch *p, const pid_t *before, int n_before)
{
	pid_t *pids = NULL;
	int n = p->init ? pod_watch_stopped(p, &pids) : 0;

	for (int i = 0; i < n; i++) {
		bool old = false;

		for (int j = 0; j < n_before; j++)
			old |= before[j] == pids[i];
		if (!old) {
			log_warn("process %d was left stopped by a checkpoint; it is continued", (int)pids[i]);
			kill(pids[i], SIGCONT);
		}
	}
	free(pids);
}
