/* Why a checkpoint failed or was refused, as one word of a closed set: metrics count by it. The sentences name
 * processes, descriptors and paths, so that there would be one count for each of them. */
#ifndef FSCHED_POLICY_REASON_H
#define FSCHED_POLICY_REASON_H

#include <stddef.h>

/* The word for an error's text: static, [a-z_]; "other" if none fits. */
const char *reason_of(const char *text);

/* The words, for the documentation and its test: word i, or NULL behind the last. */
const char *reason_word(size_t i);

#endif
