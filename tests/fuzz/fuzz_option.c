/* The option in a job's environment, which is the user's: the name, what sbatch sends, and what the submit filter
 * writes. */
#include <stdlib.h>
#include <string.h>

#include "base/util.h"
#include "fuzz.h"
#include "slurm/option.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	cleanup_free char *text = xasprintf("%.*s", (int)size, (const char *)data);
	struct option_value v, again;
	struct option_signal hook;
	char buf[OPTION_MAX];

	option_in_env(text);
	if (option_limit_in_env(text))
		option_limit_parse(option_limit_in_env(text), &v, NULL);
	option_tcp_in_env(text);
	option_requeue_in_env(text);
	option_signal_parse(text, &hook, NULL);
	option_parse_submitted(text, &v, NULL);
	if (option_parse(text, &v, NULL) < 0)
		return 0;
	if (option_parse(option_format(&v, buf, sizeof(buf)), &again, NULL) < 0 || strcmp(v.uuid, again.uuid) != 0 ||
	    v.interval != again.interval || v.truncate != again.truncate || v.at_limit != again.at_limit ||
	    v.total != again.total || v.tcp != again.tcp || v.on_requeue != again.on_requeue)
		abort();
	return 0;
}
