/* A task between fork() and its program; programs that run before and after it. */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/util.h"
#include "launch/binding.h"
#include "launch/program.h"
#include "launch/task_pty.h"
#include "launch/say.h"
#include "launch/step.h"

extern char **environ;

static void task_reset_signals(void)
{
	sigset_t none;

	for (int sig = 1; sig < NSIG; sig++)
		signal(sig, SIG_DFL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

static int task_open(const struct step *s, const struct stream *st, const struct place *place, int flags, const char *what)
{
	const struct pattern_task who = step_pattern_task(s, place);
	cleanup_free char *name = stream_file(st, &who);
	int fd = open(name, flags | O_CLOEXEC, 0644);

	if (fd >= 0)
		return fd;
	say_step_error(s->job->node, "Could not open %s file %s: %s", what, name, strerror(errno));
	_exit(1);
}

static void task_move(int fd, int to)
{
	if (fd < 0)
		fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (fd == to)
		fcntl(fd, F_SETFD, 0);
	else
		dup2(fd, to);
}

static int task_output_flags(const struct step *s)
{
	const bool append = s->o->open_mode == OPEN_MODE_APPEND ||
			    (s->o->open_mode == OPEN_MODE_DEFAULT && s->job->file_append);

	return O_CREAT | O_WRONLY | O_APPEND | (append ? 0 : O_TRUNC);
}

/* Files of its own (STREAM_EACH) the task opens itself; the launcher has the others. */
static void task_stdio(const struct step *s, const struct place *place, const struct task_files *f)
{
	const bool own = s->out.kind == STREAM_EACH && f->out < 0;
	int in = f->in, out = f->out, err = f->err;

	if (s->in.kind == STREAM_EACH)
		in = task_open(s, &s->in, place, O_RDONLY, "stdin");
	if (own)
		out = task_open(s, &s->out, place, task_output_flags(s), "stdout");
	if (own && s->err.kind == STREAM_EACH && !strcmp(s->out.name, s->err.name))
		err = out;
	else if (s->err.kind == STREAM_EACH && f->err < 0)
		err = task_open(s, &s->err, place, task_output_flags(s), "stderr");
	/* All are above 2: the launcher has something open at 0, 1 and 2. */
	task_move(in, STDIN_FILENO);
	task_move(out, STDOUT_FILENO);
	task_move(err, STDERR_FILENO);
}

static void task_chdir(const struct step *s)
{
	if (!s->o->chdir || !chdir(s->o->chdir))
		return;
	say_step_error(s->job->node, "couldn't chdir to `%s': %s: going to /tmp instead", s->o->chdir, strerror(errno));
	if (chdir("/tmp"))
		_exit(1);
}

/* A line of a task prolog: "export NAME=value", "unset NAME" or "print text". */
static void task_prolog_line(char *line, struct env *env)
{
	char *name = line + strcspn(line, " \t"), *value;

	name += strspn(name, " \t");
	if (!strncmp(line, "print ", 6)) {
		dprintf(STDOUT_FILENO, "%s\n", name);
	} else if (!strncmp(line, "export ", 7) && (value = strchr(name, '='))) {
		*value++ = '\0';
		env_set(env, name, "%s", value);
	} else if (!strncmp(line, "unset ", 6)) {
		env_unset(env, name);
	}
}

static void task_prolog(const char *program, struct env *env)
{
	cleanup_file FILE *out = NULL;
	cleanup_free char *line = NULL;
	size_t room = 0;
	int p[2], status;
	pid_t pid;

	if (!program || !*program || pipe2(p, O_CLOEXEC))
		return;
	pid = fork();
	if (pid == 0) {
		dup2(p[1], STDOUT_FILENO);
		execle(program, program, (char *)NULL, env->v);
		_exit(127);
	}
	close(p[1]);
	out = fdopen(p[0], "r");
	while (out && getline(&line, &room, out) > 0) {
		line[strcspn(line, "\n")] = '\0';
		task_prolog_line(line, env);
	}
	while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
}

void run_program(const char *program, const struct env *env)
{
	int status;
	pid_t pid = program && *program && strcasecmp(program, "none") ? fork() : -1;

	if (pid == 0) {
		task_reset_signals();
		execle("/bin/sh", "sh", "-c", program, (char *)NULL, env->v);
		_exit(127);
	}
	while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
}

static void task_wait_for_all(int go)
{
	char c;

	while (read(go, &c, 1) < 0 && errno == EINTR)
		;
}

static void task_bind(const struct step *s, const struct place *place)
{
	cleanup_free char *mask = NULL;
	cpu_set_t now;

	if (CPU_COUNT(&place->cpus) && sched_setaffinity(0, sizeof(place->cpus), &place->cpus))
		say_step_error(s->job->node, "task %d cannot be bound to its CPUs: %s", place->task, strerror(errno));
	if (!s->place.bind.verbose || !s->job->binding || sched_getaffinity(0, sizeof(now), &now))
		return;
	mask = placement_mask(&now);
	dprintf(STDERR_FILENO, "cpu-bind=%-4s - %s, task %2d %2d [%d]: mask %s%s\n", binding_name(&s->place.bind),
		s->job->node, place->task, place->local, getpid(), mask, CPU_COUNT(&place->cpus) ? " set" : "");
}

_Noreturn void task_become(const struct step *s, const struct place *place, struct env *env, const struct task_files *f)
{
	char **argv = s->o->multi_prog ? s->multi.of_task[place->task] : s->o->argv;
	char *file;

	/* A launcher that is killed takes its tasks with it. */
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (s->sessions)
		setsid();
	if (step_has_pty(s, place->task))
		pty_take(f->in);
	close(f->go_on); /* that of the launcher alone is to keep the tasks waiting */
	task_wait_for_all(f->go);
	task_stdio(s, place, f);
	mpi_in_task(&s->mpi, place->task);
	setrlimit(RLIMIT_NOFILE, &s->files);
	task_reset_signals();
	task_chdir(s);
	env_set(env, "SLURM_TASK_PID", "%d", getpid());
	task_prolog(s->job->task_prolog, env);
	task_prolog(s->o->task_prolog, env);
	task_bind(s, place);
	file = program_find(argv[0], env_get(env, "PATH"));
	argv[0] = file; /* as Slurm's tasks see it */
	execve(file, argv, env->v);
	say_step_error(s->job->node, "execve(): %s: %s", file, strerror(errno));
	_exit(errno);
}
