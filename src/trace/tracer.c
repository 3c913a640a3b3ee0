#include "trace/tracer.h"

#include <elf.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/socket.h>

#include "base/util.h"
#include "trace/remote_call.h"

#define ANSWER_MAX_MS 10000 /* a stop of a process that runs a single system call; SIGKILL ends it too */

static int send_msg(int hand, const struct hand_msg *m)
{
	ssize_t n;

	do
		n = send(hand, m, sizeof(*m), MSG_NOSIGNAL);
	while (n < 0 && errno == EINTR);
	return n == sizeof(*m) ? 0 : -1;
}

/* 1 message, 0 end of file, -1 errno. */
static int recv_msg(int hand, struct hand_msg *m, int timeout_ms)
{
	struct pollfd p = { hand, POLLIN, 0 };
	ssize_t n;

	do
		n = poll(&p, 1, timeout_ms);
	while (n < 0 && errno == EINTR);
	if (n == 0)
		errno = ETIMEDOUT;
	if (n <= 0)
		return -1;
	do
		n = recv(hand, m, sizeof(*m), 0);
	while (n < 0 && errno == EINTR);
	if (n == 0 || (n < 0 && errno == ECONNRESET))
		return 0;
	if (n != sizeof(*m))
		errno = EPROTO;
	return n == sizeof(*m) ? 1 : -1;
}

static int call(int hand, struct hand_msg *m)
{
	int got = 1;

	if (hand == TRACER_SELF)
		hand_do(m);
	else if (send_msg(hand, m))
		return -1;
	else
		got = recv_msg(hand, m, ANSWER_MAX_MS);
	if (got == 0)
		errno = EPIPE;
	if (got <= 0)
		return -1;
	if (m->result < 0) {
		errno = (int)-m->result;
		return -1;
	}
	return (int)m->result;
}

static int trace_value(int hand, pid_t pid, int request, unsigned long data)
{
	struct hand_msg m = { .op = HAND_PTRACE, .pid = pid, .request = request, .data = data };

	return call(hand, &m);
}

int tracer_get_regs(int hand, pid_t pid, struct tracer_regs *r)
{
	struct hand_msg m = {
		.op = HAND_PTRACE,
		.pid = pid,
		.request = PTRACE_GETREGSET,
		.addr = NT_PRSTATUS,
		.data_kind = HAND_VECTOR,
		.len = sizeof(m.buffer),
	};

	if (call(hand, &m) < 0)
		return -1;
	r->len = m.len < sizeof(r->bytes) ? m.len : sizeof(r->bytes);
	memcpy(r->bytes, m.buffer, r->len);
	return 0;
}

int tracer_set_regs(int hand, pid_t pid, const struct tracer_regs *r)
{
	struct hand_msg m = {
		.op = HAND_PTRACE,
		.pid = pid,
		.request = PTRACE_SETREGSET,
		.addr = NT_PRSTATUS,
		.data_kind = HAND_VECTOR,
		.len = (uint32_t)r->len,
	};

	memcpy(m.buffer, r->bytes, r->len);
	return call(hand, &m);
}

int tracer_set_options(int hand, pid_t pid, unsigned long options)
{
	return trace_value(hand, pid, PTRACE_SETOPTIONS, options);
}

int tracer_detach(int hand, pid_t pid)
{
	return trace_value(hand, pid, PTRACE_DETACH, 0);
}

int tracer_wait(int hand, pid_t pid, int *status)
{
	struct hand_msg m = { .op = HAND_WAIT, .pid = pid };

	if (call(hand, &m) < 0)
		return -1;
	*status = (int)m.data;
	return 0;
}

int tracer_kill(int hand, pid_t pid, int sig)
{
	struct hand_msg m = { .op = HAND_KILL, .pid = pid, .request = sig };

	return call(hand, &m);
}

int tracer_enter(int hand, pid_t pid, struct way_home *w)
{
	struct hand_msg m = { .op = HAND_ENTER, .pid = pid };

	memcpy(m.buffer, w, sizeof(*w));
	if (call(hand, &m) < 0)
		return -1;
	memcpy(w, m.buffer, sizeof(*w));
	return 0;
}

int tracer_leave(int hand, pid_t pid)
{
	struct hand_msg m = { .op = HAND_LEAVE, .pid = pid };

	return call(hand, &m);
}

int tracer_die_at(int hand, unsigned step)
{
	struct hand_msg m = { .op = HAND_DIE_AT, .data = step };

	return call(hand, &m);
}

int tracer_inject(int hand, pid_t pid, struct tracer_regs *r, const struct tracer_options *o, pid_t *child)
{
	struct hand_msg m = {
		.op = HAND_INJECT,
		.pid = pid,
		.request = (int64_t)o->during,
		.addr = o->child,
		.data = o->after,
		.len = (uint32_t)r->len,
	};
	int rc;

	memcpy(m.buffer, r->bytes, r->len);
	rc = call(hand, &m);
	*child = rc < 0 && (errno == EPIPE || errno == ETIMEDOUT) ? 0 : (pid_t)m.data;
	if (rc < 0)
		return -1;
	r->len = m.len < sizeof(r->bytes) ? m.len : sizeof(r->bytes);
	memcpy(r->bytes, m.buffer, r->len);
	return 0;
}

int tracer_shared(int hand, struct hand_object **v, size_t *n)
{
	struct hand_msg m;
	size_t got;

	*v = NULL;
	*n = 0;
	do {
		m = (struct hand_msg){ .op = HAND_SHARED, .addr = *n };
		if (call(hand, &m) < 0) {
			free(*v);
			*v = NULL;
			return -1;
		}
		got = m.len < sizeof(m.buffer) ? m.len / sizeof(**v) : sizeof(m.buffer) / sizeof(**v);
		*v = xrealloc(*v, (*n + got + 1) * sizeof(**v));
		memcpy(*v + *n, m.buffer, got * sizeof(**v));
		*n += got;
	} while (got && *n < (size_t)m.result);
	return 0;
}

int tracer_await_ready(int hand, int timeout_ms)
{
	struct hand_msg m;
	int got = recv_msg(hand, &m, timeout_ms);

	if (got == 1 && m.op != HAND_READY) {
		errno = EPROTO;
		return -1;
	}
	return got;
}

int tracer_go(int hand)
{
	const struct hand_msg m = { .op = HAND_GO };

	return send_msg(hand, &m);
}
