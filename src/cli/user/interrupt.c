#include "cli/user/interrupt.h"

#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cli/end_signals.h"

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

void interrupt_says(const char *fmt, ...)
{
	sigset_t set, before;
	va_list ap;
	int n;

	end_signals_set(&set);
	sigprocmask(SIG_BLOCK, &set, &before);
	va_start(ap, fmt);
	n = vsnprintf(said + 1, sizeof(said) - 2, fmt, ap);
	va_end(ap);
	said[0] = '\n';
	length = 1 + (n < 0 ? 0 : strlen(said + 1));
	said[length++] = '\n';
	end_signals_handle(interrupt_handler, (int)SA_RESETHAND);
	sigprocmask(SIG_SETMASK, &before, NULL);
}

void interrupt_silent(void)
{
	end_signals_handle(SIG_DFL, 0);
}
