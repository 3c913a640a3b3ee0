/* xxHash, which on x86 is three times as fast when it may use what the processor has: <xxhash.h> alone is SSE2. The
 * sums are the same. */
#ifndef FSCHED_IMAGE_XXH3_H
#define FSCHED_IMAGE_XXH3_H

#ifdef FSCHED_XXH_DISPATCH
#include <xxh_x86dispatch.h>
#else
#include <xxhash.h>
#endif

#endif
