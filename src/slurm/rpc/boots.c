#define SLURM_BACKWARD_COMPAT
#include "slurm/rpc/boots.h"

#include <stdlib.h>
#include <string.h>
#include <slurm/slurm_errno.h>

#include "base/util.h"

static int boot_by_name(const void *a, const void *b)
{
	const struct boot *x = a, *y = b;

	return strcmp(x->name, y->name);
}

void boots_free(struct boots *b)
{
	for (size_t i = 0; i < b->n; i++)
		free(b->v[i].name);
	free(b->v);
	*b = (struct boots){ 0 };
}

void boots_set(struct boots *b, const node_info_msg_t *msg)
{
	boots_free(b);
	b->v = xcalloc(msg->record_count + 1, sizeof(*b->v));
	for (uint32_t i = 0; i < msg->record_count; i++) {
		const node_info_t *n = &msg->node_array[i];

		if (n->name && n->boot_time && (n->node_state & NODE_STATE_BASE) != NODE_STATE_DOWN)
			b->v[b->n++] = (struct boot){ xstrdup(n->name), n->boot_time };
	}
	qsort(b->v, b->n, sizeof(*b->v), boot_by_name);
}

time_t boots_of(const struct boots *b, const char *node)
{
	struct boot wanted = { .name = xstrdup(node) };
	const struct boot *found = b->n ? bsearch(&wanted, b->v, b->n, sizeof(*b->v), boot_by_name) : NULL;

	free(wanted.name);
	return found ? found->at : 0;
}

enum boots_answer boots_ask(const char *node, uint32_t job_id)
{
	slurm_step_id_t step = { .job_id = job_id, .step_id = SLURM_BATCH_SCRIPT, .step_het_comp = NO_VAL };
	job_step_pids_response_msg_t *pids = NULL;
	cleanup_free char *name = xstrdup(node);
	int rc = slurm_job_step_get_pids(&step, name, &pids);

	if (pids)
		slurm_job_step_pids_response_msg_free(pids);
	return rc == SLURM_SUCCESS ? BOOTS_HAS_JOB : rc == ESLURM_INVALID_JOB_ID ? BOOTS_LACKS_JOB : BOOTS_NO_ANSWER;
}
