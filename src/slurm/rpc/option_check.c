#include "slurm/rpc/option_check.h"

#include <stdio.h>
#include <string.h>

#include "base/interval.h"
#include "base/util.h"
#include "slurm/option.h"
#include "store/store.h"

/* The entry of a task has the uuid of the array until the task's agent publishes the task's own. */
static bool same_uuid(const struct slurm_job *job, const char *written, const char *uuid)
{
	char own[UUID_TEXT_LEN + 1];

	if (!strcmp(written, uuid))
		return true;
	if (job->array_task == RPC_NO_TASK || !uuid_text_valid(written))
		return false;
	option_uuid_of_task(written, (uint32_t)job->array_task, own);
	return !strcmp(own, uuid);
}

/* Whether the record of an earlier start, which root wrote after a successful check, has the same option. */
static bool is_in_record(const struct slurm_job *job, const char *uuid, int64_t interval, const char *dir)
{
	cleanup_free struct job_record *r = xcalloc(1, sizeof(*r));
	struct store s;
	bool same;

	if (job->restart_count == 0 || store_open(&s, dir, job->id, false, NULL))
		return false;
	same = store_load_record(&s, r, NULL) == 0 && r->job_id == job->id && r->uid == job->uid &&
	       r->interval == interval && !strcmp(r->uuid, uuid);
	store_close(&s);
	return same;
}

int option_check(const struct slurm_job *job, const char *uuid, int64_t interval, const char *dir, struct err *why)
{
	char shown[2][24];
	struct status s;

	if (status_parse(job->admin_comment, &s, NULL)) {
		/* An administrator may have replaced the AdminComment of a job that has run before. */
		if (is_in_record(job, uuid, interval, dir))
			return 0;
		return err_set(
			why, 0,
			"its AdminComment has no Checkpoint entry. Either the option does not come from sbatch --checkpoint (a login "
			"profile sets it, and sbatch --get-user-env took it from there): remove %s from the profile. Or the entry was "
			"removed: by a job_submit plugin that comes after fsched in JobSubmitPlugins, or by an administrator; then submit "
			"the job again",
			OPTION_ENV);
	}
	if (s.interval == interval && same_uuid(job, s.uuid, uuid))
		return 0;
	return err_set(
		why, 0,
		"the option in its environment (interval %s, uuid %s) is not the one that slurmctld wrote at its submission "
		"(interval %s, uuid %s). A login profile that sbatch --get-user-env reads sets %s: remove it there and submit the job again",
		interval_format(interval, shown[0], sizeof(shown[0])), uuid,
		interval_format(s.interval, shown[1], sizeof(shown[1])), s.uuid, OPTION_ENV);
}
