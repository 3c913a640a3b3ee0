#include "criu/dump_relay.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

void relay_send(int fd, char kind, const char *text)
{
	struct relay m = { .kind = kind };
	ssize_t n;

	snprintf(m.text, sizeof(m.text), "%s", text ? text : "");
	do
		n = send(fd, &m, offsetof(struct relay, text) + strlen(m.text) + 1, MSG_NOSIGNAL);
	while (n < 0 && errno == EINTR);
}

void relay_errno(int fd, const char *what)
{
	char text[256];

	snprintf(text, sizeof(text), "%s: %s", what, strerror(errno));
	relay_send(fd, RELAY_DRIVER_FAILED, text);
}

int relay_recv(int fd, struct relay *m)
{
	ssize_t n;

	do
		n = recv(fd, m, sizeof(*m) - 1, 0);
	while (n < 0 && errno == EINTR);
	if (n <= 0)
		return -1;
	((char *)m)[n] = '\0';
	return 0;
}
