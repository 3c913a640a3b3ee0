#include "cli/qualify/session.h"

#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/text.h"
#include "base/util.h"
#include "cli/end_signals.h"

#define SESSION_TICK_US 100000

static volatile sig_atomic_t session_caught;

static void session_on_signal(int sig)
{
	static const char text[] =
		"\nfsched qualify: jobs are being cancelled; again: end at once, jobs stay (squeue --me)\n";

	if (write(STDERR_FILENO, text, sizeof(text) - 1) < 0)
		session_caught = sig;
	session_caught = sig;
	/* SA_RESETHAND has restored the default action for the next one */
}

void session_catch_signals(void)
{
	signal(SIGCHLD, SIG_DFL); /* an inherited SIG_IGN would hide how programs end */
	end_signals_handle(session_on_signal, (int)SA_RESETHAND);
}

int session_signal(void)
{
	return session_caught;
}

void session_die_by_signal(void)
{
	const int sig = session_caught;

	if (!sig)
		return;
	fflush(NULL);
	signal(sig, SIG_DFL);
	raise(sig);
}

bool session_stops(const struct session *s)
{
	return session_caught || now_us() > s->until;
}

const char *session_stop_reason(const struct session *s)
{
	return session_caught ? "it was interrupted" : "the time of --limit is over";
}

enum qualify_trouble session_trouble(const struct session *s, enum qualify_trouble t, char *why, size_t len,
				     const char *fmt, va_list ap)
{
	cleanup_free char *text = xcalloc(1, len);

	vsnprintf(text, len, fmt, ap);
	printable(session_stops(s) ? session_stop_reason(s) : text, why, len);
	return session_stops(s) ? QUALIFY_STOPPED : t;
}

void session_say(struct session *s, const char *fmt, ...)
{
	const int64_t t = (now_us() - s->began) / 1000000;
	char text[900], shown[900];
	va_list ap;

	progress_end(&s->progress);
	if (s->o->quiet)
		return;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	fprintf(stderr, "[%3lld:%02lld] %s\n", (long long)t / 60, (long long)t % 60,
		printable(text, shown, sizeof(shown)));
}

void session_doing(struct session *s, const char *fmt, ...)
{
	char text[240];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	progress_doing(&s->progress, text);
}

bool session_pause(struct session *s, int64_t us)
{
	const int64_t until = now_us() + us;

	for (int64_t left; (left = until - now_us()) > 0 && !session_stops(s);) {
		const int64_t step = left < SESSION_TICK_US ? left : SESSION_TICK_US;

		nanosleep(&(struct timespec){ .tv_nsec = step * 1000 }, NULL);
		progress_tick(&s->progress);
	}
	return !session_stops(s);
}

static bool session_stop_command(void *arg)
{
	struct session *s = arg;

	progress_tick(&s->progress);
	return session_stops(s);
}

int session_run(struct session *s, char *const *argv, int64_t limit_s, struct command_result *r, struct err *err)
{
	const struct command c = {
		.argv = argv, .until = now_us() + limit_s * 1000000, .stop = session_stop_command, .arg = s
	};

	return command_run(&c, r, err);
}

int session_run_whole(char *const *argv, struct command_result *r, struct err *err)
{
	const struct command c = { .argv = argv, .until = now_us() + SESSION_SHORT_S * INT64_C(1000000) };

	return command_run(&c, r, err);
}

int session_do(char *const *argv, const char *doing, const char *prefix, struct err *err)
{
	struct command_result r;
	char said[400];
	int rc = session_run_whole(argv, &r, err);

	if (rc == 0 && r.status != 0)
		rc = err_set(err, 0, "%s: %s", doing, command_said(&r, prefix, said, sizeof(said)));
	command_free(&r);
	return rc;
}
