/* Which worker may stop the job's processes. `able` may look at the job beside another operation; if both traced a
 * process, criu's dump or the look would fail. The lock is on the pod's directory, which is root's and on the node's
 * own disk, and goes with the worker. */
#include "worker/worker.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include "base/clock.h"

#define POLL_US 10000

bool turn_take(struct worker *w, int wait_ms)
{
	const int64_t until = now_us() + (int64_t)wait_ms * 1000;

	if (w->turn < 0)
		w->turn = open(w->req.pod_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	/* Nobody else can have it then, either. */
	if (w->turn < 0)
		return true;
	while (flock(w->turn, LOCK_EX | LOCK_NB)) {
		if (now_us() >= until)
			return false;
		usleep(POLL_US);
	}
	return true;
}
