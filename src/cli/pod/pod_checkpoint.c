/* fsched pod checkpoint, kill, list. */
#include "cli/pod/pod_cmd.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "cli/cli.h"
#include "cli/worker_call.h"
#include "base/text.h"
#include "base/clock.h"
#include "base/util.h"
#include "policy/retention.h"

struct pod_checkpoint {
	const struct pod_home *home;
	struct job_record *rec;
	struct epoch_summary epoch;
};

/* Adds the epoch to the record, or updates its entry. */
static int record_epoch(struct pod_checkpoint *s, struct err *err)
{
	struct job_record *r = s->rec;
	unsigned i;

	for (i = 0; i < r->n_epochs && r->epochs[i].number != s->epoch.number; i++)
		;
	if (i == STORE_KEPT_MAX) {
		memmove(r->epochs, r->epochs + 1, (STORE_KEPT_MAX - 1) * sizeof(r->epochs[0]));
		i--;
	}
	r->epochs[i] = s->epoch;
	if (i >= r->n_epochs)
		r->n_epochs = i + 1;
	return store_save_record(&s->home->store, r, err);
}

/* The epoch is durable and the tree is still frozen. The pod may be killed only if the record can be written now. */
static bool pod_on_held(void *arg, const json_t *event)
{
	struct pod_checkpoint *s = arg;
	struct err err;

	epoch_summary_from_result(&s->epoch, event);
	s->rec->intent = INTENT_VACATED;
	if (!record_epoch(s, &err))
		return true;
	s->rec->intent = INTENT_RUNNING;
	cli_error("pod checkpoint", "%s: the command runs on", err.text);
	return false;
}

/* Called only when the new epoch is complete. */
static void pod_remove_old_epochs(struct pod_checkpoint *s, unsigned keep)
{
	cleanup_free unsigned *list = xcalloc(STORE_KEPT_MAX, sizeof(*list));
	cleanup_free unsigned *gone = xcalloc(STORE_KEPT_MAX, sizeof(*gone));
	int n = store_list_epochs(&s->home->store, list, STORE_KEPT_MAX);
	unsigned n_gone = n > 0 ? retention_select(list, (unsigned)n, keep, s->epoch.number, gone) : 0, i;
	struct err err;
	char size[16];

	for (i = 0; i < n_gone; i++) {
		uint64_t shared = store_epoch_shared(&s->home->store, gone[i]);

		if (store_remove_epoch(&s->home->store, gone[i], &err)) {
			cli_error("pod checkpoint", "%s", err.text);
			continue;
		}
		record_forget_epoch(s->rec, gone[i]);
		if (shared)
			store_log(&s->home->store, s->rec->uid,
				  "epoch %u removed; %s of it are kept, newer epochs refer to them", gone[i],
				  format_size(shared, size, sizeof(size)));
	}
	if (n_gone && store_save_record(&s->home->store, s->rec, &err))
		cli_error("pod checkpoint", "%s", err.text);
}

static void report_epoch(const struct pod_checkpoint *s, const json_t *result, bool kill)
{
	char size[16], frozen[24], total[24], text[512];

	worker_call_print_warnings("pod checkpoint", result);
	format_size(s->epoch.bytes, size, sizeof(size));
	format_duration(s->epoch.frozen_us, frozen, sizeof(frozen));
	format_duration(s->epoch.total_us, total, sizeof(total));
	snprintf(text, sizeof(text), "epoch %u: %s, frozen %s, %s in all%s", s->epoch.number, size, frozen, total,
		 kill ? "; the command was stopped" : "");
	printf("%s\n", text);
	fflush(stdout);
	store_log(&s->home->store, s->rec->uid, "%s", text);
}

static int save_epoch(const struct pod_opts *o, struct pod_checkpoint *s, const struct pod_state *state, struct err *err)
{
	struct pod_cred cred;
	json_t *req, *result;
	int rc = pod_user_cred(state->user, &cred, err);

	if (!rc)
		rc = pod_stdio_check(state->outside, state->init, &cred, err);
	if (rc) {
		free(cred.groups);
		return -1;
	}
	s->epoch = (struct epoch_summary){ .number = store_next_epoch(&s->home->store, s->rec, err),
					   .time = time(NULL),
					   .run = s->rec->run };
	if (!s->epoch.number) {
		free(cred.groups);
		return -1;
	}
	req = pod_request(o, s->home, s->rec, &cred, state->private_tmp, s->epoch.number);
	free(cred.groups);
	json_object_update_new(req, json_pack("{s:i, s:b, s:b, s:s, s:i}", "init_pid", state->init, "written", 0,
					      "vacate", (int)o->kill, "reason",
					      o->kill       ? "vacate"
					      : o->interval ? "periodic"
							    : "create",
					      "agent_port", 0));
	if (state->mailbox.in >= 0)
		json_object_set_new(req, "mailbox", mailbox_describe(&state->mailbox, state->supervisor));
	result = pod_worker(o, "checkpoint", req, -1, pod_on_held, s, err);
	if (!result) {
		store_abort_epoch(&s->home->store, s->epoch.number); /* a worker that was killed could not do it */
		return -1;
	}
	epoch_summary_from_result(&s->epoch, result);
	if (record_epoch(s, err)) {
		json_decref(result);
		return err_wrap(err, "epoch %u is complete but cannot be recorded", s->epoch.number);
	}
	pod_remove_old_epochs(s, o->conf.max_epochs);
	report_epoch(s, result, o->kill);
	json_decref(result);
	return 0;
}

/* Adds to an error what it means for the command. If the command runs on, a record that says "vacated" is set back. */
static int pod_explain_failure(struct pod_checkpoint *s, struct err *err)
{
	struct pod_state state;

	if (pod_state_load(s->home, &state, NULL))
		return err_wrap(err, "no checkpoint was made");
	pod_state_free(&state);
	if (s->rec->intent == INTENT_VACATED) {
		s->rec->intent = INTENT_RUNNING;
		store_save_record(&s->home->store, s->rec, NULL);
	}
	return err_wrap(err, "no checkpoint was made, the command runs on");
}

static int checkpoint_locked(const struct pod_opts *o, struct pod_checkpoint *s, struct err *err)
{
	struct pod_state state;
	int rc;

	if (store_load_record(&s->home->store, s->rec, err) || pod_state_load(s->home, &state, err))
		return -1;
	if (save_epoch(o, s, &state, err))
		rc = pod_explain_failure(s, err);
	else /* the worker has killed it after pod_on_held(); this waits for its end */
		rc = o->kill ? pod_kill(state.init, 10000, err) : 0;
	pod_state_free(&state);
	return rc;
}

int pod_cmd_checkpoint(const struct pod_opts *o)
{
	cleanup_free struct job_record *rec = xcalloc(1, sizeof(*rec));
	struct pod_home home;
	struct pod_checkpoint s = { .home = &home, .rec = rec };
	struct err err;
	int rc, lock;

	if (pod_home_open(&home, o->dir, false, NULL, &err)) {
		cli_error("pod checkpoint", "%s", err.text);
		return CLI_FAILED;
	}
	lock = pod_home_lock(&home, &err);
	rc = lock < 0 ? -1 : checkpoint_locked(o, &s, &err);
	if (rc) {
		cli_error("pod checkpoint", "%s", err.text);
		store_log(&home.store, rec->uid, "checkpoint failed: %s", err.text);
	}
	if (lock >= 0)
		close(lock);
	if (!rc && o->kill && (rc = pod_home_await_end(&home, &err)))
		cli_error("pod checkpoint", "%s", err.text);
	pod_home_close(&home);
	return rc ? CLI_FAILED : CLI_OK;
}

int pod_cmd_kill(const struct pod_opts *o)
{
	struct pod_home home;
	struct pod_state state;
	struct err err;
	int rc;

	if (pod_home_open(&home, o->dir, false, NULL, &err)) {
		cli_error("pod kill", "%s", err.text);
		return CLI_FAILED;
	}
	rc = pod_state_load(&home, &state, &err);
	if (!rc) {
		rc = pod_kill(state.init, 10000, &err);
		pod_state_free(&state);
	}
	if (!rc)
		rc = pod_home_await_end(&home, &err);
	if (rc)
		cli_error("pod kill", "%s", err.text);
	pod_home_close(&home);
	return rc ? CLI_FAILED : CLI_OK;
}

int pod_cmd_list(const struct pod_opts *o)
{
	cleanup_free unsigned *list = xcalloc(STORE_KEPT_MAX, sizeof(*list));
	cleanup_free struct job_record *rec = NULL;
	const struct epoch_summary *e;
	char when[20], size[16], part[16], frozen[24], total[24];
	struct pod_home home;
	struct pod_state state;
	uint64_t shared;
	struct err err;
	int i, n;

	if (pod_home_open(&home, o->dir, false, &rec, &err)) {
		cli_error("pod list", "%s", err.text);
		return CLI_FAILED;
	}
	if (!pod_state_load(&home, &state, NULL)) {
		printf("state: running, first process %d, user %s\n", state.init, rec->user);
		pod_state_free(&state);
	} else {
		printf("state: %s, user %s\n", rec->intent == INTENT_RUNNING ? "killed" : intent_name(rec->intent),
		       rec->user);
	}
	n = store_list_epochs(&home.store, list, STORE_KEPT_MAX);
	if (n > 0)
		printf("%6s  %-19s  %10s  %10s  %10s  %10s\n", "EPOCH", "TIME", "SIZE", "SHARED", "FROZEN", "TOTAL");
	for (i = 0; i < n; i++) {
		e = record_find_epoch(rec, list[i]);
		shared = store_epoch_shared(&home.store, list[i]);
		printf("%6u  %-19s  %10s  %10s  %10s  %10s\n", list[i],
		       e ? format_time(e->time, when, sizeof(when)) : "-",
		       e ? format_size(e->bytes, size, sizeof(size)) : "-",
		       shared ? format_size(shared, part, sizeof(part)) : "-",
		       e && e->frozen_us ? format_duration(e->frozen_us, frozen, sizeof(frozen)) : "-", /* 0: a vacate
													   of an older
													   fsched */
		       e ? format_duration(e->total_us, total, sizeof(total)) : "-");
	}
	pod_home_close(&home);
	return CLI_OK;
}
