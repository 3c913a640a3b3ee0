/* Part of libfsched-criu.so: resource limits.
 *
 * criu reads the resource limits of every process that it dumps with prlimit64(pid, ...). The kernel requires
 * CAP_SYS_RESOURCE for a process of another user, and root in a container or a hardened VM often lacks it. The same
 * numbers are in /proc/PID/limits, which root can read. They are read from there only if prlimit64() fails with EPERM.
 * If root has all capabilities, nothing here has an effect.
 *
 * criu calls syscall(SYS_prlimit64, ...), so syscall() itself is replaced.
 */
#include <linux/fcntl.h>
#include <linux/sched.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/syscall.h>

#include "preload/preload.h"
#include "trace/raw_syscall.h"
#include "preload/restored_task.h"
#include "preload/rights.h"

struct limit64 {
	uint64_t cur, max;
};

/* Declared here, because the prototypes in <unistd.h> and <sys/resource.h> depend on the C library and on feature
 * macros. */
EXPORT int prlimit(int pid, int resource, const struct limit64 *new_limit, struct limit64 *old_limit);
EXPORT int prlimit64(int pid, int resource, const struct limit64 *new_limit, struct limit64 *old_limit);
EXPORT long syscall(long nr, long a, long b, long c, long d, long e, long f);

/* Writes "/proc/PID/limits" to path, which has at least 32 bytes. */
static void prlimit_path(int pid, char *path)
{
	preload_put(&path, "/proc/");
	preload_put_number(&path, pid);
	preload_put(&path, "/limits");
	*path = '\0';
}

/* Parses a column of /proc/PID/limits: a number or "unlimited". Returns the text after it, NULL if malformed. */
static const char *prlimit_parse_column(const char *p, const char *end, uint64_t *out)
{
	while (p < end && *p == ' ')
		p++;
	if (p < end && *p == 'u') {
		*out = UINT64_MAX;
		while (p < end && *p >= 'a' && *p <= 'z')
			p++;
		return p;
	}
	if (p == end || *p < '0' || *p > '9')
		return NULL;
	for (*out = 0; p < end && *p >= '0' && *p <= '9'; p++)
		*out = *out * 10 + (uint64_t)(*p - '0');
	return p;
}

/* The kernel prints a heading and then one line per resource in the order of their numbers, the name padded to 26
 * columns. */
#define LIMIT_LINES  16
#define NAME_COLUMNS 26

static int prlimit_parse(const char *buf, const char *end, int resource, struct limit64 *out)
{
	const char *p = buf;

	for (int line = 0; line <= resource; line++) {
		while (p < end && *p != '\n')
			p++;
		if (p == end)
			return -1;
		p++;
	}
	if (end - p < NAME_COLUMNS)
		return -1;
	p = prlimit_parse_column(p + NAME_COLUMNS, end, &out->cur);
	return p && prlimit_parse_column(p, end, &out->max) ? 0 : -1;
}

static int prlimit_from_proc(int pid, int resource, struct limit64 *out)
{
	char path[32], buf[2560];
	long fd, n, len = 0;

	if (pid <= 0 || resource < 0 || resource >= LIMIT_LINES)
		return -1;
	prlimit_path(pid, path);
	fd = raw_syscall(SYS_openat, AT_FDCWD, (long)path, O_RDONLY | O_CLOEXEC, 0, 0, 0);
	if (fd < 0)
		return -1;
	while (len < (long)sizeof(buf) &&
	       (n = raw_syscall(SYS_read, fd, (long)(buf + len), (long)sizeof(buf) - len, 0, 0, 0)) > 0)
		len += n;
	raw_syscall(SYS_close, fd, 0, 0, 0, 0, 0);
	return prlimit_parse(buf, buf + len, resource, out);
}

int prlimit64(int pid, int resource, const struct limit64 *new_limit, struct limit64 *old_limit)
{
	long ret = raw_syscall(SYS_prlimit64, pid, resource, (long)new_limit, (long)old_limit, 0, 0);
	struct limit64 lim;

	if (ret == -EPERM && !new_limit && old_limit && prlimit_from_proc(pid, resource, &lim) == 0) {
		*old_limit = lim;
		return 0;
	}
	return (int)errno_result(ret);
}

int prlimit(int pid, int resource, const struct limit64 *new_limit, struct limit64 *old_limit)
{
	return prlimit64(pid, resource, new_limit, old_limit);
}

/* criu forks the processes of a job by clone3() with a pid of its choice. Its other children are its own. */
static long prlimit_call(long nr, long a, long b, long c, long d, long e, long f)
{
	long ret = rights_with(restored_task_syscall_caps(nr), nr, a, b, c, d, e, f);

	if (nr == SYS_clone3 && ret == 0 && ((const struct clone_args *)a)->set_tid_size > 0) {
		rights_become_job();
		task_attributes_restore();
	}
	return ret;
}

long syscall(long nr, long a, long b, long c, long d, long e, long f)
{
	if (nr == SYS_prlimit64)
		return prlimit64((int)a, (int)b, (const struct limit64 *)c, (struct limit64 *)d);
	return errno_result(reaper_forked(nr, prlimit_call(nr, a, b, c, d, e, f)));
}
