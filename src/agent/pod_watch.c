/* The pod that is the job: its control socket, its pid 1, its script. */
#include "agent/agent.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
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

/* The job has killed its leader, fsched's process in it, and computes on. criu needs that process to restore the job.
 */
static void lost_leader(struct agent *a, int sig)
{
	if (a->end.term) /* Slurm kills all of it */
		return;
	snprintf(a->pod.lost, sizeof(a->pod.lost),
		 "a process of the job has killed fsched-leader, process 2 of the job (signal %d), without "
		 "which it cannot be restored",
		 sig);
	job_log(a, "the job can be checkpointed no more: %s; it runs on", a->pod.lost);
	sched_stop(a);
	notice_stop(a);
	snprintf(a->pub.status.error, sizeof(a->pub.status.error), "no more checkpoints: %.220s", a->pod.lost);
	publish_now(a);
}

static void on_message(struct agent *a, const char *msg)
{
	int n;

	if (strcmp(msg, "up") == 0) {
		a->up = true;
		start_check(a);
	} else if (sscanf(msg, "signal %d", &n) == 1) {
		signals_init(&a->signals, n);
	} else if (sscanf(msg, "exit %d", &n) == 1) {
		a->pod.exited = true;
		end_script(a, n);
	} else if (sscanf(msg, "alone %d", &n) == 1) {
		lost_leader(a, n);
	} else if (strcmp(msg, "fenced") == 0) {
		fence(a, "its lease was not renewed in time");
	} else {
		log_debug("pod: %s", msg);
	}
}

static void close_ctl(struct agent *a)
{
	int fd = a->pod.ctl.fd;

	loop_remove(&a->loop, &a->pod.ctl);
	if (fd >= 0)
		close(fd);
}

/* False when there is no more to read now. */
static bool read_ctl(struct agent *a)
{
	char msg[512];
	int rc;

	if (a->pod.ctl.fd < 0)
		return false;
	rc = pod_recv(a->pod.ctl.fd, msg, sizeof(msg));
	if (rc > 0) {
		on_message(a, msg);
		return true;
	}
	if (rc < 0 && (errno == EAGAIN || errno == EINTR))
		return false;
	/* only the end of fsched-init closes its end */
	close_ctl(a);
	return false;
}

void pod_listen(struct agent *a)
{
	while (read_ctl(a))
		;
}

static void on_ctl(void *arg)
{
	read_ctl(arg);
}

static void on_init_end(void *arg, int status)
{
	struct agent *a = arg;

	/* its last words may still be in the socket */
	pod_listen(a);
	a->pod.init = 0;
	a->signals.init_pid = 0;
	if (!a->pod.exited)
		end_pod_died(a, status);
	end_check(a);
}

void pod_adopt(struct agent *a, pid_t init, int ctl, const char *dir)
{
	struct pod_state *p = &a->pod;

	*p = (struct pod_state){ .init = init, .script_fd = -1, .ctl.fd = -1 };
	snprintf(p->dir, sizeof(p->dir), "%s", dir);
	a->signals.init_pid = init;
	loop_watch(&a->loop, &p->child, init, on_init_end, a);
	if (ctl >= 0) {
		fcntl(ctl, F_SETFL, O_NONBLOCK);
		loop_add(&a->loop, &p->ctl, ctl, on_ctl, a);
		pod_tell_lease(a);
	}
}

void pod_tell_lease(struct agent *a)
{
	char text[40];
	int64_t left = (a->lease.until - now_us()) / 1000;

	if (!a->lease.until || a->pod.ctl.fd < 0)
		return;
	snprintf(text, sizeof(text), "lease %lld", (long long)(left > 1 ? left : 1));
	/* an end of file is noticed by who reads */
	if (send(a->pod.ctl.fd, text, strlen(text), MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
		log_debug("the pod cannot be told of its lease: %s", strerror(errno));
}

void pod_set_script(struct agent *a, pid_t pid)
{
	if (a->pod.script_fd >= 0)
		close(a->pod.script_fd);
	a->pod.script = pid;
	a->pod.script_fd = pid > 0 ? (int)syscall(SYS_pidfd_open, pid, 0) : -1;
}

int pod_find_script(struct agent *a, struct err *err)
{
	pid_t script = pod_script(a->pod.init);

	pod_set_script(a, script);
	return script > 0 ? 0 : err_set(err, ESRCH, "the script's process was not found in the restored pod");
}

void pod_release(struct agent *a)
{
	if (a->pod.init) {
		loop_unwatch(&a->loop, &a->pod.child);
		kill(a->pod.init, SIGKILL); /* the kernel kills the rest of the pod; reaped by the loop */
	}
	close_ctl(a);
	pod_set_script(a, 0);
	a->pod.init = 0;
	a->signals.init_pid = 0;
}

static void to_group(struct agent *a, int sig)
{
	/* while the pidfd says that the script lives, its number is not another's */
	if (syscall(SYS_pidfd_send_signal, a->pod.script_fd, 0, NULL, 0) == 0 && kill(-a->pod.script, sig) < 0 &&
	    errno == ESRCH)
		syscall(SYS_pidfd_send_signal, a->pod.script_fd, sig, NULL, 0);
}

void pod_deliver(struct agent *a, int sig, enum sig_scope scope)
{
	log_debug("signal %d: %s", sig,
		  scope == SIG_SCOPE_ALL     ? "everybody got it"
		  : scope == SIG_SCOPE_GROUP ? "to the script's group"
					     : "to the script");
	if (scope == SIG_SCOPE_ALL || a->pod.script_fd < 0)
		return;
	if (scope == SIG_SCOPE_GROUP)
		to_group(a, sig);
	else
		syscall(SYS_pidfd_send_signal, a->pod.script_fd, sig, NULL, 0);
}

static char proc_state(pid_t pid)
{
	cleanup_free char *text = NULL;
	const char *p;
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	if (read_file_at(AT_FDCWD, path, 4096, &text) < 0)
		return 0;
	/* the name may hold anything, a parenthesis too */
	p = strrchr(text, ')');
	return p && p[1] == ' ' ? p[2] : 0;
}

int pod_stopped(struct agent *a, pid_t **pids)
{
	int n = pod_pids(a->pod.init, pids, NULL), stopped = 0;

	for (int i = 0; i < n; i++) {
		char state = proc_state((*pids)[i]);

		if (state == 'T' || state == 't')
			(*pids)[stopped++] = (*pids)[i];
	}
	return stopped;
}

/* A worker or criu that was killed may leave tasks stopped. Those that the job itself had stopped before stay so. */
void pod_unstop(struct agent *a, const pid_t *before, int n_before)
{
	pid_t *pids = NULL;
	int n = a->pod.init ? pod_stopped(a, &pids) : 0;

	for (int i = 0; i < n; i++) {
		bool old = false;

		for (int j = 0; j < n_before; j++)
			old |= before[j] == pids[i];
		if (!old) {
			log_warn("process %d was left stopped by a checkpoint; it is let go on", (int)pids[i]);
			kill(pids[i], SIGCONT);
		}
	}
	free(pids);
}
