/* What pod_start() and pod_restore() share. */
#include "pod/pod_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/util.h"

/* Moves *fd to a number above 2: in a caller with 0-2 closed, a new descriptor may have such a number. */
static int pod_raise_fd(int *fd)
{
	int high;

	if (*fd > 2)
		return 0;
	high = fcntl(*fd, F_DUPFD_CLOEXEC, 3);
	if (high < 0)
		return -1;
	close(*fd);
	*fd = high;
	return 0;
}

int pod_socketpair(int pair[2], struct err *err)
{
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair)) {
		pair[0] = pair[1] = -1;
		return err_sys(err, errno, "cannot make a socket pair for the pod");
	}
	if (pod_raise_fd(&pair[0]) || pod_raise_fd(&pair[1]))
		return err_sys(err, errno, "cannot duplicate a descriptor for the pod");
	return 0;
}

int report_pair(int pair[2], struct err *err)
{
	int on = 1;

	if (pod_socketpair(pair, err))
		return -1;
	if (setsockopt(pair[0], SOL_SOCKET, SO_PASSCRED, &on, sizeof(on)))
		return err_sys(err, errno, "cannot ask for credentials on a socket");
	return 0;
}

void report_send(int fd, enum report_kind kind, const struct err *err)
{
	struct report r = { .kind = (char)kind };
	ssize_t n;

	if (err)
		r.err = *err;
	do
		n = send(fd, &r, sizeof(r), MSG_NOSIGNAL);
	while (n < 0 && errno == EINTR);
}

int report_recv(int fd, struct report *r)
{
	union {
		char buf[CMSG_SPACE(sizeof(struct ucred))];
		struct cmsghdr align;
	} ctrl;
	struct iovec iov = { r, sizeof(*r) };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = ctrl.buf, .msg_controllen = sizeof(ctrl.buf) };
	struct cmsghdr *c;
	struct ucred cred;
	ssize_t n;

	do
		n = recvmsg(fd, &m, MSG_CMSG_CLOEXEC);
	while (n < 0 && errno == EINTR);
	if (n <= 0)
		return (int)n;
	r->pid = 0;
	r->err.text[sizeof(r->err.text) - 1] = '\0';
	c = CMSG_FIRSTHDR(&m);
	if (n == sizeof(*r) && c && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_CREDENTIALS) {
		memcpy(&cred, CMSG_DATA(c), sizeof(cred));
		r->pid = cred.pid;
	}
	return 1;
}

pid_t pod_fork_init(struct err *err)
{
	cleanup_close int own = open("/proc/self/ns/pid", O_RDONLY | O_CLOEXEC);
	pid_t pid;
	int num;

	if (own < 0)
		return err_sys(err, errno, "cannot open /proc/self/ns/pid");
	if (unshare(CLONE_NEWPID))
		return err_sys(err, errno, "cannot make a PID namespace for the pod");
	pid = fork();
	if (pid == 0)
		return 0;
	num = errno;
	/* Without this, every later fork() of the caller would fail with ENOMEM after the pod has ended. */
	if (setns(own, CLONE_NEWPID)) {
		err_sys(err, errno, "cannot return to the PID namespace of the node");
		if (pid > 0)
			pod_abandon(pid);
		return -1;
	}
	if (pid < 0)
		return err_sys(err, num, "cannot fork the first process of the pod");
	return pid;
}

static int pod_null_stdio(struct err *err)
{
	cleanup_close int fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	int i;

	if (fd < 0)
		return err_sys(err, errno, "cannot open /dev/null in the pod");
	for (i = 0; i < 3; i++)
		if (fd != i && dup2(fd, i) < 0)
			return err_sys(err, errno, "cannot redirect descriptor %d to /dev/null", i);
	if (fd < 3) {
		fcntl(fd, F_SETFD, 0);
		fd = -1;
	}
	return 0;
}

void pod_exec(const char *path, char *const argv[], char *const envp[], const int *keep, int n_keep, struct err *err)
{
	sigset_t all;
	int i;

	/* No signal may reach the program before it has set up its signal handling. */
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, NULL);
	if (chdir("/")) {
		err_sys(err, errno, "cannot change to / in the pod");
		return;
	}
	if (pod_null_stdio(err))
		return;
	/* Only marks the descriptors (Linux 5.11), because the report socket must stay open until exec has succeeded.
	 */
	if (close_range(3, ~0U, CLOSE_RANGE_CLOEXEC)) {
		err_sys(err, errno, "cannot close the descriptors of the node in the pod");
		return;
	}
	for (i = 0; i < n_keep; i++)
		if (fcntl(keep[i], F_SETFD, 0)) {
			err_sys(err, errno, "cannot keep descriptor %d open", keep[i]);
			return;
		}
	execve(path, argv, envp);
	err_sys(err, errno, "cannot start %s in the pod", path);
}

void pod_abandon(pid_t init)
{
	kill(init, SIGKILL);
	while (waitpid(init, NULL, 0) < 0 && errno == EINTR)
		;
}

bool pod_has_ended(pid_t child)
{
	siginfo_t si = { 0 };

	return waitid(P_PID, (id_t)child, &si, WEXITED | WNOHANG | WNOWAIT) != 0 || si.si_pid == child;
}
