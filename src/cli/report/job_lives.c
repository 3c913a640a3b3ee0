#include "cli/report/job_lives.h"

#include <sys/stat.h>

#include "base/util.h"

#define LIVES_SLACK 60 /* s: the clocks of this host and of the file system may differ */

bool job_lives(const struct scan_job *j, const struct conf *c, int64_t now)
{
	cleanup_free char *lease = xasprintf("%s/lease", j->path);
	struct stat st;

	return !j->aside && j->record->intent == INTENT_RUNNING && stat(lease, &st) == 0 &&
	       st.st_mtim.tv_sec + (int64_t)c->lease_time + LIVES_SLACK > now;
}
