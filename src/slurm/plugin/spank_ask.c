/* RPCs to slurmctld from slurmstepd and from T. They are made by fsched-slurm, because calls of libslurm have no time
 * limit.
 */
#include "base/clock.h"
#include "base/helper.h"
#include "base/util.h"
#include "slurm/plugin/spank_fsched.h"

#define ANSWER_MAX 65536
#define GRACE_MS   5000 /* fsched-slurm keeps its timeout itself, unless it hangs in a file system */

json_t *ask_slurm(const struct slurm_question *q, struct err *err)
{
	cleanup_free char *path = xasprintf("%s/fsched-slurm", q->libexec);
	cleanup_free char *job = xasprintf("%u", q->job_id);
	cleanup_free char *seconds = xasprintf("%d", q->timeout_s);
	cleanup_free char *host = xasprintf("FSCHED_BATCH_HOST=%s", q->node);
	cleanup_free char *op = xstrdup(q->op), *arg = xstrdup(q->arg), *text = NULL;
	char *argv[] = { path, (char[]){ "--timeout" }, seconds, op, job, arg, NULL };
	const struct helper h = {
		.argv = argv,
		.variable = host,
		.keep = -1,
		.until = now_us() + q->timeout_s * INT64_C(1000000) + GRACE_MS * INT64_C(1000),
		.answer_max = ANSWER_MAX,
	};
	const char *error;
	json_t *answer;
	int status;

	text = helper_run(&h, &status, err);
	if (!text)
		return NULL;
	answer = json_loads(text, 0, NULL);
	error = json_string_value(json_object_get(answer, "error"));
	if (json_is_object(answer) && !error)
		return answer;
	if (error)
		err_set(err, 0, "%s", error);
	else
		err_set(err, 0, "%s gave no answer (wait status %d): is fsched installed completely on node %s?", path,
			status, q->node);
	json_decref(answer);
	return NULL;
}
