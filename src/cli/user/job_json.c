#include "cli/user/job_json.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/interval.h"
#include "base/json.h"
#include "base/util.h"
#include "cli/json_out.h"
#include "store/proofs.h"
#include "store/steps.h"

static json_t *job_json_begin(const struct view *v)
{
	return json_pack("{s:I, s:o}", "job_id", (json_int_t)v->id, "label", json_text(v->label));
}

/* NULL if there is none. */
static struct proofs *job_json_load_proofs(const struct view *v)
{
	return v->on_disk && !v->foreign ? proofs_new(v->store.path, geteuid() != 0) : NULL;
}

static json_t *job_json_proof(const struct proofs *all, const struct epoch_summary *e)
{
	const struct proof *p = proofs_find(all, e->number, e->time);

	if (!p)
		return json_null();
	return json_pack("{s:b, s:o, s:I, s:I, s:I, s:I, s:o}", "restored", p->ok, "node", json_text(p->node), "time",
			 (json_int_t)p->time, "took_us", (json_int_t)p->took_us, "ran_us", (json_int_t)p->ran_us,
			 "processes", (json_int_t)p->processes, "error", json_out_text(p->error));
}

static json_t *job_json_summary(const struct view *v, const struct epoch_summary *e, const struct proofs *proofs)
{
	return json_pack("{s:I, s:o, s:o, s:o, s:o, s:o, s:I, s:b, s:o, s:o, s:o}", "epoch", (json_int_t)e->number,
			 "time", json_out_known(e->time), "bytes", json_out_known((json_int_t)e->bytes), "shared_bytes",
			 json_integer((json_int_t)e->shared), "frozen_us", json_out_known(e->frozen_us), "total_us",
			 json_out_known(e->total_us), "run", (json_int_t)e->run, "restorable", e->run == v->rec.run,
			 "reason", json_out_text(e->reason), "memory", json_out_text(e->memory), "proof",
			 job_json_proof(proofs, e));
}

/* The entry has size and times of the last epoch only. */
static void job_json_entry_epochs(const struct view *v, json_t *list)
{
	const struct status *s = &v->status;

	for (const char *p = s->kept; *p;) {
		char *end;
		struct epoch_summary e = { .number = (unsigned)strtoul(p, &end, 10), .run = v->rec.run };

		if (end == p)
			break;
		if (e.number == s->epoch) {
			e.time = s->epoch_time;
			e.bytes = s->bytes;
			e.frozen_us = s->frozen_us;
			e.total_us = s->total_us;
		}
		json_array_append_new(list, job_json_summary(v, &e, NULL));
		p = *end ? end + 1 : end;
	}
}

static json_t *job_json_list(const struct view *v)
{
	cleanup_free struct proofs *proofs = job_json_load_proofs(v);
	json_t *list = json_array();

	if (v->on_disk && !v->foreign)
		for (unsigned i = 0; i < v->rec.n_epochs; i++)
			json_array_append_new(list, job_json_summary(v, &v->rec.epochs[i], proofs));
	else if (v->enabled)
		job_json_entry_epochs(v, list);
	return list;
}

static json_t *job_json_slurm(const struct view *v)
{
	if (!v->in_slurm)
		return json_null();
	return json_pack("{s:o, s:b, s:o, s:I}", "state", json_text(v->job.state), "held", v->job.held, "node",
			 json_out_text(v->job.batch_host), "restart_count", (json_int_t)v->job.restart_count);
}

static json_t *job_json_entry(const struct view *v)
{
	const struct status *s = &v->status;

	if (!v->enabled)
		return json_null();
	return json_pack("{s:o, s:I, s:b, s:o, s:I, s:I, s:o, s:o, s:o, s:o}", "state", json_text(status_state_text(s)),
			 "interval_s", (json_int_t)(s->interval == INTERVAL_AUTO ? s->every : s->interval),
			 "interval_auto", s->interval == INTERVAL_AUTO, "epoch", json_out_known(s->epoch), "skipped",
			 (json_int_t)s->skipped, "failed", (json_int_t)s->failed, "failed_since",
			 json_out_known(s->failed_since), "restored_epoch", json_out_known(s->restored), "memory",
			 json_out_text(s->memory), "error", json_out_text(s->error));
}

static json_t *job_json_record(const struct view *v)
{
	if (!v->on_disk || v->foreign)
		return json_null();
	return json_pack("{s:o, s:s, s:I, s:b, s:I, s:I, s:I, s:o, s:o, s:o, s:o}", "user", json_text(v->rec.user),
			 "state", intent_name(v->rec.intent), "interval_s",
			 (json_int_t)(v->rec.interval == INTERVAL_AUTO ? 0 : v->rec.interval), "interval_auto",
			 v->rec.interval == INTERVAL_AUTO, "run", (json_int_t)v->rec.run, "used_s",
			 (json_int_t)v->rec.used, "skipped", (json_int_t)v->rec.skipped, "node",
			 json_out_text(v->rec.host), "uuid", json_text(v->rec.uuid), "directory",
			 json_text(v->store.path), "log", json_text(v->log));
}

static json_t *job_json_steps(const struct view *v)
{
	cleanup_free struct job_steps *s = xcalloc(1, sizeof(*s));
	json_t *list;

	if (!v->on_disk || v->foreign || steps_load(v->store.path, geteuid() != 0, s, NULL) < 0)
		return json_null();
	list = json_array();
	for (unsigned i = 0; i < s->n; i++) {
		const struct step_summary *t = &s->v[i];

		json_array_append_new(list, json_pack("{s:i, s:o, s:i, s:I, s:I, s:i, s:I}", "step", t->step, "name",
						      json_text(t->name), "tasks", t->ntasks, "began",
						      (json_int_t)t->began, "ended", (json_int_t)t->ended, "wait_status",
						      t->status, "max_rss_bytes", (json_int_t)(t->max_rss << 10)));
	}
	return json_pack("{s:I, s:I, s:I, s:o}", "ended", (json_int_t)s->ended, "failed", (json_int_t)s->failed,
			 "running", (json_int_t)s->running, "last", list);
}

/* The same jobs as without --json are an error. */
static int job_json_check(const struct view *v, struct err *err)
{
	if ((v->on_disk && !v->foreign) || v->enabled)
		return 0;
	if (v->in_slurm)
		return err_set(err, 0, "job %s is not checkpoint-enabled: it was submitted without --checkpoint",
			       v->label);
	return err_set(err, 0, "%s; %s", v->slurm_err.text, v->disk_err.text);
}

json_t *job_json_epochs(const struct view *v, struct err *err)
{
	json_t *o;

	if (job_json_check(v, err) < 0)
		return NULL;
	o = job_json_begin(v);
	json_object_set_new(o, "epochs", job_json_list(v));
	return o;
}

json_t *job_json(const struct view *v, struct err *err)
{
	json_t *o = job_json_epochs(v, err);

	if (!o)
		return NULL;
	json_object_set_new(o, "slurm", job_json_slurm(v));
	json_object_set_new(o, "entry", job_json_entry(v));
	json_object_set_new(o, "record", job_json_record(v));
	json_object_set_new(o, "steps", job_json_steps(v));
	return o;
}

/* ---- one epoch ---- */

static json_t *job_json_memory(const struct manifest *m)
{
	if (!m->memory.ours)
		return json_null();
	return json_pack("{s:o, s:o, s:b, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:o}", "method",
			 json_text(m->memory.method), "why", json_text(m->memory.why), "increment", m->memory.increment,
			 "bytes", (json_int_t)m->memory.pages, "zero_bytes", (json_int_t)m->memory.zero, "reused_bytes",
			 (json_int_t)m->memory.reused, "scanned_bytes", (json_int_t)m->memory.scanned, "stored_bytes",
			 (json_int_t)m->memory.stored, "criu_bytes", (json_int_t)m->memory.criu, "frozen_bytes",
			 (json_int_t)m->memory.taken, "predump_rounds", (json_int_t)m->memory.rounds, "tracking",
			 json_out_text(m->memory.tracking));
}

/* An older fsched did not record it. */
static json_t *job_json_criu_memory(const struct manifest *m)
{
	if (m->memory.ours || !m->memory.method[0])
		return json_null();
	return json_pack("{s:o, s:o, s:I}", "method", json_text(m->memory.method), "why", json_text(m->memory.why),
			 "bytes", (json_int_t)m->memory.criu);
}

static json_t *job_json_node(const struct manifest *m)
{
	return json_pack("{s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "hostname", json_text(m->node.hostname), "kernel",
			 json_text(m->node.kernel), "machine", json_text(m->node.machine), "cpu_model",
			 json_text(m->node.cpu_model), "fsched", json_text(m->node.fsched), "criu",
			 json_text(m->node.criu), "glibc", json_text(m->node.glibc));
}

/* File names are bytes: see base/json.h for those that are no UTF-8. */
static json_t *job_json_files(const struct manifest *m)
{
	json_t *list = json_array();
	const json_t *f;
	char path[4096];
	size_t i;

	json_array_foreach(m->files, i, f) {
		const char *class = json_string_value(json_object_get(f, "class"));
		const json_t *size = json_object_get(f, "size");
		json_t *o;

		if (json_get_name(f, "path", path, sizeof(path), NULL) < 0)
			continue;
		o = json_pack("{s:s, s:o}", "class", class ? class : "", "bytes",
			      size ? json_integer(json_integer_value(size)) : json_null());
		json_set_name(o, "path", path);
		json_array_append_new(list, o);
	}
	return list;
}

/* Null for who may not read the manifest. */
static json_t *job_json_manifest(const struct view *v, unsigned epoch)
{
	struct manifest *m = xcalloc(1, sizeof(*m));
	json_t *o = json_null();
	char closed[1024];

	if (view_load_manifest(v, epoch, m, NULL))
		o = json_pack("{s:o, s:o, s:o, s:o, s:o}", "memory", job_json_memory(m), "criu_memory",
			      job_json_criu_memory(m), "node", job_json_node(m), "files", job_json_files(m),
			      "closed_tcp", json_out_text(manifest_closed_text(m, closed, sizeof(closed))));
	manifest_free(m);
	free(m);
	return o;
}

json_t *job_json_epoch(const struct view *v, unsigned epoch, struct err *err)
{
	const struct epoch_summary *e = view_find_epoch(v, epoch);
	cleanup_free struct proofs *proofs = NULL;
	json_t *o, *summary;

	if (!e) {
		err_set(err, 0, "job %s has no epoch %u that can be read here: `fsched list %s' shows those it has",
			v->label, epoch, v->label);
		return NULL;
	}
	o = job_json_begin(v);
	proofs = job_json_load_proofs(v);
	summary = job_json_summary(v, e, proofs);
	json_object_set_new(summary, "manifest", job_json_manifest(v, epoch));
	json_object_set_new(o, "epochs", json_pack("[o]", summary));
	return o;
}
