#include "cli/user/interrupt.h"

#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const int signals[] = { SIGINT, SIGTERM, SIGHUP };
#define N_SIGNALS (sizeof(signals) / sizeof(signals[0]))

/* The handler reads these: they are changed only while the signals are blocked. */
static char said[512];
static size_t length;

static void interrupt_handler(int sig)
{
	if (write(STDERR_FILENO, said, length) < 0)
		length = 0;
	/* SA_RESETHAND has restored the default action: the raised signal ends the program when the handler returns, so
	 * that the exit status shows the signal */
	raise(sig);
}

static void handle(void (*handler)(int))
{
	struct sigaction old, sa = { .sa_handler = handler, .sa_flags = (int)SA_RESETHAND };

	for (size_t i = 0; i < N_SIGNALS; i++)
		/* nohup and shells start programs with ignored signals, which stay ignored */
		if (sigaction(signals[i], NULL, &old) == 0 && old.sa_handler != SIG_IGN)
			sigaction(signals[i], &sa, NULL);
}

void interrupt_says(const char *fmt, ...)
{
	sigset_t set, before;
	va_list ap;
	int n;

	sigemptyset(&set);
	for (size_t i = 0; i < N_SIGNALS; i++)
		sigaddset(&set, signals[i]);
	sigprocmask(SIG_BLOCK, &set, &before);
	va_start(ap, fmt);
	n = vsnprintf(said + 1, sizeof(said) - 2, fmt, ap);
	va_end(ap);
	said[0] = '\n';
	length = 1 + (n < 0 ? 0 : strlen(said + 1));
	said[length++] = '\n';
	handle(interrupt_handler);
	sigprocmask(SIG_SETMASK, &before, NULL);
}

void interrupt_silent(void)
{
	handle(SIG_DFL);
}
