/* xxHash with run-time dispatch. <xxhash.h> alone uses SSE2 on x86; <xxh_x86dispatch.h> uses what the processor has,
 * which is three times as fast. The sums are the same. */
#ifndef FSCHED_BASE_XXH3_H
#define FSCHED_BASE_XXH3_H

#ifdef FSCHED_XXH_DISPATCH
#include <xxh_x86dispatch.h>
#else
#include <xxhash.h>
#endif

#endif
