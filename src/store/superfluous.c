#include "store/superfluous.h"

#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "base/dir_tree.h"
#include "base/util.h"
#include "store/lease.h"
#include "store/removed.h"
#include "store/scan.h"
#include "store/store_internal.h"

#define DAY INT64_C(86400)

struct superfluous_search {
	const struct superfluous *what;
	int basefd;
	uint64_t bytes; /* removed so far */
};

static bool superfluous_is_held(int basefd, const char *name)
{
	cleanup_close int fd = store_open_dir(basefd, name, name, NULL);
	bool exists = true;
	struct lease l;
	struct err err;

	return fd < 0 || lease_read(fd, &l, &exists, &err) < 0 || (exists && !l.released);
}

static bool superfluous_fits(const struct superfluous_search *s, const struct scan_job *j)
{
	const struct superfluous *w = s->what;
	const struct job_record *r = j->record;

	if ((!w->all && r->uid != w->uid) || j->aside || r->intent != INTENT_DONE || r->n_epochs == 0)
		return false;
	if (!store_removal_asked(w->base, j->name, r->uid) &&
	    (!w->keep_days || store_record_age(w->base, j->name) < w->keep_days * DAY))
		return false;
	return !superfluous_is_held(s->basefd, j->name);
}

static bool superfluous_remove_one(const struct scan_job *j, void *arg)
{
	struct superfluous_search *s = arg;
	const uint64_t bytes = record_bytes(j->record);
	struct err err;

	if (!superfluous_fits(s, j) || removed_add(s->what->base, j->name, &err) < 0 ||
	    remove_tree_at(s->basefd, j->name) < 0)
		return true;
	s->bytes += bytes;
	s->what->removed(s->what->arg, j->name, bytes);
	return s->bytes < s->what->bytes;
}

uint64_t superfluous_remove(const struct superfluous *what)
{
	cleanup_close int basefd = open(what->base, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct superfluous_search s = { .what = what, .basefd = basefd };
	struct scan_result result;

	if (basefd >= 0 && store_check_dir(basefd, what->base, NULL) == 0)
		store_scan(what->base, false, superfluous_remove_one, &s, &result, NULL);
	return s.bytes;
}
