#include "store/scan.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/util.h"
#include "store/store_internal.h"

static size_t scan_digits(const char *name)
{
	return strspn(name, "0123456789");
}

/* "12" or "12.<uuid>"; 0: something else. */
static int scan_is_job(const struct dirent *d)
{
	const size_t n = scan_digits(d->d_name);

	return n > 0 && n < 11 && *d->d_name != '0' && (d->d_name[n] == '\0' || d->d_name[n] == '.');
}

static int scan_by_id(const struct dirent **a, const struct dirent **b)
{
	const unsigned long x = strtoul((*a)->d_name, NULL, 10), y = strtoul((*b)->d_name, NULL, 10);

	return x != y ? (x < y ? -1 : 1) : strcmp((*a)->d_name, (*b)->d_name);
}

/* Directories that were set aside have no copies for their owners' names in `fsched list', so only root sees them. */
static int scan_load(const char *base, const char *name, struct scan_job *j, struct job_record *r, struct err *err)
{
	cleanup_close int fd = -1;

	memset(r, 0, sizeof(*r));
	if (j->copy)
		return j->aside ? err_set(err, EACCES, "only root reads it")
				: store_load_copy(base, (uint32_t)strtoul(name, NULL, 10), r, NULL, err);
	fd = store_open_dir(AT_FDCWD, j->path, j->path, err);
	return fd < 0 ? -1 : record_load(fd, j->path, r, err);
}

/* What the caller of store_scan() wants. */
struct scan {
	const char *base;
	bool unreadable;
	bool (*fn)(const struct scan_job *j, void *arg);
	void *arg;
	struct scan_result *result;
};

static bool scan_one(const struct scan *s, const char *name)
{
	cleanup_free struct job_record *r = xmalloc(sizeof(*r));
	cleanup_free char *path = xasprintf("%s/%s", s->base, name);
	struct scan_job j = { .path = path, .name = name, .copy = geteuid() != 0, .aside = name[scan_digits(name)] != '\0' };
	struct err err;

	if (scan_load(s->base, name, &j, r, &err) == 0)
		j.record = r;
	else if (err.num == EACCES)
		s->result->hidden++;
	else if (err.num != ENOENT)
		s->result->damaged++;
	return (!j.record && !s->unreadable) || s->fn(&j, s->arg);
}

int store_scan(const char *base, bool unreadable, bool (*fn)(const struct scan_job *j, void *arg), void *arg,
	       struct scan_result *result, struct err *err)
{
	const struct scan s = { base, unreadable, fn, arg, result };
	struct dirent **names = NULL;
	bool more = true;
	int n = scandir(base, &names, scan_is_job, scan_by_id);

	*result = (struct scan_result){ 0 };
	if (n < 0)
		return err_sys(err, errno, "cannot read %s", base);
	for (int i = 0; i < n; i++) {
		more = more && scan_one(&s, names[i]->d_name);
		free(names[i]);
	}
	free(names);
	return 0;
}
