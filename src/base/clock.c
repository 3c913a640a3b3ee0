#include "base/clock.h"

#include <stdio.h>
#include <time.h>

int64_t now_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return timestamp_us(ts.tv_sec, ts.tv_nsec);
}

int64_t unix_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	return timestamp_us(ts.tv_sec, ts.tv_nsec);
}

char *format_duration(int64_t us, char *buf, size_t len)
{
	int64_t s;

	if (us < 0)
		us = 0;
	s = (us + 500000) / 1000000;
	if (us < 1000)
		snprintf(buf, len, "%d us", (int)us);
	else if (us < 999500)
		snprintf(buf, len, "%d ms", (int)((us + 500) / 1000));
	else if (us < 59950000)
		snprintf(buf, len, "%.1f s", (double)us / 1e6);
	else if (s < 3600)
		snprintf(buf, len, "%d min %d s", (int)(s / 60), (int)(s % 60));
	else
		snprintf(buf, len, "%lld h %d min", (long long)(s / 3600), (int)(s / 60 % 60));
	return buf;
}

char *format_time(int64_t unix_time, char *buf, size_t len)
{
	time_t t = (time_t)unix_time;
	struct tm tm;

	if (!localtime_r(&t, &tm) || strftime(buf, len, "%Y-%m-%dT%H:%M:%S", &tm) == 0)
		snprintf(buf, len, "Unknown");
	return buf;
}
