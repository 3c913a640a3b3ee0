/* What the tracer does on request: hand.h. In libfsched-criu.so, and in the worker where that is the tracer itself.
 * Free-standing. */
#include <linux/wait.h>
#include <stddef.h>
#include <sys/syscall.h>

#include "trace/remote_call.h"
#include "trace/inject.h"
#include "trace/raw_syscall.h"

struct vector {
	void *base;
	size_t len;
};

static long trace(struct hand_msg *m)
{
	struct vector v = { m->buffer, m->len };
	long data = (long)m->data, ret;

	if (m->len > sizeof(m->buffer))
		return -EINVAL;
	if (m->data_kind == HAND_BUFFER)
		data = (long)m->buffer;
	if (m->data_kind == HAND_VECTOR)
		data = (long)&v;
	ret = raw_syscall(SYS_ptrace, m->request, m->pid, (long)m->addr, data, 0, 0);
	if (m->data_kind == HAND_VECTOR)
		m->len = (uint32_t)v.len;
	return ret;
}

static long inject(struct hand_msg *m)
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

void hand_do(struct hand_msg *m)
{
	int status = 0;

	inject_step();
	switch (m->op) {
	case HAND_PTRACE: m->result = trace(m); break;
	case HAND_WAIT:
		m->result = inject_wait(m->pid, &status);
		m->data = (uint64_t)(unsigned)status;
		break;
	case HAND_ENTER: m->result = inject_enter(m->pid, (struct way_home *)(void *)m->buffer); break;
	case HAND_INJECT: m->result = inject(m); break;
	case HAND_LEAVE: m->result = inject_leave(m->pid); break;
	case HAND_DIE_AT:
		inject_dies_at = (unsigned)m->data;
		m->result = 0;
		break;
	case HAND_KILL: m->result = raw_syscall(SYS_kill, m->pid, m->request, 0, 0, 0, 0); break;
	default: m->result = -EINVAL;
	}
}
