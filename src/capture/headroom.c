#include "capture/headroom.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <string.h>

#include "base/util.h"
#include "base/io.h"
#include "capture/proc_text.h"

#define RESERVE (UINT64_C(64) << 20) /* bytes that are left alone, besides a sixteenth of what is free */

static uint64_t headroom_read_number(const char *dir, const char *name)
{
	cleanup_free char *path = xasprintf("%s/%s", dir, name);
	cleanup_free char *text = NULL;
	uint64_t v;

	if (read_file_at(AT_FDCWD, path, 256, &text) <= 0 || sscanf(text, "%" SCNu64, &v) != 1)
		return UINT64_MAX; /* "max", or the file does not exist */
	return v;
}

/* Bytes of page cache that the kernel reclaims before it kills a process for the limit. */
static uint64_t headroom_reclaimable(const char *dir, bool v2)
{
	cleanup_free char *path = xasprintf("%s/memory.stat", dir);
	cleanup_free char *text = NULL;

	if (read_file_at(AT_FDCWD, path, 65536, &text) <= 0)
		return 0;
	return proc_text_number(text, v2 ? "inactive_file" : "total_inactive_file");
}

static uint64_t headroom_of_cgroup(const char *dir, bool v2)
{
	uint64_t limit = headroom_read_number(dir, v2 ? "memory.max" : "memory.limit_in_bytes");
	uint64_t used = headroom_read_number(dir, v2 ? "memory.current" : "memory.usage_in_bytes"), cache;

	/* cgroup v1 reports a number near 2^63 where there is no limit. */
	if (limit >= 1ull << 62)
		return UINT64_MAX;
	if (used == UINT64_MAX)
		return 0;
	cache = headroom_reclaimable(dir, v2);
	used -= cache < used ? cache : used;
	return limit > used ? limit - used : 0;
}

/* The minimum over the cgroup and its ancestors. mount: the directory of the hierarchy; its root has no limit. */
static uint64_t headroom_of_ancestors(const char *mount, const char *cgroup, bool v2)
{
	cleanup_free char *dir = xasprintf("%s%s", mount, cgroup);
	uint64_t least = UINT64_MAX, left;
	char *slash;

	while (strlen(dir) > strlen(mount)) {
		left = headroom_of_cgroup(dir, v2);
		least = left < least ? left : least;
		slash = strrchr(dir, '/');
		*slash = '\0';
	}
	return least;
}

static bool headroom_is_memory_controller(const char *list)
{
	for (const char *p = list; *p; p += strcspn(p, ","), p += *p == ',')
		if (strcspn(p, ",") == 6 && !strncmp(p, "memory", 6))
			return true;
	return false;
}

static uint64_t headroom_of_cgroups(pid_t pid)
{
	cleanup_free char *text = NULL;
	char path[64], *line, *save = NULL;
	uint64_t least = UINT64_MAX, left;

	snprintf(path, sizeof(path), "/proc/%d/cgroup", pid);
	if (read_file_at(AT_FDCWD, path, 65536, &text) <= 0)
		return 0;
	for (line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		char *list = strchr(line, ':'), *cgroup = list ? strchr(list + 1, ':') : NULL;

		if (!cgroup)
			continue;
		*cgroup++ = '\0';
		list++;
		if (!*list) {
			left = headroom_of_ancestors("/sys/fs/cgroup", cgroup, true);
			least = left < least ? left : least;
			left = headroom_of_ancestors("/sys/fs/cgroup/unified", cgroup, true);
		} else if (headroom_is_memory_controller(list)) {
			left = headroom_of_ancestors("/sys/fs/cgroup/memory", cgroup, false);
		} else {
			continue;
		}
		least = left < least ? left : least;
	}
	return least;
}

static uint64_t headroom_of_machine(void)
{
	cleanup_free char *text = NULL;

	if (read_file_at(AT_FDCWD, "/proc/meminfo", 65536, &text) <= 0)
		return 0;
	return proc_text_number(text, "MemAvailable:") * 1024;
}

uint64_t mem_headroom(pid_t pid)
{
	uint64_t machine = headroom_of_machine(), cgroup = headroom_of_cgroups(pid),
		 left = machine < cgroup ? machine : cgroup;
	uint64_t reserve = left / 16 + RESERVE;

	return left > reserve ? left - reserve : 0;
}
