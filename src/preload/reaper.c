/* Part of libfsched-criu.so: makes the restored leader a sub-reaper as soon as it exists.
 *
 * criu sets PR_SET_CHILD_SUBREAPER late in the restore of a process. Before that, it restores a process whose session
 * leader has ended (a daemon) as child of a helper that exits, and the kernel reparents the process to the current
 * sub-reaper. That must be the leader, as before the checkpoint, and not pid 1, because no dump includes the children
 * of pid 1.
 *
 * criu forks every process that it restores with syscall(SYS_clone3, ...). The leader is the process with pid 2. */
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
