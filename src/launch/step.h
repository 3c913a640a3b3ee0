/* One step: its tasks as processes, and the launcher's way through it. */
#ifndef FSCHED_LAUNCH_STEP_H
#define FSCHED_LAUNCH_STEP_H

#include <stdint.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/types.h>
#include "launch/exits.h"
#include "launch/forward.h"
#include "launch/job.h"
#include "launch/mpi.h"
#include "launch/multi_prog.h"
#include "launch/options.h"
#include "launch/pattern.h"
#include "launch/placement.h"
#include "launch/release.h"
#include "launch/task_env.h"

struct task {
	pid_t pid; /* 0 = not started, or reaped */
	bool ended, told;
	int status; /* wait status */
};

struct step {
	const struct options *o;
	const struct job *job;
	struct placement place;
	int id;
	struct stream in, out, err;
	struct multi_prog multi;
	struct mpi mpi;
	struct env env; /* what all tasks have in common */
	struct task *tasks;
	bool sessions; /* each task leads a session of its own, because the launcher's has a terminal */
	pid_t group;   /* process group of the tasks otherwise */
	struct winsize pty_size;
	int pty;             /* the launcher's side of the terminal of task 0, if o->pty */
	struct rlimit files; /* RLIMIT_NOFILE of the tasks */
	struct forward forward;
	struct exits exits;
	uint64_t max_rss; /* KiB, of the largest process that has ended */
	int abort_code;   /* of a task that has called MPI_Abort(), 0 = none */
};

/* How srun names the place in its code that ends a step: up to 23.02 there is one. */
#define LAUNCH_SAID_BY (release_since(23, 11) ? "" : "launch/slurm: _step_signal: ")

/* Expands the patterns of -i, -o and -e. To be called once the step has its number. */
void step_streams(struct step *s);
/* For the patterns that are left to each task. */
struct pattern_task step_pattern_task(const struct step *s, const struct place *place);
/* Opens the launcher's files. Ends the program if that fails. */
void step_open_files(struct step *s);
/* Starts all tasks. 0 or -1 with err. */
int step_start(struct step *s, struct err *err);
/* Waits for the end of the step, and serves it until then. */
void step_run(struct step *s);

/* Whether a task has a terminal of its own. */
bool step_has_pty(const struct step *s, int task);

/* Sends a signal to the tasks; SIGKILL also to all their descendants. (step_kill.c) */
void step_signal(const struct step *s, int sig);

/* spawn.c: what a task does before its program. Does not return. */
struct task_files {
	int in, out, err; /* -1 = /dev/null */
	int go, go_on;    /* ends of a pipe; end of file: all tasks exist */
};
_Noreturn void task_become(const struct step *s, const struct place *place, struct env *env, const struct task_files *f);
/* Runs a program of --prolog, --epilog and of slurm.conf, and waits for it. */
void run_program(const char *program, const struct env *env);

#endif
