/* P3, inside the pod and as the job's user, before it executes the script: its standard descriptors, and the gate to
 * the agent. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/kcmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/util.h"
#include "slurm/plugin/spank_fsched.h"

#define ANSWER_MAX 1024

static bool same_file(const struct stat *a, const struct stat *b)
{
	return a->st_dev == b->st_dev && a->st_ino == b->st_ino && (a->st_mode & S_IFMT) == (b->st_mode & S_IFMT);
}

static bool same_description(int a, int b)
{
	long r = syscall(SYS_kcmp, getpid(), getpid(), KCMP_FILE, a, b);
	struct stat sa, sb;

	if (r >= 0)
		return r == 0;
	/* For a kernel without kcmp(): Slurm opens the file once if output and error have the same name. */
	return !fstat(a, &sa) && !fstat(b, &sb) && same_file(&sa, &sb) && fcntl(a, F_GETFL) == fcntl(b, F_GETFL);
}

static bool reopenable(const struct stat *st)
{
	return S_ISREG(st->st_mode) || (S_ISCHR(st->st_mode) && st->st_rdev == makedev(1, 3));
}

/* Opens the same file by its path in this mount namespace, with the same flags and position. Returns a descriptor or
 * -1. */
static int open_again(int fd)
{
	char link[32], path[PATH_MAX];
	cleanup_close int again = -1;
	struct stat was, is;
	int flags = fcntl(fd, F_GETFL);
	ssize_t len;

	if (flags < 0 || fstat(fd, &was) || !reopenable(&was))
		return -1;
	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	len = readlink(link, path, sizeof(path) - 1);
	if (len <= 0)
		return -1;
	path[len] = '\0';
	/* O_NONBLOCK: if somebody has put a FIFO there, open() would block for ever. */
	again = open(path, (flags & (O_ACCMODE | O_APPEND)) | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	if (again < 0 || fstat(again, &is) || !same_file(&was, &is) || fcntl(again, F_SETFL, flags))
		return -1;
	if (S_ISREG(was.st_mode) && lseek(again, lseek(fd, 0, SEEK_CUR), SEEK_SET) < 0)
		return -1;
	return steal_fd(&again);
}

void reopen_stdio(void)
{
	bool shared = same_description(1, 2);
	int fd;

	for (fd = 0; fd <= 2; fd++) {
		if (fd == 2 && shared) {
			dup2(1, 2);
			break;
		}
		cleanup_close int again = open_again(fd);

		if (again >= 0)
			dup2(again, fd);
	}
}

/* Truncates the output, as the user has asked. Slurm has opened it in append mode, because only the agent knows whether
 * the job starts from the beginning or is restored. */
static void truncate_output(void)
{
	struct stat st;
	int fd;

	for (fd = 1; fd <= 2; fd++) {
		if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && ftruncate(fd, 0))
			slurm_error("fsched: cannot truncate the job's output: %s", strerror(errno));
	}
}

/* Receives the next message of the agent. Returns its length, 0 at the end, or -1 with errno. */
static ssize_t next_answer(int gate, char *text, size_t len)
{
	ssize_t n;

	do {
		n = recv(gate, text, len - 1, 0);
	} while (n < 0 && errno == EINTR);
	text[n > 0 ? n : 0] = '\0';
	return n;
}

/* Handles the message "keep N": copies the output of run N and answers "kept NAMES" or "lost REASON". */
static void keep_for_agent(int gate, const char *number)
{
	char list[2 * NAME_MAX + 4], said[sizeof(list) + 16];
	struct err err;
	int n;

	if (keep_output((unsigned)strtoul(number, NULL, 10), list, sizeof(list), &err))
		n = snprintf(said, sizeof(said), "lost %s", err.text);
	else
		n = snprintf(said, sizeof(said), "kept %s", list);
	send(gate, said, (size_t)n < sizeof(said) ? (size_t)n : sizeof(said) - 1, MSG_NOSIGNAL);
}

int gate_wait(int gate, enum gate_answer *answer, struct err *err)
{
	char text[ANSWER_MAX];
	ssize_t n = send(gate, "ready", 5, MSG_NOSIGNAL);

	while (n >= 0 && (n = next_answer(gate, text, sizeof(text))) > 0 && !strncmp(text, "keep ", 5))
		keep_for_agent(gate, text + 5);
	if (n <= 0)
		return err_set(err, n < 0 ? errno : 0,
			       "fsched-agent ended before it started the job; the reason is in the system log of "
			       "this node (journalctl -t fsched-agent)");
	while (n > 0 && text[n - 1] == '\n')
		text[--n] = '\0';
	*answer = GATE_RUN;
	if (!strcmp(text, "run"))
		return 0;
	if (!strcmp(text, "run truncate")) {
		truncate_output();
		return 0;
	}
	*answer = GATE_EXIT;
	if (!strcmp(text, "exit"))
		return 0;
	if (!strncmp(text, "fail ", 5))
		return err_set(err, 0, "%s", text + 5);
	return err_set(err, EPROTO,
		       "fsched-agent gave the answer \"%s\", which this plugin does not know: are plugin and agent of the "
		       "same version?",
		       text);
}
