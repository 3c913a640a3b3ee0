#include "cli/user/list_json.h"

#include "base/json.h"
#include "base/util.h"
#include "cli/cli.h"
#include "cli/json_out.h"
#include "cli/user/job_json.h"
#include "store/scan.h"

static bool list_json_append(const struct scan_job *j, void *arg)
{
	const struct job_record *r = j->record;
	const struct epoch_summary *last = r->n_epochs ? &r->epochs[r->n_epochs - 1] : NULL;

	if (j->aside)
		return true;
	json_array_append_new(arg, json_pack("{s:I, s:o, s:s, s:o, s:I, s:o, s:o, s:o}", "job_id", (json_int_t)r->job_id,
					     "user", json_text(r->user), "state", intent_name(r->intent), "node",
					     json_out_text(r->host), "epochs", (json_int_t)r->n_epochs, "last_epoch",
					     json_out_known(last ? last->number : 0), "last_time",
					     json_out_known(last ? last->time : 0), "last_bytes",
					     json_out_known(last ? (json_int_t)last->bytes : 0)));
	return true;
}

static int list_json_all(const struct conf *c, json_t *root)
{
	struct scan_result result;
	json_t *jobs = json_array();
	struct err err;

	json_object_set_new(root, "jobs", jobs);
	if (store_scan(c->dir, false, list_json_append, jobs, &result, &err) < 0) {
		cli_error("list", "%s; give a job id to see what Slurm knows of it", err.text);
		return CLI_FAILED;
	}
	json_object_set_new(root, "hidden_jobs", json_integer(result.hidden));
	return CLI_OK;
}

static int list_json_jobs(const struct conf *c, const uint32_t *ids, size_t n, json_t *root)
{
	json_t *jobs = json_array();
	int rc = CLI_OK;

	for (size_t i = 0; i < n; i++) {
		struct view *v = view_load(c, ids[i]);
		struct err err;
		json_t *o = job_json_epochs(v, &err);

		if (!o) {
			cli_error("list", "%s", err.text);
			rc = CLI_FAILED;
		} else {
			json_array_append_new(jobs, o);
		}
		view_free(v);
	}
	json_object_set_new(root, "jobs", jobs);
	return rc;
}

int list_json(const struct conf *c, const uint32_t *ids, size_t n)
{
	cleanup_json json_t *root = json_out_new(n ? "epochs" : "list", 1);
	const int rc = n ? list_json_jobs(c, ids, n, root) : list_json_all(c, root);

	if (rc == CLI_OK || n)
		json_out_print(root);
	return rc;
}
