/* Faults on purpose, for tests: FSCHED_FAULT=NAME[=NUMBER][,NAME]… in the environment of `fsched pod`. Under Slurm,
 * where checkpoints are signed, nothing looks at it. This is the list; `fsched-worker faults` prints it, and
 * tests/pod/test_fault_points.py goes through it. */
#include "worker/worker.h"

#include <fcntl.h>
#include <signal.h>
#include <string.h>

#include "base/proc.h"
#include "base/clock.h"
#include "base/util.h"
#include "trace/tracer.h"
#include "pod/pod.h"

/* way: what is done, or fails. checkpoint, vacate, restore: the operation in which something is killed, which then
 * fails; pre-dump: a checkpoint with CRIU_PreDump; complete: the epoch is there all the same; retry: it succeeds in
 * another way; call: a checkpoint, at the step NUMBER of the system calls that a process is made to do; one that there
 * is not is no fault; hang: in the freeze of a checkpoint, which fails when CheckpointFreezeTimeout is over. */
static const struct {
	const char *name, *kind, *what;
} list[] = {
	[FAULT_FORCE_DIRECT] = { "force-direct", "way", "every process is written directly" },
	[FAULT_FORCE_STAGED] = { "force-staged", "way", "every process is copied" },
	[FAULT_FORCE_FORK] = { "force-fork", "way", "every process is forked" },
	[FAULT_NO_ELISION] = { "no-elision", "way", "criu writes the memory although it is not to, and says nothing" },
	[FAULT_SNAPSHOT_FAILS] = { "snapshot-fails", "way", "in the freeze, before anything was done: criu's turn" },
	[FAULT_SHARED_FAILS] = { "shared-fails", "way", "likewise for shared memory: criu writes that" },
	[FAULT_TARGET_DIES] = { "target-dies", "way", "the newest process of the job is killed when criu has dumped it" },
	[FAULT_FILL_FAILS] = { "fill-fails", "way", "in a restore: criu restores plain images" },
	[FAULT_NO_PREFLIGHT] = { "no-preflight", "way",
				 "nobody looks at the job before it is frozen, as if what is there had come afterwards" },
	[FAULT_NO_IMAGE_CHECK] = { "no-image-check", "way",
				   "nobody looks for the job's files in criu's images when they are made" },
	[FAULT_PRE_DUMP_FAILS] = { "pre-dump-fails", "way", "the first round: everything is taken in the freeze" },
	[FAULT_FORCE_SOFT_DIRTY] = { "force-soft-dirty", "way", "a pre-dump tracks by soft-dirty bits" },
	[FAULT_FORCE_TRACKING] = { "force-tracking", "way",
				   "writes are noticed from this checkpoint to the next, whatever it costs" },
	[FAULT_DIE_IN_PRE_DUMP] = { "die-in-pre-dump", "pre-dump", "the worker: the job runs, its writes are tracked" },
	[FAULT_DIE_BEFORE_FREEZE] = { "die-before-freeze", "checkpoint", "the worker: criu has not been started" },
	[FAULT_DIE_FROZEN] = { "die-frozen", "checkpoint", "the worker: criu has dumped, the tree is stopped" },
	[FAULT_CRIU_DIES_FROZEN] = { "criu-dies-frozen", "checkpoint",
				     "criu: before the files are recorded, the job runs on" },
	[FAULT_DIE_BEFORE_SNAPSHOT] = { "die-before-snapshot", "checkpoint", "the worker: the files are recorded" },
	[FAULT_CRIU_DIES_BEFORE_SNAPSHOT] = { "criu-dies-before-snapshot", "checkpoint",
					      "criu: what is read after it is torn" },
	[FAULT_DIE_AFTER_SNAPSHOT] = { "die-after-snapshot", "checkpoint",
				       "the worker: children of forks are there, the tree is stopped" },
	[FAULT_CRIU_DIES_AFTER_SNAPSHOT] = { "criu-dies-after-snapshot", "checkpoint", "criu: the same" },
	[FAULT_DIE_IN_DRAIN] = { "die-in-drain", "checkpoint",
				 "the worker: the job runs, the image is about to be written" },
	[FAULT_DIE_AFTER_DRAIN] = { "die-after-drain", "checkpoint",
				    "the worker: the image is written, the children are still there" },
	[FAULT_DIE_BEFORE_MANIFEST] = { "die-before-manifest", "checkpoint",
					"the worker: all but the manifest is written" },
	[FAULT_DIE_BEFORE_VERIFY] = { "die-before-verify", "checkpoint", "the worker: everything is written" },
	[FAULT_DIE_BEFORE_COMMIT] = { "die-before-commit", "checkpoint", "the worker: and read back" },
	[FAULT_DIE_AFTER_COMMIT] = { "die-after-commit", "complete", "the worker: nobody is told of the epoch" },
	[FAULT_DIE_HELD] = { "die-held", "vacate", "the worker: the epoch is complete, the tree waits for its end" },
	[FAULT_CRIU_DIES_HELD] = { "criu-dies-held", "vacate", "criu: the same" },
	[FAULT_HANG_AT_FREEZE] = { "hang-at-freeze", "hang", "the worker: the tree has just been stopped" },
	[FAULT_HANG_FROZEN] = { "hang-frozen", "hang", "the worker: criu has dumped" },
	[FAULT_HANG_BEFORE_SNAPSHOT] = { "hang-before-snapshot", "hang", "the worker: the files are recorded" },
	[FAULT_HANG_IN_SHARED] = { "hang-in-shared", "hang", "the worker: shared memory is about to be copied" },
	[FAULT_HANG_IN_WRITE] = { "hang-in-write", "hang",
				  "the worker: memory is about to be written in the freeze (force-direct)" },
	[FAULT_HANG_AFTER_SNAPSHOT] = { "hang-after-snapshot", "hang", "the worker: children of forks are there" },
	[FAULT_CRIU_HANGS] = { "criu-hangs", "hang", "criu: the tree has just been stopped" },
	[FAULT_CRIU_HANGS_FROZEN] = { "criu-hangs-frozen", "hang", "criu: it has dumped" },
	[FAULT_CRIU_HANGS_IN_CALL] = { "criu-hangs-in-call", "hang",
				       "criu: it is asked for system calls of the job's processes (force-fork)" },
	[FAULT_DRIVER_HANGS] = { "driver-hangs", "hang", "criu's driver, which watches the time: the worker does then" },
	[FAULT_CRIU_DIES_IN_CALL] = { "criu-dies-in-call", "call", "criu: of a fork" },
	[FAULT_DIE_IN_CALL] = { "die-in-call", "call", "the worker: when writes are about to be tracked (CRIU_PreDump)" },
	[FAULT_DIE_BEFORE_POD] = { "die-before-pod", "restore", "the worker: the files are put back" },
	[FAULT_DIE_IN_RESTORE] = { "die-in-restore", "restore", "the worker: criu has just begun" },
	[FAULT_DIE_IN_FILL] = { "die-in-fill", "restore", "the worker: criu waits, the memory is incomplete" },
	[FAULT_CRIU_DIES_IN_FILL] = { "criu-dies-in-fill", "retry",
				      "criu: the same; the restore is tried once more, without filling" },
	[FAULT_WAIT_BEFORE_FREEZE] = { "wait-before-freeze", "way",
				       "everything has been looked at; goes on when the file \"waiting\" is removed" },
};

#define WAIT_MAX_MS 60000

void fault_list(FILE *out)
{
	for (size_t i = 0; i < ARRAY_SIZE(list); i++)
		fprintf(out, "%-26s %-10s %s\n", list[i].name, list[i].kind, list[i].what);
}

/* What stands behind the name of a fault that was asked for; NULL: it was not. */
static const char *asked_for(const struct worker *w, enum fault f)
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
	return asked_for(w, f) != NULL;
}

void fault_in_call(const struct worker *w, enum fault f, int hand)
{
	const char *number = asked_for(w, f);

	if (number && *number == '=')
		tracer_die_at(hand, (unsigned)strtoul(number + 1, NULL, 10));
}

/* The tracer of the job whose pod's pid 1 is init, or that one's parent. 0: there is none. */
static pid_t criu_of(pid_t init, bool driver)
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

static void signal_criu(const struct worker *w, enum fault f, pid_t init, bool driver, int sig)
{
	pid_t pid = fault(w, f) ? criu_of(init, driver) : 0;

	if (!pid)
		return;
	kill(pid, sig);
	usleep(100000); /* until it is gone */
}

void fault_criu_dies(const struct worker *w, enum fault f, pid_t init)
{
	signal_criu(w, f, init, false, SIGKILL);
}

void fault_criu_hangs(const struct worker *w, enum fault f, pid_t init)
{
	signal_criu(w, f, init, false, SIGSTOP);
}

void fault_driver_hangs(const struct worker *w, enum fault f, pid_t init)
{
	signal_criu(w, f, init, true, SIGSTOP);
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
