/* Whether a checkpoint that failed is worth another try soon, or will fail again in the same way. Goes by the text of
 * the failure: criu has no other. */
#ifndef FSCHED_POLICY_TRANSIENT_H
#define FSCHED_POLICY_TRANSIENT_H

#include <stdbool.h>

/* What is not known stays. */
bool failure_passes(const char *text);

#endif
