#include "policy/recovery.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

#include "base/util.h"

#define ANY -1

/* Evaluates a condition of a row: 0 = must be false, 1 = must be true, ANY = not considered. */
static bool fits(int wanted, bool value)
{
	return wanted == ANY || (wanted == 1) == value;
}

/* ---- start -------------------------------------------------------------- */

enum which { NONE, REQUESTED, LATEST, LATEST_THEN_OLDER };

#define IS(intent)    (1u << (intent))
#define EVERY_INTENT  ~0u
#define HOW(ended)    (1u << (ended))
#define ANYHOW        ~0u
#define AS_CONFIGURED START_RESTORE /* CheckpointOnRestoreFailure decides */
#define BEGINNING     2             /* in the column "requested": START_BEGINNING */

/* The first row that matches. */
static const struct rule {
	int record; /* the job has a record */
	unsigned intents;
	int unusable;  /* the job's directory cannot be read on this node */
	int restarted; /* Slurm's restart count is greater than 0 */
	int requested; /* 1: a person asked for an epoch; BEGINNING: the job itself, to start over */
	int saved;     /* Slurm's entry: it was running and had an epoch */
	int available; /* that epoch is complete; if none was asked for: there is a complete epoch */
	int told;      /* Slurm's entry: the job had ended */
	unsigned ends; /* how the record says that the script ended */
	enum start_action action;
	enum which which;
	enum start_action otherwise;
	const char *reason;
} rules[] = {
	/* Without the lease the job might run twice, and epochs may exist that this node cannot see. */
	{ 0, EVERY_INTENT, 1, 1, ANY, ANY, ANY, ANY, ANYHOW, START_ELSEWHERE, NONE, START_HOLD,
	  "the job was started before, but its checkpoint directory cannot be used on this node" },
	{ ANY, EVERY_INTENT, 0, ANY, BEGINNING, ANY, ANY, ANY, ANYHOW, START_FRESH, NONE, START_FRESH,
	  "the job has requeued itself to start over" },
	{ 0, EVERY_INTENT, 0, ANY, 1, ANY, ANY, ANY, ANYHOW, START_ELSEWHERE, NONE, START_HOLD,
	  "the job is to be continued, but this node sees no checkpoint of it (JobCheckpointDir must be the same on all nodes)" },
	{ 0, EVERY_INTENT, ANY, 0, 0, ANY, ANY, ANY, ANYHOW, START_FRESH, NONE, START_FRESH, "first start of the job" },
	{ 0, EVERY_INTENT, 0, 1, 0, 1, ANY, ANY, ANYHOW, START_ELSEWHERE, NONE, AS_CONFIGURED,
	  "the job was running, but this node sees no checkpoint of it (JobCheckpointDir must be the same on all nodes)" },
	{ 0, EVERY_INTENT, 0, 1, 0, 0, ANY, ANY, ANYHOW, START_FRESH, NONE, START_FRESH,
	  "the job has no checkpoint, it starts from the beginning" },
	{ 1, EVERY_INTENT, 0, ANY, 1, ANY, 0, ANY, ANYHOW, START_HOLD, NONE, START_HOLD,
	  "the epoch that was asked for is not there" },
	{ 1, EVERY_INTENT, 0, ANY, 1, ANY, 1, ANY, ANYHOW, START_RESTORE, REQUESTED, START_HOLD,
	  "restart from the epoch that was asked for" },
	{ 1, IS(INTENT_VACATED) | IS(INTENT_VACATING), 0, ANY, 0, ANY, 0, ANY, ANYHOW, START_HOLD, NONE, START_HOLD,
	  "the job was vacated, but no complete epoch of it is there" },
	{ 1, IS(INTENT_VACATED) | IS(INTENT_VACATING), 0, ANY, 0, ANY, 1, ANY, ANYHOW, START_RESTORE, LATEST,
	  START_HOLD, "restart of a vacated job" },
	{ 1, IS(INTENT_RUNNING), 0, 1, 0, ANY, 1, ANY, ANYHOW, START_RESTORE, LATEST_THEN_OLDER, AS_CONFIGURED,
	  "the job was running when Slurm requeued it" },
	{ 1, IS(INTENT_RUNNING), 0, 1, 0, ANY, 0, ANY, ANYHOW, START_FRESH, NONE, START_FRESH,
	  "the job was running when Slurm requeued it, but has no complete epoch" },
	{ 1, IS(INTENT_RUNNING), 0, 0, 0, ANY, ANY, ANY, ANYHOW, START_FRESH, NONE, START_FRESH,
	  "first start of the job" },
	{ 1, IS(INTENT_REQUEUED), 0, ANY, 0, ANY, ANY, ANY, ANYHOW, START_FRESH, NONE, START_FRESH,
	  "the job was requeued to start over" },
	/* The node failed before Slurm learned of the end, so Slurm requeued the job; nobody asked for another run. */
	{ 1, IS(INTENT_DONE), 0, 1, 0, ANY, ANY, 0, HOW(ENDED_ITSELF), START_END, NONE, START_HOLD,
	  "the script had ended already, but Slurm did not know that" },
	/* for example, because the node was shut down */
	{ 1, IS(INTENT_DONE), 0, 1, 0, ANY, 1, 0, HOW(ENDED_KILLED), START_RESTORE, LATEST_THEN_OLDER, AS_CONFIGURED,
	  "the script was killed, not by Slurm, on a node that failed before Slurm heard of it" },
	{ 1, IS(INTENT_DONE), 0, ANY, 0, ANY, ANY, ANY, ANYHOW, START_FRESH, NONE, START_FRESH,
	  "the job had ended and was requeued" },
};

/* True if an epoch that a rule would restore exists. */
static bool available(const struct start_input *in)
{
	for (unsigned i = 0; i < in->n_epochs; i++) {
		if (!in->requested || in->requested == START_LATEST || in->epochs[i] == in->requested)
			return true;
	}
	return false;
}

static bool fits_request(int wanted, unsigned requested)
{
	return wanted == ANY || wanted == (requested == START_BEGINNING ? BEGINNING : requested > 0);
}

static const struct rule *find_rule(const struct start_input *in)
{
	/* For an intent that this version does not know: a person has to decide. */
	static const struct rule unknown = {
		.action = START_HOLD,
		.otherwise = START_HOLD,
		.reason = "the checkpoint record has an unknown intent",
	};

	for (size_t i = 0; i < ARRAY_SIZE(rules); i++) {
		const struct rule *r = &rules[i];

		if (fits(r->record, in->have_record) &&
		    (!in->have_record || r->intents == EVERY_INTENT ||
		     ((unsigned)in->intent < 32 && r->intents & IS(in->intent))) &&
		    fits(r->unusable, in->unusable) && fits(r->restarted, in->restart_count > 0) &&
		    fits_request(r->requested, in->requested) && fits(r->saved, in->saved) &&
		    fits(r->available, available(in)) && fits(r->told, in->told) && r->ends & HOW(in->ended))
			return r;
	}
	return &unknown;
}

static const char *reason_of(const struct rule *r, const struct start_input *in)
{
	if (in->requested != START_LATEST || !in->have_record)
		return r->reason;
	return r->action == START_HOLD ? "the job is to be continued, but no complete epoch of it is there"
				       : "restart from the latest epoch";
}

void start_decide(const struct start_input *in, struct start_plan *plan)
{
	const struct rule *r = find_rule(in);
	unsigned most = r->which == LATEST_THEN_OLDER ? STORE_KEPT_MAX : 1;

	plan->action = r->action;
	plan->otherwise = r->otherwise != AS_CONFIGURED ? r->otherwise : in->hold_on_failure ? START_HOLD : START_FRESH;
	plan->n_epochs = 0;
	if (r->which == REQUESTED && in->requested != START_LATEST)
		plan->epochs[plan->n_epochs++] = in->requested;
	else if (r->which != NONE)
		for (unsigned i = in->n_epochs; i > 0 && plan->n_epochs < most; i--)
			plan->epochs[plan->n_epochs++] = in->epochs[i - 1];
	if (in->requested && in->requested < START_BEGINNING)
		snprintf(plan->reason, sizeof(plan->reason), "%s (epoch %u)", r->reason, in->requested);
	else
		snprintf(plan->reason, sizeof(plan->reason), "%s", reason_of(r, in));
}

/* ---- failure ------------------------------------------------------------ */

enum failure_step failure_decide(const struct failure_input *in)
{
	static const struct {
		int cause, time_left, more_epochs, may_move, hold;
		enum failure_step step;
		/* clang-format off */
	} table[] = {
		/* An older epoch would meet the same obstacle. */
		{ FAILED_PASSES, 1,   ANY, ANY, ANY, FAILURE_AGAIN },
		{ FAILED_PASSES, 0,   ANY, 1,   ANY, FAILURE_ELSEWHERE },
		{ FAILED_PASSES, 0,   ANY, 0,   ANY, FAILURE_HOLD },
		{ FAILED_GIVEN,  ANY, ANY, ANY, ANY, FAILURE_HOLD },
		{ FAILED_NODE,   ANY, ANY, 1,   ANY, FAILURE_ELSEWHERE },
		{ ANY,           ANY, 1,   ANY, ANY, FAILURE_NEXT_EPOCH },
		{ FAILED_JOB,    ANY, 0,   ANY, ANY, FAILURE_HOLD },
		{ ANY,           ANY, 0,   ANY, 0,   FAILURE_FRESH },
		{ ANY,           ANY, 0,   ANY, 1,   FAILURE_HOLD },
	};
	/* clang-format on */

	for (size_t i = 0; i < ARRAY_SIZE(table); i++)
		if ((table[i].cause == ANY || table[i].cause == (int)in->cause) &&
		    fits(table[i].time_left, in->time_left) && fits(table[i].more_epochs, in->more_epochs) &&
		    fits(table[i].may_move, in->may_move) && fits(table[i].hold, in->otherwise != START_FRESH))
			return table[i].step;
	return FAILURE_HOLD;
}

unsigned failure_pause(unsigned tries)
{
	return tries < 3 ? 5u << tries : 30;
}

/* ---- meaning ------------------------------------------------------------ */

/* A job that a person has requeued is shown by Slurm as pending and completing while its processes end. So is a
 * preempted job, but with a preempt_time. A job whose node is considered failed is pending and not completing. Slurm
 * does not tell who requeued it: the job itself notes that (slurm_rpc.h: rpc_request_epoch()). */
enum end_meaning end_decide(const struct end_input *in)
{
	static const struct {
		int known, newer, beyond, pending, completing, preempted, by_itself, resumes, running, finished;
		enum end_meaning meaning;
		/* clang-format off */
	} table[] = {
		{ 0, ANY, ANY, ANY, ANY, ANY, ANY, ANY, ANY, ANY, END_UNKNOWN },
		{ 1, 1,   ANY, 0,   ANY, ANY, ANY, ANY, ANY, ANY, END_ELSEWHERE },
		{ 1, ANY, ANY, 1,   ANY, ANY, 1,   ANY, ANY, ANY, END_START_OVER },
		/* The state is that of a later start. Whether a person has requeued this one is not known any more. */
		{ 1, ANY, 1,   1,   ANY, ANY, 0,   ANY, ANY, ANY, END_CONTINUE },
		{ 1, ANY, ANY, 1,   1,   0,   0,   0,   ANY, ANY, END_START_OVER },
		{ 1, ANY, ANY, 1,   ANY, ANY, 0,   ANY, ANY, ANY, END_CONTINUE },
		{ 1, 0,   ANY, 0,   ANY, ANY, ANY, ANY, 1,   ANY, END_NONE },
		{ 1, 0,   ANY, 0,   ANY, ANY, ANY, ANY, 0,   1,   END_OVER },
	};
	/* clang-format on */

	for (size_t i = 0; i < ARRAY_SIZE(table); i++)
		if (fits(table[i].known, in->known) && fits(table[i].newer, in->newer) &&
		    fits(table[i].beyond, in->beyond) && fits(table[i].pending, in->pending) &&
		    fits(table[i].completing, in->completing) && fits(table[i].preempted, in->preempted) &&
		    fits(table[i].by_itself, in->by_itself) && fits(table[i].resumes, in->resumes) &&
		    fits(table[i].running, in->running) && fits(table[i].finished, in->finished))
			return table[i].meaning;
	return END_NONE; /* suspended, or a state of a newer Slurm: the job still exists */
}

/* ---- grace -------------------------------------------------------------- */

#define GRACE_NEED_FIRST 5 /* s for a checkpoint of a job that has had none */
#define GRACE_NEED_MIN   2

int64_t grace_need(int64_t total_us)
{
	return total_us ? total_us / 1000000 * 3 / 2 + GRACE_NEED_MIN : GRACE_NEED_FIRST;
}

enum grace_action grace_decide(const struct grace_input *in)
{
	static const struct {
		unsigned meanings;
		int completing, possible, enough;
		enum grace_action action;
		/* clang-format off */
	} table[] = {
		/* Slurm starts the job nowhere else as long as it is completing here. */
		{ IS(END_CONTINUE), 1,   1,   1,   GRACE_SAVE },
		{ EVERY_INTENT,     ANY, ANY, ANY, GRACE_PASS_ON },
	};
	/* clang-format on */

	for (size_t i = 0; i < ARRAY_SIZE(table); i++)
		if (table[i].meanings & IS(in->meaning) && fits(table[i].completing, in->completing) &&
		    fits(table[i].possible, in->possible) && fits(table[i].enough, in->left >= in->need))
			return table[i].action;
	return GRACE_PASS_ON;
}

/* ---- record ------------------------------------------------------------- */

/* True for the signals with which Slurm ends a job. A shell reports the signal that killed its child as 128 + number.
 */
static bool looks_killed(int status)
{
	const int sig = WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status) - 128;

	return sig == SIGTERM || sig == SIGKILL;
}

enum ended ended_how(int status)
{
	return status < 0 ? ENDED_UNKNOWN : looks_killed(status) ? ENDED_KILLED : ENDED_ITSELF;
}

enum record_change record_decide(const struct record_input *in)
{
	static const struct {
		int ended, itself;
		unsigned meanings;
		enum record_change change;
		/* clang-format off */
	} table[] = {
		{ ANY, ANY, IS(END_START_OVER),                  RECORD_REQUEUED },
		{ ANY, ANY, IS(END_OVER),                        RECORD_OVER },
		/* The agent that runs the job now keeps its record. */
		{ ANY, ANY, IS(END_ELSEWHERE),                   RECORD_KEEP },
		{ 1,   ANY, IS(END_NONE),                        RECORD_ENDED },
		/* Slurm does not know of the end; what it intended with the job no longer matters. */
		{ 1,   1,   IS(END_UNKNOWN) | IS(END_CONTINUE),  RECORD_ENDED },
		/* Probably killed by Slurm. To restore a job that had ended does less harm than to lose one that had not. */
		{ 1,   0,   IS(END_UNKNOWN) | IS(END_CONTINUE),  RECORD_KEEP },
		{ 0,   ANY, EVERY_INTENT,                        RECORD_KEEP },
	};
	/* clang-format on */

	for (size_t i = 0; i < ARRAY_SIZE(table); i++)
		if (fits(table[i].ended, in->ended) && fits(table[i].itself, in->itself) &&
		    table[i].meanings & IS(in->meaning))
			return table[i].change;
	return RECORD_KEEP;
}

/* ---- lease -------------------------------------------------------------- */

enum lease_verdict lease_decide(const struct lease_input *in)
{
	static const struct {
		int exists, newer, released, same_host, same_boot, alive, expired;
		enum lease_verdict verdict;
		/* clang-format off */
	} table[] = {
		{ 0, ANY, ANY, ANY, ANY, ANY, ANY, LEASE_TAKE },
		/* Slurm has started the job again after it started this agent. */
		{ 1, 1,   ANY, ANY, ANY, ANY, ANY, LEASE_STAND_DOWN },
		{ 1, 0,   1,   ANY, ANY, ANY, ANY, LEASE_TAKE },
		/* A holder from before the last boot of this node is dead, and so is one that is not among the processes. */
		{ 1, 0,   0,   1,   0,   ANY, ANY, LEASE_TAKE },
		{ 1, 0,   0,   1,   1,   0,   ANY, LEASE_TAKE },
		/* A holder that has not renewed its lease for so long has killed the job. */
		{ 1, 0,   0,   ANY, ANY, ANY, 1,   LEASE_TAKE },
		{ 1, 0,   0,   ANY, ANY, ANY, 0,   LEASE_WAIT },
	};
	/* clang-format on */

	for (size_t i = 0; i < ARRAY_SIZE(table); i++)
		if (fits(table[i].exists, in->exists) && fits(table[i].newer, in->newer) &&
		    fits(table[i].released, in->released) && fits(table[i].same_host, in->same_host) &&
		    fits(table[i].same_boot, in->same_boot) && fits(table[i].alive, in->alive) &&
		    fits(table[i].expired, in->expired))
			return table[i].verdict;
	return LEASE_WAIT;
}

/* ---- notice ------------------------------------------------------------- */

#define LEAD_MIN 20 /* s; Slurm checks time limits about every 30 s, and never ends a job early */
#define LEAD_MAX 1800

int64_t notice_lead(int64_t total_us)
{
	int64_t lead = total_us / 1000000 * 2 + LEAD_MIN;

	return lead < LEAD_MAX ? lead : LEAD_MAX;
}

#define EVERY_LIMIT (IS(AT_LIMIT_NONE) | IS(AT_LIMIT_HOLD) | IS(AT_LIMIT_CONTINUE))

/* A leg of a job that continues at its time limit has made progress if the job has run in it for this long. */
#define LEG_MIN     10 /* s */

enum notice_action notice_decide(const struct notice_input *in)
{
	static const struct {
		int served, preempted;
		unsigned at_limit;
		int used_up, near_limit, short_leg;
		enum notice_action action;
		/* clang-format off */
	} table[] = {
		{ 1, ANY, EVERY_LIMIT,           ANY, ANY, ANY, NOTICE_NONE },
		{ 0, 1,   EVERY_LIMIT,           ANY, ANY, ANY, NOTICE_SAVE_AND_REQUEUE },
		{ 0, 0,   IS(AT_LIMIT_HOLD),     ANY, 1,   ANY, NOTICE_VACATE },
		{ 0, 0,   IS(AT_LIMIT_CONTINUE), 1,   ANY, ANY, NOTICE_VACATE_USED_UP },
		{ 0, 0,   IS(AT_LIMIT_CONTINUE), 0,   1,   1,   NOTICE_VACATE_NO_PROGRESS },
		{ 0, 0,   IS(AT_LIMIT_CONTINUE), 0,   1,   0,   NOTICE_CONTINUE },
	};
	/* clang-format on */

	for (size_t i = 0; i < ARRAY_SIZE(table); i++)
		if (fits(table[i].served, in->served) && fits(table[i].preempted, in->preempted) &&
		    table[i].at_limit & IS(in->at_limit) && fits(table[i].used_up, in->left_total <= in->lead) &&
		    fits(table[i].near_limit, in->left <= in->lead) && fits(table[i].short_leg, in->ran < LEG_MIN))
			return table[i].action;
	return NOTICE_NONE;
}
