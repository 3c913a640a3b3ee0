/* Selects the epochs to remove when a new one is complete: exactly the newest ones stay. */
#ifndef FSCHED_POLICY_RETENTION_H
#define FSCHED_POLICY_RETENTION_H

/* epochs: the n complete epochs, ascending. newest: the epoch that was just made, which is never removed whatever its
 * number; 0 = none. keep: how many are to stay (CRIU_MaxEpochs), 0 counts as 1. Writes the epochs to remove into gone
 * (room for n), oldest first, and returns how many. */
unsigned retention_select(const unsigned *epochs, unsigned n, unsigned keep, unsigned newest, unsigned *gone);

#endif
