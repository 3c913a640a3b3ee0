/* Serves the requests of remote_call.h: in libfsched-criu.so, and in the worker where the worker is the tracer.
 * Free-standing. */
#include <linux/ptrace.h>
#include <linux/wait.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/syscall.h>

#include "trace/remote_call.h"
#include "trace/inject.h"
#include "trace/raw_syscall.h"

struct vector {
	void *base;
	size_t len;
};

/* With any other request the kernel could write to the address in data, in this process. */
static bool remote_call_ptrace_allowed(const struct remote_call *m)
{
	switch (m->request) {
	case PTRACE_GETREGSET:
	case PTRACE_SETREGSET: return m->data_kind == REMOTE_CALL_VECTOR && m->len <= sizeof(m->buffer);
	case PTRACE_SETOPTIONS:
	case PTRACE_DETACH: return m->data_kind == REMOTE_CALL_VALUE;
	default: return false;
	}
}

static long remote_call_ptrace(struct remote_call *m)
{
	struct vector v = { m->buffer, m->len };
	long data = m->data_kind == REMOTE_CALL_VECTOR ? (long)&v : (long)m->data, ret;

	if (!remote_call_ptrace_allowed(m))
		return -EINVAL;
	ret = raw_syscall(SYS_ptrace, m->request, m->pid, (long)m->addr, data, 0, 0);
	if (m->data_kind == REMOTE_CALL_VECTOR)
		m->len = (uint32_t)v.len;
	return ret;
}

static long remote_call_inject(struct remote_call *m)
{
	struct injection in = {
		.pid = m->pid,
		.during = (unsigned long)m->request,
		.after = m->data,
		.child_options = m->addr,
		.regs = m->buffer,
		.len = m->len,
		.room = sizeof(m->buffer),
	};
	long ret = inject_call(&in);

	m->len = (uint32_t)in.len;
	m->data = (uint64_t)(unsigned)in.child;
	return ret;
}

void remote_call_do(struct remote_call *m)
{
	int status = 0;

	inject_step();
	switch (m->op) {
	case REMOTE_CALL_PTRACE: m->result = remote_call_ptrace(m); break;
	case REMOTE_CALL_WAIT:
		m->result = inject_wait(m->pid, &status);
		m->data = (uint64_t)(unsigned)status;
		break;
	case REMOTE_CALL_ENTER: m->result = inject_enter(m->pid, (struct return_path *)(void *)m->buffer); break;
	case REMOTE_CALL_INJECT: m->result = remote_call_inject(m); break;
	case REMOTE_CALL_LEAVE: m->result = inject_leave(m->pid); break;
	case REMOTE_CALL_DIE_AT:
		inject_kill_at = (unsigned)m->data;
		m->result = 0;
		break;
	case REMOTE_CALL_KILL: m->result = raw_syscall(SYS_kill, m->pid, m->request, 0, 0, 0, 0); break;
	default: m->result = -EINVAL;
	}
}
