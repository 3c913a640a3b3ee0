#include "trace/call_site.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/proc.h"
#include "base/util.h"
#include "trace/arch.h"
#include "base/vmas.h"

#define CODE_MAX (4u << 20)   /* bytes of a mapping that are searched */
#define STEP     (128u << 10) /* bytes read at a time; the dynamic loader has both pieces of code near its beginning */
#define OVERLAP  16u          /* bytes; longer than the code that is searched for */

enum { SECCOMP_NONE, SECCOMP_IS_STRICT, SECCOMP_HAS_FILTER };

static void call_site_note(uint64_t *where, uint64_t start, long at)
{
	if (!*where && at >= 0)
		*where = start + (uint64_t)at;
}

static void call_site_search_return_path(int mem, const struct vma *v, struct return_path *w)
{
	uint64_t end = v->end - v->start < CODE_MAX ? v->end : v->start + CODE_MAX;
	cleanup_free uint8_t *code = xmalloc(STEP + OVERLAP);

	for (uint64_t at = v->start; at < end && !(w->call && w->restore); at += STEP) {
		const uint64_t len = STEP + OVERLAP < end - at ? STEP + OVERLAP : end - at;
		ssize_t got = pread(mem, code, len, (off_t)at);

		if (got <= 0)
			return;
		call_site_note(&w->call, at, arch_find_returning_syscall(code, (size_t)got));
		call_site_note(&w->restore, at, arch_find_sigreturn(code, (size_t)got));
	}
}

/* From the highest address down, because the dynamic loader is mapped there. */
static void call_site_find_return_path(int mem, const struct vmas *m, uint64_t sp, struct return_path *w)
{
	const struct vma *stack = vmas_find(m, sp);

	if (!stack || !stack->stack || sp < stack->start)
		return;
	w->low = stack->start;
	for (size_t i = m->n; i-- > 0 && !(w->call && w->restore);)
		if (m->v[i].executable && !m->v[i].vdso)
			call_site_search_return_path(mem, &m->v[i], w);
}

static uint64_t call_site_search_syscall(int mem, const struct vma *v)
{
	size_t len = v->end - v->start < CODE_MAX ? v->end - v->start : CODE_MAX;
	cleanup_free uint8_t *code = xmalloc(len);
	ssize_t got = pread(mem, code, len, (off_t)v->start);
	long at = got > 0 ? arch_find_syscall(code, (size_t)got) : -1;

	return at < 0 ? 0 : v->start + (uint64_t)at;
}

/* Finds any system call instruction. The vdso has one; a process that has unmapped the vdso has one in its C library.
 * 0 = not found; no instruction is at address 0. */
static uint64_t call_site_find_any(int mem, const struct vmas *m)
{
	uint64_t pc = 0;

	for (size_t i = 0; i < m->n && !pc; i++)
		if (m->v[i].vdso)
			pc = call_site_search_syscall(mem, &m->v[i]);
	for (size_t i = 0; i < m->n && !pc; i++)
		if (m->v[i].executable && !m->v[i].vdso)
			pc = call_site_search_syscall(mem, &m->v[i]);
	return pc;
}

int call_site_find(pid_t host, uint64_t sp, struct return_path *w, struct err *err)
{
	const long seccomp = proc_number(host, "Seccomp", SECCOMP_NONE);
	cleanup_close int mem = -1;
	struct vmas m;

	/* The tracer can suspend seccomp, but the suspension ends when the tracer dies. */
	if (seccomp == SECCOMP_IS_STRICT)
		return err_set(err, ENOTSUP, "it is in seccomp's strict mode");
	*w = (struct return_path){ .reap = seccomp == SECCOMP_NONE };
	/* Not by process_vm_readv(): it would break copy-on-write for code in anonymous memory. */
	mem = open_proc(host, "mem", O_RDONLY);
	if (mem < 0)
		return err_sys(err, errno, "its memory cannot be opened");
	if (vmas_read(host, &m, err))
		return -1;
	call_site_find_return_path(mem, &m, sp, w);
	if (!w->call || !w->restore)
		*w = (struct return_path){ .call = call_site_find_any(mem, &m) };
	vmas_free(&m);
	return w->call ? 0 : err_set(err, ENOENT, "it has no instruction that makes a system call");
}
