/* Tracked processes (capture/track.h) that one worker keeps for the next worker. They are messages in a mailbox
 * (base/mailbox.h), with the descriptors of each process. */
#ifndef FSCHED_CAPTURE_KEPT_TRACKING_H
#define FSCHED_CAPTURE_KEPT_TRACKING_H

#include <stddef.h>
#include "base/mailbox.h"
#include "capture/track.h"

struct kept_tracking {
	struct mem_tracked *v; /* the list owns the descriptors */
	size_t n;
	unsigned epoch; /* at which they were put, 0 = there are none */
};

/* Puts the n processes v. The caller keeps the descriptors. Processes for which the mailbox has no room are left out.
 */
void kept_tracking_put(const struct mailbox *m, unsigned epoch, const struct mem_tracked *v, size_t n);
/* Empties the mailbox, and sets *k to the processes of the epoch that was put last. Other messages are dropped, with
 * their descriptors. */
void kept_tracking_take(const struct mailbox *m, struct kept_tracking *k);
/* Closes the descriptors, and makes *k empty. */
void kept_tracking_free(struct kept_tracking *k);

#endif
