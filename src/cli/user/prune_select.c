#include "cli/user/prune_select.h"

#include <dirent.h>
#include <errno.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/array.h"
#include "base/dir.h"
#include "base/util.h"
#include "store/store.h"

#define DAY 86400

int prune_parse_size(const char *text, uint64_t *bytes)
{
	static const char suffixes[] = "KMGT";
	char *end;
	const char *suffix;
	unsigned long long n;

	if (*text < '0' || *text > '9')
		return -1;
	errno = 0;
	n = strtoull(text, &end, 10);
	suffix = *end ? strchr(suffixes, *end) : NULL;
	if (errno || (*end && (!suffix || end[1])) || n > 1ULL << 20)
		return -1;
	*bytes = suffix ? n << (10 * (suffix - suffixes + 1)) : n;
	return 0;
}

static int select_uid(const char *user, uid_t *uid, struct err *err)
{
	const struct passwd *pw = getpwnam(user);
	char *end;
	unsigned long n = strtoul(user, &end, 10);

	if (pw)
		*uid = pw->pw_uid;
	else if (*user && !*end && n < UINT32_MAX)
		*uid = (uid_t)n;
	else
		return err_set(err, ENOENT, "there is no user \"%s\"", user);
	return 0;
}

static bool select_load(const struct conf *c, uint32_t id, struct job_record *r)
{
	struct store s = { .dirfd = -1, .epochsfd = -1 };
	bool ok;

	if (geteuid() != 0)
		return store_load_copy(c->dir, id, r, NULL, NULL) == 0 && r->uid == geteuid();
	ok = store_open(&s, c->dir, id, false, NULL) == 0 && store_load_record(&s, r, NULL) == 0;
	store_close(&s);
	return ok;
}

static bool select_fits(const struct conf *c, uint32_t id, const struct prune_select *p, uid_t uid)
{
	cleanup_free struct job_record *r = xcalloc(1, sizeof(*r));
	char name[16];

	snprintf(name, sizeof(name), "%u", id);
	if (!select_load(c, id, r) || (p->user && r->uid != uid) || record_bytes(r) < p->bytes)
		return false;
	if (p->asked && store_removal_asked(c->dir, name, r->uid))
		return true;
	return p->days < 0 ? !p->asked : store_record_age(c->dir, name) >= p->days * DAY;
}

static int compare_ids(const void *a, const void *b)
{
	const uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return x < y ? -1 : x > y;
}

int prune_select(const struct conf *c, const struct prune_select *p, uint32_t **ids, size_t *n, struct err *err)
{
	cleanup_dir DIR *dir = opendir(c->dir);
	const struct dirent *d;
	size_t room = 0;
	uid_t uid = 0;
	int more;

	*ids = NULL;
	*n = 0;
	if (!dir)
		return err_sys(err, errno, "cannot open %s", c->dir);
	if (p->user && select_uid(p->user, &uid, err))
		return -1;
	while ((more = dir_next(dir, &d)) > 0) {
		const size_t len = strspn(d->d_name, "0123456789");
		const uint32_t id = (uint32_t)strtoul(d->d_name, NULL, 10);

		if (len == 0 || d->d_name[len] || len > 9 || *d->d_name == '0' || !select_fits(c, id, p, uid))
			continue;
		array_reserve(*ids, *n, room);
		(*ids)[(*n)++] = id;
	}
	if (*n)
		qsort(*ids, *n, sizeof(**ids), compare_ids);
	return more < 0 ? err_sys(err, errno, "cannot read %s", c->dir) : 0;
}
