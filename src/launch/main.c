/* fsched-srun: takes the place of Slurm's srun in the pod of a job. Its tasks are processes of the pod, so that they
 * are part of every checkpoint. It runs as the job's user and has no right that the job has not. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/util.h"
#include "launch/task_pty.h"
#include "launch/bcast.h"
#include "launch/real.h"
#include "launch/release.h"
#include "launch/say.h"
#include "launch/step.h"
#include "launch/steps.h"

#define RETRY_MIN (10 * 1000) /* us between two looks at the CPUs of the job */
#define RETRY_MAX (200 * 1000)

static volatile sig_atomic_t ended_by;

static void main_on_signal(int sig)
{
	ended_by = sig;
}

/* Descriptors 0-2 are open from now on, so that no pipe gets one of these numbers. */
static void main_fill_stdio(void)
{
	int fd;

	do
		fd = open("/dev/null", O_RDWR);
	while (fd >= 0 && fd <= 2);
	if (fd > 2)
		close(fd);
}

/* The launcher needs some descriptors for each task. The tasks keep the limit of the launcher. */
static void main_raise_files(struct step *s)
{
	struct rlimit more;

	if (getrlimit(RLIMIT_NOFILE, &s->files))
		return;
	more = s->files;
	more.rlim_cur = more.rlim_max;
	setrlimit(RLIMIT_NOFILE, &more);
}

static _Noreturn void main_no_step(const struct step *s, const char *why)
{
	say_error("Unable to create step for job %s: %s", s->job->id, why);
	exit(1);
}

/* What is said while a step waits. */
struct main_wait {
	int64_t every, next; /* us; every = 0: said once, at once */
	bool waited, said;
};

/* From 23.11 on srun says nothing until slurmctld has not answered for this time. */
static struct main_wait main_wait_begin(const struct job *j)
{
	const int timeout = j->ctld_timeout < 60 ? 60 : j->ctld_timeout > 300 ? 300 : j->ctld_timeout;
	struct main_wait w = { .every = release_since(23, 11) ? (timeout + getpid() % 10) * INT64_C(1000000) : 0 };

	w.next = now_us() + w.every;
	return w;
}

static void main_wait_say(struct main_wait *w, const struct job *j)
{
	w->waited = true;
	if (now_us() < w->next || (w->said && !w->every))
		return;
	say_info("Job %s step creation %s disabled, retrying (Requested nodes are busy)", j->id,
		 w->said ? "still" : "temporarily");
	w->said = true;
	w->next += w->every;
}

/* Waits until enough CPUs of the job are free. */
static void main_get_cpus(struct step *s, struct cpu_list *cpus)
{
	const struct placement *p = &s->place;
	const struct step_request request = {
		.name = s->o->argv[0],
		.ntasks = p->ntasks,
		.wanted = p->cpus,
		.exact = p->exact,
		.overlap = s->o->overlap,
		.cpus = s->job->cpus,
	};
	const int64_t until = s->o->immediate ? now_us() + s->o->immediate * INT64_C(1000000) : 0;
	useconds_t pause = RETRY_MIN;
	struct main_wait wait = main_wait_begin(s->job);
	struct err err;
	int rc;

	signal(SIGINT, main_on_signal);
	signal(SIGTERM, main_on_signal);
	while ((rc = steps_begin(&request, &s->id, cpus, &err)) == 1) {
		if (s->o->immediate == 1 || (until && now_us() >= until))
			main_no_step(s, "Requested nodes are busy");
		if (ended_by) {
			say_info("Cancelled pending job step with signal %d", (int)ended_by);
			main_no_step(s, "Job/step already completing or completed");
		}
		main_wait_say(&wait, s->job);
		usleep(pause);
		pause = pause * 2 > RETRY_MAX ? RETRY_MAX : pause * 2;
	}
	if (rc < 0) {
		say_error("%s", err.text);
		exit(1);
	}
	if (wait.waited && release_since(23, 2))
		say_info("Step created for StepId=%s.%d", s->job->id, s->id);
	else if (wait.waited)
		say_info("Step created for job %s", s->job->id);
}

static void main_check_propagate(const char *list)
{
	static const char *const names[] = { "ALL",   "NONE",    "AS",     "CORE",  "CPU", "DATA",
					     "FSIZE", "MEMLOCK", "NOFILE", "NPROC", "RSS", "STACK" };
	size_t n, i;

	for (const char *p = list ? list : ""; *p; p += n + (p[n] == ',')) {
		n = strcspn(p, ",");
		for (i = 0; i < ARRAY_SIZE(names); i++)
			if (strlen(names[i]) == n && !strncasecmp(names[i], p, n))
				break;
		if (i < ARRAY_SIZE(names))
			continue;
		say_error("Bad rlimit name: %.*s", (int)n, p);
		say_error("--propagate=%s is not valid.", list);
		exit(1);
	}
}

static void main_prepare(struct step *s, struct options *o, struct job *job)
{
	main_check_propagate(o->propagate);
	/* A job has no terminal but those that it makes itself: by script(1), tmux(1), expect(1). */
	if (o->pty && !pty_size(o->pty, &s->pty_size))
		o->pty = NULL;
	o->unbuffered |= o->pty != NULL;
	job_read(job, o);
	s->o = o;
	s->job = job;
	placement_count(&s->place, o, job);
	if (o->multi_prog) {
		s->place.ntasks = multi_prog_read(&s->multi, o->argv, s->place.ntasks, o->ntasks > 0);
		if (s->place.ntasks > job->cpus && !o->overcommit)
			main_no_step(s, "More processors requested than permitted");
	}
}

static void main_start(struct step *s)
{
	const struct options *o = s->o;
	struct mpi_job mpi = { o->mpi, s->job->id, s->id, s->place.ntasks };
	struct err err;

	if (o->bcast)
		o->argv[0] = bcast_copy(o->argv[0], o->bcast, s->job, s->id);
	step_open_files(s);
	task_env_of_step(&s->env, o, s->job, &s->place, s->id);
	if (o->pty)
		pty_env(&s->env, &s->pty_size);
	run_program(o->prolog ? o->prolog : s->job->prolog, &s->env);
	if (o->pty)
		pty_make_raw();
	if (mpi_begin(&s->mpi, &mpi, &err) || step_start(s, &err)) {
		say_error("%s", err.text);
		steps_end(NULL);
		exit(1);
	}
}

static void main_end(const struct step *s)
{
	const struct options *o = s->o;
	const char *file = strrchr(o->argv[0], '/');
	const struct step_end e = { .name = o->name_given ? o->job_name
					    : file        ? file + 1
							  : o->argv[0],
				    .step = s->id,
				    .ntasks = s->place.ntasks,
				    .status = s->abort_code ? s->abort_code << 8 : s->exits.status,
				    .max_rss = s->max_rss };

	steps_end(&e);
}

static int main_step(struct options *o)
{
	cleanup_free struct cpu_list *cpus = xcalloc(1, sizeof(*cpus));
	struct step *s = xcalloc(1, sizeof(*s));
	struct job job;

	main_fill_stdio();
	main_prepare(s, o, &job);
	main_get_cpus(s, cpus);
	placement_make(&s->place, &job, cpus);
	main_raise_files(s);
	signal(SIGPIPE, SIG_IGN);
	step_streams(s);
	main_start(s);
	step_run(s);
	mpi_end(&s->mpi);
	run_program(o->epilog ? o->epilog : job.epilog, &s->env);
	main_end(s);
	return s->abort_code ? s->abort_code : exits_code(&s->exits);
}

int main(int argc, char **argv)
{
	const char *choice = getenv("FSCHED_SRUN"), *job = getenv("SLURM_JOB_ID");
	struct options o;

	/* Outside of a job srun asks for a new one. */
	if ((choice && !strcmp(choice, "real")) || !job || !*job)
		real_exec(argv);
	if (options_read(&o, argc, argv) == USE_SLURM)
		real_exec(argv);
	if (o.mpi_list) {
		mpi_list();
		return 0;
	}
	return main_step(&o);
}
