#include "cli/qualify/compare_files.h"

#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <inttypes.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/array.h"
#include "base/dir.h"
#include "base/io.h"
#include "base/text.h"
#include "base/util.h"

#define COMPARE_BLOCK    (256u << 10)
#define COMPARE_DEPTH    200
#define COMPARE_FILTERED (64u << 20)
#define COMPARE_LINE     48 /* bytes of a line that are shown */

/* A pair of files or directories, and what is known of them. */
struct compare_pair {
	const char *path; /* for messages */
	const struct compare_rules *rules;
	struct compare_result *result;
	struct err *err;
};

static int compare_differs(const struct compare_pair *p, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static int compare_differs(const struct compare_pair *p, const char *fmt, ...)
{
	char text[2 * sizeof(p->result->text[0])], name[160];
	struct compare_result *r = p->result;
	va_list ap;
	int n;

	if (r->n++ >= COMPARE_SHOWN)
		return 0;
	n = snprintf(text, sizeof(text), "%s: ", printable(p->path, name, sizeof(name)));
	va_start(ap, fmt);
	vsnprintf(text + n, sizeof(text) - (size_t)n, fmt, ap);
	va_end(ap);
	printable(text, r->text[r->n - 1], sizeof(r->text[0]));
	return 0;
}

static int compare_unreadable(const struct compare_pair *p, int num)
{
	char name[160];

	return err_sys(p->err, num, "cannot compare %s", printable(p->path, name, sizeof(name)));
}

bool compare_ignores(const struct compare_rules *rules, const char *path)
{
	const char *slash = strrchr(path, '/');

	for (size_t i = 0; i < rules->n; i++)
		if (fnmatch(rules->ignore[i], path, FNM_PATHNAME) == 0 ||
		    fnmatch(rules->ignore[i], slash ? slash + 1 : path, 0) == 0)
			return true;
	return false;
}

/* ---- contents ---- */

/* Reads up to len bytes, fewer only at the end. -1 with errno. */
static ssize_t compare_read(int fd, char *buf, size_t len, uint64_t at)
{
	size_t done = 0;

	while (done < len) {
		ssize_t n = pread(fd, buf + done, len - done, (off_t)(at + done));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -1;
		if (n == 0)
			break;
		done += (size_t)n;
	}
	return (ssize_t)done;
}

/* Where two files differ first. */
struct compare_place {
	uint64_t byte, line; /* from 1 on */
	uint64_t line_at;    /* offset of the line */
};

static void compare_count_lines(struct compare_place *w, const char *buf, size_t n, uint64_t at)
{
	for (const char *p = buf; (p = memchr(p, '\n', n - (size_t)(p - buf)));) {
		p++;
		w->line++;
		w->line_at = at + (uint64_t)(p - buf);
	}
}

/* 0: the files are the same. 1: *w is where they are not. -1 with errno. */
static int compare_find(int a, int b, struct compare_place *w)
{
	cleanup_free char *x = xmalloc(COMPARE_BLOCK), *y = xmalloc(COMPARE_BLOCK);

	*w = (struct compare_place){ .line = 1 };
	for (uint64_t at = 0;; at += COMPARE_BLOCK) {
		ssize_t n = compare_read(a, x, COMPARE_BLOCK, at), m = compare_read(b, y, COMPARE_BLOCK, at);
		size_t same = 0;

		if (n < 0 || m < 0)
			return -1;
		if (n == m && memcmp(x, y, (size_t)n) == 0) {
			if ((size_t)n < COMPARE_BLOCK)
				return 0;
			compare_count_lines(w, x, (size_t)n, at);
			continue;
		}
		while (same < (size_t)n && same < (size_t)m && x[same] == y[same])
			same++;
		compare_count_lines(w, x, same, at);
		w->byte = at + same + 1;
		return 1;
	}
}

/* The beginning of the line at this offset in quotes, or what stands for it. buf: of at least COMPARE_LINE + 32 bytes.
 */
static const char *compare_show_line(int fd, uint64_t at, char *buf, size_t len)
{
	char raw[COMPARE_LINE + 1], clean[COMPARE_LINE + 1];
	ssize_t n = compare_read(fd, raw, COMPARE_LINE, at);

	if (n <= 0)
		return "the end of the file";
	raw[n] = '\0';
	if (strlen(raw) < (size_t)n)
		return "other bytes";
	raw[strcspn(raw, "\n")] = '\0';
	if (strcmp(printable(raw, clean, sizeof(clean)), raw) != 0)
		return "other bytes";
	snprintf(buf, len, "\"%s\"", clean);
	return buf;
}

static int compare_report_place(const struct compare_pair *p, int a, int b, const struct compare_place *w)
{
	char was[COMPARE_LINE + 32], is[COMPARE_LINE + 32];
	const char *x = compare_show_line(b, w->line_at, is, sizeof(is)),
		   *y = compare_show_line(a, w->line_at, was, sizeof(was));

	if (strcmp(x, y) == 0) /* beyond the part that is shown, or no text */
		return compare_differs(p, "differs from byte %" PRIu64 " on (line %" PRIu64 ")", w->byte, w->line);
	return compare_differs(p, "differs from byte %" PRIu64 " on; line %" PRIu64 " is %s instead of %s", w->byte,
			       w->line, x, y);
}

static int compare_contents(const struct compare_pair *p, int a, int b)
{
	struct compare_place w;
	int rc = compare_find(a, b, &w);

	if (rc < 0)
		return compare_unreadable(p, errno);
	return rc ? compare_report_place(p, a, b, &w) : 0;
}

/* ---- trees ---- */

static int compare_entry(struct compare_pair *p, int a, int b, const char *name, unsigned depth);

static int compare_open(int dirfd, const char *name, int flags)
{
	return openat(dirfd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC | flags);
}

static int compare_links(const struct compare_pair *p, int a, int b, const char *name)
{
	char x[PATH_MAX], y[PATH_MAX];
	ssize_t n = readlinkat(a, name, x, sizeof(x)), m = readlinkat(b, name, y, sizeof(y));

	if (n < 0 || m < 0)
		return compare_unreadable(p, errno);
	return n == m && memcmp(x, y, (size_t)n) == 0 ? 0 : compare_differs(p, "is a symbolic link to another place");
}

struct compare_names {
	char **v;
	size_t n, room;
};

static void compare_free_names(struct compare_names *l)
{
	for (size_t i = 0; i < l->n; i++)
		free(l->v[i]);
	free(l->v);
}

static int compare_by_name(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static int compare_list(const struct compare_pair *p, int fd, struct compare_names *l)
{
	cleanup_dir DIR *dir = dir_open_at(fd, ".");
	const struct dirent *e;
	int more = -1;

	while (dir && (more = dir_next(dir, &e)) > 0) {
		array_reserve(l->v, l->n, l->room);
		l->v[l->n++] = xstrdup(e->d_name);
	}
	if (more < 0)
		return compare_unreadable(p, errno);
	if (l->n)
		qsort(l->v, l->n, sizeof(*l->v), compare_by_name);
	return 0;
}

/* The sorted names of both directories, each once. */
static int compare_all_names(const struct compare_pair *p, int a, int b, struct compare_names *all)
{
	size_t kept = 0;

	if (compare_list(p, a, all) < 0 || compare_list(p, b, all) < 0)
		return -1;
	if (all->n)
		qsort(all->v, all->n, sizeof(*all->v), compare_by_name);
	for (size_t i = 0; i < all->n; i++) {
		if (kept && strcmp(all->v[kept - 1], all->v[i]) == 0)
			free(all->v[i]);
		else
			all->v[kept++] = all->v[i];
	}
	all->n = kept;
	return 0;
}

static int compare_directories(const struct compare_pair *p, int a, int b, unsigned depth)
{
	struct compare_names all = { 0 };
	int rc = compare_all_names(p, a, b, &all);

	for (size_t i = 0; rc == 0 && i < all.n; i++) {
		cleanup_free char *path = *p->path ? xasprintf("%s/%s", p->path, all.v[i]) : xstrdup(all.v[i]);
		struct compare_pair child = { path, p->rules, p->result, p->err };

		if (!compare_ignores(p->rules, path))
			rc = compare_entry(&child, a, b, all.v[i], depth);
	}
	compare_free_names(&all);
	return rc;
}

static int compare_opened(struct compare_pair *p, int a, int b, const char *name, bool dir, unsigned depth)
{
	cleanup_close int x = compare_open(a, name, dir ? O_DIRECTORY : 0);
	cleanup_close int y = x < 0 ? -1 : compare_open(b, name, dir ? O_DIRECTORY : 0);

	if (x < 0 || y < 0)
		return compare_unreadable(p, errno);
	if (dir && depth >= COMPARE_DEPTH)
		return compare_unreadable(p, EMLINK);
	return dir ? compare_directories(p, x, y, depth + 1) : compare_contents(p, x, y);
}

static int compare_entry(struct compare_pair *p, int a, int b, const char *name, unsigned depth)
{
	struct stat x, y;
	const bool in_a = fstatat(a, name, &x, AT_SYMLINK_NOFOLLOW) == 0,
		   in_b = fstatat(b, name, &y, AT_SYMLINK_NOFOLLOW) == 0;

	if (!in_a || !in_b)
		return compare_differs(p, in_b   ? "is there, and not in the undisturbed run"
					  : in_a ? "is missing"
						 : "is in neither run");
	if ((x.st_mode & S_IFMT) != (y.st_mode & S_IFMT))
		return compare_differs(p, "is a file of another type");
	if (S_ISLNK(x.st_mode))
		return compare_links(p, a, b, name);
	if ((x.st_mode & 07777) != (y.st_mode & 07777))
		compare_differs(p, "has mode %04o instead of %04o", (unsigned)y.st_mode & 07777,
				(unsigned)x.st_mode & 07777);
	if (!S_ISREG(x.st_mode) && !S_ISDIR(x.st_mode))
		return 0;
	return compare_opened(p, a, b, name, S_ISDIR(x.st_mode), depth);
}

int compare_trees(int reference, int run, const char *what, const struct compare_rules *rules, struct compare_result *r,
		  struct err *err)
{
	struct compare_pair p = { what, rules, r, err };

	return compare_directories(&p, reference, run, 0);
}

int compare_named(int reference, int run, const char *name, const struct compare_rules *rules, struct compare_result *r,
		  struct err *err)
{
	struct compare_pair p = { name, rules, r, err };

	return compare_entry(&p, reference, run, name, 0);
}

/* ---- output ---- */

/* "slurmstepd: error: *** JOB 12 ON n1 CANCELLED AT …"; with several slurmd on a host it begins "slurmstepd-n1:". */
static bool compare_is_slurms(const char *line, size_t n)
{
	static const char program[] = "slurmstepd", about[] = ": error: *** ";
	const char *colon = memchr(line, ':', n);

	return n > sizeof(program) && memcmp(line, program, sizeof(program) - 1) == 0 && colon &&
	       (colon == line + sizeof(program) - 1 || line[sizeof(program) - 1] == '-') &&
	       n - (size_t)(colon - line) >= sizeof(about) - 1 && memcmp(colon, about, sizeof(about) - 1) == 0;
}

/* Removes slurmstepd's lines from a text, in place. Returns its length. */
static size_t compare_without_slurms(char *text, size_t len)
{
	size_t kept = 0;

	for (size_t at = 0; at < len;) {
		const char *end = memchr(text + at, '\n', len - at);
		const size_t n = end ? (size_t)(end - text) + 1 - at : len - at;

		if (!compare_is_slurms(text + at, n)) {
			memmove(text + kept, text + at, n);
			kept += n;
		}
		at += n;
	}
	return kept;
}

/* Whether only lines of slurmstepd differ. */
static bool compare_same_but_slurms(int a, int b)
{
	cleanup_free char *x = NULL, *y = NULL;
	ssize_t n, m;
	size_t k;

	if (lseek(a, 0, SEEK_SET) < 0 || lseek(b, 0, SEEK_SET) < 0)
		return false;
	n = read_all(a, COMPARE_FILTERED, &x);
	m = read_all(b, COMPARE_FILTERED, &y);
	if (n < 0 || m < 0)
		return false;
	k = compare_without_slurms(x, (size_t)n);
	return k == compare_without_slurms(y, (size_t)m) && memcmp(x, y, k) == 0;
}

int compare_output(int reference, int run, const char *name, const struct compare_rules *rules,
		   struct compare_result *r, struct err *err)
{
	cleanup_close int a = compare_open(reference, name, 0), b = compare_open(run, name, 0);
	struct compare_pair p = { name, rules, r, err };
	struct compare_place w;
	int rc;

	if (compare_ignores(rules, name))
		return 0;
	if (a < 0 || b < 0)
		return compare_entry(&p, reference, run, name, 0);
	rc = compare_find(a, b, &w);
	if (rc < 0)
		return compare_unreadable(&p, errno);
	return rc && !compare_same_but_slurms(a, b) ? compare_report_place(&p, a, b, &w) : 0;
}
