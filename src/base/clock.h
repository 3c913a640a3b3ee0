/* The monotonic clock, and durations and times as text. */
#ifndef FSCHED_BASE_CLOCK_H
#define FSCHED_BASE_CLOCK_H

#include <stddef.h>
#include <stdint.h>

/* CLOCK_MONOTONIC in microseconds. */
int64_t now_us(void);
/* Microseconds since 1970: now, and of a timestamp. */
int64_t unix_us(void);
static inline int64_t timestamp_us(int64_t s, int64_t ns)
{
	return s * 1000000 + ns / 1000;
}

/* "31 ms", "2.4 s", "1 min 5 s"; buf of at least 24 bytes. Returns buf. */
char *format_duration(int64_t us, char *buf, size_t len);
/* Local time in ISO 8601 without zone, as Slurm prints it; 20 bytes. Returns buf. */
char *format_time(int64_t unix_time, char *buf, size_t len);

#endif
