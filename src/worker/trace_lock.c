/* The lock of the worker that may stop the job's processes. `able` may inspect the job while another operation runs; if
 * both traced a process, criu's dump or the inspection would fail. The lock is on the pod's directory, which belongs to
 * root and is on the node's own disk. The kernel releases it when the worker exits. */
#include "worker/worker.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include "base/clock.h"

#define POLL_US 10000

bool trace_lock_take(struct worker *w, int wait_ms)
{
	const int64_t until = now_us() + (int64_t)wait_ms * 1000;

	if (w->trace_lock < 0)
		w->trace_lock = open(w->req.pod_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	/* Then no other worker can lock it, either. */
	if (w->trace_lock < 0)
		return true;
	while (flock(w->trace_lock, LOCK_EX | LOCK_NB)) {
		if (now_us() >= until)
			return false;
		usleep(POLL_US);
	}
	return true;
}
