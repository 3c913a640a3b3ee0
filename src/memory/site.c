#include "memory/site.h"

#include <errno.h>
#include <sys/uio.h>

#include "common/util.h"
#include "memory/arch.h"
#include "memory/vmas.h"

#define CODE_MAX (4u << 20)   /* of a mapping that is searched */

static uint64_t search(pid_t host, const struct vma *v)
{
	size_t len = v->end - v->start < CODE_MAX ? v->end - v->start : CODE_MAX;
	cleanup_free uint8_t *code = xmalloc(len);
	struct iovec local = { code, len }, remote = { (void *)(uintptr_t)v->start, len };
	ssize_t got = process_vm_readv(host, &local, 1, &remote, 1, 0);
	long at = got > 0 ? arch_find_syscall(code, (size_t)got) : -1;

	return at < 0 ? 0 : v->start + (uint64_t)at;
}

/* The vdso has one; a process that has unmapped it has one in its C library. The page at 0 is nobody's. */
uint64_t mem_site_find(pid_t host, struct err *err)
{
	struct vmas m;
	uint64_t pc = 0;

	if (vmas_read(host, &m, err))
		return 0;
	for (size_t i = 0; i < m.n && !pc; i++)
		if (m.v[i].vdso)
			pc = search(host, &m.v[i]);
	for (size_t i = 0; i < m.n && !pc; i++)
		if (m.v[i].executable && !m.v[i].vdso)
			pc = search(host, &m.v[i]);
	vmas_free(&m);
	if (!pc)
		err_set(err, ENOENT, "it has no instruction that makes a system call");
	return pc;
}
