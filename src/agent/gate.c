#include "agent/gate.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"

static void gate_close(struct gate *g)
{
	int fd = g->sock.fd;

	loop_remove(g->loop, &g->sock);
	close(fd);
}

static void gate_on_message(void *arg)
{
	struct gate *g = arg;
	char text[9000];
	ssize_t n = recv(g->sock.fd, text, sizeof(text) - 1, MSG_DONTWAIT);

	if (n > 0) {
		text[n] = '\0';
		if (strcmp(text, "ready") == 0)
			g->ready(g->arg);
		else if (strncmp(text, "kept ", 5) == 0 || strncmp(text, "lost ", 5) == 0)
			g->kept(g->arg, text[0] == 'k', text + 5);
	} else if (n == 0) {
		/* slurmstepd's part failed; fsched-init reports how the process ended */
		gate_close(g);
	}
}

int gate_watch(struct gate *g, int fd)
{
	return loop_add(g->loop, &g->sock, fd, gate_on_message, g);
}

int gate_send(struct gate *g, const char *text)
{
	return send(g->sock.fd, text, strlen(text), MSG_NOSIGNAL) < 0 ? -1 : 0;
}

void gate_answer(struct gate *g, const char *answer)
{
	if (!gate_open(g))
		return;
	if (gate_send(g, answer) < 0)
		log_warn("the script's process does not wait any more: %s", strerror(errno));
	gate_close(g);
}
