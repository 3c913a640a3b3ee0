#include "trace/tracer.h"

#include <elf.h>
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/socket.h>

#include "base/array.h"
#include "base/util.h"
#include "trace/remote_call.h"

#define ERRNO_MAX     4095
#define ANSWER_MAX_MS 10000 /* for the stop of a tracee that runs a single system call; SIGKILL ends it, too */

static int tracer_send(int tracer, const struct remote_call *m)
{
	ssize_t n;

	do
		n = send(tracer, m, sizeof(*m), MSG_NOSIGNAL);
	while (n < 0 && errno == EINTR);
	return n == sizeof(*m) ? 0 : -1;
}

/* Returns 1 = a message, 0 = end of file, -1 = errno. */
static int tracer_recv(int tracer, struct remote_call *m, int timeout_ms)
{
	struct pollfd p = { tracer, POLLIN, 0 };
	ssize_t n;

	do
		n = poll(&p, 1, timeout_ms);
	while (n < 0 && errno == EINTR);
	if (n == 0)
		errno = ETIMEDOUT;
	if (n <= 0)
		return -1;
	do
		n = recv(tracer, m, sizeof(*m), 0);
	while (n < 0 && errno == EINTR);
	if (n == 0 || (n < 0 && errno == ECONNRESET))
		return 0;
	if (n != sizeof(*m))
		errno = EPROTO;
	return n == sizeof(*m) ? 1 : -1;
}

static int tracer_call(int tracer, struct remote_call *m)
{
	int got = 1;

	if (tracer == TRACER_SELF)
		remote_call_do(m);
	else if (tracer_send(tracer, m))
		return -1;
	else
		got = tracer_recv(tracer, m, ANSWER_MAX_MS);
	if (got == 0)
		errno = EPIPE;
	if (got <= 0)
		return -1;
	/* No system call returns such a value, and -INT64_MIN would be undefined. */
	if (m->result < -ERRNO_MAX || m->result > INT_MAX) {
		errno = EPROTO;
		return -1;
	}
	if (m->result < 0) {
		errno = (int)-m->result;
		return -1;
	}
	return (int)m->result;
}

static int tracer_ptrace(int tracer, pid_t pid, int request, unsigned long data)
{
	struct remote_call m = { .op = REMOTE_CALL_PTRACE, .pid = pid, .request = request, .data = data };

	return tracer_call(tracer, &m);
}

int tracer_get_regs(int tracer, pid_t pid, struct tracer_regs *r)
{
	struct remote_call m = {
		.op = REMOTE_CALL_PTRACE,
		.pid = pid,
		.request = PTRACE_GETREGSET,
		.addr = NT_PRSTATUS,
		.data_kind = REMOTE_CALL_VECTOR,
		.len = sizeof(m.buffer),
	};

	if (tracer_call(tracer, &m) < 0)
		return -1;
	r->len = m.len < sizeof(r->bytes) ? m.len : sizeof(r->bytes);
	memcpy(r->bytes, m.buffer, r->len);
	return 0;
}

int tracer_set_regs(int tracer, pid_t pid, const struct tracer_regs *r)
{
	struct remote_call m = {
		.op = REMOTE_CALL_PTRACE,
		.pid = pid,
		.request = PTRACE_SETREGSET,
		.addr = NT_PRSTATUS,
		.data_kind = REMOTE_CALL_VECTOR,
		.len = (uint32_t)r->len,
	};

	memcpy(m.buffer, r->bytes, r->len);
	return tracer_call(tracer, &m);
}

int tracer_set_options(int tracer, pid_t pid, unsigned long options)
{
	return tracer_ptrace(tracer, pid, PTRACE_SETOPTIONS, options);
}

int tracer_detach(int tracer, pid_t pid)
{
	return tracer_ptrace(tracer, pid, PTRACE_DETACH, 0);
}

int tracer_wait(int tracer, pid_t pid, int *status)
{
	struct remote_call m = { .op = REMOTE_CALL_WAIT, .pid = pid };

	if (tracer_call(tracer, &m) < 0)
		return -1;
	*status = (int)m.data;
	return 0;
}

int tracer_kill(int tracer, pid_t pid, int sig)
{
	struct remote_call m = { .op = REMOTE_CALL_KILL, .pid = pid, .request = sig };

	return tracer_call(tracer, &m);
}

int tracer_enter(int tracer, pid_t pid, struct return_path *w)
{
	struct remote_call m = { .op = REMOTE_CALL_ENTER, .pid = pid };

	memcpy(m.buffer, w, sizeof(*w));
	if (tracer_call(tracer, &m) < 0)
		return -1;
	memcpy(w, m.buffer, sizeof(*w));
	return 0;
}

int tracer_leave(int tracer, pid_t pid)
{
	struct remote_call m = { .op = REMOTE_CALL_LEAVE, .pid = pid };

	return tracer_call(tracer, &m);
}

int tracer_die_at(int tracer, unsigned step)
{
	struct remote_call m = { .op = REMOTE_CALL_DIE_AT, .data = step };

	return tracer_call(tracer, &m);
}

int tracer_inject(int tracer, pid_t pid, struct tracer_regs *r, const struct tracer_options *o, pid_t *child)
{
	struct remote_call m = {
		.op = REMOTE_CALL_INJECT,
		.pid = pid,
		.request = (int64_t)o->during,
		.addr = o->child,
		.data = o->after,
		.len = (uint32_t)r->len,
	};
	int rc;

	memcpy(m.buffer, r->bytes, r->len);
	rc = tracer_call(tracer, &m);
	*child = rc < 0 && (errno == EPIPE || errno == ETIMEDOUT) ? 0 : (pid_t)m.data;
	if (rc < 0)
		return -1;
	r->len = m.len < sizeof(r->bytes) ? m.len : sizeof(r->bytes);
	memcpy(r->bytes, m.buffer, r->len);
	return 0;
}

int tracer_shared(int tracer, struct elided_object **v, size_t *n)
{
	struct remote_call m;
	size_t got, room = 0;

	*v = NULL;
	*n = 0;
	do {
		m = (struct remote_call){ .op = REMOTE_CALL_SHARED, .addr = *n };
		if (tracer_call(tracer, &m) < 0)
			goto failed;
		if (m.result > ELIDE_SHARED_MAX) {
			errno = EPROTO;
			goto failed;
		}
		got = m.len < sizeof(m.buffer) ? m.len / sizeof(**v) : sizeof(m.buffer) / sizeof(**v);
		array_reserve_more(*v, *n, got + 1, room);
		memcpy(*v + *n, m.buffer, got * sizeof(**v));
		*n += got;
	} while (got && *n < (size_t)m.result);
	return 0;
failed:
	free(*v);
	*v = NULL;
	return -1;
}

int tracer_await_ready(int tracer, int timeout_ms)
{
	struct remote_call m;
	int got = tracer_recv(tracer, &m, timeout_ms);

	if (got == 1 && m.op != REMOTE_CALL_READY) {
		errno = EPROTO;
		return -1;
	}
	return got;
}

int tracer_go(int tracer)
{
	const struct remote_call m = { .op = REMOTE_CALL_GO };

	return tracer_send(tracer, &m);
}
