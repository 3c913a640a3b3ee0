#include "image/threads.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define DEFAULT_MAX 16
#define THREADS_MAX 64

struct member {
	struct mem_team *team;
	int i, nice;
	int (*work)(void *arg, int i, struct err *err);
	void *arg;
};

void mem_team_init(struct mem_team *t, const atomic_bool *cancel)
{
	pthread_mutex_init(&t->lock, NULL);
	atomic_init(&t->failed, false);
	atomic_init(&t->cpu_us, 0);
	t->cancel = cancel;
}

int mem_team_fail(struct mem_team *t, const struct err *why)
{
	pthread_mutex_lock(&t->lock);
	if (!atomic_load(&t->failed))
		t->why = *why;
	atomic_store(&t->failed, true);
	pthread_mutex_unlock(&t->lock);
	return -1;
}

bool mem_team_goes_on(struct mem_team *t)
{
	if (t->cancel && atomic_load_explicit(t->cancel, memory_order_relaxed)) {
		struct err why;

		err_set(&why, ECANCELED, "the work on the memory image was cancelled");
		mem_team_fail(t, &why);
	}
	return !atomic_load_explicit(&t->failed, memory_order_relaxed);
}

static uint64_t thread_cpu_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

static void *member_run(void *arg)
{
	struct member *m = arg;
	uint64_t start = thread_cpu_us();
	struct err why;

	if (m->nice > 0) {
		/* On Linux, each thread has its own nice value. */
		pid_t tid = (pid_t)syscall(SYS_gettid);

		setpriority(PRIO_PROCESS, (id_t)tid, getpriority(PRIO_PROCESS, (id_t)tid) + m->nice);
	}
	if (m->work(m->arg, m->i, &why) < 0)
		mem_team_fail(m->team, &why);
	atomic_fetch_add(&m->team->cpu_us, thread_cpu_us() - start);
	return NULL;
}

int mem_team_run(struct mem_team *t, int n, int nice, int (*work)(void *arg, int i, struct err *err), void *arg,
		 struct err *err)
{
	pthread_t threads[THREADS_MAX];
	struct member members[THREADS_MAX];
	bool started[THREADS_MAX] = { false };
	sigset_t all, before;

	/* Signals are handled by the threads of the caller only. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	for (int i = 0; i < n; i++)
		members[i] = (struct member){ .team = t, .i = i, .nice = nice, .work = work, .arg = arg };
	for (int i = nice > 0 ? 0 : 1; i < n; i++)
		started[i] = pthread_create(&threads[i], NULL, member_run, &members[i]) == 0;
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	/* If a thread could not be created, the caller does its work, at its own nice value; this only takes longer. */
	for (int i = 0; i < n; i++)
		if (!started[i]) {
			members[i].nice = 0;
			member_run(&members[i]);
		}
	for (int i = 0; i < n; i++)
		if (started[i])
			pthread_join(threads[i], NULL);
	return atomic_load(&t->failed) ? err_set(err, t->why.num, "%s", t->why.text) : 0;
}

int mem_threads(int wanted)
{
	cpu_set_t set;
	int n = wanted;

	if (n < 1) {
		n = sched_getaffinity(0, sizeof(set), &set) == 0 ? CPU_COUNT(&set) : (int)sysconf(_SC_NPROCESSORS_ONLN);
		n = n > DEFAULT_MAX ? DEFAULT_MAX : n;
	}
	return n < 1 ? 1 : n > THREADS_MAX ? THREADS_MAX : n;
}
