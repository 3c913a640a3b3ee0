/* Part of libfsched-criu.so: periodic timers that have expired (timerfd_create(2)).
 *
 * A periodic timer that has expired is armed again by the read() that fetches the number of expirations. Until then the
 * kernel shows a time of 0 to the next one in /proc/PID/fdinfo, which criu takes for a timer that is not armed. The
 * library shows criu the interval instead, so that the restored timer goes on.
 *
 * A timer that is due for a few microseconds, and whose interrupt has not come yet, shows a time of 0 and no
 * expiration, like one that was disarmed with an interval. So a timer that looks like this is read again for a
 * millisecond. */
#include <linux/fcntl.h>
#include <linux/memfd.h>
#include <linux/stat.h>
#include <sys/syscall.h>

#include "preload/preload.h"
#include "trace/raw_syscall.h"

#define TEXT_MAX 4096
#define TRIES    5
#define TRY_NS   200000

/* Returns the text after mark in text, NULL if it is not there. */
static const char *due_timer_after(const char *text, const char *mark)
{
	const char *rest;

	for (; *text; text++)
		if ((rest = preload_after(text, mark)))
			return rest;
	return NULL;
}

static long due_timer_read(int dirfd, const char *path, char text[TEXT_MAX])
{
	long fd = raw_syscall(SYS_openat, dirfd, (long)path, O_RDONLY | O_CLOEXEC, 0, 0, 0), n;

	if (fd < 0)
		return -1;
	n = raw_syscall(SYS_read, fd, (long)text, TEXT_MAX - 1, 0, 0, 0);
	raw_syscall(SYS_close, fd, 0, 0, 0, 0, 0);
	if (n > 0)
		text[n] = '\0';
	return n;
}

/* The text that criu gets: that of the kernel, with the interval ("(SEC, NSEC)\n") as the time to the next expiration.
 * value: what follows "it_value: " in text. Returns a descriptor or -errno. */
static long due_timer_show(const char *text, const char *value, const char *interval)
{
	long fd = raw_syscall(SYS_memfd_create, (long)"fdinfo", MFD_CLOEXEC, 0, 0, 0, 0);
	const char *end = interval;
	char out[2 * TEXT_MAX], *to = out;

	if (fd < 0)
		return fd;
	while (*end && *end != '\n')
		end++;
	while (text < value)
		*to++ = *text++;
	for (const char *p = interval; p < end; p++)
		*to++ = *p;
	for (text = preload_after(value, "(0, 0)"); *text;)
		*to++ = *text++;
	raw_syscall(SYS_pwrite64, fd, (long)out, to - out, 0, 0, 0);
	return fd;
}

bool due_timer_info(int dirfd, const char *path, int flags, long *ret)
{
	static const struct {
		long s, ns;
	} pause = { 0, TRY_NS };
	char text[TEXT_MAX];
	const char *value, *interval, *ticks;

	if (!path || dirfd < 0 || !unlinked_names_given() || (flags & O_ACCMODE) != O_RDONLY ||
	    !preload_after(path, "fdinfo/"))
		return false;
	for (int i = 0; i <= TRIES; i++) {
		if (due_timer_read(dirfd, path, text) <= 0 || !(value = due_timer_after(text, "\nit_value: ")) ||
		    !(interval = due_timer_after(text, "\nit_interval: ")) ||
		    !(ticks = due_timer_after(text, "\nticks: ")) || !preload_after(value, "(0, 0)\n") ||
		    preload_after(interval, "(0, 0)\n"))
			return false;
		if (preload_number(&ticks, 1L << 59) > 0) {
			*ret = due_timer_show(text, value, interval);
			return *ret >= 0;
		}
		raw_syscall(SYS_nanosleep, (long)&pause, 0, 0, 0, 0, 0);
	}
	return false;
}
