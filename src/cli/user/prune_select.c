#include "cli/user/prune_select.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/array.h"
#include "base/util.h"
#include "cli/cli.h"
#include "store/scan.h"

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

struct selection {
	const struct conf *conf;
	const struct prune_select *by;
	uid_t uid; /* of by->user */
	uint32_t *ids;
	size_t n, room;
};

static bool select_fits(const struct selection *s, const struct scan_job *j)
{
	const struct job_record *r = j->record;
	const struct prune_select *by = s->by;

	if (j->aside || (j->copy && r->uid != geteuid()) || (by->user && r->uid != s->uid) || record_bytes(r) < by->bytes)
		return false;
	if (by->asked && store_removal_asked(s->conf->dir, j->name, r->uid))
		return true;
	return by->days < 0 ? !by->asked : store_record_age(s->conf->dir, j->name) >= by->days * DAY;
}

static bool select_add(const struct scan_job *j, void *arg)
{
	struct selection *s = arg;

	if (select_fits(s, j)) {
		array_reserve(s->ids, s->n, s->room);
		s->ids[s->n++] = (uint32_t)strtoul(j->name, NULL, 10);
	}
	return true;
}

int prune_select(const struct conf *c, const struct prune_select *p, uint32_t **ids, size_t *n, struct err *err)
{
	struct selection s = { .conf = c, .by = p };
	struct scan_result result;
	int rc = -1;

	if (!p->user || cli_user(p->user, &s.uid, err) == 0)
		rc = store_scan(c->dir, false, select_add, &s, &result, err);
	*ids = s.ids;
	*n = s.n;
	return rc;
}
