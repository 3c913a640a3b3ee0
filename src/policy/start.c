#include "policy/start.h"

#include <stdio.h>
#include <string.h>

#include "common/util.h"

enum which { NONE, REQUESTED, LATEST, LATEST_THEN_OLDER };

#define ANY -1
#define IS(intent) (1u << (intent))
#define EVERY_INTENT ~0u

/* First row that matches. 0 = no, 1 = yes, ANY = does not matter. */
static const struct rule {
	int      record;     /* a record of this job is there */
	unsigned intents;
	int      restarted;  /* Slurm's restart count is above 0 */
	int      requested;  /* a person named an epoch */
	int      available;  /* that epoch (or any, if none was named) is complete */
	enum start_action action;
	enum which which;
	enum start_action otherwise;
	const char *reason;
} rules[] = {
	{ 0, EVERY_INTENT, ANY, 1, ANY, START_HOLD, NONE, START_HOLD,
	  "the job is to be continued, but this node sees no checkpoint of it (JobCheckpointDir must be the same on all nodes)" },
	{ 0, EVERY_INTENT, 0, 0, ANY, START_FRESH, NONE, START_FRESH,
	  "first start of the job" },
	{ 0, EVERY_INTENT, 1, 0, ANY, START_FRESH, NONE, START_FRESH,
	  "this node sees no checkpoint of the job's earlier runs, it starts from the beginning" },
	{ 1, EVERY_INTENT, ANY, 1, 0, START_HOLD, NONE, START_HOLD,
	  "the epoch that was asked for is not there" },
	{ 1, EVERY_INTENT, ANY, 1, 1, START_RESTORE, REQUESTED, START_HOLD,
	  "restart from the epoch that was asked for" },
	{ 1, IS(INTENT_VACATED) | IS(INTENT_VACATING), ANY, 0, 0, START_HOLD, NONE, START_HOLD,
	  "the job was vacated, but no complete epoch of it is there" },
	{ 1, IS(INTENT_VACATED) | IS(INTENT_VACATING), ANY, 0, 1, START_RESTORE, LATEST, START_HOLD,
	  "restart of a vacated job" },
	{ 1, IS(INTENT_RUNNING), 1, 0, 1, START_RESTORE, LATEST_THEN_OLDER, START_FRESH,
	  "the job was running when Slurm requeued it" },
	{ 1, IS(INTENT_RUNNING), 1, 0, 0, START_FRESH, NONE, START_FRESH,
	  "the job was running when Slurm requeued it, but has no complete epoch" },
	{ 1, IS(INTENT_RUNNING), 0, 0, ANY, START_FRESH, NONE, START_FRESH,
	  "first start of the job" },
	{ 1, IS(INTENT_REQUEUED), ANY, 0, ANY, START_FRESH, NONE, START_FRESH,
	  "the job was requeued to start over" },
	{ 1, IS(INTENT_DONE), ANY, 0, ANY, START_FRESH, NONE, START_FRESH,
	  "the job had ended and was requeued" },
};

/* Whether what a rule would restore is there. */
static bool available(const struct start_input *in)
{
	for (unsigned i = 0; i < in->n_epochs; i++) {
		if (!in->requested || in->requested == START_LATEST || in->epochs[i] == in->requested)
			return true;
	}
	return false;
}

static bool fits(int wanted, bool value)
{
	return wanted == ANY || (wanted == 1) == value;
}

static const struct rule *find_rule(const struct start_input *in)
{
	/* An intent that this version does not know: hold, a person must look. */
	static const struct rule unknown = {
		.action = START_HOLD, .otherwise = START_HOLD, .reason = "the checkpoint record has an unknown intent",
	};

	for (size_t i = 0; i < ARRAY_SIZE(rules); i++) {
		const struct rule *r = &rules[i];

		if (fits(r->record, in->have_record) &&
		    (!in->have_record || r->intents == EVERY_INTENT || ((unsigned)in->intent < 32 && r->intents & IS(in->intent))) &&
		    fits(r->restarted, in->restart_count > 0) &&
		    fits(r->requested, in->requested > 0) &&
		    fits(r->available, available(in)))
			return r;
	}
	return &unknown;
}

static const char *reason_of(const struct rule *r, const struct start_input *in)
{
	if (in->requested != START_LATEST || !in->have_record)
		return r->reason;
	return r->action == START_HOLD ? "the job is to be continued, but no complete epoch of it is there" : "restart from the latest epoch";
}

void start_decide(const struct start_input *in, struct start_plan *plan)
{
	const struct rule *r = find_rule(in);
	unsigned most = r->which == LATEST_THEN_OLDER ? STORE_KEPT_MAX : 1;

	plan->action = r->action;
	plan->new_run = r->action == START_FRESH && in->have_record;
	plan->otherwise = r->otherwise;
	plan->n_epochs = 0;
	if (r->which == REQUESTED && in->requested != START_LATEST)
		plan->epochs[plan->n_epochs++] = in->requested;
	else if (r->which != NONE)
		for (unsigned i = in->n_epochs; i > 0 && plan->n_epochs < most; i--)
			plan->epochs[plan->n_epochs++] = in->epochs[i - 1];
	if (in->requested && in->requested != START_LATEST)
		snprintf(plan->reason, sizeof(plan->reason), "%s (epoch %u)", r->reason, in->requested);
	else
		snprintf(plan->reason, sizeof(plan->reason), "%s", reason_of(r, in));
}
