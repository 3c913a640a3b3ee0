/* Messages between the worker and the driver of a dump (criu_dump.c), one per packet of a SOCK_SEQPACKET socket. */
#ifndef FSCHED_CRIU_DUMP_RELAY_H
#define FSCHED_CRIU_DUMP_RELAY_H

#define RELAY_MAX            4096 /* bytes of a message */

/* From the driver. text is the name of the notification, or the error, or "". */
#define RELAY_NOTIFY         'N' /* a notification of criu, answered by RELAY_CONTINUE or RELAY_FAIL */
#define RELAY_SUCCESS        'S'
#define RELAY_CRIU_FAILED    'E' /* text: criu's own error */
#define RELAY_DRIVER_FAILED  'D'
#define RELAY_TRY_AGAIN      'A' /* the driver has failed; the next dump may succeed */
#define RELAY_FREEZE_TIMEOUT 'T' /* the freeze took too long, and criu was killed */
/* To the driver. */
#define RELAY_CONTINUE       'Y' /* also the first message: begin */
#define RELAY_FAIL           'F'
#define RELAY_EXTEND         'W' /* text: the seconds that the freeze may still take; an answer follows */

struct relay {
	char kind;
	char text[RELAY_MAX - 1];
};

/* Sends a message; text NULL is "". Errors are ignored: the end of the other side shows in relay_recv(). */
void relay_send(int fd, char kind, const char *text);
/* RELAY_DRIVER_FAILED with "what: " and errno. */
void relay_errno(int fd, const char *what);
/* Waits for a message. Returns 0, or -1 if the other side has ended. */
int relay_recv(int fd, struct relay *m);

#endif
