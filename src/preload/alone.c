/* Part of libfsched-criu.so: the restored tasks of a proof (worker/prove.c) must not make some system calls.
 *
 * FSCHED_ALONE=1 in criu's environment turns this on. The filter is set in the first restored task, from which the
 * others inherit it, and not in criu: a tracer that is filtered itself cannot suspend the filters of its tracees. */
#include "preload/alone.h"

#include "preload/preload.h"
#include "preload/rights.h"
#include "trace/alone_filter.h"

static bool alone;

__attribute__((constructor(201))) static void alone_begin(int argc, char **argv, char **envp)
{
	(void)argc;
	(void)argv;
	for (; *envp; envp++)
		if (preload_equal(*envp, "FSCHED_ALONE=1"))
			alone = true;
}

long alone_forbid(void)
{
	const struct sock_fprog program = { sizeof(alone_program) / sizeof(alone_program[0]),
					    (struct sock_filter *)(uintptr_t)alone_program };

	if (!alone)
		return 0;
	alone = false;
	return rights_with(CAP(SYS_ADMIN), SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, (long)&program, 0, 0, 0);
}
