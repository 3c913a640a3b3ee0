#include "base/mailbox.h"

#include <errno.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/util.h"

union fds_message {
	struct cmsghdr head;
	char room[CMSG_SPACE(MAILBOX_FDS * sizeof(int))];
};

int mailbox_make(struct mailbox *m)
{
	int fd[2];

	*m = (struct mailbox){ -1, -1 };
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fd))
		return -1;
	*m = (struct mailbox){ fd[0], fd[1] };
	return 0;
}

static int mailbox_get_fd(int pidfd, int fd)
{
	int got = (int)syscall(SYS_pidfd_getfd, pidfd, fd, 0), domain = 0, type = 0;
	socklen_t len = sizeof(int);

	if (got < 0)
		return -1;
	if (getsockopt(got, SOL_SOCKET, SO_DOMAIN, &domain, &len) ||
	    getsockopt(got, SOL_SOCKET, SO_TYPE, &type, &len) || domain != AF_UNIX || type != SOCK_SEQPACKET) {
		close(got);
		errno = EBADF;
		return -1;
	}
	return got;
}

int mailbox_open(struct mailbox *m, pid_t keeper, int in, int out)
{
	cleanup_close int pidfd = pidfd_open(keeper, 0);

	*m = (struct mailbox){ -1, -1 };
	if (pidfd < 0)
		return -1;
	m->in = mailbox_get_fd(pidfd, in);
	m->out = m->in < 0 ? -1 : mailbox_get_fd(pidfd, out);
	if (m->out >= 0)
		return 0;
	mailbox_close(m);
	return -1;
}

json_t *mailbox_describe(const struct mailbox *m, pid_t keeper)
{
	return json_pack("{s:i, s:i, s:i}", "pid", (int)keeper, "in", m->in, "out", m->out);
}

int mailbox_put(const struct mailbox *m, const void *data, size_t len, const int *fds, size_t n_fds)
{
	struct iovec part = { (void *)(uintptr_t)data, len };
	union fds_message control = { 0 };
	struct msghdr h = { .msg_iov = &part, .msg_iovlen = 1 };

	if (n_fds > MAILBOX_FDS || len == 0) {
		errno = EINVAL;
		return -1;
	}
	if (n_fds) {
		h.msg_control = &control;
		h.msg_controllen = CMSG_SPACE(n_fds * sizeof(int));
		control.head = (struct cmsghdr){ .cmsg_level = SOL_SOCKET,
						 .cmsg_type = SCM_RIGHTS,
						 .cmsg_len = CMSG_LEN(n_fds * sizeof(int)) };
		memcpy(CMSG_DATA(&control.head), fds, n_fds * sizeof(int));
	}
	return sendmsg(m->in, &h, MSG_DONTWAIT | MSG_NOSIGNAL) == (ssize_t)len ? 0 : -1;
}

ssize_t mailbox_take(const struct mailbox *m, void *data, size_t len, int *fds, size_t *n_fds)
{
	struct iovec part = { data, len };
	union fds_message control;
	struct msghdr h = { .msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control) };
	ssize_t got = recvmsg(m->out, &h, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);

	*n_fds = 0;
	if (got < 0)
		return errno == EAGAIN || errno == EWOULDBLOCK ? 0 : -1;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(&h); c; c = CMSG_NXTHDR(&h, c)) {
		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		*n_fds = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		memcpy(fds, CMSG_DATA(c), *n_fds * sizeof(int));
	}
	/* A message with descriptors and without data would look like an empty mailbox. mailbox_put() does not put one.
	 */
	if (!(h.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) && (got > 0 || *n_fds == 0))
		return got;
	for (size_t i = 0; i < *n_fds; i++)
		close(fds[i]);
	*n_fds = 0;
	errno = EMSGSIZE;
	return -1;
}

void mailbox_close(struct mailbox *m)
{
	cleanup_closep(&m->in);
	cleanup_closep(&m->out);
	*m = (struct mailbox){ -1, -1 };
}
