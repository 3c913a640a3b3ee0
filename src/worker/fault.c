/* Faults on purpose, for tests: FSCHED_FAULT=NAME[=NUMBER][,NAME]… in the environment of `fsched pod`. The variable is
 * ignored under Slurm, where checkpoints are signed. `fsched-worker faults` prints the table below, and
 * tests/pod/test_fault_points.py runs every entry of it. */
#include "worker/worker.h"

#include <fcntl.h>
#include <signal.h>
#include <string.h>

#include "base/proc.h"
#include "base/clock.h"
#include "base/util.h"
#include "trace/tracer.h"
#include "pod/pod.h"

/* The kinds:
 *
 *   way         what is done, or fails without failing the operation
 *   checkpoint  something is killed in a checkpoint, which then fails
 *   vacate      the same in a vacate
 *   restore     the same in a restore
 *   pre-dump    the same in a checkpoint with CRIU_PreDump
 *   complete    something is killed, the epoch is complete all the same
 *   retry       something is killed, the operation succeeds in another way
 *   call        a checkpoint; NUMBER is the step of the injected system calls.
 *               A step that does not exist is no fault
 *   hang        something hangs in the freeze of a checkpoint, which fails when
 *               CheckpointFreezeTimeout has passed */
static const struct {
	const char *name, *kind, *what;
} list[] = {
	[FAULT_FORCE_DIRECT] = { "force-direct", "way", "every process is written directly" },
	[FAULT_FORCE_STAGED] = { "force-staged", "way", "every process is copied" },
	[FAULT_FORCE_FORK] = { "force-fork", "way", "every process is forked" },
	[FAULT_NO_ELISION] = { "no-elision", "way", "criu writes the memory that it is to leave out" },
	[FAULT_SNAPSHOT_FAILS] = { "snapshot-fails", "way",
				   "the snapshot, before anything is done: criu writes the memory" },
	[FAULT_SHARED_FAILS] = { "shared-fails", "way", "the copy of shared memory: criu writes it" },
	[FAULT_TARGET_DIES] = { "target-dies", "way", "the newest process of the job is killed after criu has dumped it" },
	[FAULT_FILL_FAILS] = { "fill-fails", "way", "filling memory in a restore: criu restores from plain images" },
	[FAULT_NO_PREFLIGHT] = { "no-preflight", "way",
				 "the preflight is skipped, as if its obstacles had come after it" },
	[FAULT_NO_IMAGE_CHECK] = { "no-image-check", "way",
				   "the files in criu's images are not checked in the checkpoint" },
	[FAULT_PRE_DUMP_FAILS] = { "pre-dump-fails", "way",
				   "the first round of a pre-dump: all memory is taken in the freeze" },
	[FAULT_FORCE_SOFT_DIRTY] = { "force-soft-dirty", "way", "a pre-dump tracks by soft-dirty bits" },
	[FAULT_FORCE_TRACKING] = { "force-tracking", "way",
				   "writes are tracked until the next checkpoint, whatever it costs" },
	[FAULT_DIE_IN_PRE_DUMP] = { "die-in-pre-dump", "pre-dump",
				    "the worker, while the job runs and its writes are tracked" },
	[FAULT_DIE_BEFORE_FREEZE] = { "die-before-freeze", "checkpoint", "the worker, before it starts criu" },
	[FAULT_DIE_FROZEN] = { "die-frozen", "checkpoint", "the worker, when criu has dumped and the tree is frozen" },
	[FAULT_CRIU_DIES_FROZEN] = { "criu-dies-frozen", "checkpoint",
				     "criu, before the files are recorded; the job runs on" },
	[FAULT_DIE_BEFORE_SNAPSHOT] = { "die-before-snapshot", "checkpoint", "the worker, when the files are recorded" },
	[FAULT_CRIU_DIES_BEFORE_SNAPSHOT] = { "criu-dies-before-snapshot", "checkpoint",
					      "criu, before the snapshot, which is then inconsistent" },
	[FAULT_DIE_AFTER_SNAPSHOT] = { "die-after-snapshot", "checkpoint",
				       "the worker, when forked children hold memory and the tree is frozen" },
	[FAULT_CRIU_DIES_AFTER_SNAPSHOT] = { "criu-dies-after-snapshot", "checkpoint",
					     "criu, when forked children hold memory" },
	[FAULT_DIE_IN_DRAIN] = { "die-in-drain", "checkpoint",
				 "the worker, when the job runs and before the image is written" },
	[FAULT_DIE_AFTER_DRAIN] = { "die-after-drain", "checkpoint",
				    "the worker, when the image is written and forked children still exist" },
	[FAULT_DIE_BEFORE_MANIFEST] = { "die-before-manifest", "checkpoint",
					"the worker, when all but the manifest is written" },
	[FAULT_DIE_BEFORE_VERIFY] = { "die-before-verify", "checkpoint", "the worker, when everything is written" },
	[FAULT_DIE_BEFORE_COMMIT] = { "die-before-commit", "checkpoint",
				      "the worker, when everything is read back and verified" },
	[FAULT_DIE_AFTER_COMMIT] = { "die-after-commit", "complete", "the worker, before it reports the epoch" },
	[FAULT_DIE_HELD] = { "die-held", "vacate", "the worker, when the epoch is complete and the tree is still frozen" },
	[FAULT_CRIU_DIES_HELD] = { "criu-dies-held", "vacate",
				   "criu, when the epoch is complete and the tree is still frozen" },
	[FAULT_HANG_AT_FREEZE] = { "hang-at-freeze", "hang", "the worker, when the tree has just been frozen" },
	[FAULT_HANG_FROZEN] = { "hang-frozen", "hang", "the worker, when criu has dumped" },
	[FAULT_HANG_BEFORE_SNAPSHOT] = { "hang-before-snapshot", "hang", "the worker, when the files are recorded" },
	[FAULT_HANG_IN_SHARED] = { "hang-in-shared", "hang", "the worker, before shared memory is copied" },
	[FAULT_HANG_IN_WRITE] = { "hang-in-write", "hang",
				  "the worker, before memory is written in the freeze (force-direct)" },
	[FAULT_HANG_AFTER_SNAPSHOT] = { "hang-after-snapshot", "hang", "the worker, when forked children hold memory" },
	[FAULT_CRIU_HANGS] = { "criu-hangs", "hang", "criu, when the tree has just been frozen" },
	[FAULT_CRIU_HANGS_FROZEN] = { "criu-hangs-frozen", "hang", "criu, when it has dumped" },
	[FAULT_CRIU_HANGS_IN_CALL] = { "criu-hangs-in-call", "hang", "criu, before it injects system calls (force-fork)" },
	[FAULT_DRIVER_HANGS] = { "driver-hangs", "hang",
				 "criu's driver, which keeps the limit; the worker's timer does it then" },
	[FAULT_CRIU_DIES_IN_CALL] = { "criu-dies-in-call", "call", "criu, at a step of a fork" },
	[FAULT_DIE_IN_CALL] = { "die-in-call", "call",
				"the worker, at a step of starting to track writes (CRIU_PreDump)" },
	[FAULT_DIE_BEFORE_POD] = { "die-before-pod", "restore", "the worker, when the files are put back" },
	[FAULT_DIE_IN_RESTORE] = { "die-in-restore", "restore", "the worker, when criu has just been started" },
	[FAULT_DIE_IN_FILL] = { "die-in-fill", "restore", "the worker, when criu waits and memory is incomplete" },
	[FAULT_CRIU_DIES_IN_FILL] = { "criu-dies-in-fill", "retry",
				      "criu, when memory is incomplete; the restore is repeated without filling" },
	[FAULT_WAIT_BEFORE_FREEZE] = { "wait-before-freeze", "way",
				       "the worker waits before the freeze until the file \"waiting\" is removed" },
};

#define WAIT_MAX_MS 60000

void fault_list(FILE *out)
{
	for (size_t i = 0; i < ARRAY_SIZE(list); i++)
		fprintf(out, "%-26s %-10s %s\n", list[i].name, list[i].kind, list[i].what);
}

/* The text behind the name in the variable, "=NUMBER" or the like; NULL: the fault is not asked for. */
static const char *fault_request(const struct worker *w, enum fault f)
{
	const char *p = w->req.sign ? NULL : secure_getenv("FSCHED_FAULT");
	size_t len = strlen(list[f].name);

	for (; p && *p; p += strcspn(p, ","), p += *p == ',')
		if (strcspn(p, ",=") == len && !strncmp(p, list[f].name, len))
			return p + len;
	return NULL;
}

bool fault(const struct worker *w, enum fault f)
{
	return fault_request(w, f) != NULL;
}

void fault_in_call(const struct worker *w, enum fault f, int tracer_fd)
{
	const char *number = fault_request(w, f);

	if (number && *number == '=')
		tracer_die_at(tracer_fd, (unsigned)strtoul(number + 1, NULL, 10));
}

/* The process that traces the job: criu, or with driver its parent. 0: there is none. init: the pod's pid 1. */
static pid_t fault_find_criu(pid_t init, bool driver)
{
	struct tree t;
	pid_t criu;

	if (tree_read(init, &t, NULL))
		return 0;
	criu = (pid_t)proc_number(t.pids[0], "TracerPid", 0);
	tree_free(&t);
	if (!criu || !driver)
		return criu;
	return (pid_t)proc_number(criu, "PPid", 0);
}

static void fault_signal_criu(const struct worker *w, enum fault f, pid_t init, bool driver, int sig)
{
	pid_t pid = fault(w, f) ? fault_find_criu(init, driver) : 0;

	if (!pid)
		return;
	kill(pid, sig);
	usleep(100000); /* gives the kernel time to end it */
}

void fault_criu_dies(const struct worker *w, enum fault f, pid_t init)
{
	fault_signal_criu(w, f, init, false, SIGKILL);
}

void fault_criu_hangs(const struct worker *w, enum fault f, pid_t init)
{
	fault_signal_criu(w, f, init, false, SIGSTOP);
}

void fault_driver_hangs(const struct worker *w, enum fault f, pid_t init)
{
	fault_signal_criu(w, f, init, true, SIGSTOP);
	fault_hang(w, f);
}

void fault_hang(const struct worker *w, enum fault f)
{
	while (fault(w, f))
		pause();
}

void fault_target_dies(const struct worker *w, enum fault f)
{
	struct tree t;
	int newest = 0;

	if (!fault(w, f) || tree_read(w->req.init, &t, NULL))
		return;
	for (int i = 1; i < t.n; i++)
		newest = t.inner[i] > t.inner[newest] ? i : newest;
	kill(t.pids[newest], SIGKILL);
	tree_free(&t);
	usleep(100000);
}

void fault_die(const struct worker *w, enum fault f)
{
	if (fault(w, f))
		raise(SIGKILL);
}

void fault_wait(const struct worker *w, enum fault f)
{
	int64_t end = now_us() + WAIT_MAX_MS * 1000LL;
	int fd;

	if (!fault(w, f))
		return;
	fd = openat(w->store.dirfd, "waiting", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	if (fd >= 0)
		close(fd);
	while (now_us() < end && faccessat(w->store.dirfd, "waiting", F_OK, 0) == 0)
		usleep(10000);
}
