/* Preflight: mappings of files, programs, working and root directories. */
#include "pod/preflight_internal.h"

#include <fcntl.h>
#include <linux/stat.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/io.h"
#include "base/proc.h"
#include "base/util.h"

/* What maps says of the data that the kernel shares with every process. */
struct vdso {
	bool code, data;
};

/* path: of the file; range: its name in map_files. Anonymous and deleted memory has no file to be opened. */
static int check_file(struct scan *s, pid_t pid, int files, const char *range, const char *path, struct err *err)
{
	struct open_file f = { .pid = pid, .as = "a mapping", .path = path, .dirfd = files, .name = range };
	struct statx st;
	int mode;

	if (statx(files, range, AT_STATX_DONT_SYNC, STATX_BASIC_STATS, &st) || (mode = preflight_mode(files, range)) < 0)
		return 0;
	f.mode = (unsigned)mode;
	return preflight_file(s, &f, &st, err);
}

/* The kernel writes line feeds in names as \012. */
static void unescape(char *text)
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

static int check_line(struct scan *s, pid_t pid, int files, char *line, struct vdso *v, struct err *err)
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
	/* A device may stay mapped after its descriptor is closed; so may an io_uring. */
	known = what[0] == '/' || what[0] == 'a' ? preflight_known_object(what) : NULL;
	if (known)
		return preflight_refuse(s, pid, err, known, "");
	if (what[0] != '/' || files < 0)
		return 0;
	unescape(what);
	snprintf(range, sizeof(range), "%lx-%lx", start, end);
	return check_file(s, pid, files, range, what, err);
}

/* Some kernels, for some machines, have only one of the two: then this process has no more. */
static bool is_usual(const struct vdso *v)
{
	cleanup_free char *maps = NULL;

	if (v->code == v->data || read_file_at(AT_FDCWD, "/proc/self/maps", 16 << 20, &maps) <= 0)
		return true;
	return !strstr(maps, "[vdso]") || !strstr(maps, "[vvar");
}

static int check_maps(struct scan *s, pid_t pid, struct err *err)
{
	cleanup_file FILE *f = NULL;
	cleanup_free char *line = NULL;
	cleanup_close int files = open_proc(pid, "map_files", O_RDONLY | O_DIRECTORY);
	struct vdso v = { 0 };
	size_t cap = 0;
	int fd = open_proc(pid, "maps", O_RDONLY);

	f = fd < 0 ? NULL : fdopen(fd, "r");
	while (f && getline(&line, &cap, f) > 0)
		if (check_line(s, pid, files, line, &v, err))
			return -1;
	if (!is_usual(&v))
		return preflight_refuse(
			s, pid, err, "has only one of the kernel's two mappings [vdso] and [vvar] (valgrind removes one)",
			"run the program without valgrind");
	return 0;
}

/* A program is opened for reading. Into a directory that may be entered but not read the restored process goes all the
 * same. */
static int check_link(struct scan *s, pid_t pid, const char *name, const char *as, int mode, struct err *err)
{
	cleanup_close int dir = open_proc(pid, ".", O_PATH | O_DIRECTORY);
	char path[4096];
	struct open_file f = { .pid = pid, .as = as, .path = path, .mode = (unsigned)mode, .dirfd = dir, .name = name };
	ssize_t n = dir < 0 ? -1 : readlinkat(dir, name, path, sizeof(path) - 1);
	struct statx st;

	if (n <= 0)
		return 0;
	path[n] = '\0';
	if (path[0] != '/' || statx(dir, name, AT_STATX_DONT_SYNC, STATX_BASIC_STATS, &st))
		return 0;
	return preflight_file(s, &f, &st, err);
}

int preflight_maps(struct scan *s, pid_t pid, struct err *err)
{
	if (check_maps(s, pid, err) || check_link(s, pid, "exe", "its program", R_OK, err) ||
	    check_link(s, pid, "cwd", "its working directory", X_OK, err))
		return -1;
	return check_link(s, pid, "root", "its root directory", X_OK, err);
}
