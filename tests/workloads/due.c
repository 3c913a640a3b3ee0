/* due: periodic timer descriptors, one that has expired and was not read, one that is armed, and one that was disarmed
 * with an interval. Prints "ready", waits for the file "go", and prints for each whether it expires again. */
#include <poll.h>
#include <sys/timerfd.h>

#include "workload.h"

enum { SOON_MS = 500, LATE_MS = 10000 };

static int timer(long value_ms, long interval_ms)
{
	const struct itimerspec t = { { interval_ms / 1000, interval_ms % 1000 * 1000000 },
				      { value_ms / 1000, value_ms % 1000 * 1000000 } };
	int fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);

	if (fd < 0 || timerfd_settime(fd, 0, &t, NULL))
		die("timerfd");
	return fd;
}

static int expires(int fd, int ms)
{
	struct pollfd p = { fd, POLLIN, 0 };
	uint64_t n;

	return poll(&p, 1, ms) == 1 && read(fd, &n, sizeof(n)) == sizeof(n) && n > 0;
}

int main(void)
{
	int expired = timer(1, 200), armed = timer(3600 * 1000, 300), disarmed = timer(0, 100);
	struct pollfd p = { expired, POLLIN, 0 };
	struct itimerspec t;

	if (poll(&p, 1, LATE_MS) != 1)
		die("poll");
	puts("ready");
	fflush(stdout);
	while (access("go", F_OK))
		usleep(20000);
	printf("expired: %d\n", expires(expired, SOON_MS));
	printf("expires again: %d\n", expires(expired, LATE_MS) && expires(expired, LATE_MS));
	printf("armed: %d\n",
	       !timerfd_gettime(armed, &t) && t.it_value.tv_sec > 3000 && t.it_interval.tv_nsec == 300000000);
	printf("disarmed: %d\n", !expires(disarmed, SOON_MS));
	return 0;
}
