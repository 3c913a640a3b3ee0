/* What the worker tells, and the deadline: the one event that can come at any moment. */
#include "worker/worker.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <time.h>

#include "common/util.h"
#include "store/json.h"

/* Written by the signal handler, so it is prepared before. */
static char deadline_line[256];

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
	/* Whoever does not listen any more has nothing to say about the job either. */
	if (write_all(STDOUT_FILENO, line, strlen(line)))
		errno = 0;
}

void event_phase(const char *name)
{
	event_send("phase", json_pack("{s:s}", "name", name));
}

void event_failed(const char *error, bool refused, bool node, bool asker)
{
	json_t *o = json_object();

	json_object_set_new(o, "ok", json_false());
	json_object_set_new(o, "error", json_text(error));
	json_object_set_new(o, "refused", json_boolean(refused));
	json_object_set_new(o, "node", json_boolean(node));
	json_object_set_new(o, "asker", json_boolean(asker));
	event_send("result", o);
}

static void on_deadline(int sig, siginfo_t *si, void *context)
{
	/* Slurm may send any signal to all processes of a job; only the timer's own counts. */
	if (si->si_code != SI_TIMER)
		return;
	if (write(STDOUT_FILENO, deadline_line, strlen(deadline_line)) < 0)
		_exit(4);
	_exit(3);
}

int deadline_set(unsigned seconds, struct err *err)
{
	static timer_t timer;
	static bool made;
	struct sigaction sa = { .sa_sigaction = on_deadline, .sa_flags = SA_SIGINFO | SA_RESTART };
	struct sigevent ev = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGALRM };
	struct itimerspec when = { .it_value.tv_sec = (time_t)seconds };

	snprintf(deadline_line, sizeof(deadline_line), "{\"event\":\"result\",\"ok\":false,\"refused\":false,"
		 "\"error\":\"it took longer than CheckpointTimeout (%u s) and was given up\"}\n", seconds);
	if (!made && (sigaction(SIGALRM, &sa, NULL) || timer_create(CLOCK_MONOTONIC, &ev, &timer)))
		return err_sys(err, errno, "cannot make a timer");
	made = true;
	if (timer_settime(timer, 0, &when, NULL))
		return err_sys(err, errno, "cannot set a timer");
	return 0;
}
