#include "base/proc_self.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/util.h"
#include "base/io.h"

#define TEXT_MAX 4096 /* bytes of either file */

int proc_boot_id(char *buf, size_t len, struct err *err)
{
	cleanup_free char *text = NULL;

	buf[0] = '\0';
	if (read_file_at(AT_FDCWD, "/proc/sys/kernel/random/boot_id", TEXT_MAX, &text) < 0)
		return err_sys(err, errno, "cannot read the boot id of this node");
	snprintf(buf, len, "%.*s", (int)strcspn(text, "\n"), text);
	return 0;
}

uint64_t proc_start_time(pid_t pid)
{
	cleanup_free char *text = NULL;
	char path[40], state;
	unsigned long long start;
	const char *p;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	if (read_file_at(AT_FDCWD, path, TEXT_MAX, &text) < 0)
		return 0;
	/* The command name is in parentheses and may itself hold ')' and blanks. The start time is the 20th field after
	 * the name. */
	p = strrchr(text, ')');
	if (!p ||
	    sscanf(p + 1, " %c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %*d %*d %llu", &state,
		   &start) != 2 ||
	    state == 'Z' || state == 'X')
		return 0;
	return start;
}

uint64_t proc_own_pid_ns(void)
{
	struct stat st;

	return stat("/proc/self/ns/pid", &st) ? 0 : (uint64_t)st.st_ino;
}
