#include "cli/qualify/output.h"

#include "base/json.h"
#include "cli/json_out.h"

static json_t *output_json_lines(const struct qualify_lines *l)
{
	json_t *list = json_array();

	for (unsigned i = 0; i < l->n; i++)
		json_array_append_new(list, json_text(l->v[i]));
	return list;
}

static const char *output_json_trouble(enum qualify_trouble t)
{
	static const char *const names[] = { "",           "ended",        "refused", "not_saved",
					     "not_failed", "not_restored", "stopped" };

	return names[t];
}

static json_t *output_json_cycle(const struct qualify_cycle *c)
{
	return json_pack("{s:b, s:o, s:o, s:I, s:i, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:I}", "done", (int)c->done,
			 "trouble", json_out_text(output_json_trouble(c->trouble)), "why", json_out_text(c->why),
			 "at_us", (json_int_t)c->at_us, "tries", (int)c->tries, "epoch", json_out_known(c->epoch),
			 "from", json_out_text(c->from), "to", json_out_text(c->to), "bytes",
			 json_out_known((json_int_t)c->bytes), "frozen_us", json_out_known(c->frozen_us), "total_us",
			 json_out_known(c->total_us), "restore_us", json_out_known(c->restore_us), "lost_us",
			 (json_int_t)c->lost_us);
}

static json_t *output_json_run(const struct qualify_run *run)
{
	json_t *cycles = json_array(), *differences = json_array();

	for (unsigned i = 0; i < run->n_cycles; i++)
		json_array_append_new(cycles, output_json_cycle(&run->cycles[i]));
	for (unsigned i = 0; i < run->differences.n && i < COMPARE_SHOWN; i++)
		json_array_append_new(differences, json_text(run->differences.text[i]));
	return json_pack(
		"{s:s, s:o, s:o, s:i, s:b, s:o, s:o, s:o, s:o, s:I, s:o, s:o}", "kind", qualify_kind_name(run->kind),
		"job_id", json_out_known(run->job), "state", json_out_text(run->state), "wait_status", run->wait_status,
		"completed", (int)run->completed, "trouble", json_out_text(output_json_trouble(run->trouble)), "node",
		json_out_text(run->node), "run_s", json_out_known(run->run_s), "same",
		run->compared == QUALIFY_NOT_COMPARED ? json_null() : json_boolean(run->compared == QUALIFY_SAME),
		"n_differences", (json_int_t)run->differences.n, "differences", differences, "cycles", cycles);
}

static json_t *output_json_runs(const struct qualify_result *r)
{
	json_t *list = json_array();

	for (unsigned i = 0; i < r->n_runs; i++)
		json_array_append_new(list, output_json_run(&r->runs[i]));
	return list;
}

static json_t *output_json_measure(const struct qualify_measure *m)
{
	return json_pack("{s:i, s:o, s:o}", "n", (int)m->n, "mean", json_out_known(m->mean), "most",
			 json_out_known(m->most));
}

static json_t *output_json_signed(int64_t n)
{
	return n == INT64_MIN ? json_null() : json_integer(n);
}

json_t *output_json(const struct qualify_result *r)
{
	json_t *o = json_out_new("qualify", 1);
	json_t *more =
		json_pack("{s:s, s:b, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:I, s:i, s:s, s:I, s:I, s:b, s:b, s:b, s:o}",
			  "verdict", qualify_verdict_name(r->verdict), "qualified",
			  (int)(r->verdict == QUALIFY_QUALIFIED), "reasons", output_json_lines(&r->reasons), "remarks",
			  output_json_lines(&r->remarks), "advice", output_json_lines(&r->advice), "untested",
			  output_json_lines(&r->untested), "script", json_text(r->script), "user", json_text(r->user),
			  "host", json_text(r->host), "seed", (json_int_t)r->o->seed, "cycles", (int)r->o->cycles,
			  "failure", qualify_fail_name(r->o->fail), "began", (json_int_t)r->began, "ended",
			  (json_int_t)r->ended, "other_node", (int)r->other_node, "deterministic_bytes",
			  (int)!r->bytes_differ, "moved", (int)r->moved, "directory", json_out_text(r->directory));

	json_object_update(o, more);
	json_decref(more);
	json_object_set_new(o, "runs", output_json_runs(r));
	json_object_set_new(o, "frozen_us", output_json_measure(&r->frozen));
	json_object_set_new(o, "total_us", output_json_measure(&r->total));
	json_object_set_new(o, "restore_us", output_json_measure(&r->restore));
	json_object_set_new(o, "bytes", output_json_measure(&r->bytes));
	json_object_set_new(o, "slower_ppm", output_json_signed(r->slower_ppm));
	json_object_set_new(o, "cycle_cost_us", output_json_signed(r->cycle_cost_us));
	return o;
}
