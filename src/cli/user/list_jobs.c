#include "cli/user/list_jobs.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/user/job_view.h"
#include "base/array.h"
#include "base/slurmconf.h"
#include "base/text.h"
#include "base/util.h"
#include "store/scan.h"

struct row {
	uint32_t id;
	char name[64]; /* of the directory: the id, or "<id>.<uuid>" of an older job that had it */
	char user[64];
	char state[32]; /* of the record, or Slurm's for a job that has ended while no agent served it */
	char slurm[32]; /* what Slurm knows of the job */
	bool ended;     /* it does not need its epochs any more; false if that is not known */
	unsigned epochs, last;
	uint64_t bytes;
	int64_t age; /* s since the last event of the job */
};

struct listing {
	const char *dir;
	bool all;
	struct row *rows;
	size_t n, room;
	unsigned hidden; /* jobs whose record the caller cannot read */
	bool asked;      /* Slurm has answered: */
	struct slurm_job *jobs;
	size_t n_jobs;
};

/* ---- what Slurm says ---- */

static void list_ask(struct listing *l)
{
	struct err err;

	if (!slurmconf_path()) /* slurm_init() ends the process if there is no slurm.conf */
		return;
	rpc_init();
	l->asked = rpc_jobs_load(&l->jobs, &l->n_jobs, &err) == 0;
	if (!l->asked)
		cli_error("list", "warning: which jobs have ended is not known: %s", err.text);
}

/* NULL: Slurm does not know the job any more, or another one has its id. */
static const struct slurm_job *list_find(const struct listing *l, const struct job_record *r)
{
	const struct slurm_job *j = rpc_jobs_find(l->jobs, l->n_jobs, r->job_id);
	struct status entry;

	return j && (status_parse(j->admin_comment, &entry, NULL) || strcmp(entry.uuid, r->uuid) == 0) ? j : NULL;
}

/* Nobody updates the record of a job that ends while it waits: no agent serves it. Slurm tells. */
static void list_set_states(const struct listing *l, struct row *row, const struct job_record *r)
{
	const struct slurm_job *j = list_find(l, r);

	snprintf(row->state, sizeof(row->state), "%s", intent_name(r->intent));
	if (!l->asked) {
		snprintf(row->slurm, sizeof(row->slurm), "?");
		return;
	}
	row->ended = !j || (j->finished && !j->completing);
	if (!j || j->held)
		snprintf(row->slurm, sizeof(row->slurm), "%s", j ? "held" : "forgotten");
	else
		rpc_job_state_text(j, row->slurm, sizeof(row->slurm));
	if (row->ended && r->intent != INTENT_DONE && j)
		rpc_job_state_text(j, row->state, sizeof(row->state));
	else if (row->ended && r->intent != INTENT_DONE)
		snprintf(row->state, sizeof(row->state), "ended");
}

/* ---- what is on disk ---- */

static void list_take_record(const struct listing *l, struct row *row, const struct job_record *r)
{
	printable(r->user, row->user, sizeof(row->user));
	row->epochs = r->n_epochs;
	row->last = r->n_epochs ? r->epochs[r->n_epochs - 1].number : 0;
	row->bytes = record_bytes(r);
	row->age = store_record_age(l->dir, row->name);
	if (strchr(row->name, '.')) {
		snprintf(row->state, sizeof(row->state), "%s", intent_name(r->intent));
		snprintf(row->slurm, sizeof(row->slurm), "forgotten");
		row->ended = true;
	} else {
		list_set_states(l, row, r);
	}
	if (row->ended && store_removal_asked(l->dir, row->name, r->uid))
		snprintf(row->state, sizeof(row->state), "to-prune");
}

static bool list_add(const struct scan_job *j, void *arg)
{
	struct listing *l = arg;
	struct row *row;

	if (j->aside && !l->all)
		return true;
	if (!j->record) {
		l->hidden++;
		if (geteuid() != 0)
			return true;
	}
	array_reserve(l->rows, l->n, l->room);
	row = &l->rows[l->n++];
	*row = (struct row){
		.id = (uint32_t)strtoul(j->name, NULL, 10), .user = "?", .state = "unreadable", .slurm = "?", .age = -1
	};
	snprintf(row->name, sizeof(row->name), "%.63s", j->name);
	if (j->record)
		list_take_record(l, row, j->record);
	return true;
}

/* ---- the table ---- */

static int list_by_id(const void *a, const void *b)
{
	const struct row *x = a, *y = b;

	return x->id != y->id ? (x->id < y->id ? -1 : 1) : strcmp(x->name, y->name);
}

static int list_by_weight(const void *a, const void *b)
{
	const struct row *x = a, *y = b;

	if (x->ended != y->ended)
		return x->ended ? -1 : 1;
	if (x->bytes != y->bytes)
		return x->bytes > y->bytes ? -1 : 1;
	return list_by_id(a, b);
}

/* "40s", "12min", "5h", "3d" */
static const char *list_age(int64_t s, char *buf, size_t len)
{
	static const struct {
		int64_t s, below;
		const char *unit;
	} units[] = { { 1, 60, "s" }, { 60, 3600, "min" }, { 3600, 2 * 86400, "h" }, { 86400, INT64_MAX, "d" } };

	if (s < 0)
		return "-";
	for (size_t i = 0; i < ARRAY_SIZE(units); i++)
		if (s < units[i].below) {
			snprintf(buf, len, "%lld%s", (long long)(s / units[i].s), units[i].unit);
			break;
		}
	return buf;
}

static void list_print_row(const struct row *r)
{
	char size[32] = "-", age[32], last[16] = "-";

	if (r->epochs) {
		format_size(r->bytes, size, sizeof(size));
		snprintf(last, sizeof(last), "%u", r->last);
	}
	printf("%8s  %-12s  %-10s  %-10s  %6u  %5s  %10s  %6s\n", r->name, r->user, r->state, r->slurm, r->epochs, last,
	       size, list_age(r->age, age, sizeof(age)));
}

struct list_sum {
	unsigned jobs, epochs;
	uint64_t bytes;
};

static const char *list_sum_text(const struct list_sum *s, char *buf, size_t len)
{
	char size[32];

	snprintf(buf, len, "%u job%s, %u epoch%s, %s", s->jobs, s->jobs == 1 ? "" : "s", s->epochs,
		 s->epochs == 1 ? "" : "s", format_size(s->bytes, size, sizeof(size)));
	return buf;
}

static void list_sum_add(struct list_sum *s, const struct row *r)
{
	s->jobs++;
	s->epochs += r->epochs;
	s->bytes += r->bytes;
}

static void list_print_sums(const struct listing *l)
{
	struct list_sum all = { 0 }, ended = { 0 };
	char text[2][96];

	for (size_t i = 0; i < l->n; i++) {
		list_sum_add(&all, &l->rows[i]);
		if (l->rows[i].ended)
			list_sum_add(&ended, &l->rows[i]);
	}
	printf("total: %s; ended: %s\n", list_sum_text(&all, text[0], sizeof(text[0])),
	       l->asked ? list_sum_text(&ended, text[1], sizeof(text[1])) : "not known");
}

static void list_say_hidden(const struct listing *l)
{
	if (l->hidden)
		fprintf(stderr, "fsched list: %u job%s in %s cannot be read by you%s\n", l->hidden,
			l->hidden == 1 ? "" : "s", l->dir, geteuid() == 0 ? "" : "; only root and a job's owner can");
}

int list_jobs(const struct conf *c, bool all)
{
	struct listing l = { .dir = c->dir, .all = all };
	struct scan_result result;
	struct err err;
	int rc = CLI_OK;

	if (all && geteuid() != 0) {
		cli_error("list", "only root sees the checkpoints of all users; without --all you see your own");
		return CLI_FAILED;
	}
	list_ask(&l);
	if (store_scan(c->dir, true, list_add, &l, &result, &err) < 0) {
		cli_error("list", "%s; give a job id to see what Slurm knows of it", err.text);
		rc = CLI_FAILED;
	} else {
		if (l.n && all)
			qsort(l.rows, l.n, sizeof(*l.rows), list_by_weight);
		printf("%8s  %-12s  %-10s  %-10s  %6s  %5s  %10s  %6s\n", "JOB", "USER", "STATE", "SLURM", "EPOCHS",
		       "LAST", "SIZE", "AGE");
		for (size_t i = 0; i < l.n; i++)
			list_print_row(&l.rows[i]);
		list_print_sums(&l);
		list_say_hidden(&l);
	}
	rpc_jobs_free(l.jobs, l.n_jobs);
	free(l.rows);
	return rc;
}
