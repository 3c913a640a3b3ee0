/* The signals by which a person, a terminal or a batch system ends a command: SIGINT, SIGTERM and SIGHUP. */
#ifndef FSCHED_CLI_END_SIGNALS_H
#define FSCHED_CLI_END_SIGNALS_H

#include <signal.h>

/* Sets the handler of those that are not ignored: nohup and shells start programs with ignored signals, which stay
 * ignored. flags: as in struct sigaction. */
void end_signals_handle(void (*handler)(int), int flags);
void end_signals_set(sigset_t *set);

#endif
