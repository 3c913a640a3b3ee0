/* What /proc/cpuinfo says of the first processor. */
#ifndef FSCHED_BASE_CPU_INFO_H
#define FSCHED_BASE_CPU_INFO_H

#include <stddef.h>

/* The model name; "unknown" if there is none (arm64). */
void cpu_info_model(char *buf, size_t len);

/* The instruction sets, by the kernel's names of the flags ("flags" on x86, "Features" on arm64), with one blank
 * between them. Flags that tell of other things, such as the processor's faults, are left out. Names that do not fit in
 * len bytes are left out too. */
void cpu_info_instruction_sets(char *buf, size_t len);

#endif
