#include "base/proc.h"

#include <fcntl.h>
#include <string.h>

#include "base/io.h"
#include "base/text.h"
#include "base/util.h"

int open_proc(pid_t pid, const char *name, int flags)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/%s", pid, name);
	return open(path, flags | O_CLOEXEC);
}

long proc_status_number(const char *status, const char *key, long missing)
{
	const size_t len = strlen(key);
	long v = missing;

	for (const char *p = status; p && *p; p = strchr(p, '\n'), p = p ? p + 1 : NULL) {
		if (strncmp(p, key, len) || p[len] != ':')
			continue;
		for (p += len + 1; *p == '\t'; p += strcspn(p, "\t\n"))
			v = strtol(++p, NULL, 10);
		break;
	}
	return v;
}

long proc_number(pid_t pid, const char *key, long missing)
{
	cleanup_free char *status = NULL;
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/status", pid);
	return read_file_at(AT_FDCWD, path, 65536, &status) > 0 ? proc_status_number(status, key, missing) : missing;
}

const char *proc_describe(pid_t pid, char *buf, size_t len)
{
	cleanup_free char *status = NULL;
	char path[64], comm[64] = "?", clean[64];
	long inner = pid;

	snprintf(path, sizeof(path), "/proc/%d/status", pid);
	if (read_file_at(AT_FDCWD, path, 65536, &status) > 0) {
		sscanf(status, "Name:\t%63[^\n]", comm);
		inner = proc_status_number(status, "NSpid", pid);
	}
	snprintf(buf, len, "process %ld (%s)", inner, printable(comm, clean, sizeof(clean)));
	return buf;
}
