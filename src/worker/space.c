/* Is there room for the checkpoint? Asked before the job is frozen, so a full disk costs the job nothing. */
#include "worker/worker.h"


#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/statvfs.h>

#include "common/util.h"

#define MARGIN (16u << 20)  /* images besides the pages, file copies */

/* The value of "Key:   12 kB" in bytes, 0 if there is none. */
static uint64_t kib(const char *status, const char *key)
{
	const char *p = strstr(status, key);
	unsigned long long n;

	return p && sscanf(p + strlen(key), " %llu", &n) == 1 ? (uint64_t)n * 1024 : 0;
}

/* What criu will write at least: anonymous pages once per process (it does not know of pages shared after a fork), shared memory
 * once. Shared memory is counted where most of it is: an estimate that is too high would refuse what fits. */
static uint64_t memory_of(const pid_t *pids, int n)
{
	uint64_t anon = 0, shared = 0, s;

	for (int i = 0; i < n; i++) {
		cleanup_free char *status = NULL;
		char path[64];

		snprintf(path, sizeof(path), "/proc/%d/status", pids[i]);
		if (read_file_at(AT_FDCWD, path, 65536, &status) <= 0)
			continue;
		anon += kib(status, "\nRssAnon:") + kib(status, "\nHugetlbPages:") + kib(status, "\nVmSwap:");
		s = kib(status, "\nRssShmem:");
		shared = s > shared ? s : shared;
	}
	return anon + shared;
}

int space_check(const struct worker *w, const pid_t *pids, int n, struct err *err)
{
	uint64_t need = memory_of(pids, n) + MARGIN, room;
	char a[16], b[16];
	struct statvfs v;

	if (fstatvfs(w->store.epochsfd, &v))
		return err_sys(err, errno, "cannot look up the free space of %s", w->store.path);
	room = (uint64_t)v.f_bavail * v.f_frsize;
	if (room >= need)
		return 0;
	return err_set(err, ENOSPC, "not enough space in %s: the job's memory needs about %s, %s are free; "
		       "the job was not stopped. Free some space or keep fewer epochs", w->store.path,
		       format_size(need, a, sizeof(a)), format_size(room, b, sizeof(b)));
}
