#include "trace/stop_threads.h"

#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/array.h"
#include "base/dir.h"
#include "base/clock.h"
#include "base/util.h"

#ifndef PTRACE_EVENT_STOP
#define PTRACE_EVENT_STOP 128
#endif

#define POLL_US 200

static bool stop_threads_has(const struct stopped_threads *s, size_t from, pid_t tid)
{
	for (size_t i = from; i < s->n; i++)
		if (s->tids[i] == tid)
			return true;
	return false;
}

static void stop_threads_push(struct stopped_threads *s, pid_t tid)
{
	array_reserve(s->tids, s->n, s->room);
	s->tids[s->n++] = tid;
}

/* Seizes and interrupts the threads that are not in s yet; *fresh: there was at least one. */
static int stop_threads_seize_new(struct stopped_threads *s, size_t from, pid_t host, bool *fresh, struct err *err)
{
	cleanup_dir DIR *d = NULL;
	const struct dirent *e;
	char path[64];
	int more;

	*fresh = false;
	snprintf(path, sizeof(path), "/proc/%d/task", host);
	d = opendir(path);
	if (!d)
		return err_sys(err, errno, "its threads cannot be listed");
	while ((more = dir_next(d, &e)) > 0) {
		pid_t tid = (pid_t)atoi(e->d_name);

		if (tid <= 0 || stop_threads_has(s, from, tid))
			continue;
		if (ptrace(PTRACE_SEIZE, tid, NULL, NULL)) {
			if (errno == ESRCH)
				continue; /* it has just ended */
			return err_sys(err, errno, "thread %d cannot be traced", tid);
		}
		stop_threads_push(s, tid);
		*fresh = true;
		ptrace(PTRACE_INTERRUPT, tid, NULL, NULL);
	}
	return more < 0 ? err_sys(err, errno, "its threads cannot be listed") : 0;
}

/* Returns 1 = the thread is stopped, 0 = not yet, -1 = it has ended. A pending signal is delivered first. */
static int stop_threads_poll(pid_t tid)
{
	int status;
	pid_t got = waitpid(tid, &status, __WALL | WNOHANG);

	if (got == 0)
		return 0;
	if (got < 0 || !WIFSTOPPED(status))
		return -1;
	if (status >> 16 == PTRACE_EVENT_STOP)
		return 1;
	ptrace(PTRACE_CONT, tid, NULL, (void *)(uintptr_t)(status >> 16 ? 0 : WSTOPSIG(status)));
	return 0;
}

static int stop_threads_await(struct stopped_threads *s, size_t i, int64_t until, struct err *err)
{
	int state;

	while ((state = stop_threads_poll(s->tids[i])) == 0) {
		if (now_us() > until)
			return err_set(err, ETIMEDOUT, "thread %d does not stop", s->tids[i]);
		usleep(POLL_US);
	}
	if (state < 0)
		s->tids[i] = 0;
	return 0;
}

/* A thread that is not stopped yet cannot be detached. It has been interrupted, so it is detached as soon as it stops,
 * or at the latest when the caller ends. */
static void stop_threads_release(pid_t tid)
{
	int64_t until = now_us() + 1000000;

	if (tid == 0)
		return;
	while (ptrace(PTRACE_DETACH, tid, NULL, NULL) && errno == ESRCH && now_us() < until) {
		if (stop_threads_poll(tid) < 0)
			return;
		usleep(POLL_US);
	}
}

static void stop_threads_release_from(struct stopped_threads *s, size_t from)
{
	while (s->n > from)
		stop_threads_release(s->tids[--s->n]);
}

int stop_threads_add(struct stopped_threads *s, pid_t host, int64_t until, struct err *err)
{
	size_t from = s->n, stopped = s->n;
	bool fresh = true;

	while (fresh) {
		/* Threads that still run may create others. */
		if (stop_threads_seize_new(s, from, host, &fresh, err))
			goto fail;
		for (; stopped < s->n; stopped++)
			if (stop_threads_await(s, stopped, until, err))
				goto fail;
	}
	return 0;
fail:
	stop_threads_release_from(s, from);
	return -1;
}

void stop_threads_end(struct stopped_threads *s)
{
	stop_threads_release_from(s, 0);
	free(s->tids);
	*s = (struct stopped_threads){ 0 };
}
