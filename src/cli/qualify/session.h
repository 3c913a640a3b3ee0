/* One qualification while it goes on: what its parts share. */
#ifndef FSCHED_CLI_QUALIFY_SESSION_H
#define FSCHED_CLI_QUALIFY_SESSION_H

#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include "base/conf.h"
#include "cli/progress.h"
#include "cli/qualify/command.h"
#include "cli/qualify/moments.h"
#include "cli/qualify/qualify_data.h"

#define SESSION_SHORT_S 60 /* for commands that only ask slurmctld something */

struct session {
	const struct qualify_options *o;
	const struct conf *conf;
	struct qualify_result *r;
	char *dir;    /* of the runs, absolute, owned */
	int dirfd;    /* owned */
	char *script; /* path of the copy that is submitted, owned */
	struct moments_random random;
	int64_t began, until; /* now_us() */
	uint32_t job;         /* that was submitted and may not have ended; 0 = none */
	char node_down[256];  /* that was set DOWN and is to be resumed; "" = none */
	struct progress progress;
};

/* From then on SIGINT, SIGTERM and SIGHUP are noted; a second one ends the program at once. */
void session_catch_signals(void);
/* The signal that was noted, 0 = none. */
int session_signal(void);
/* Ends the program by the signal that was noted. Returns if there was none. */
void session_die_by_signal(void);

/* An interrupt has come, or the time of --limit is over. */
bool session_stops(const struct session *s);
/* The same in words, for the reason why something is unfinished. */
const char *session_stop_reason(const struct session *s);
/* Writes why something is unfinished into why, which has room for len bytes, and returns what stopped it: t with this
 * reason, or QUALIFY_STOPPED with that of the stop. */
enum qualify_trouble session_trouble(const struct session *s, enum qualify_trouble t, char *why, size_t len,
				     const char *fmt, va_list ap) __attribute__((format(printf, 5, 0)));

/* Prints a line "[ 1:05] text" on standard error, unless --quiet is given. */
void session_say(struct session *s, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Shows on the terminal what goes on. */
void session_doing(struct session *s, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Sleeps. False: the session stops. */
bool session_pause(struct session *s, int64_t us);

/* Runs a program for at most limit_s seconds; an interrupt ends it. Messages as in command.h. */
int session_run(struct session *s, char *const *argv, int64_t limit_s, struct command_result *r, struct err *err);
/* The same of a short one that must not be cut off, such as sbatch: an interrupt waits for its end. */
int session_run_whole(char *const *argv, struct command_result *r, struct err *err);
/* Runs a short one. 0; -1 with err if it fails: the text is doing, what it said. prefix: see command_said(). */
int session_do(char *const *argv, const char *doing, const char *prefix, struct err *err);

#endif
