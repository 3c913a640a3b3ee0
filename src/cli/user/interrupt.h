/* A person who interrupts a waiting command must not believe that he has stopped what it waits for. */
#ifndef FSCHED_CLI_USER_INTERRUPT_H
#define FSCHED_CLI_USER_INTERRUPT_H

/* From now on SIGINT, SIGTERM and SIGHUP write this text, on a line of its own, before they end the program. */
void interrupt_says(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* Back to ending it silently. */
void interrupt_silent(void);

#endif
