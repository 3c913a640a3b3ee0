/* Whether to compress the next chunk, so that an image is on the disk as soon as possible (MEM_LEVEL_AUTO).
 *
 * The storage takes `disk` bytes per second, however they come. Threads that compress deliver `threads * speed` bytes
 * of memory per second, at most, where speed is that of one of them. Stored as it is, memory leaves at the rate `disk`;
 * compressed to a part r < 1 of it, at the smaller of threads * speed and disk / r. So compression pays exactly if
 * threads * speed > disk. Both rates are found while the image is written, by the wall clock: what other processes take
 * of processors and disk is in them.
 *
 * A pace starts with PACE_WARM + PACE_MEASURE bytes per thread without compression, by which disk is known; the first
 * of these only fill the page cache and the disk's queue. While nothing is compressed disk is measured on; while all is
 * compressed disk is measured anew every PACE_AGAIN bytes or more, as speed is now and then while nothing is. */
#ifndef FSCHED_IMAGE_PACE_H
#define FSCHED_IMAGE_PACE_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PACE_WARM      (UINT64_C(8) << 20)  /* bytes of each thread: what may be in flight of a file */
#define PACE_MEASURE   (UINT64_C(16) << 20) /* bytes of each thread */
#define PACE_AGAIN     (UINT64_C(1) << 30)  /* bytes of all threads, before compression */
#define PACE_CLEAR     8                    /* times as many at most, the clearer it is that compression pays */
#define PACE_TRY_EVERY 64                   /* chunks of a thread, or more */
/* An image of which less is to be read is compressed, since it would be written before anything is known. */
#define PACE_FROM      (UINT64_C(64) << 20)
#define PACE_MARGIN    1.1 /* so much more than disk must compression deliver */

struct pace {
	pthread_mutex_t lock;
	unsigned threads;
	double disk;      /* bytes per microsecond; 0: not known yet */
	uint64_t raw;     /* bytes stored without compression in this measurement */
	int64_t since;    /* us: the time when raw was PACE_WARM per thread; 0: it is not yet */
	uint64_t encoded; /* bytes of memory since disk became known, compressed or not */
	bool measuring;   /* nothing is compressed until disk is known again */
};

/* Of one thread. */
struct pace_thread {
	double speed; /* bytes per microsecond of its compression; 0: not known yet */
	bool warm;    /* it has compressed a chunk: the first is slow, since its memory is new, and does not count */
	unsigned untried; /* chunks since it compressed one */
};

/* Nothing has to be freed. */
void pace_init(struct pace *p, unsigned threads);
/* Whether the thread should compress its next chunk. Thread-safe. */
bool pace_compresses(struct pace *p, struct pace_thread *t);
/* A chunk of len bytes has been encoded in us microseconds, and what was stored before has been written as far as the
 * storage took it; now: a monotonic time in microseconds. compressed: what pace_compresses() said. Thread-safe. */
void pace_encoded(struct pace *p, struct pace_thread *t, size_t len, bool compressed, int64_t us, int64_t now);

#endif
