/* Preflight: mappings of files, programs, working and root directories. */
#include "pod/preflight_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/stat.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/io.h"
#include "base/proc.h"
#include "base/util.h"

/* Which of the two mappings that the kernel makes in every process were found. */
struct vdso {
	bool code, data;
};

/* Checks the file of a mapping. range: the name of its link in map_files, which anonymous memory does not have. */
static int maps_check_file(struct preflight_scan *s, pid_t pid, int files, const char *range, const char *path,
			   struct err *err)
{
	struct preflight_file f = { .pid = pid, .as = "a mapping", .path = path, .dirfd = files, .name = range };
	struct statx st;
	int mode;

	if (statx(files, range, AT_STATX_DONT_SYNC, STATX_BASIC_STATS, &st) || (mode = preflight_mode(files, range)) < 0)
		return 0;
	f.mode = (unsigned)mode;
	return preflight_check_file(s, &f, &st, err);
}

/* Decodes, in place, the \012 by which the kernel writes a line feed in maps. */
static void maps_unescape(char *text)
{
	char *to = text;

	for (; *text; text++)
		if (!strncmp(text, "\\012", 4)) {
			*to++ = '\n';
			text += 3;
		} else {
			*to++ = *text;
		}
	*to = '\0';
}

static int maps_check_line(struct preflight_scan *s, pid_t pid, int files, char *line, struct vdso *v, struct err *err)
{
	unsigned long start, end;
	char range[64], *what;
	const char *known;
	int at = 0;

	if (sscanf(line, "%lx-%lx %*s %*s %*s %*s %n", &start, &end, &at) != 2 || at <= 0)
		return 0;
	what = line + at;
	what[strcspn(what, "\n")] = '\0';
	v->code |= !strcmp(what, "[vdso]");
	v->data |= !strncmp(what, "[vvar", 5);
	/* A device or an io_uring may stay mapped after its descriptor is closed. */
	known = what[0] == '/' || what[0] == 'a' ? preflight_known_object(what) : NULL;
	if (known)
		return preflight_refuse(pid, err, known, "");
	if (what[0] != '/' || files < 0)
		return 0;
	maps_unescape(what);
	snprintf(range, sizeof(range), "%lx-%lx", start, end);
	return maps_check_file(s, pid, files, range, what, err);
}

/* True if the process has both mappings or none, or if this process does not have both either: on some architectures
 * the kernel makes only one. */
static bool vdso_is_usual(const struct vdso *v)
{
	cleanup_free char *maps = NULL;

	if (v->code == v->data || read_file_at(AT_FDCWD, "/proc/self/maps", 16 << 20, &maps) <= 0)
		return true;
	return !strstr(maps, "[vdso]") || !strstr(maps, "[vvar");
}

static int maps_check(struct preflight_scan *s, pid_t pid, struct err *err)
{
	cleanup_file FILE *f = NULL;
	cleanup_free char *line = NULL;
	cleanup_close int files = open_proc(pid, "map_files", O_RDONLY | O_DIRECTORY);
	struct vdso v = { 0 };
	size_t cap = 0;
	int fd = open_proc(pid, "maps", O_RDONLY);

	f = fd < 0 ? NULL : fdopen(fd, "r");
	while (f && getline(&line, &cap, f) > 0)
		if (maps_check_line(s, pid, files, line, &v, err))
			return -1;
	if (!vdso_is_usual(&v))
		return preflight_refuse(
			pid, err, "has only one of the kernel's two mappings [vdso] and [vvar] (valgrind removes one)",
			"run the program without valgrind");
	return 0;
}

/* Checks the program (mode: R_OK) or a directory (X_OK: the restored process can enter a directory without reading it).
 */
static int maps_check_link(struct preflight_scan *s, pid_t pid, const char *name, const char *as, int mode,
			   struct err *err)
{
	cleanup_close int dir = open_proc(pid, ".", O_PATH | O_DIRECTORY);
	char path[4096];
	struct preflight_file f = { .pid = pid, .as = as, .path = path, .mode = (unsigned)mode, .dirfd = dir, .name = name };
	ssize_t n = dir < 0 ? -1 : readlinkat(dir, name, path, sizeof(path) - 1);
	struct statx st;

	if (n < 0 && errno == ENAMETOOLONG)
		return preflight_too_long(pid, as, err);
	if (n <= 0)
		return 0;
	path[n] = '\0';
	if (!strcmp(name, "exe") && !strncmp(path, "/memfd:", 7))
		return preflight_refuse(pid, err, "runs a program that is a memfd (fexecve()), not a file", "");
	if (path[0] != '/' || statx(dir, name, AT_STATX_DONT_SYNC, STATX_BASIC_STATS, &st))
		return 0;
	return preflight_check_file(s, &f, &st, err);
}

int preflight_maps(struct preflight_scan *s, pid_t pid, struct err *err)
{
	if (maps_check(s, pid, err) || maps_check_link(s, pid, "exe", "its program", R_OK, err) ||
	    maps_check_link(s, pid, "cwd", "its working directory", X_OK, err))
		return -1;
	return maps_check_link(s, pid, "root", "its root directory", X_OK, err);
}
