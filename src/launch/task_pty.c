#include "launch/task_pty.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <pty.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

#include "launch/release.h"
#include "launch/say.h"

static struct termios pty_before;
static int pty_fd = STDIN_FILENO; /* the launcher's terminal */

bool pty_size(const char *given, struct winsize *size)
{
	if (*given && !isdigit((unsigned char)*given))
		say_fatal("--pty=%s must be numeric file descriptor", given);
	if (*given)
		pty_fd = atoi(given);
	/* Up to 22.05 srun looks at the output here, and sets the input to raw mode. */
	if (!ioctl(release_since(23, 2) ? pty_fd : STDOUT_FILENO, TIOCGWINSZ, size))
		return true;
	say_error("ioctl(TIOCGWINSZ): %s", strerror(errno));
	say_error("Not using a pseudo-terminal, disregarding --pty%s%s option", *given ? "=" : "", given);
	return false;
}

static void pty_restore(void)
{
	tcsetattr(pty_fd, TCSANOW, &pty_before);
}

void pty_make_raw(void)
{
	struct termios t;

	say_set_raw(true); /* as Slurm: also if only the output is a terminal */
	if (tcgetattr(pty_fd, &pty_before))
		return;
	t = pty_before;
	cfmakeraw(&t);
	tcsetattr(pty_fd, TCSANOW, &t);
	atexit(pty_restore);
}

/* The port at which Slurm's srun tells its daemon of a new size: nobody listens there. */
void pty_env(struct env *e, const struct winsize *size)
{
	env_set(e, "SLURM_PTY_PORT", "0");
	if (size->ws_col)
		env_set(e, "SLURM_PTY_WIN_COL", "%u", size->ws_col);
	if (size->ws_row)
		env_set(e, "SLURM_PTY_WIN_ROW", "%u", size->ws_row);
}

int pty_open(const struct winsize *size, int *ours, int *theirs, struct err *err)
{
	if (openpty(ours, theirs, NULL, NULL, size))
		return err_sys(err, errno, "cannot make the terminal of task 0");
	fcntl(*ours, F_SETFD, FD_CLOEXEC);
	fcntl(*theirs, F_SETFD, FD_CLOEXEC);
	fcntl(*ours, F_SETFL, O_NONBLOCK);
	return 0;
}

void pty_take(int theirs)
{
	say_set_raw(false);
	ioctl(theirs, TIOCSCTTY, 0);
}

bool pty_controls(void)
{
	int fd = open("/dev/tty", O_RDWR | O_NOCTTY | O_CLOEXEC);

	if (fd >= 0)
		close(fd);
	return fd >= 0;
}

void pty_resize(int ours)
{
	struct winsize size;

	if (!ioctl(STDOUT_FILENO, TIOCGWINSZ, &size))
		ioctl(ours, TIOCSWINSZ, &size);
}
