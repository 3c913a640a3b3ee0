#include "cli/report/job_bytes.h"

static uint64_t job_bytes_own(const struct epoch_summary *e)
{
	return e->bytes > e->shared ? e->bytes - e->shared : 0;
}

/* What an epoch shares is with its neighbours, so the largest shared part has most of the others. */
uint64_t job_bytes_kept(const struct job_record *r)
{
	uint64_t own = 0, shared = 0;

	for (unsigned i = 0; i < r->n_epochs; i++) {
		own += job_bytes_own(&r->epochs[i]);
		shared = r->epochs[i].shared > shared ? r->epochs[i].shared : shared;
	}
	return own + shared;
}

uint64_t job_bytes_prunable(const struct job_record *r)
{
	uint64_t own = 0;

	for (unsigned i = 0; i + 1 < r->n_epochs; i++)
		own += job_bytes_own(&r->epochs[i]);
	return own;
}
