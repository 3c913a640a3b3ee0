#include "base/cpu_info.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "base/util.h"
#include "base/text.h"

/* Copies the value of the first line "KEY : VALUE" of /proc/cpuinfo; "" if there is none. */
static void cpu_info_read(const char *key, char *buf, size_t len)
{
	cleanup_file FILE *f = fopen("/proc/cpuinfo", "re");
	cleanup_free char *line = NULL;
	size_t room = 0, n = strlen(key);

	buf[0] = '\0';
	while (f && getline(&line, &room, f) >= 0) {
		char *colon = strchr(line, ':');

		if (!colon || strncmp(line, key, n) != 0 || !strchr(" \t:", line[n]))
			continue;
		line[strcspn(line, "\n")] = '\0';
		printable(colon + 1 + strspn(colon + 1, " "), buf, len);
		return;
	}
}

/* True for a flag that names instructions which programs can use. */
static bool cpu_info_is_instruction_set(const char *flag, size_t n)
{
	/* clang-format off */
	static const char *const begins[] = {
		/* x86 */
		"sse", "ssse", "avx", "amx", "fma", "bmi", "aes", "vaes", "sha", "gfni", "vpclmul", "pclmul",
		"popcnt", "movbe", "rdrand", "rdseed", "adx", "abm", "lzcnt", "f16c", "xsave", "pku", "clwb",
		"clflushopt", "movdir", "serialize", "rtm", "hle", "mmx", "cx16", "lahf", "xop", "tbm", "3dnow",
		"fsgsbase", "rdpid", "cmpccxadd", "enqcmd",
		/* arm64 ("Features") */
		"asimd", "sve", "sme", "atomics", "crc32", "pmull", "fp", "jscvt", "fcma", "lrcpc", "dcpop", "i8mm",
		"bf16", "bti", "paca", "pacg",
	};
	/* clang-format on */

	for (size_t i = 0; i < ARRAY_SIZE(begins); i++)
		if (n >= strlen(begins[i]) && strncmp(flag, begins[i], strlen(begins[i])) == 0)
			return true;
	return false;
}

void cpu_info_instruction_sets(char *buf, size_t len)
{
	char all[8192];
	const char *p;
	size_t used = 0;

	cpu_info_read("flags", all, sizeof(all));
	if (!all[0])
		cpu_info_read("Features", all, sizeof(all));
	buf[0] = '\0';
	for (p = all; *p; p += strspn(p, " ")) {
		size_t n = strcspn(p, " ");

		if (cpu_info_is_instruction_set(p, n) && used + n + 2 < len)
			used += (size_t)snprintf(buf + used, len - used, "%s%.*s", used ? " " : "", (int)n, p);
		p += n;
	}
}

void cpu_info_model(char *buf, size_t len)
{
	cpu_info_read("model name", buf, len);
	if (!buf[0])
		snprintf(buf, len, "unknown");
}
