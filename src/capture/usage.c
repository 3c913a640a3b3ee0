#include "capture/usage.h"

#include <fcntl.h>
#include <stdio.h>

#include "base/util.h"
#include "base/io.h"
#include "capture/proc_text.h"

int mem_usage_read(pid_t pid, struct mem_usage *u)
{
	cleanup_free char *text = NULL;
	uint64_t pss;
	char path[64];

	*u = (struct mem_usage){ 0 };
	snprintf(path, sizeof(path), "/proc/%d/smaps_rollup", pid);
	if (read_file_at(AT_FDCWD, path, 65536, &text) <= 0)
		return -1;
	u->anon = proc_text_number(text, "Anonymous:") * 1024;
	u->huge = proc_text_number(text, "AnonHugePages:") * 1024;
	pss = proc_text_number(text, "Pss_Anon:") * 1024;
	u->shared = u->anon > pss ? u->anon - pss : 0;
	return 0;
}
