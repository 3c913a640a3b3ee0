/* A message for a person who interrupts a waiting command: the operation that the command waits for continues. */
#ifndef FSCHED_CLI_USER_INTERRUPT_H
#define FSCHED_CLI_USER_INTERRUPT_H

/* From now on SIGINT, SIGTERM and SIGHUP print this text on a line of its own before they end the program. */
void interrupt_says(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* From now on the signals end the program without a message. */
void interrupt_silent(void);

#endif
