/* System calls that processes of the job make for a restore: what only they themselves can set. They are injected when
 * all processes exist and none runs (trace/helper_task.h). If criu or the worker dies meanwhile, the pod dies. */
#include "worker/worker.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/dir.h"
#include "base/json.h"
#include "base/proc.h"
#include "base/util.h"
#include "trace/helper_task.h"

#define PAGE      4096
#define NODES_MAX 64

int own_calls_begin(struct own_calls *c, int tracer, pid_t tid, pid_t host, struct err *err)
{
	const long args[6] = { 0, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0 };
	long page = 0;

	*c = (struct own_calls){ 0 };
	if (helper_task_enter(&c->task, tracer, tid, host, err) ||
	    helper_task_call_thread(&c->task, "mmap", SYS_mmap, args, &page, err)) {
		helper_task_end(&c->task, NULL);
		return -1;
	}
	if (page < 0) {
		helper_task_end(&c->task, NULL);
		return err_sys(err, (int)-page, "mmap");
	}
	c->page = (uint64_t)page;
	return 0;
}

int own_calls_make(const struct own_calls *c, const char *name, long nr, const long args[6], struct err *err)
{
	long result = 0;

	if (helper_task_call_thread(&c->task, name, nr, args, &result, err))
		return -1;
	return result < 0 ? err_sys(err, (int)-result, "%s", name) : 0;
}

int own_calls_nodes(const struct own_calls *c, unsigned long nodes, long *mask, long *max, struct err *err)
{
	struct iovec local = { &nodes, sizeof(nodes) }, remote = { (void *)(uintptr_t)c->page, sizeof(nodes) };

	*mask = nodes ? (long)c->page : 0;
	*max = nodes ? NODES_MAX : 0;
	if (process_vm_writev(c->task.host, &local, 1, &remote, 1, 0) != sizeof(nodes))
		return err_sys(err, errno, "cannot write to its memory");
	return 0;
}

int own_calls_end(struct own_calls *c, struct err *err)
{
	const long args[6] = { (long)c->page, PAGE };
	struct err unmapped;
	int rc = own_calls_make(c, "munmap", SYS_munmap, args, &unmapped);

	if (helper_task_end(&c->task, err))
		return -1;
	if (rc && err)
		*err = unmapped;
	return rc;
}
