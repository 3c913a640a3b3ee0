#include "launch/step.h"

#include <errno.h>
#include <fcntl.h>
#include <pty.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

#include "base/util.h"
#include "launch/task_pty.h"
#include "launch/say.h"

enum { OUT, ERR, STREAMS };

void step_streams(struct step *s)
{
	const struct pattern_job job = { .job_id = s->job->id,
					 .job_name = getenv("SLURM_JOB_NAME"),
					 .array_job_id = getenv("SLURM_ARRAY_JOB_ID"),
					 .array_task_id = getenv("SLURM_ARRAY_TASK_ID"),
					 .step_id = s->id,
					 .sluid = getenv("SLURM_JOB_SLUID"),
					 .since_25_11 = release_since(25, 11) };
	const char *err = s->o->error ? s->o->error : s->o->output;

	stream_parse(&s->in, s->o->input, s->place.ntasks, &job);
	stream_parse(&s->out, s->o->output, s->place.ntasks, &job);
	stream_parse(&s->err, err, s->place.ntasks, &job);
}

struct pattern_task step_pattern_task(const struct step *s, const struct place *place)
{
	return (struct pattern_task){ .task = place->task,
				      .node = place->node,
				      .node_name = release_since(25, 11) ? s->job->node : s->job->host,
				      .user = s->job->user };
}

static int step_open(const char *name, int flags, const char *what)
{
	int fd = open(name, flags | O_CLOEXEC, 0644);

	if (fd >= 0)
		return fd;
	say_error("Could not open %s file: %s", what, strerror(errno));
	exit(1);
}

static int step_output_flags(const struct step *s)
{
	const bool append = s->o->open_mode == OPEN_MODE_APPEND ||
			    (s->o->open_mode == OPEN_MODE_DEFAULT && s->job->file_append);

	return O_CREAT | O_WRONLY | O_APPEND | (append ? 0 : O_TRUNC);
}

/* Lines of files that tasks have to themselves get a label too, which takes the launcher. */
static bool step_labels(const struct step *s, const struct stream *st)
{
	return s->o->label && st->kind == STREAM_EACH && strcmp(st->name, "/dev/null") != 0;
}

static int step_open_labelled(const struct step *s, const struct stream *st, int task)
{
	const struct place *place = &s->place.v[task];
	const struct pattern_task who = step_pattern_task(s, place);
	cleanup_free char *name = stream_file(st, &who);

	return step_open(name, step_output_flags(s), "stdout");
}

/* Sinks: stdout and stderr of the launcher, or what takes their place; and with labels one for each file of a task. */
void step_open_files(struct step *s)
{
	struct forward *f = &s->forward;
	const size_t each = (step_labels(s, &s->out) || step_labels(s, &s->err)) ? (size_t)s->place.ntasks * STREAMS : 0;
	const bool same = s->out.name && s->err.name && !strcmp(s->out.name, s->err.name);
	int fd[STREAMS] = { STDOUT_FILENO, STDERR_FILENO };

	f->sinks = xcalloc(STREAMS + each, sizeof(*f->sinks));
	f->n_sinks = STREAMS + each;
	f->feed.from = STDIN_FILENO;
	if (s->in.kind == STREAM_ALL && s->in.name)
		f->feed.from = step_open(s->in.name, O_RDONLY, "stdin");
	if (s->out.kind == STREAM_ALL && s->out.name)
		fd[OUT] = step_open(s->out.name, step_output_flags(s), "stdout");
	if (s->err.kind == STREAM_ALL && s->err.name)
		fd[ERR] = same ? fd[OUT] : step_open(s->err.name, step_output_flags(s), "stderr");
	sink_open(&f->sinks[OUT], fd[OUT]);
	sink_open(&f->sinks[ERR], fd[ERR]);
	for (size_t i = 0; i < each; i++) {
		const bool err = i % STREAMS == ERR;
		const struct stream *st = err ? &s->err : &s->out;

		if (step_labels(s, st))
			sink_open(&f->sinks[STREAMS + i], err && same ? f->sinks[STREAMS + i - 1].fd
								      : step_open_labelled(s, st, (int)i / STREAMS));
	}
}

/* The sink of what a task writes, NULL if the task has its own file or none. */
static struct sink *step_sink(struct step *s, const struct stream *st, int task, int which)
{
	if (step_labels(s, st))
		return &s->forward.sinks[STREAMS + task * STREAMS + which];
	if (st->kind == STREAM_EACH || (st->kind == STREAM_ONE && st->task != task))
		return NULL;
	/* Both in one file: one sink, so that the order is kept. */
	if (which == ERR && st->kind == STREAM_ALL && st->name && s->out.name && !strcmp(st->name, s->out.name))
		which = OUT;
	return &s->forward.sinks[which];
}

/* With -u the standard output is a terminal, so that programs do not hold it back. */
static int step_terminal(int ends[2])
{
	struct termios t;

	if (openpty(&ends[0], &ends[1], NULL, NULL, NULL))
		return -1;
	fcntl(ends[0], F_SETFD, FD_CLOEXEC);
	fcntl(ends[1], F_SETFD, FD_CLOEXEC);
	if (!tcgetattr(ends[1], &t)) {
		t.c_oflag &= (tcflag_t)~OPOST;
		tcsetattr(ends[1], TCSANOW, &t);
	}
	return 0;
}

static int step_output(struct step *s, int task, int which, int *theirs, struct err *err)
{
	struct source *src = &s->forward.sources[task * STREAMS + which];
	struct sink *sink = step_sink(s, which == OUT ? &s->out : &s->err, task, which);
	int ends[2];

	*src = (struct source){ .fd = -1, .task = task, .sink = sink ? sink : &s->forward.sinks[which] };
	*theirs = -1;
	if (!sink)
		return 0;
	if (which == OUT && s->o->unbuffered ? step_terminal(ends) : pipe2(ends, O_CLOEXEC))
		return err_sys(err, errno, "cannot make the output of task %d", task);
	src->fd = ends[0];
	*theirs = ends[1];
	return 0;
}

static int step_input(struct step *s, int task, int *theirs, struct err *err)
{
	int ends[2];

	*theirs = -1;
	s->forward.feed.to[task] = -1;
	if (s->in.kind == STREAM_EACH || (s->in.kind == STREAM_ONE && s->in.task != task))
		return 0;
	if (pipe2(ends, O_CLOEXEC))
		return err_sys(err, errno, "cannot make the input of task %d", task);
	fcntl(ends[1], F_SETFL, O_NONBLOCK);
	s->forward.feed.to[task] = ends[1];
	*theirs = ends[0];
	return 0;
}

bool step_has_pty(const struct step *s, int task)
{
	return s->o->pty && task == 0;
}

/* With --pty only task 0 has input and output. */
static int step_pty(struct step *s, int task, struct task_files *f, struct err *err)
{
	struct source *src = &s->forward.sources[task * STREAMS];

	src[OUT] = src[ERR] = (struct source){ .fd = -1, .task = task, .sink = &s->forward.sinks[OUT] };
	s->forward.feed.to[task] = -1;
	if (!step_has_pty(s, task))
		return 0;
	if (pty_open(&s->pty_size, &s->pty, &f->in, err))
		return -1;
	/* Each is closed at the end of its stream; the end of the input is not that of the terminal. */
	src[OUT].fd = fcntl(s->pty, F_DUPFD_CLOEXEC, 0);
	s->forward.feed.to[task] = fcntl(s->pty, F_DUPFD_CLOEXEC, 0);
	f->out = fcntl(f->in, F_DUPFD_CLOEXEC, 0);
	f->err = fcntl(f->in, F_DUPFD_CLOEXEC, 0);
	if (src[OUT].fd < 0 || s->forward.feed.to[task] < 0 || f->out < 0 || f->err < 0)
		return err_sys(err, errno, "cannot make the input and output of task 0");
	return 0;
}

static int step_make_files(struct step *s, int task, struct task_files *f, struct err *err)
{
	if (s->o->pty)
		return step_pty(s, task, f, err);
	if (step_input(s, task, &f->in, err) || step_output(s, task, OUT, &f->out, err))
		return -1;
	return step_output(s, task, ERR, &f->err, err);
}

static void step_close(const struct task_files *f)
{
	const int fds[] = { f->in, f->out, f->err };

	for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
		if (fds[i] >= 0)
			close(fds[i]);
}

/* Puts a task (0: this process) into the process group of the step. Both sides do it, because either may be first. */
static void step_join(struct step *s, pid_t pid)
{
	if (s->sessions)
		return;
	setpgid(pid, s->group);
	if (!s->group)
		s->group = pid;
}

static int step_start_task(struct step *s, int task, const int go[2], struct err *err)
{
	struct task_files f = { -1, -1, -1, go[0], go[1] };
	struct env env = { 0 };
	pid_t pid;

	if (step_make_files(s, task, &f, err))
		return -1;
	env_copy(&env, &s->env);
	task_env_of_task(&env, &s->place.v[task]);
	if (mpi_env(&s->mpi, task, &env, err))
		return -1;
	pid = fork();
	if (pid == 0) {
		step_join(s, 0);
		task_become(s, &s->place.v[task], &env, &f);
	}
	if (pid < 0)
		return err_sys(err, errno, "cannot start task %d", task);
	step_join(s, pid);
	s->tasks[task].pid = pid;
	mpi_forked(&s->mpi, task);
	step_close(&f);
	env_free(&env);
	return 0;
}

int step_start(struct step *s, struct err *err)
{
	struct forward *f = &s->forward;
	const size_t n = (size_t)s->place.ntasks;
	int go[2], rc = 0;

	if (s->o->chdir && access(s->o->chdir, X_OK))
		say_step_error(s->job->node, "couldn't chdir to `%s': %s: going to /tmp instead", s->o->chdir,
			       strerror(errno));
	s->sessions = s->o->pty || pty_controls();
	s->tasks = xcalloc(n, sizeof(*s->tasks));
	f->sources = xcalloc(n * STREAMS, sizeof(*f->sources));
	f->feed.to = xcalloc(n, sizeof(*f->feed.to));
	f->feed.done = xcalloc(n, sizeof(*f->feed.done));
	f->label = s->o->label;
	f->lines = !s->o->unbuffered;
	f->width = snprintf(NULL, 0, "%d", s->place.ntasks - 1);
	if (pipe2(go, O_CLOEXEC))
		return err_sys(err, errno, "cannot make a pipe");
	for (int task = 0; task < s->place.ntasks && !rc; task++) {
		rc = step_start_task(s, task, go, err);
		f->n_sources = (size_t)(task + 1) * STREAMS;
		f->feed.n = task + 1;
	}
	close(go[0]);
	if (rc)
		step_signal(s, SIGKILL);
	close(go[1]);
	return rc;
}
