#include "agent/prove_epochs.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "agent/worker_event.h"
#include "agent/worker_request.h"
#include "base/clock.h"
#include "base/json.h"
#include "base/log.h"
#include "base/util.h"

static bool prove_epochs_wanted(const struct prove_epochs *p, unsigned epoch)
{
	const unsigned every = p->job->conf.prove;

	if (!every || proc_running(&p->worker))
		return false;
	return every == CONF_PROVE_FIRST ? p->made == 1 : epoch % every == 0;
}

static void prove_epochs_on_line(void *arg, char *line)
{
	struct prove_epochs *p = arg;
	struct worker_event e;

	worker_event_parse(line, &e);
	if (e.kind == WORKER_EVENT_RESULT) {
		json_decref(p->result);
		p->result = json_incref(e.o);
	}
	worker_event_free(&e);
}

static void prove_epochs_succeeded(const struct prove_epochs *p)
{
	char took[24];

	job_log(p->job, "epoch %u proved by restore: %lld processes in %s", p->epoch,
		(long long)json_integer_value(json_object_get(p->result, "processes")),
		format_duration(json_integer_value(json_object_get(p->result, "total_us")), took, sizeof(took)));
}

/* The job is not told: its owner sees it in its entry and in the log. */
static void prove_epochs_failed(const struct prove_epochs *p)
{
	const char *error = json_string_value(json_object_get(p->result, "error"));
	char text[250];

	if (!p->result || json_is_true(json_object_get(p->result, "refused"))) {
		job_log(p->job, "epoch %u was not proved: %s", p->epoch, error ? error : "the worker gave no reason");
		return;
	}
	snprintf(text, sizeof(text), "epoch %u was restored on trial, and that failed: %.180s", p->epoch,
		 error ? error : "the worker gave no reason");
	job_log(p->job, "%s", text);
	publish_error(p->publish, text);
}

static void prove_epochs_on_end(void *arg, int status)
{
	struct prove_epochs *p = arg;

	(void)status;
	if (p->given_up)
		job_log(p->job, "epoch %u was not proved: the job is to leave its node", p->epoch);
	else if (json_is_true(json_object_get(p->result, "ok")))
		prove_epochs_succeeded(p);
	else
		prove_epochs_failed(p);
	json_decref(p->result);
	p->result = NULL;
}

static int prove_epochs_start(struct prove_epochs *p, struct err *err)
{
	const struct job *j = p->job;
	cleanup_free char *path = xasprintf("%s/fsched-worker", j->libexec), *request = NULL;
	cleanup_free char *pod_dir = NULL;
	char operation[] = "prove";
	char *argv[] = { path, operation, NULL };
	struct proc_spec s = {
		.argv = argv, .keep_fd = -1, .on_line = prove_epochs_on_line, .on_end = prove_epochs_on_end, .arg = p
	};
	json_t *o = worker_request(j);

	pod_dir = xasprintf("%s/prove-%u-%u-%d", j->conf.pod_dir, j->task.job_id, p->epoch, (int)getpid());
	json_set_name(o, "pod_dir", pod_dir);
	json_set_name(o, "node", j->task.node);
	json_object_set_new(o, "epoch", json_integer(p->epoch));
	json_object_set_new(o, "seconds", json_integer(0));
	json_object_set_new(o, "low", json_true());
	request = worker_request_text(o);
	s.request = request;
	return proc_start(j->loop, &p->worker, &s, err);
}

void prove_epochs_made(struct prove_epochs *p, unsigned epoch)
{
	struct err err;

	p->made++;
	if (!prove_epochs_wanted(p, epoch))
		return;
	p->epoch = epoch;
	p->given_up = false;
	if (prove_epochs_start(p, &err) < 0)
		log_warn("epoch %u is not proved: %s", epoch, err.text);
}

void prove_epochs_stop(struct prove_epochs *p)
{
	if (!proc_running(&p->worker))
		return;
	p->given_up = true;
	/* The worker ends the proof and removes what it has made. */
	proc_close_stdin(&p->worker);
}
