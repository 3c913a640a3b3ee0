/* fsched-init: pid 1 of a pod, as root, never dumped.
 *
 *   fsched-init run     CTLFD LEADERPID SCRIPTPID
 *   fsched-init restore CTLFD IMAGESFD WORKFD HANDFD LASTPID -- CRIU [ARG]…      (HANDFD 0: none)
 *
 * Reaps, tells the agent over the control socket what happens (messages: docs/internals.md), and ends when the leader
 * or the agent has ended; the kernel then kills whatever is left in the pod. The leader is a process of the user: a job
 * may kill or stop it (kill -9 -1), and that must not be the end of the script, nor hide it. It stays in the process
 * group of the batch task and takes no signal itself, so a signal that reaches it from outside was sent to the whole
 * job and not to the batch task alone. */
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

enum {
	LEADER_PID = 2,
	CRIU_IMAGES_FD = 10,
	CRIU_WORK_FD = 11,
	CRIU_REMOTE_CALL_FD = 12,
	LATE_MS = 1000,
	GRACE_MS = 5000
};

struct init {
	int ctl;
	int sigfd;
	pid_t leader, script; /* script: 0 = not known */
	pid_t criu;           /* 0 = none runs */
	bool leader_ended, script_ended;
	int leader_status, script_status;
	bool alone;        /* the script has no leader any more, and the agent knows */
	int script_fd;     /* pidfd, -1 unless the leader is, or may be, stopped */
	int images, work;  /* -1 unless criu runs */
	int64_t lease;     /* CLOCK_MONOTONIC ms by which the pod must be dead, 0 = no limit */
	int64_t continued; /* when SIGCONT came last */
	bool grace;        /* it has been given once more, see lease_over() */
	int hand;          /* 0 = none; closed once criu has it: its end of file tells that criu has ended */
};

/* A message that does not arrive is no error here: the agent is gone then, and end of file on the socket says so. */
__attribute__((format(printf, 2, 3))) static void say(const struct init *in, const char *fmt, ...)
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

__attribute__((noreturn)) static void fail(const struct init *in, const char *what)
{
	say(in, "failed %s: %s", what, strerror(errno));
	exit(1);
}

static int64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static int number(const char *text)
{
	char *end;
	long n = strtol(text, &end, 10);

	if (end == text || *end || n < 0 || n > 1 << 30) {
		fprintf(stderr, "fsched-init: bad number \"%s\"\n", text);
		exit(2);
	}
	return (int)n;
}

/* criu forks restored processes under their old pids; its own must not take one of them before. */
static void set_last_pid(const struct init *in, int last)
{
	int fd = open("/proc/sys/kernel/ns_last_pid", O_WRONLY | O_CLOEXEC);

	if (fd < 0 || dprintf(fd, "%d", last) < 0)
		fail(in, "cannot write /proc/sys/kernel/ns_last_pid");
	close(fd);
}

static void start_criu(struct init *in, char **argv)
{
	sigset_t none;

	in->criu = fork();
	if (in->criu < 0)
		fail(in, "cannot fork criu");
	if (in->criu) {
		if (in->hand)
			close(in->hand);
		return;
	}
	/* All came as numbers above 12, so no dup2 overwrites another. All else is close-on-exec. */
	if (dup2(in->images, CRIU_IMAGES_FD) < 0 || dup2(in->work, CRIU_WORK_FD) < 0 ||
	    (in->hand && dup2(in->hand, CRIU_REMOTE_CALL_FD) < 0))
		fail(in, "cannot hand criu its directories");
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	execv(argv[0], argv);
	fail(in, "cannot start criu");
}

/* Its first argument, which also a restored one has; 0 if it has ended. */
static pid_t leaders_script(pid_t leader)
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

/* A stopped leader does not wait for the script; once that has ended, it has to. Not before: criu and scontrol suspend
 * stop it for a reason. */
static void watch_script(struct init *in)
{
	if (in->script_fd < 0 && in->script)
		in->script_fd = pidfd_open(in->script, 0);
}

static void criu_ended(struct init *in, int status)
{
	siginfo_t si;

	in->criu = 0;
	close(in->images);
	close(in->work);
	in->images = in->work = -1;
	if (WIFSIGNALED(status)) {
		say(in, "failed criu was killed by signal %d", WTERMSIG(status));
		exit(1);
	}
	if (WEXITSTATUS(status)) {
		say(in, "failed criu exited with status %d", WEXITSTATUS(status));
		exit(1);
	}
	if (!in->leader_ended && waitid(P_PID, LEADER_PID, &si, WEXITED | WNOHANG | WNOWAIT)) {
		say(in, "failed criu reported success, but the pod has no leader");
		exit(1);
	}
	in->script = leaders_script(LEADER_PID);
	watch_script(in); /* an old stop is not told to a new parent */
	say(in, "restored %d", LEADER_PID);
}

/* True while the script runs on as our child, which it is if its leader was killed. */
static bool script_left(const struct init *in)
{
	siginfo_t si = { 0 };

	return in->script && waitid(P_PID, (id_t)in->script, &si, WEXITED | WNOHANG | WNOWAIT) == 0 && !si.si_pid;
}

/* The leader leaves the script to us to be reaped; that of an epoch by an older fsched does not, but ends as the script
 * did. */
static void look_for_end(struct init *in)
{
	/* A restored script may be faster than criu's own end. */
	if (!in->leader_ended || in->criu)
		return;
	if (!in->script_ended && WIFSIGNALED(in->leader_status) && script_left(in)) {
		if (!in->alone)
			say(in, "alone %d", WTERMSIG(in->leader_status));
		in->alone = true;
		return;
	}
	say(in, "exit %d", in->script_ended ? in->script_status : in->leader_status);
	exit(0);
}

static void script_ended_unseen(struct init *in)
{
	close(in->script_fd);
	in->script_fd = -1;
	if (!in->leader_ended)
		kill(in->leader, SIGCONT);
}

static void reap(struct init *in)
{
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG | WUNTRACED)) > 0) {
		if (WIFSTOPPED(status)) {
			if (pid == in->leader)
				watch_script(in);
		} else if (pid == in->criu) {
			criu_ended(in, status);
		} else if (pid == in->leader) {
			in->leader_ended = true;
			in->leader_status = status;
		} else if (pid == in->script) {
			in->script_ended = true;
			in->script_status = status;
		}
	}
	look_for_end(in);
}

/* The kernel gives a sender outside of the pod's PID namespace the pid 0. */
static bool from_outside(const struct signalfd_siginfo *si)
{
	return si->ssi_pid == 0 && (si->ssi_code == SI_USER || si->ssi_code == SI_TKILL || si->ssi_code == SI_QUEUE);
}

static void read_signal(struct init *in)
{
	struct signalfd_siginfo si;

	if (read(in->sigfd, &si, sizeof(si)) != sizeof(si))
		return;
	if (si.ssi_signo == SIGCONT)
		in->continued = now_ms();
	if (si.ssi_signo == SIGCHLD)
		reap(in);
	else if (from_outside(&si))
		say(in, "signal %u", si.ssi_signo);
}

static void read_ctl(struct init *in)
{
	char buf[64];
	ssize_t n = recv(in->ctl, buf, sizeof(buf) - 1, MSG_DONTWAIT);
	int ms;

	if (n == 0)
		exit(0); /* the agent is gone, and its pod goes with it */
	if (n < 0)
		return;
	buf[n] = '\0';
	if (sscanf(buf, "lease %d", &ms) == 1) {
		in->lease = now_ms() + ms;
		in->grace = false;
	}
}

/* Nobody has told us in time that the job is still ours: it may run on another node any moment, and here it ends now.
 * Only when everything had been stopped (scontrol suspend), us too, the agent gets a moment to find out. */
static void lease_over(struct init *in)
{
	sigset_t pending;

	if (!in->grace && now_ms() - in->lease > LATE_MS &&
	    (in->continued > in->lease || (sigpending(&pending) == 0 && sigismember(&pending, SIGCONT) == 1))) {
		in->lease = now_ms() + GRACE_MS;
		in->grace = true;
		return;
	}
	say(in, "fenced");
	exit(1);
}

static int time_left(const struct init *in)
{
	int64_t left = in->lease - now_ms();

	if (!in->lease)
		return -1;
	return left < 0 ? 0 : left < INT_MAX ? (int)left : INT_MAX;
}

int main(int argc, char **argv)
{
	struct init in = { .leader = LEADER_PID, .images = -1, .work = -1, .script_fd = -1 };
	struct pollfd p[3];
	sigset_t all;
	bool restore = argc > 8 && !strcmp(argv[1], "restore") && !strcmp(argv[7], "--");

	if (!restore && !(argc == 5 && !strcmp(argv[1], "run"))) {
		fprintf(stderr, "fsched-init is started by fsched only\n");
		return 2;
	}
	in.ctl = number(argv[2]);
	fcntl(in.ctl, F_SETFD, FD_CLOEXEC);
	signal(SIGCHLD, SIG_DFL); /* ignored, it would reap behind our back */
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, NULL);
	in.sigfd = signalfd(-1, &all, SFD_CLOEXEC);
	if (in.sigfd < 0)
		fail(&in, "cannot make a signalfd");
	say(&in, "up");
	if (restore) {
		in.images = number(argv[3]);
		in.work = number(argv[4]);
		fcntl(in.images, F_SETFD, FD_CLOEXEC);
		in.hand = number(argv[5]);
		fcntl(in.work, F_SETFD, FD_CLOEXEC);
		if (in.hand)
			fcntl(in.hand, F_SETFD, FD_CLOEXEC);
		set_last_pid(&in, number(argv[6]));
		start_criu(&in, argv + 8);
	} else {
		in.leader = number(argv[3]);
		in.script = number(argv[4]);
	}
	p[0] = (struct pollfd){ in.sigfd, POLLIN, 0 };
	p[1] = (struct pollfd){ in.ctl, POLLIN, 0 };
	/* What ended before the signalfd existed. */
	for (reap(&in);;) {
		int n;

		p[2] = (struct pollfd){ in.script_fd, POLLIN, 0 };
		n = poll(p, 3, time_left(&in));
		if (n == 0 && time_left(&in) == 0)
			lease_over(&in);
		if (n <= 0)
			continue;
		if (p[0].revents)
			read_signal(&in);
		if (p[1].revents)
			read_ctl(&in);
		if (p[2].revents)
			script_ended_unseen(&in);
	}
}
