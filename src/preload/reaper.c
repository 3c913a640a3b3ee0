/* Part of libfsched-criu.so, which is loaded into criu, and only into criu: the restored leader is a sub-reaper from
 * its first moment.
 *
 * criu sets PR_SET_CHILD_SUBREAPER with its last steps in a process. Before, it restores a process whose session leader
 * has ended (a daemon) as child of a helper that ends, so the kernel gives it to the sub-reaper of that moment. That
 * has to be the leader, as it was before the checkpoint, and not pid 1, whose children no dump includes.
 *
 * criu forks every process that it restores with syscall(SYS_clone3, ...); the leader is the one that gets pid 2. */
#include <linux/prctl.h>
#include <sys/syscall.h>

#include "preload/preload.h"
#include "trace/raw_syscall.h"

#define LEADER_PID 2

long reaper_forked(long nr, long ret)
{
	if (nr == SYS_clone3 && ret == 0 && raw_syscall(SYS_getpid, 0, 0, 0, 0, 0, 0) == LEADER_PID)
		raw_syscall(SYS_prctl, PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0, 0);
	return ret;
}
