/* In sbatch, as the user: says that he is over a quota for checkpoints. Root has written down what it knows of that
 * (base/usage_told.h), at the last checkpoint of any of his jobs. */
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/clock.h"
#include "base/conf.h"
#include "base/json.h"
#include "base/text.h"
#include "base/usage_told.h"
#include "base/util.h"
#include "slurm/plugin/spank_fsched.h"

#define TOLD_MAX 4096

static uint64_t quota_number(const json_t *o, const char *key)
{
	const json_int_t n = json_integer_value(json_object_get(o, key));

	return n > 0 ? (uint64_t)n : 0;
}

static void quota_say(const char *whose, const char *key, uint64_t used, uint64_t limit, int64_t at)
{
	char size[2][16], when[32];

	slurm_info("warning: --checkpoint: as of %s the epochs of %s took %s, and %s is %s: while that is so, no checkpoint of this "
		   "job is made. `fsched list' shows what is kept, `fsched prune' removes it",
		   format_time(at, when, sizeof(when)), whose, format_size(used, size[0], sizeof(size[0])), key,
		   format_size(limit, size[1], sizeof(size[1])));
}

void warn_of_quota(const struct conf *c)
{
	cleanup_free char *path = xasprintf("%s/" USAGE_DIR "/" USAGE_TOLD, c->dir, (unsigned)geteuid());
	json_t *o = c->max_bytes_user || c->max_bytes ? json_read_at(AT_FDCWD, path, TOLD_MAX, path, NULL) : NULL;
	const uint64_t user = quota_number(o, "user"), all = quota_number(o, "all"), need = quota_number(o, "need");
	const int64_t at = (int64_t)quota_number(o, "time");

	if (c->max_bytes_user && user + need > c->max_bytes_user)
		quota_say("your jobs", "CheckpointMaxBytesUser", user, c->max_bytes_user, at);
	else if (c->max_bytes && all + need > c->max_bytes)
		quota_say("all users", "CheckpointMaxBytes", all, c->max_bytes, at);
	json_decref(o);
}
