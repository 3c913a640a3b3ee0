/* What the kernel is to add to System V semaphores when a process ends (SEM_UNDO of semop(2)). The member "undo" of an
 * entry of "spaces" in the manifest: [[ID, NUMBER, ADJUSTMENT]…].
 *
 * Nobody can read these adjustments. Whether a process has ever made one is told by kcmp(2): the list is then no longer
 * that of a process which has none. And semop(2) fails with ERANGE if an adjustment would leave the range of -32768 to
 * 32767, before it does anything. So the process itself is made to try operations that together change nothing, that
 * would move the adjustment by a known number, and of which the last one always fails with EAGAIN: the error of the
 * whole tells whether the range would have been left. (ipc/sem.c: perform_atomic_semop_slow() undoes the operations
 * before the one that failed, and wakes nobody.)
 *
 * A restore moves each adjustment by operations that leave the semaphore as it is. */
#include "worker/worker.h"

#include <errno.h>
#include <linux/kcmp.h>
#include <linux/sem.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/json.h"
#include "base/util.h"

#define VALUE_MAX  32767 /* SEMVMX */
#define ADJUST_MAX 32767 /* SEMAEM; the least is one below its negative */
#define OPS_MAX    16    /* of one attempt; pairs move the adjustment by at least 16383 each */
#define NUMBERS    4096  /* semaphores of one process that are looked at */

struct semaphore {
	int id;
	unsigned number;
	int value;
};

bool semaphore_undo_any(pid_t host)
{
	return syscall(SYS_kcmp, getpid(), host, KCMP_SYSVSEM, 0, 0) > 0;
}

/* ---- calls of the process ---------------------------------------------------- */

/* The result of the call, or -errno. -EIO: it could not be made. */
static long undo_call(const struct own_calls *c, const char *name, long nr, const long args[6])
{
	long result = 0;

	return helper_task_call_thread(&c->task, name, nr, args, &result, NULL) ? -EIO : result;
}

static long undo_semctl(const struct own_calls *c, long id, long number, long command)
{
	const long args[6] = { id, number, command, (long)c->page };

	return undo_call(c, "semctl", SYS_semctl, args);
}

static long undo_semop(const struct own_calls *c, int id, const struct sembuf *ops, size_t n)
{
	struct iovec local = { (void *)(uintptr_t)ops, n * sizeof(*ops) };
	struct iovec remote = { (void *)(uintptr_t)c->page, n * sizeof(*ops) };
	const long args[6] = { id, (long)c->page, (long)n };

	if (process_vm_writev(c->task.host, &local, 1, &remote, 1, 0) != (ssize_t)(n * sizeof(*ops)))
		return -EIO;
	return undo_call(c, "semop", SYS_semop, args);
}

static size_t undo_add(struct sembuf *ops, size_t n, const struct semaphore *s, int op, short flags)
{
	ops[n] = (struct sembuf){ (unsigned short)s->number, (short)op, (short)(flags | IPC_NOWAIT) };
	return n + 1;
}

/* Operations that leave the semaphore as it is and move the adjustment by that much. Returns their number. */
static size_t undo_move(struct sembuf *ops, const struct semaphore *s, int by)
{
	const bool up_first = VALUE_MAX - s->value >= s->value;
	const int most = up_first ? VALUE_MAX - s->value : s->value;
	size_t n = 0;

	/* An operation with SEM_UNDO moves the adjustment the other way. */
	for (int left = by < 0 ? -by : by, step; left > 0; left -= step) {
		step = left < most ? left : most;
		n = undo_add(ops, n, s, up_first ? step : -step, up_first == (by < 0) ? SEM_UNDO : 0);
		n = undo_add(ops, n, s, up_first ? -step : step, up_first == (by < 0) ? 0 : SEM_UNDO);
	}
	return n;
}

/* 1: the adjustment would leave its range if it was moved by that much, 0: it would not, -1: that is not known. */
static int undo_exceeds(const struct own_calls *c, const struct semaphore *s, int by)
{
	struct sembuf ops[OPS_MAX];
	size_t n = undo_move(ops, s, by);

	n = undo_add(ops, n, s, s->value ? 0 : -1, 0); /* fails */
	switch (undo_semop(c, s->id, ops, n)) {
	case -ERANGE: return 1;
	case -EAGAIN: return 0;
	default: return -1;
	}
}

/* ---- in the freeze ------------------------------------------------------------ */

/* The least number in [1, most] by which the adjustment would leave its range; it does by most. 0: not known. */
static int undo_search(const struct own_calls *c, const struct semaphore *s, int most, int sign)
{
	int low = 1, high = most;

	while (low < high) {
		const int middle = low + (high - low) / 2;
		const int exceeds = undo_exceeds(c, s, sign * middle);

		if (exceeds < 0)
			return 0;
		if (exceeds)
			high = middle;
		else
			low = middle + 1;
	}
	return low;
}

/* 0 and the adjustment, or -1: it is not known. */
static int undo_read_one(const struct own_calls *c, const struct semaphore *s, int *adjustment)
{
	const int above = undo_exceeds(c, s, ADJUST_MAX), below = undo_exceeds(c, s, -ADJUST_MAX - 1);
	int at = 1;

	*adjustment = 0;
	if (above > 0) {
		at = undo_search(c, s, ADJUST_MAX, 1);
		*adjustment = ADJUST_MAX + 1 - at;
	} else if (below > 0) {
		at = undo_search(c, s, ADJUST_MAX + 1, -1);
		*adjustment = at - ADJUST_MAX - 2;
	}
	return above < 0 || below < 0 || !at ? -1 : 0;
}

static int undo_read_set(const struct own_calls *c, int id, long n, json_t *found)
{
	int adjustment;

	for (long i = 0; i < n; i++) {
		const long value = undo_semctl(c, id, i, GETVAL);
		const struct semaphore s = { id, (unsigned)i, (int)value };

		if (value < 0 || undo_read_one(c, &s, &adjustment))
			return -1;
		if (adjustment)
			json_array_append_new(found, json_pack("[i, i, i]", id, (int)i, adjustment));
	}
	return 0;
}

/* The number of semaphores of the set at this index of the kernel, and its id. 0: there is none. */
static long undo_find_set(const struct own_calls *c, long index, long *id)
{
	struct semid64_ds ds = { 0 };
	struct iovec local = { &ds, sizeof(ds) }, remote = { (void *)(uintptr_t)c->page, sizeof(ds) };

	*id = undo_semctl(c, index, 0, SEM_STAT);
	if (*id < 0 || process_vm_readv(c->task.host, &local, 1, &remote, 1, 0) != sizeof(ds))
		return 0;
	return (long)ds.sem_nsems;
}

int semaphore_undo_read(const struct own_calls *c, json_t *found)
{
	const long last = undo_semctl(c, 0, 0, SEM_INFO);
	long left = NUMBERS, id;

	for (long index = 0; index <= last; index++) {
		const long n = undo_find_set(c, index, &id);

		left -= n;
		if (left < 0 || undo_read_set(c, (int)id, n, found))
			return -1;
	}
	return last < 0 ? -1 : 0;
}

/* ---- in a restore --------------------------------------------------------------- */

int semaphore_undo_set(const struct own_calls *c, const json_t *one, struct err *err)
{
	const int id = (int)json_integer_value(json_array_get(one, 0));
	const int number = (int)json_integer_value(json_array_get(one, 1));
	const int by = (int)json_integer_value(json_array_get(one, 2));
	const long value = undo_semctl(c, id, number, GETVAL);
	const struct semaphore s = { id, (unsigned)number, (int)value };
	struct sembuf ops[OPS_MAX];
	long result = value;

	if (value >= 0 && by >= -ADJUST_MAX - 1 && by <= ADJUST_MAX)
		result = undo_semop(c, id, ops, undo_move(ops, &s, by));
	return result < 0 ? err_sys(err, (int)-result, "SEM_UNDO of semaphore %d of set %d", number, id) : 0;
}
