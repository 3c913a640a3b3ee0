/* The argument of --checkpoint: a time in one of Slurm's six formats
 *   minutes | minutes:seconds | hours:minutes:seconds |
 *   days-hours | days-hours:minutes | days-hours:minutes:seconds
 * or UNLIMITED / INFINITE (any case): checkpoints on request only.
 */
#ifndef FSCHED_BASE_INTERVAL_H
#define FSCHED_BASE_INTERVAL_H

#include <stddef.h>
#include <stdint.h>
#include "base/err.h"

#define INTERVAL_ON_REQUEST 0                  /* what UNLIMITED and INFINITE become */
#define INTERVAL_AUTO       (-1)               /* what "auto" becomes: policy/auto_interval.h */
#define INTERVAL_MAX        (10 * 366 * 86400) /* s; more is taken for a typing error */

/* Parses text to the second. Refused, with the list of the formats in err:
 * empty, zero, negative, signs, blanks, garbage, overflow of INTERVAL_MAX,
 * a field that is not the first one above its range (":61" minutes or seconds, 24 hours after days-).
 * Returns 0 and *seconds (> 0, or INTERVAL_ON_REQUEST), or -1. */
int interval_parse(const char *text, int64_t *seconds, struct err *err);

/* The same for the value of --checkpoint, which may also be "auto" (any case): INTERVAL_AUTO. */
int interval_parse_option(const char *text, int64_t *seconds, struct err *err);
/* Refuses a checkpoint interval that is shorter than min s (CheckpointMinInterval). The others are not. 0, or
 * -1 with err. */
int interval_check_min(int64_t seconds, int64_t min, struct err *err);

/* As Slurm prints times: [days-]hh:mm:ss, or UNLIMITED; or auto. buf of 24 bytes. */
char *interval_format(int64_t seconds, char *buf, size_t len);

#endif
