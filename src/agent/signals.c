#include "agent/signals.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "agent/proc.h"
#include "base/log.h"
#include "base/clock.h"
#include "base/util.h"

/* How long the agent waits for the witnesses. The sender walks through the processes within a millisecond, but it may
 * lose its CPU on the way. Only signals to the script alone are delayed by this. */
#define SIGNALS_WINDOW_US 50000

static _Noreturn void signals_run_canary(pid_t agent, int out)
{
	sigset_t all;

	setpgid(0, 0);
	proc_child_setup(agent, out, -1);
	sigfillset(&all); /* all are blocked, as in the agent, so each is queued whatever its default action */
	prctl(PR_SET_NAME, "fsched-canary");
	for (;;) {
		siginfo_t si;
		int sig = sigwaitinfo(&all, &si);
		unsigned char c = (unsigned char)sig;

		if (sig > 0 && write(out, &c, 1) != 1)
			_exit(0);
	}
}

/* A witness that has not run yet still holds the signal as pending. */
static bool signals_pending(pid_t pid, int sig)
{
	char path[64], line[256];
	unsigned long long mask, all = 0;

	snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
	cleanup_file FILE *f = fopen(path, "re");
	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, "SigPnd: %llx", &mask) == 1 || sscanf(line, "ShdPnd: %llx", &mask) == 1)
			all |= mask;
	return all >> (sig - 1) & 1;
}

static void signals_arm_timer(struct signals *s);

/* A signal to all is seen by the canary, init and the agent; one to the group by init and the agent; one to the task by
 * the agent alone. */
static void signals_deliver(struct signals *s, int sig)
{
	struct sig_seen n = s->seen[sig];

	memset(&s->seen[sig], 0, sizeof(s->seen[sig]));
	n.canary += s->canary && signals_pending(s->canary, sig);
	n.init += s->init_pid && signals_pending(s->init_pid, sig);
	if (n.init < n.canary)
		n.init = n.canary;
	for (unsigned i = 0; i < n.own; i++)
		s->deliver(s->arg, sig, i < n.canary ? SIG_SCOPE_ALL : i < n.init ? SIG_SCOPE_GROUP : SIG_SCOPE_SCRIPT);
}

/* Signals are delivered in the order in which they came: the one among those due that has waited longest, 0 = none. */
static int signals_next_due(const struct signals *s, int64_t now)
{
	int first = 0;

	for (int sig = 1; sig < NSIG; sig++)
		if (s->seen[sig].due && s->seen[sig].due <= now && (!first || s->seen[sig].due < s->seen[first].due))
			first = sig;
	return first;
}

static void signals_judge(void *arg)
{
	struct signals *s = arg;
	int64_t now = now_us();
	int sig;

	while ((sig = signals_next_due(s, now)))
		signals_deliver(s, sig);
	signals_arm_timer(s);
}

static void signals_arm_timer(struct signals *s)
{
	int64_t first = 0;

	for (int sig = 1; sig < NSIG; sig++)
		if (s->seen[sig].due && (!first || s->seen[sig].due < first))
			first = s->seen[sig].due;
	if (first)
		loop_timer_set(s->loop, &s->timer, first, signals_judge, s);
	else
		loop_timer_clear(s->loop, &s->timer);
}

void signals_own(struct signals *s, int sig)
{
	if (sig <= 0 || sig >= NSIG)
		return;
	s->seen[sig].own++;
	if (!s->seen[sig].due)
		s->seen[sig].due = now_us() + SIGNALS_WINDOW_US;
	if (s->loop)
		signals_arm_timer(s);
}

/* A witness can be faster than the agent. What it counted before is dropped if the agent has got no signal since: that
 * one was not sent to the job. */
static struct sig_seen *signals_witness(struct signals *s, int sig)
{
	struct sig_seen *n = &s->seen[sig];
	int64_t now = now_us();

	if (!n->due && now - n->last > 2 * SIGNALS_WINDOW_US)
		n->canary = n->init = 0;
	n->last = now;
	return n;
}

void signals_init(struct signals *s, int sig)
{
	if (sig > 0 && sig < NSIG)
		signals_witness(s, sig)->init++;
}

static void signals_on_canary(void *arg)
{
	struct signals *s = arg;
	unsigned char sigs[64];
	ssize_t n = read(s->source.fd, sigs, sizeof(sigs));

	if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR)) {
		/* Only SIGKILL ends the canary, and that was hardly sent to this process alone. */
		signals_stop(s);
		return;
	}
	for (ssize_t i = 0; i < n; i++)
		if (sigs[i] > 0 && sigs[i] < NSIG)
			signals_witness(s, sigs[i])->canary++;
}

int signals_start(struct signals *s, struct loop *l, void (*deliver)(void *, int, enum sig_scope), void *arg,
		  struct err *err)
{
	pid_t agent = getpid();
	int fds[2];

	s->loop = l;
	s->deliver = deliver;
	s->arg = arg;
	signals_arm_timer(s);
	if (pipe2(fds, O_CLOEXEC | O_NONBLOCK) < 0)
		return err_sys(err, errno, "cannot make a pipe");
	pid_t pid = fork();
	if (pid == 0)
		signals_run_canary(agent, fds[1]);
	close(fds[1]);
	if (pid < 0) {
		int num = errno;

		close(fds[0]);
		return err_sys(err, num, "cannot start the signal canary");
	}
	s->canary = pid;
	return loop_add(l, &s->source, fds[0], signals_on_canary, s);
}

void signals_stop(struct signals *s)
{
	int fd = s->source.fd;

	if (!s->canary)
		return;
	kill(s->canary, SIGKILL); /* reaped by the loop */
	s->canary = 0;
	loop_remove(s->loop, &s->source);
	close(fd);
}
