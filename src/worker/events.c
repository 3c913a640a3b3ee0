/* Events for the agent, and the deadlines, whose signal handler sends an event at any moment. */
#include "worker/worker.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <time.h>

#include "base/io.h"
#include "base/util.h"
#include "base/json.h"

/* The signal handler writes a line that was formatted before: it may call nothing but write(). */
enum { WHOLE, FREEZE };
static struct deadline {
	timer_t timer;
	bool made;
	char line[512];
} deadlines[2];

static struct {
	unsigned seconds, configured;
	char phase[32];
} freeze = { .phase = "start" };

void event_send(const char *event, json_t *o)
{
	cleanup_free char *text = NULL;
	cleanup_free char *line = NULL;

	json_object_set_new(o, "event", json_string(event));
	text = json_dumps(o, JSON_COMPACT | JSON_ENSURE_ASCII);
	json_decref(o);
	if (!text)
		return;
	line = xasprintf("%s\n", text);
	/* The reader has gone. That is no reason to stop, so the error is ignored. */
	if (write_all(STDOUT_FILENO, line, strlen(line)))
		errno = 0;
}

static void format_freeze_line(void)
{
	struct deadline *d = &deadlines[FREEZE];

	/* The phase names the step of the worker; what hangs may be criu. */
	snprintf(d->line, sizeof(d->line),
		 "{\"event\":\"result\",\"ok\":false,\"refused\":false,\"error\":\"the job stood still for more than %u s "
		 "(CheckpointFreezeTimeout is %u s) in phase \\\"%s\\\" and was let go\"}\n",
		 freeze.seconds, freeze.configured, freeze.phase);
}

void event_phase(const char *name)
{
	snprintf(freeze.phase, sizeof(freeze.phase), "%s", name);
	format_freeze_line();
	event_send("phase", json_pack("{s:s}", "name", name));
}

void event_failed(const struct worker *w, const char *error, bool refused, bool asker)
{
	json_t *o = json_object();

	json_object_set_new(o, "ok", json_false());
	json_object_set_new(o, "error", json_text(error));
	json_object_set_new(o, "refused", json_boolean(refused));
	json_object_set_new(o, "node", json_boolean(w->node_fault));
	json_object_set_new(o, "asker", json_boolean(asker));
	if (w->over_quota) {
		json_object_set_new(o, "over", json_integer((json_int_t)w->over_quota));
		json_object_set(o, "warnings", w->warnings); /* what was removed all the same */
	}
	event_send("result", o);
}

static void deadline_expired(int sig, siginfo_t *si, void *context)
{
	const struct deadline *d = si->si_value.sival_ptr;

	/* Slurm may send any signal to all processes of a job: only a SIGALRM of a timer is a deadline. */
	if (si->si_code != SI_TIMER)
		return;
	if (write(STDOUT_FILENO, d->line, strlen(d->line)) < 0)
		_exit(4);
	_exit(3);
}

static int deadline_start(struct deadline *d, unsigned seconds, struct err *err)
{
	struct sigaction sa = { .sa_sigaction = deadline_expired, .sa_flags = SA_SIGINFO | SA_RESTART };
	struct sigevent ev = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGALRM, .sigev_value.sival_ptr = d };
	struct itimerspec when = { .it_value.tv_sec = (time_t)seconds };

	if (!d->made && (sigaction(SIGALRM, &sa, NULL) || timer_create(CLOCK_MONOTONIC, &ev, &d->timer)))
		return err_sys(err, errno, "cannot make a timer");
	d->made = true;
	if (timer_settime(d->timer, 0, &when, NULL))
		return err_sys(err, errno, "cannot set a timer");
	return 0;
}

int deadline_set(unsigned seconds, struct err *err)
{
	struct deadline *d = &deadlines[WHOLE];

	snprintf(d->line, sizeof(d->line),
		 "{\"event\":\"result\",\"ok\":false,\"refused\":false,"
		 "\"error\":\"it took longer than CheckpointTimeout (%u s) and was given up\"}\n",
		 seconds);
	return deadline_start(d, seconds, err);
}

int freeze_deadline(unsigned seconds, unsigned configured, struct err *err)
{
	freeze.seconds = seconds;
	freeze.configured = configured;
	format_freeze_line();
	return deadline_start(&deadlines[FREEZE], seconds, err);
}
