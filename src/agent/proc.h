/* A child process that the agent starts for one purpose. Its request goes to its stdin, its answer comes back line by
 * line from its stdout; the loop watches its end and a deadline.
 *
 * Each such child ignores the signals that Slurm sends to the whole job (a vacate must outlive the SIGTERM that it
 * causes), and the kernel kills it when the agent dies.
 */
#ifndef FSCHED_AGENT_PROC_H
#define FSCHED_AGENT_PROC_H

#include <stdbool.h>
#include <stddef.h>
#include "agent/lines.h"
#include "agent/loop.h"

struct proc {
	struct loop *loop;
	pid_t pid; /* 0 = none */
	int in;    /* our end of its stdin, -1 after proc_close_stdin() */
	struct loop_source out;
	struct loop_child child;
	struct loop_timer deadline;
	bool timed_out;
	struct lines lines;                         /* of its stdout */
	void (*on_line)(void *arg, char *line);     /* without the newline */
	void (*on_end)(void *arg, int wait_status); /* once; may start the next process in the same struct */
	void *arg;
};

struct proc_spec {
	char *const *argv;               /* argv[0]: absolute path; or NULL and */
	int (*main)(void *arg, int out); /* a function to run in the child, its result is the exit status */
	void *main_arg;
	bool keep_all;       /* the function uses the agent's descriptors */
	const char *request; /* written to stdin, which then stays open; NULL = stdin is /dev/null */
	bool talk;           /* stdin stays open for proc_send(), without a request */
	int keep_fd;         /* descriptor that the program inherits, -1 = none */
	int timeout_s;       /* SIGKILL after that; 0 = none */
	void (*on_line)(void *arg, char *line);
	void (*on_end)(void *arg, int wait_status);
	void *arg;
};

/* p must not be running; s is copied as far as needed. 0, or -1 with err (which may be NULL). */
int proc_start(struct loop *l, struct proc *p, const struct proc_spec *s, struct err *err);
static inline bool proc_running(const struct proc *p)
{
	return p->pid != 0;
}
/* Sends one more line to its stdin. 0 or -1. */
int proc_send(struct proc *p, const char *line);
/* It reads end of file from its stdin. */
void proc_close_stdin(struct proc *p);
/* A new deadline from now on, 0 = none. */
void proc_set_timeout(struct proc *p, int timeout_s);
void proc_kill(struct proc *p);   /* SIGKILL; on_end follows */
void proc_forget(struct proc *p); /* SIGKILL, and no callback any more; does nothing if there is no process */

/* In a child that does not exec: it dies with the agent, and keeps no descriptor but 0-2 and the given ones (-1 =
 * none). */
void proc_child_setup(pid_t agent, int keep_a, int keep_b);
/* Clears the signal mask that the child has from the agent, and ignores the signals that Slurm sends to the whole job.
 */
void proc_ignore_job_signals(void);

#endif
