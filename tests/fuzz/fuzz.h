/* What libFuzzer calls. */
#ifndef FSCHED_TESTS_FUZZ_H
#define FSCHED_TESTS_FUZZ_H

#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#endif
