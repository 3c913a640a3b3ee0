/* The restored tasks of a proof. */
#ifndef FSCHED_PRELOAD_ALONE_H
#define FSCHED_PRELOAD_ALONE_H

/* In a restored task that has become the job's user: forbids the calls. 0, or less than 0: it must not go on. */
long alone_forbid(void);

#endif
