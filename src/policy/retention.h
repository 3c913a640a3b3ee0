/* Which epochs go when a new one is complete: exactly the keep newest stay. */
#ifndef FSCHED_POLICY_RETENTION_H
#define FSCHED_POLICY_RETENTION_H

/* epochs: the n complete epochs, ascending. newest: the one that was just made
 * (never removed, whatever its number), 0 = none was. keep: CRIU_MaxEpochs, at
 * least 1. Fills gone (room for n) with those to remove, oldest first; returns how many. */
unsigned retention_select(const unsigned *epochs, unsigned n, unsigned keep, unsigned newest, unsigned *gone);

#endif
