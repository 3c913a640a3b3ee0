/* --pty: task 0 has a terminal of its own, whose other side is the launcher's terminal. */
#ifndef FSCHED_LAUNCH_TASK_PTY_H
#define FSCHED_LAUNCH_TASK_PTY_H

#include <stdbool.h>
#include <sys/ioctl.h>
#include "base/err.h"
#include "launch/task_env.h"

/* Reads the size of the launcher's terminal. given: that of --pty=FD, "" without. False: the descriptor is no terminal,
 * and the launcher has said that --pty has no effect. */
bool pty_size(const char *given, struct winsize *size);
/* From now until the program ends, what is typed and written is passed on as it is. */
void pty_make_raw(void);
void pty_env(struct env *e, const struct winsize *size);

/* Makes the terminal. theirs is for the task alone. 0, or -1 with err. */
int pty_open(const struct winsize *size, int *ours, int *theirs, struct err *err);
/* In the task, which leads a session: this is its terminal. */
void pty_take(int theirs);
/* Whether this process has a controlling terminal. */
bool pty_controls(void);
/* Gives the task's terminal the size that the launcher's has now. */
void pty_resize(int ours);

#endif
