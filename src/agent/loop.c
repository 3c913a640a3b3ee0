#include "agent/loop.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/log.h"
#include "base/clock.h"

int loop_init(struct loop *l, struct err *err)
{
	sigset_t all;

	memset(l, 0, sizeof(*l));
	sigfillset(&all);
	if (sigprocmask(SIG_SETMASK, &all, NULL) < 0)
		return err_sys(err, errno, "cannot block signals");
	l->epfd = epoll_create1(EPOLL_CLOEXEC);
	l->timerfd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	l->sigfd = signalfd(-1, &all, SFD_CLOEXEC | SFD_NONBLOCK);
	if (l->epfd < 0 || l->timerfd < 0 || l->sigfd < 0)
		return err_sys(err, errno, "cannot set up the event loop");

	/* data.ptr of the two built-in sources is the address of their descriptor */
	struct epoll_event t = { .events = EPOLLIN, .data.ptr = &l->timerfd };
	struct epoll_event s = { .events = EPOLLIN, .data.ptr = &l->sigfd };
	if (epoll_ctl(l->epfd, EPOLL_CTL_ADD, l->timerfd, &t) < 0 || epoll_ctl(l->epfd, EPOLL_CTL_ADD, l->sigfd, &s) < 0)
		return err_sys(err, errno, "cannot set up the event loop");
	return 0;
}

int loop_add(struct loop *l, struct loop_source *s, int fd, void (*fn)(void *), void *arg)
{
	struct epoll_event e = { .events = EPOLLIN, .data.ptr = s };

	*s = (struct loop_source){ .fd = fd, .fn = fn, .arg = arg };
	if (epoll_ctl(l->epfd, EPOLL_CTL_ADD, fd, &e) < 0) {
		s->fd = -1;
		return -1;
	}
	return 0;
}

void loop_remove(struct loop *l, struct loop_source *s)
{
	if (s->fd >= 0)
		epoll_ctl(l->epfd, EPOLL_CTL_DEL, s->fd, NULL);
	s->fd = -1;
}

void loop_timer_clear(struct loop *l, struct loop_timer *t)
{
	for (struct loop_timer **p = &l->timers; *p; p = &(*p)->next) {
		if (*p == t) {
			*p = t->next;
			break;
		}
	}
	t->at = 0;
}

void loop_timer_set(struct loop *l, struct loop_timer *t, int64_t at, void (*fn)(void *), void *arg)
{
	loop_timer_clear(l, t);
	*t = (struct loop_timer){ .at = at > 0 ? at : 1, .fn = fn, .arg = arg, .next = l->timers };
	l->timers = t;
}

void loop_unwatch(struct loop *l, struct loop_child *c)
{
	for (struct loop_child **p = &l->children; *p; p = &(*p)->next) {
		if (*p == c) {
			*p = c->next;
			break;
		}
	}
	c->pid = 0;
}

void loop_watch(struct loop *l, struct loop_child *c, pid_t pid, void (*fn)(void *, int), void *arg)
{
	loop_unwatch(l, c);
	*c = (struct loop_child){ .pid = pid, .fn = fn, .arg = arg, .next = l->children };
	l->children = c;
}

/* After each callback, so that the owner sees the state in which one event has left it before the next one comes. */
static void loop_after_event(struct loop *l)
{
	if (l->after)
		l->after(l->owner);
}

static void loop_reap(struct loop *l)
{
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		struct loop_child *c = l->children;

		while (c && c->pid != pid)
			c = c->next;
		if (!c)
			continue; /* an orphan that the kernel gave to us as the sub-reaper */
		loop_unwatch(l, c);
		c->fn(c->arg, status);
		loop_after_event(l);
	}
}

static void loop_read_signals(struct loop *l)
{
	struct signalfd_siginfo si;

	while (read(l->sigfd, &si, sizeof(si)) == sizeof(si)) {
		/* a SIGPIPE that a write of our own raises carries our own pid */
		if ((pid_t)si.ssi_pid == getpid())
			continue;
		if (si.ssi_signo == SIGCHLD && si.ssi_code > 0)
			continue; /* sent by the kernel; loop_reap() looks at all children */
		if (l->on_signal) {
			l->on_signal(l->owner, (int)si.ssi_signo);
			loop_after_event(l);
		}
	}
	/* signals of one number coalesce, so the children are always looked at */
	loop_reap(l);
}

static void loop_run_timers(struct loop *l)
{
	int64_t now = now_us();
	uint64_t n;

	if (read(l->timerfd, &n, sizeof(n)) < 0 && errno != EAGAIN)
		log_error("timer: %s", strerror(errno));
	l->armed = 0;
	for (;;) {
		struct loop_timer *t = l->timers;

		while (t && t->at > now)
			t = t->next;
		if (!t)
			return;
		loop_timer_clear(l, t);
		t->fn(t->arg);
		loop_after_event(l);
	}
}

static void loop_arm_timerfd(struct loop *l)
{
	struct itimerspec its = { 0 };
	int64_t first = 0;

	for (struct loop_timer *t = l->timers; t; t = t->next)
		if (!first || t->at < first)
			first = t->at;
	if (first == l->armed)
		return;
	its.it_value.tv_sec = first / 1000000;
	its.it_value.tv_nsec = first % 1000000 * 1000;
	timerfd_settime(l->timerfd, TFD_TIMER_ABSTIME, &its, NULL);
	l->armed = first;
}

void loop_run(struct loop *l)
{
	while (!l->quit) {
		struct epoll_event e;

		loop_arm_timerfd(l);
		/* one event at a time: a callback may remove the source of the next one */
		int n = epoll_wait(l->epfd, &e, 1, -1);
		if (n <= 0) {
			if (n < 0 && errno != EINTR) {
				log_error("event loop: %s", strerror(errno));
				return;
			}
			continue;
		}
		if (e.data.ptr == &l->timerfd) {
			loop_run_timers(l);
		} else if (e.data.ptr == &l->sigfd) {
			loop_read_signals(l);
		} else {
			struct loop_source *s = e.data.ptr;

			s->fn(s->arg);
			loop_after_event(l);
		}
	}
}
