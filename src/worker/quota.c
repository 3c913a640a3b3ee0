/* The quotas CheckpointMaxBytesUser and CheckpointMaxBytes, before the freeze: what the job is about to write counts
 * from here on (store/usage.h). A checkpoint over a quota is refused, and the job runs on. */
#include "worker/worker.h"

#include <errno.h>

#include "base/text.h"
#include "base/util.h"
#include "store/superfluous.h"
#include "store/usage.h"

bool quota_applies(const struct worker *w)
{
	return w->req.job_id[0] && (w->conf.max_bytes_user || w->conf.max_bytes);
}

static uint64_t quota_excess(uint64_t used, uint64_t limit)
{
	return limit && used > limit ? used - limit : 0;
}

/* Bytes by which the quotas would be exceeded. u gets what is there beside the new epoch; *user: it is the user's quota
 * that is exceeded. */
static int quota_measure(const struct worker *w, uint64_t need, struct usage *u, bool *user, uint64_t *over,
			 struct err *err)
{
	const struct conf *c = &w->conf;
	uint64_t of_user, of_all;

	if (usage_sum(c->dir, w->req.uid, u, err))
		return -1;
	/* A checkpoint is in the sums already; `able' writes nothing. */
	if (w->req.op == OP_CHECKPOINT) {
		u->user -= need < u->user ? need : u->user;
		u->all -= need < u->all ? need : u->all;
	}
	of_user = quota_excess(u->user + need, c->max_bytes_user);
	of_all = quota_excess(u->all + need, c->max_bytes);
	*user = of_user > 0;
	*over = of_user > of_all ? of_user : of_all;
	return 0;
}

static void quota_removed(void *arg, const char *job, uint64_t bytes)
{
	char size[16];

	worker_warn(arg, "what was kept of job %s (%s), which has ended, was removed to make room (CheckpointQuotaPrune)",
		    job, format_size(bytes, size, sizeof(size)));
}

/* What can be forgotten without asking: jobs that are gone, and with CheckpointQuotaPrune those that nobody wants. */
static void quota_make_room(struct worker *w, bool user, uint64_t over)
{
	const struct superfluous s = {
		.base = w->conf.dir,
		.uid = w->req.uid,
		.all = !user,
		.keep_days = w->conf.keep_days,
		.bytes = over,
		.removed = quota_removed,
		.arg = w,
	};

	if (w->conf.quota_prune && w->req.op == OP_CHECKPOINT)
		superfluous_remove(&s);
	usage_forget_gone(w->conf.dir, w->req.uid, !user);
}

static int quota_refuse(const struct worker *w, const struct usage *u, uint64_t need, bool user, struct err *err)
{
	char used[16], limit[16], more[16];

	format_size(user ? u->user : u->all, used, sizeof(used));
	format_size(user ? w->conf.max_bytes_user : w->conf.max_bytes, limit, sizeof(limit));
	format_size(need, more, sizeof(more));
	if (user)
		return err_set(err, EDQUOT,
			       "quota: the epochs of all your jobs take %s, this one would take about %s more, and "
			       "CheckpointMaxBytesUser is %s. Free some (fsched list, fsched prune)",
			       used, more, limit);
	return err_set(err, EDQUOT,
		       "quota: the epochs of all users take %s, this one would take about %s more, and CheckpointMaxBytes "
		       "is %s. The administrator can raise it or free some",
		       used, more, limit);
}

static int quota_decide(struct worker *w, uint64_t need, struct err *err)
{
	struct usage u;
	uint64_t over;
	bool user;

	if (quota_measure(w, need, &u, &user, &over, err))
		return -1;
	if (over) {
		quota_make_room(w, user, over);
		if (quota_measure(w, need, &u, &user, &over, err))
			return -1;
	}
	if (w->req.op == OP_CHECKPOINT)
		usage_tell(w->conf.dir, w->req.uid, &u, over ? need : 0);
	w->over_quota = over;
	return over ? quota_refuse(w, &u, need, user, err) : 0;
}

int quota_check(struct worker *w, uint64_t need, struct err *err)
{
	if (!quota_applies(w))
		return 0;
	if (usage_prepare(w->conf.dir, err) ||
	    (w->req.op == OP_CHECKPOINT && usage_begin(w->conf.dir, w->req.uid, w->req.job_id, need, err)))
		return err_wrap(err, "the quota cannot be checked");
	if (quota_decide(w, need, err) == 0)
		return 0;
	quota_end(w);
	return -1;
}

void quota_end(const struct worker *w)
{
	if (quota_applies(w) && w->req.op == OP_CHECKPOINT)
		usage_end(w->conf.dir, w->req.uid, w->req.job_id);
}
