/* Reads journals and tables of names (names.h). Names and paths in them were chosen by the job. */
#include "files/names.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/array.h"
#include "base/io.h"
#include "base/util.h"
#include "files/files_internal.h"

#define NAMES_MAX    1000000 /* names or directories of one file */
#define NAMES_FIELDS 5

/* ---- hash tables --------------------------------------------------------- */

uint32_t names_hash(uint32_t h, const char *text)
{
	for (; *text; text++)
		h = (h ^ (unsigned char)*text) * 16777619u;
	return h;
}

static uint32_t names_hash_entry(unsigned dir, const char *name)
{
	return names_hash(NAMES_HASH ^ dir * 2654435761u, name);
}

static void names_slots_put(struct name_slots *s, uint32_t hash, size_t index)
{
	size_t i = hash & (s->n - 1);

	while (s->v[i])
		i = (i + 1) & (s->n - 1);
	s->v[i] = (uint32_t)index + 1;
}

/* True if the table has been made larger, and so is empty. */
static bool names_slots_grow(struct name_slots *s, size_t n)
{
	if (n * 2 < s->n)
		return false;
	free(s->v);
	s->n = s->n ? s->n * 2 : 256;
	s->v = xcalloc(s->n, sizeof(*s->v));
	return true;
}

long names_find_dir(const struct names *x, const char *id)
{
	const struct name_slots *s = &x->dir_slots;

	for (size_t i = names_hash(NAMES_HASH, id) & (s->n - 1); s->n && s->v[i]; i = (i + 1) & (s->n - 1))
		if (strcmp(x->dirs[s->v[i] - 1].id, id) == 0)
			return (long)s->v[i] - 1;
	return -1;
}

long names_find(const struct names *x, unsigned dir, const char *name)
{
	const struct name_slots *s = &x->slots;

	for (size_t i = names_hash_entry(dir, name) & (s->n - 1); s->n && s->v[i]; i = (i + 1) & (s->n - 1))
		if (x->v[s->v[i] - 1].dir == dir && strcmp(x->v[s->v[i] - 1].name, name) == 0)
			return (long)s->v[i] - 1;
	return -1;
}

static unsigned names_put_dir(struct names *x, const char *id, const char *path)
{
	long found = names_find_dir(x, id);

	if (found >= 0)
		return (unsigned)found;
	array_reserve(x->dirs, x->n_dirs, x->dirs_room);
	x->dirs[x->n_dirs] = (struct name_dir){ .id = id, .path = path, .fd = -1 };
	if (names_slots_grow(&x->dir_slots, x->n_dirs + 1))
		for (size_t i = 0; i < x->n_dirs; i++)
			names_slots_put(&x->dir_slots, names_hash(NAMES_HASH, x->dirs[i].id), i);
	names_slots_put(&x->dir_slots, names_hash(NAMES_HASH, id), x->n_dirs);
	return (unsigned)x->n_dirs++;
}

static struct name_entry *names_put(struct names *x, unsigned dir, const char *name)
{
	long found = names_find(x, dir, name);

	if (found >= 0)
		return &x->v[found];
	array_reserve(x->v, x->n, x->room);
	x->v[x->n] = (struct name_entry){ .dir = dir, .name = name };
	if (names_slots_grow(&x->slots, x->n + 1))
		for (size_t i = 0; i < x->n; i++)
			names_slots_put(&x->slots, names_hash_entry(x->v[i].dir, x->v[i].name), i);
	names_slots_put(&x->slots, names_hash_entry(dir, name), x->n);
	return &x->v[x->n++];
}

/* ---- records ------------------------------------------------------------- */

/* Splits the record after its letter into n fields at tabs; the last one may hold tabs. */
static bool names_split(char *text, const char *field[NAMES_FIELDS], int n)
{
	for (int i = 0; i < n; i++) {
		field[i] = text;
		if (i == n - 1)
			return true;
		text = strchr(text, '\t');
		if (!text)
			return false;
		*text++ = '\0';
	}
	return false;
}

static bool names_number(const char *text, int base, unsigned long max, unsigned long *n)
{
	char *end;

	if (*text < '0' || *text > '9')
		return false;
	*n = strtoul(text, &end, base);
	return !*end && *n <= max;
}

static bool names_is_name(const char *name)
{
	return *name && strlen(name) <= NAME_MAX && !strchr(name, '/') && strcmp(name, ".") != 0 &&
	       strcmp(name, "..") != 0;
}

static bool names_is_id(const char *id)
{
	return *id && strlen(id) < NAME_ID && strspn(id, "0123456789abcdef.-") == strlen(id);
}

static bool names_dir_of(const struct names_source *s, const char *number, unsigned *dir)
{
	unsigned long n;

	if (!names_number(number, 10, NAMES_MAX, &n) || n >= s->n_local || !s->local[n])
		return false;
	*dir = s->local[n] - 1;
	return true;
}

static void names_make_room(struct names_source *s, size_t number)
{
	const size_t room = number + 1 > s->local_room * 2 ? number + 1 : s->local_room * 2;

	if (number >= s->local_room) {
		s->local = xrealloc(s->local, room * sizeof(*s->local));
		memset(s->local + s->local_room, 0, (room - s->local_room) * sizeof(*s->local));
		s->local_room = room;
	}
	if (number >= s->n_local)
		s->n_local = number + 1;
}

static void names_take_dir(struct names *x, struct names_source *s, char *text)
{
	const char *f[NAMES_FIELDS];
	unsigned long n;

	if (!names_split(text, f, 3) || !names_number(f[0], 10, NAMES_MAX, &n) || !names_is_id(f[1]) ||
	    strlen(f[2]) >= PATH_MAX || (!path_is_plain(f[2]) && strcmp(f[2], "/") != 0))
		return;
	names_make_room(s, n);
	s->local[n] = names_put_dir(x, f[1], f[2]) + 1;
	if (s->table)
		x->dirs[s->local[n] - 1].listed = true;
}

static void names_take_change(struct names *x, struct names_source *s, char *text)
{
	const char *f[NAMES_FIELDS];
	struct name_entry *e;
	unsigned dir;

	if (!names_split(text, f, 5) || !names_dir_of(s, f[0], &dir) || !names_is_name(f[4]) ||
	    (strcmp(f[1], "?") != 0 && !names_is_id(f[1])) || !names_is_id(f[3]) || !*f[2] || f[2][1])
		return;
	if (s->interval < s->from)
		return;
	x->dirs[dir].changed = true;
	e = names_put(x, dir, f[4]);
	if (strcmp(f[3], "-") != 0)
		e->put = f[3];
	e->ever |= strcmp(f[1], "-") != 0;
	/* What the table says, or that a table has all names, or an earlier change, comes first. */
	if (!e->listed && !e->changed) {
		e->known = x->dirs[dir].listed || strcmp(f[1], "?") != 0;
		e->was = x->dirs[dir].listed || !strcmp(f[1], "-") || !strcmp(f[1], "?") ? NULL : f[1];
		e->kind = !e->was ? 0 : f[2][0] == KIND_DIR ? KIND_DIR : KIND_FILE;
	}
	e->changed = true;
}

static void names_take_listed(struct names *x, struct names_source *s, char *text)
{
	const char *f[NAMES_FIELDS];
	struct name_entry *e;
	unsigned long mode;
	unsigned dir;

	s->last = NULL;
	if (!names_split(text, f, 5) || !names_dir_of(s, f[0], &dir) || !names_is_id(f[1]) || !names_is_name(f[4]) ||
	    !f[2][0] || f[2][1] || !strchr("fdlpo", f[2][0]) || !names_number(f[3], 8, 07777, &mode))
		return;
	e = names_put(x, dir, f[4]);
	e->known = e->listed = true;
	e->was = f[1];
	e->kind = (enum name_kind)f[2][0];
	e->mode = (mode_t)mode;
	s->last = e;
}

static void names_begin_interval(struct names *x, struct names_source *s, const char *text)
{
	unsigned long n;

	if (!names_number(text, 10, LONG_MAX, &n))
		return;
	s->interval = (int64_t)n;
	if (s->clears)
		for (size_t i = 0; i < x->n_dirs; i++)
			x->dirs[i].changed = false;
}

static void names_take_record(struct names *x, struct names_source *s, char *text)
{
	if (text[0] == 'D')
		names_take_dir(x, s, text + 1);
	else if (text[0] == 'E' && s->table)
		names_take_listed(x, s, text + 1);
	else if (text[0] == 'T' && s->table && s->last)
		s->last->target = text + 1;
	else if (text[0] == 'B' && !s->table)
		names_begin_interval(x, s, text + 1);
	else if (text[0] == 'N' && !s->table)
		names_take_change(x, s, text + 1);
	else if (text[0] == 'L' && !s->table && s->interval >= s->from && !x->lost)
		x->lost = text + 1;
}

void names_add_text(struct names *x, struct names_source *s, char *text, size_t len)
{
	char *p = text, *end;

	array_reserve(x->texts, x->n_texts, x->texts_room);
	x->texts[x->n_texts++] = text;
	s->last = NULL;
	for (; p < text + len && (end = memchr(p, '\0', (size_t)(text + len - p))) && x->n < NAMES_MAX; p = end + 1)
		names_take_record(x, s, p);
	s->last = NULL;
	s->read += p - text;
}

int names_read(struct names *x, struct names_source *s, int dirfd, const char *file, struct err *err)
{
	cleanup_close int fd = openat(dirfd, file, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	struct stat st;
	char *text;
	ssize_t n;

	if (fd < 0)
		return errno == ENOENT ? 0 : err_sys(err, errno, "cannot open %s, a list of names", file);
	if (fstat(fd, &st) < 0 || lseek(fd, s->read, SEEK_SET) < 0)
		return err_sys(err, errno, "cannot read %s", file);
	if (!S_ISREG(st.st_mode) || st.st_size > NAMES_FILE_MAX)
		return err_set(err, EBADMSG, "%s, a list of names, is damaged", file);
	n = read_all(fd, NAMES_FILE_MAX, &text);
	if (n < 0)
		return err_sys(err, errno, "cannot read %s", file);
	names_add_text(x, s, text, (size_t)n);
	return 0;
}

static bool names_is_needless(const struct names *x, const struct names_source *s, const bool *needless,
			      const char *record)
{
	const char *name = record;
	unsigned long number;
	char *end;
	long i;

	if (record[0] != 'N')
		return false;
	number = strtoul(record + 1, &end, 10);
	for (int k = 0; k < 4 && name; k++)
		name = (name = strchr(name, '\t')) ? name + 1 : NULL;
	if (*end != '\t' || !name || number >= s->n_local || !s->local[number])
		return false;
	i = names_find(x, s->local[number] - 1, name);
	return i >= 0 && needless[i];
}

size_t names_drop(const struct names *x, const struct names_source *s, const bool *needless, char *text, size_t len)
{
	size_t kept = 0, n;

	for (size_t i = 0; i < len; i += n) {
		n = strlen(text + i) + 1;
		if (names_is_needless(x, s, needless, text + i))
			continue;
		memmove(text + kept, text + i, n);
		kept += n;
	}
	return kept;
}

void names_free(struct names *x)
{
	for (size_t i = 0; i < x->n_dirs; i++)
		free(x->dirs[i].now);
	for (size_t i = 0; i < x->n_texts; i++)
		free(x->texts[i]);
	free(x->dirs);
	free(x->v);
	free(x->dir_slots.v);
	free(x->slots.v);
	free(x->texts);
	*x = (struct names){ 0 };
}

void names_source_free(struct names_source *s)
{
	free(s->local);
	*s = (struct names_source){ 0 };
}

/* ---- where directories are now -------------------------------------------- */

#define NAMES_FS_MAX 32 /* file systems */

struct names_fs_fds {
	struct name_fs fs[NAMES_FS_MAX];
	int fd[NAMES_FS_MAX];
	int n;
};

/* Opens the directory of the path that is nearest to its end and exists. */
static int names_open_above(int rootfd, const char *path, uid_t uid)
{
	char dir[PATH_MAX];

	snprintf(dir, sizeof(dir), "%s", path);
	for (;;) {
		cleanup_close int pathfd = dir[1] ? open_path_of(rootfd, dir, uid) : -1;
		int fd = pathfd < 0 ? -1 : openat(pathfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		char *slash = strrchr(dir, '/');

		if (fd >= 0)
			return fd;
		if (!dir[1] || slash == dir)
			return rootfd < 0 ? open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC)
					  : openat(rootfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		*slash = '\0';
	}
}

/* A descriptor of a file of the file system of d. -1: not found. */
static int names_fs_fd(struct names_fs_fds *f, const struct name_dir *d, int rootfd, uid_t uid)
{
	struct name_fs fs, at;

	if (sscanf(d->id, "%8x%8x.", &fs.fsid[0], &fs.fsid[1]) != 2)
		return -1;
	for (int i = 0; i < f->n; i++)
		if (memcmp(&f->fs[i], &fs, sizeof(fs)) == 0)
			return f->fd[i];
	cleanup_close int fd = names_open_above(rootfd, d->path, uid);
	if (fd < 0 || f->n >= NAMES_FS_MAX || name_fs_of(fd, &at) < 0 || memcmp(&at, &fs, sizeof(fs)) != 0)
		return -1;
	f->fs[f->n] = fs;
	f->fd[f->n] = steal_fd(&fd);
	return f->fd[f->n++];
}

void names_locate(struct names *x, int rootfd, uid_t uid, bool all)
{
	static const char gone[] = " (deleted)";
	struct names_fs_fds fds = { .n = 0 };
	char link[40], path[PATH_MAX];

	for (size_t i = 0; i < x->n_dirs; i++) {
		struct name_dir *d = &x->dirs[i];
		int fsfd = all || d->changed ? names_fs_fd(&fds, d, rootfd, uid) : -1;
		cleanup_close int fd = fsfd < 0 ? -1 : name_id_open(fsfd, d->id, O_PATH | O_DIRECTORY);
		struct stat st;
		ssize_t n;

		free(d->now);
		d->now = NULL;
		snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
		n = fd < 0 || fstat(fd, &st) || !st.st_nlink ? -1 : readlink(link, path, sizeof(path) - 1);
		if (n <= 0)
			continue;
		path[n] = '\0';
		if ((size_t)n <= strlen(gone) || strcmp(path + n - strlen(gone), gone) != 0)
			d->now = xstrdup(path);
	}
	for (int i = 0; i < fds.n; i++)
		close(fds.fd[i]);
}
