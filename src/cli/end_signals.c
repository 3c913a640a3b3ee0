#include "cli/end_signals.h"

#include "base/util.h"

static const int end_signals[] = { SIGINT, SIGTERM, SIGHUP };

void end_signals_handle(void (*handler)(int), int flags)
{
	const struct sigaction sa = { .sa_handler = handler, .sa_flags = flags };
	struct sigaction old;

	for (size_t i = 0; i < ARRAY_SIZE(end_signals); i++)
		if (sigaction(end_signals[i], NULL, &old) == 0 && old.sa_handler != SIG_IGN)
			sigaction(end_signals[i], &sa, NULL);
}

void end_signals_set(sigset_t *set)
{
	sigemptyset(set);
	for (size_t i = 0; i < ARRAY_SIZE(end_signals); i++)
		sigaddset(set, end_signals[i]);
}
