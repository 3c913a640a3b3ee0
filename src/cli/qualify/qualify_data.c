#include "cli/qualify/qualify_data.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/util.h"

const char *qualify_fail_name(enum qualify_fail f)
{
	return f == QUALIFY_KILL ? "kill" : f == QUALIFY_REQUEUE ? "requeue" : "node";
}

const char *qualify_kind_name(enum qualify_kind k)
{
	static const char *const names[QUALIFY_KINDS] = { "plain", "pod", "plain-again", "vacate", "fail" };

	return names[k];
}

const char *qualify_kind_about(enum qualify_kind k)
{
	static const char *const about[QUALIFY_KINDS] = { "undisturbed", "undisturbed, --checkpoint", "undisturbed again",
							  "vacate, restart", "create, fail, restart" };

	return about[k];
}

const char *qualify_verdict_name(enum qualify_verdict v)
{
	/* clang-format off */
	static const char *const names[QUALIFY_VERDICTS] = {
		[QUALIFY_UNFINISHED]        = "unfinished",
		[QUALIFY_QUALIFIED]         = "qualified",
		[QUALIFY_PROGRAM_FAILED]    = "program_failed",
		[QUALIFY_NOT_DETERMINISTIC] = "not_deterministic",
		[QUALIFY_DIFFERS_IN_POD]    = "differs_in_pod",
		[QUALIFY_TOO_SHORT]         = "too_short",
		[QUALIFY_WAS_REFUSED]       = "refused",
		[QUALIFY_WAS_NOT_SAVED]     = "not_saved",
		[QUALIFY_WAS_NOT_RESTORED]  = "not_restored",
		[QUALIFY_DIFFERS]           = "differs",
	};
	/* clang-format on */
	return names[v];
}

const struct qualify_run *qualify_find_run(const struct qualify_result *r, enum qualify_kind k)
{
	for (unsigned i = 0; i < r->n_runs; i++)
		if (r->runs[i].kind == k)
			return &r->runs[i];
	return NULL;
}

unsigned qualify_cycles_done(const struct qualify_run *run)
{
	unsigned n = 0;

	for (unsigned i = 0; i < run->n_cycles; i++)
		n += run->cycles[i].done;
	return n;
}

void qualify_add(struct qualify_lines *l, const char *fmt, ...)
{
	va_list ap;

	if (l->n == QUALIFY_LINES_MAX)
		return;
	va_start(ap, fmt);
	if (vasprintf(&l->v[l->n], fmt, ap) >= 0)
		l->n++;
	va_end(ap);
}

static void qualify_free_lines(struct qualify_lines *l)
{
	for (unsigned i = 0; i < l->n; i++)
		free(l->v[i]);
	l->n = 0;
}

void qualify_free(struct qualify_result *r)
{
	for (unsigned i = 0; i < r->n_runs; i++)
		free(r->runs[i].cycles);
	qualify_free_lines(&r->reasons);
	qualify_free_lines(&r->remarks);
	qualify_free_lines(&r->advice);
	qualify_free_lines(&r->untested);
}
