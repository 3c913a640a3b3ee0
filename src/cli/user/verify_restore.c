#include "cli/user/verify_restore.h"

#include <errno.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/json.h"
#include "base/user_groups.h"
#include "base/util.h"
#include "cli/end_signals.h"
#include "cli/libexec.h"
#include "cli/worker_call.h"

static volatile sig_atomic_t verify_stopped;

static void verify_on_signal(int sig)
{
	(void)sig;
	verify_stopped = 1;
}

static int verify_choose_epoch(struct verify_restore *r, const struct job_record *rec, struct err *err)
{
	const struct epoch_summary *newest = record_newest_epoch(rec);

	if (!r->epoch && newest)
		r->epoch = newest->number;
	return r->epoch ? 0 : err_set(err, ENOENT, "there is no epoch in %s", r->store->path);
}

/* What the pod will need of the job: the worker compares it with the epoch. */
static json_t *verify_request(const struct verify_restore *r, const struct job_record *rec, struct err *err)
{
	const struct passwd *pw = getpwuid(rec->uid);
	cleanup_free gid_t *groups = NULL;
	cleanup_free char *pod_dir = NULL;
	int n_groups;
	json_t *o;

	if (!pw) {
		err_set(err, ENOENT, "uid %u, whose job it is, has no name on this machine", (unsigned)rec->uid);
		return NULL;
	}
	n_groups = user_groups(pw->pw_name, rec->gid, &groups);
	pod_dir = xasprintf("%s/prove-%u-%u-%d", r->conf->pod_dir, rec->job_id, r->epoch, (int)getpid());
	o = json_pack("{s:s, s:s, s:I, s:I, s:I, s:o, s:b, s:b, s:I, s:b}", "uuid", rec->uuid, "script", "", "epoch",
		      (json_int_t)r->epoch, "uid", (json_int_t)rec->uid, "gid", (json_int_t)rec->gid, "groups",
		      json_gids(groups, n_groups), "private_tmp", 0, "sign", (int)r->signed_, "seconds",
		      (json_int_t)r->seconds, "low", 0);
	if (rec->job_id)
		json_object_set_new(o, "job_id", json_integer(rec->job_id));
	json_set_name(o, "job_dir", r->store->path);
	json_set_name(o, "pod_dir", pod_dir);
	json_set_name(o, "config", r->conf->path);
	return o;
}

int verify_restore(struct verify_restore *r, json_t **result, bool *recorded, struct err *err)
{
	const struct worker_call call = { .libexec = libexec_dir(),
					  .op = "prove",
					  .label = "verify",
					  .keep_fd = -1,
					  .seconds = r->conf->timeout + r->seconds,
					  .timeout = r->conf->timeout,
					  .stop = &verify_stopped };
	cleanup_free struct job_record *rec = xcalloc(1, sizeof(*rec));
	json_t *request;
	int rc;

	*result = NULL;
	*recorded = false;
	if (store_load_record(r->store, rec, err) || verify_choose_epoch(r, rec, err))
		return -1;
	request = verify_request(r, rec, err);
	if (!request)
		return -1;
	/* The worker then ends the proof, and removes what it has made. */
	end_signals_handle(verify_on_signal, 0);
	rc = worker_call(&call, request, result, err);
	worker_call_print_warnings("verify", *result);
	*recorded = rc && *result && !json_is_true(json_object_get(*result, "refused"));
	return rc;
}
