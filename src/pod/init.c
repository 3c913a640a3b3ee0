/* fsched-init: pid 1 of a pod. It runs as root and is never dumped.
 *
 *   fsched-init run     CTLFD LEADERPID SCRIPTPID
 *   fsched-init restore CTLFD IMAGESFD WORKFD CALLFD LASTPID -- CRIU [ARG]…      (CALLFD 0: none)
 *
 * It reaps processes, reports events to the agent over the control socket (messages: docs/internals.md), and ends when
 * the leader or the agent has ended; the kernel then kills all processes that are left in the pod.
 *
 * The leader is a process of the user, so the job may kill or stop it (kill -9 -1). That must neither end the script
 * nor hide its end.
 *
 * fsched-init stays in the process group of the batch task and no signal changes what it does. So a signal that it
 * receives from outside was sent to the whole job and not to the batch task alone. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "pod/names_relay.h"
#include "pod/pod.h"
#include "pod/tmp_guard.h"

enum {
	LEADER_PID = 2,
	CRIU_IMAGES_FD = 10,
	CRIU_WORK_FD = 11,
	CRIU_REMOTE_CALL_FD = 12,
	LATE_MS = 1000,
	GRACE_MS = 5000,
	KILLED_MS = 5000
};

struct init {
	int ctl;
	int sigfd;
	pid_t leader, script; /* pids in the pod; script: 0 = not known */
	pid_t criu;           /* 0 = it does not run */
	bool leader_ended, script_ended;
	int leader_status, script_status;
	bool alone;        /* the leader was killed, the script runs on, and the agent was told so */
	int script_fd;     /* pidfd of the script; -1 unless the leader is, or may be, stopped */
	int images, work;  /* criu's directories; -1 unless criu runs */
	int64_t lease;     /* CLOCK_MONOTONIC ms by which the pod must be dead, 0 = no limit */
	int64_t continued; /* CLOCK_MONOTONIC ms of the last SIGCONT */
	bool guards_tmp;   /* /tmp is an image */
	int64_t guard_due; /* CLOCK_MONOTONIC ms */
	struct names_relay names;
	bool grace;      /* the lease was extended once, see init_lease_over() */
	int remote_call; /* criu's end of the socket of trace/remote_call.h, 0 = none; closed once criu has it, so that
			    the other end reads end of file when criu ends */
};

/* Sends a message to the agent. A failure is no error here: the agent is gone then, and end of file on the socket ends
 * the pod. */
__attribute__((format(printf, 2, 3))) static void init_say(const struct init *in, const char *fmt, ...)
{
	char text[128];
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	while (send(in->ctl, text, (size_t)n, MSG_NOSIGNAL) < 0 && errno == EINTR)
		;
}

__attribute__((noreturn)) static void init_fail(const struct init *in, const char *what)
{
	init_say(in, "failed %s: %s", what, strerror(errno));
	exit(1);
}

static int64_t init_now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* Ends the pod. The kernel does not unmount its /tmp as long as this process has it open. */
__attribute__((noreturn)) static void init_exit(struct init *in, int status)
{
	const int64_t end = init_now_ms() + KILLED_MS;
	pid_t pid;

	if (!in->guards_tmp && in->names.group < 0)
		exit(status);
	kill(-1, SIGKILL);
	while ((pid = waitpid(-1, NULL, WNOHANG)) >= 0 && init_now_ms() < end)
		if (!pid)
			usleep(1000);
	names_relay_end(&in->names);
	if (pid < 0 && in->guards_tmp)
		tmp_guard_drop(TMP_GUARD_ROOT_FD, TMP_GUARD_DELAYED_FD);
	exit(status);
}

static int init_parse_number(const char *text)
{
	char *end;
	long n = strtol(text, &end, 10);

	if (end == text || *end || n < 0 || n > 1 << 30) {
		fprintf(stderr, "fsched-init: bad number \"%s\"\n", text);
		exit(2);
	}
	return (int)n;
}

/* criu forks the restored processes with their old pids; criu's own processes must not take one of these before. */
static void init_set_last_pid(const struct init *in, int last)
{
	int fd = open("/proc/sys/kernel/ns_last_pid", O_WRONLY | O_CLOEXEC);

	if (fd < 0 || dprintf(fd, "%d", last) < 0)
		init_fail(in, "cannot write /proc/sys/kernel/ns_last_pid");
	close(fd);
}

static void init_start_criu(struct init *in, char **argv)
{
	sigset_t none;

	in->criu = fork();
	if (in->criu < 0)
		init_fail(in, "cannot fork criu");
	if (in->criu) {
		if (in->remote_call)
			close(in->remote_call);
		return;
	}
	/* The descriptors have numbers above 12, so no dup2() overwrites another one. All others are close-on-exec. */
	if (dup2(in->images, CRIU_IMAGES_FD) < 0 || dup2(in->work, CRIU_WORK_FD) < 0 ||
	    (in->remote_call && dup2(in->remote_call, CRIU_REMOTE_CALL_FD) < 0))
		init_fail(in, "cannot pass criu its descriptors");
	close_range(POD_TERMINALS_FD, ~0U, 0); /* the library in criu gets them from this process */
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	execv(argv[0], argv);
	init_fail(in, "cannot start criu");
}

/* The pid of the script, from the first argument of the leader, which a restored leader has too. 0 if the leader has
 * ended. */
static pid_t init_find_script(pid_t leader)
{
	char path[40], text[64];
	const char *arg;
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/cmdline", (int)leader);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return 0;
	n = read(fd, text, sizeof(text) - 1);
	close(fd);
	if (n <= 0)
		return 0;
	text[n] = '\0';
	arg = text + strlen(text) + 1;
	return arg < text + n ? (pid_t)strtol(arg, NULL, 10) : 0;
}

/* Opens a pidfd of the script, to continue a stopped leader when the script has ended: a stopped leader does not notice
 * that. Not earlier, because criu and scontrol suspend stop the leader on purpose. */
static void init_watch_script(struct init *in)
{
	if (in->script_fd < 0 && in->script)
		in->script_fd = pidfd_open(in->script, 0);
}

static void init_criu_ended(struct init *in, int status)
{
	siginfo_t si;

	in->criu = 0;
	close(in->images);
	close(in->work);
	close_range(POD_TERMINALS_FD, ~0U, 0);
	in->images = in->work = -1;
	if (WIFSIGNALED(status)) {
		init_say(in, "failed criu was killed by signal %d", WTERMSIG(status));
		exit(1);
	}
	if (WEXITSTATUS(status)) {
		init_say(in, "failed criu exited with status %d", WEXITSTATUS(status));
		exit(1);
	}
	if (!in->leader_ended && waitid(P_PID, LEADER_PID, &si, WEXITED | WNOHANG | WNOWAIT)) {
		init_say(in, "failed criu reported success, but the pod has no leader");
		exit(1);
	}
	in->script = init_find_script(LEADER_PID);
	init_watch_script(in); /* the kernel does not report to a new parent that a child was stopped before */
	init_say(in, "restored %d", LEADER_PID);
}

/* True while the script runs as a child of this process, which it is after its leader was killed. */
static bool init_script_runs(const struct init *in)
{
	siginfo_t si = { 0 };

	return in->script && waitid(P_PID, (id_t)in->script, &si, WEXITED | WNOHANG | WNOWAIT) == 0 && !si.si_pid;
}

/* Reports the end of the job and exits, if leader and script have ended. The leader does not reap the script, so that
 * fsched-init can. The leader in an epoch of an older fsched reaps the script itself and ends with the same status. */
static void init_check_end(struct init *in)
{
	/* A restored script may end before criu does. */
	if (!in->leader_ended || in->criu)
		return;
	if (!in->script_ended && WIFSIGNALED(in->leader_status) && init_script_runs(in)) {
		if (!in->alone)
			init_say(in, "alone %d", WTERMSIG(in->leader_status));
		in->alone = true;
		return;
	}
	init_say(in, "exit %d", in->script_ended ? in->script_status : in->leader_status);
	init_exit(in, 0);
}

static void init_script_ended(struct init *in)
{
	close(in->script_fd);
	in->script_fd = -1;
	if (!in->leader_ended)
		kill(in->leader, SIGCONT);
}

static void init_reap(struct init *in)
{
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG | WUNTRACED)) > 0) {
		if (WIFSTOPPED(status)) {
			if (pid == in->leader)
				init_watch_script(in);
		} else if (pid == in->criu) {
			init_criu_ended(in, status);
		} else if (pid == in->leader) {
			in->leader_ended = true;
			in->leader_status = status;
		} else if (pid == in->script) {
			in->script_ended = true;
			in->script_status = status;
		}
	}
	init_check_end(in);
}

/* True for a signal from outside of the pod's PID namespace: the kernel shows such a sender as pid 0. */
static bool init_is_from_outside(const struct signalfd_siginfo *si)
{
	return si->ssi_pid == 0 && (si->ssi_code == SI_USER || si->ssi_code == SI_TKILL || si->ssi_code == SI_QUEUE);
}

static void init_read_signal(struct init *in)
{
	struct signalfd_siginfo si;

	if (read(in->sigfd, &si, sizeof(si)) != sizeof(si))
		return;
	if (si.ssi_signo == SIGCONT)
		in->continued = init_now_ms();
	if (si.ssi_signo == SIGCHLD)
		init_reap(in);
	else if (init_is_from_outside(&si))
		init_say(in, "signal %u", si.ssi_signo);
}

/* fds: the two descriptors that came with the message, or -1. */
static ssize_t init_recv(const struct init *in, char *buf, size_t len, int fds[2])
{
	union {
		struct cmsghdr align;
		char room[CMSG_SPACE(2 * sizeof(int))];
	} control;
	struct iovec v = { buf, len };
	struct msghdr m = {
		.msg_iov = &v, .msg_iovlen = 1, .msg_control = control.room, .msg_controllen = sizeof(control.room)
	};
	ssize_t n = recvmsg(in->ctl, &m, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	const struct cmsghdr *c = n > 0 ? CMSG_FIRSTHDR(&m) : NULL;

	fds[0] = fds[1] = -1;
	if (c && c->cmsg_type == SCM_RIGHTS && c->cmsg_len == CMSG_LEN(2 * sizeof(int)))
		memcpy(fds, CMSG_DATA(c), 2 * sizeof(int));
	return n;
}

static void init_read_ctl(struct init *in)
{
	char buf[64];
	int ms, fds[2];
	ssize_t n = init_recv(in, buf, sizeof(buf) - 1, fds);

	if (n == 0)
		init_exit(in, 0); /* the agent has ended, so the pod ends */
	if (n < 0)
		return;
	buf[n] = '\0';
	if (sscanf(buf, "lease %d", &ms) == 1) {
		in->lease = init_now_ms() + ms;
		in->grace = false;
	}
	if (fds[1] >= 0)
		names_relay_begin(&in->names, fds[0], fds[1]);
}

/* The agent has not extended the lease in time, so the job may be started on another node at any moment: kills it here.
 * Exception: if this process noticed late because everything was stopped (scontrol suspend), the agent gets GRACE_MS to
 * renew the lease, once. */
static void init_lease_over(struct init *in)
{
	sigset_t pending;

	if (!in->grace && init_now_ms() - in->lease > LATE_MS &&
	    (in->continued > in->lease || (sigpending(&pending) == 0 && sigismember(&pending, SIGCONT) == 1))) {
		in->lease = init_now_ms() + GRACE_MS;
		in->grace = true;
		return;
	}
	init_say(in, "fenced");
	init_exit(in, 1);
}

static int init_lease_left(const struct init *in)
{
	int64_t left = in->lease - init_now_ms();

	if (!in->lease)
		return -1;
	return left < 0 ? 0 : left < INT_MAX ? (int)left : INT_MAX;
}

/* Milliseconds until lease or /tmp need something; -1 = never. */
static int init_duties_ms(const struct init *in)
{
	const int lease = init_lease_left(in);
	const int64_t guard = in->guard_due - init_now_ms();

	if (!in->guards_tmp || (lease >= 0 && lease < guard))
		return lease;
	return guard < 0 ? 0 : (int)guard;
}

/* Milliseconds until something is due; -1 = nothing is. */
static int init_wait_ms(const struct init *in)
{
	const int duties = init_duties_ms(in), names = names_relay_wait_ms(&in->names);

	return names < 0 || (duties >= 0 && duties < names) ? duties : names;
}

/* argv: of "restore". */
static void init_begin_restore(struct init *in, char **argv)
{
	in->images = init_parse_number(argv[3]);
	in->work = init_parse_number(argv[4]);
	in->remote_call = init_parse_number(argv[5]);
	fcntl(in->images, F_SETFD, FD_CLOEXEC);
	fcntl(in->work, F_SETFD, FD_CLOEXEC);
	if (in->remote_call)
		fcntl(in->remote_call, F_SETFD, FD_CLOEXEC);
	init_set_last_pid(in, init_parse_number(argv[6]));
	init_start_criu(in, argv + 8);
}

__attribute__((noreturn)) static void init_loop(struct init *in)
{
	struct pollfd p[3 + NAMES_RELAY_POLLS] = { { in->sigfd, POLLIN, 0 }, { in->ctl, POLLIN, 0 } };
	int n;

	/* The first call is for processes that ended before the signalfd existed. */
	for (init_reap(in);;) {
		p[2] = (struct pollfd){ in->script_fd, POLLIN, 0 };
		names_relay_poll(&in->names, p + 3);
		n = poll(p, 3 + NAMES_RELAY_POLLS, init_wait_ms(in));
		if (in->guards_tmp && init_now_ms() >= in->guard_due) {
			tmp_guard_reserve();
			in->guard_due = init_now_ms() + TMP_GUARD_MS;
		}
		if (init_lease_left(in) == 0)
			init_lease_over(in);
		if (n <= 0)
			continue;
		if (p[0].revents)
			init_read_signal(in);
		if (p[1].revents)
			init_read_ctl(in);
		if (p[2].revents)
			init_script_ended(in);
		names_relay_run(&in->names, p + 3);
	}
}

int main(int argc, char **argv)
{
	struct init in = {
		.leader = LEADER_PID, .images = -1, .work = -1, .script_fd = -1, .names = { .group = -1, .agent = -1 }
	};
	sigset_t all;
	bool restore = argc > 8 && !strcmp(argv[1], "restore") && !strcmp(argv[7], "--");

	if (!restore && !(argc == 5 && !strcmp(argv[1], "run"))) {
		fprintf(stderr, "fsched-init is started by fsched only\n");
		return 2;
	}
	in.ctl = init_parse_number(argv[2]);
	fcntl(in.ctl, F_SETFD, FD_CLOEXEC);
	signal(SIGCHLD, SIG_DFL); /* if it were ignored, the kernel would reap children */
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, NULL);
	in.sigfd = signalfd(-1, &all, SFD_CLOEXEC);
	if (in.sigfd < 0)
		init_fail(&in, "cannot make a signalfd");
	in.guards_tmp = tmp_guard_begin();
	init_say(&in, "up");
	if (restore) {
		init_begin_restore(&in, argv);
	} else {
		in.leader = init_parse_number(argv[3]);
		in.script = init_parse_number(argv[4]);
	}
	init_loop(&in);
}
