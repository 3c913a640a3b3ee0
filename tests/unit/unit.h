/* What every unit test includes: cmocka with the headers that it wants in front of it. */
#ifndef FSCHED_TESTS_UNIT_H
#define FSCHED_TESTS_UNIT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#undef stop /* of cmocka 2, where it is a macro */

#endif
