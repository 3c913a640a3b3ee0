#include "agent/conn.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/types.h>
#include <unistd.h>
#include <jansson.h>

#include "agent/protocol.h"
#include "agent/request_parse.h"
#include "base/clock.h"
#include "base/credential.h"
#include "base/util.h"
#include "base/json.h"

#define SEND_TIMEOUT 10 /* s that a client may take to read a line */

struct conn {
	const struct conn_setup *s;
	bool known; /* the credential was good: there is someone to answer */
	uid_t uid;
	struct parsed_request req;
};

/* json: an object with members. The nonce of the request is added to it. Only the client's uid can open the answer. */
static int send_payload(struct conn *c, const char *json)
{
	cleanup_free char *payload = xasprintf("{\"nonce\":\"%s\",%s", c->req.nonce, json + 1);
	cleanup_free char *cred = credential_make(c->s->munge_socket, payload, c->uid, NULL);
	cleanup_free char *line = cred ? xasprintf("%s\n", cred) : NULL;
	size_t len = line ? strlen(line) : 0;

	if (!line)
		return -1;
	for (size_t done = 0; done < len;) {
		ssize_t n = send(c->s->client, line + done, len - done, MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return -1;
		done += (size_t)n;
	}
	return 0;
}

/* Tells the client, if it is known, and the agent's log; ends the child. */
static _Noreturn void refuse(struct conn *c, const char *error)
{
	char text[1024];

	if (c->known) {
		json_t *o = json_pack("{s:s, s:b, s:o, s:o, s:s}", "event", "result", "ok", 0, "op",
				      json_text(c->req.op), "error", json_text(error), "state", "nothing was done");
		cleanup_free char *json = o ? json_dumps(o, JSON_COMPACT) : NULL;

		json_decref(o);
		if (json)
			send_payload(c, json);
	}
	snprintf(text, sizeof(text), "refused %s", error);
	send(c->s->agent, text, strlen(text), MSG_NOSIGNAL);
	_exit(1);
}

/* Reads one line, in pieces, within the time limit. NULL if it did not come; the caller frees it. */
static char *read_hello(int fd)
{
	int64_t deadline = now_us() + PROTO_HELLO_TIMEOUT * INT64_C(1000000);
	char *buf = xmalloc(PROTO_LINE_MAX + 1);
	size_t len = 0;

	while (len < PROTO_LINE_MAX) {
		struct pollfd p = { .fd = fd, .events = POLLIN };
		int64_t left = (deadline - now_us()) / 1000;
		ssize_t n;

		if (left <= 0 || (poll(&p, 1, (int)left) < 0 && errno != EINTR))
			break;
		n = recv(fd, buf + len, PROTO_LINE_MAX - len, MSG_DONTWAIT);
		if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
			break;
		if (n < 0)
			continue;
		char *nl = memchr(buf + len, '\n', (size_t)n);
		len += (size_t)n;
		if (nl) {
			*nl = '\0';
			return buf;
		}
	}
	free(buf);
	return NULL;
}

static void authenticate(struct conn *c)
{
	cleanup_free char *line = read_hello(c->s->client);
	const struct request_rules rules = { c->s->job_id, c->s->uuid, c->s->owner, c->s->slurm_user };
	cleanup_free char *payload = NULL;
	struct err err;

	if (!line)
		refuse(c, "no request came in time");
	payload = credential_open(c->s->munge_socket, line, &c->uid, &err);
	if (!payload)
		refuse(c, err.text);
	c->known = true;
	if (request_parse(payload, strlen(payload), c->uid, &rules, &c->req, &err) < 0)
		refuse(c, err.text);
}

/* Passes the agent's messages on, with heartbeats in between, until the agent closes or the client is gone. */
static void relay(struct conn *c)
{
	cleanup_free char *msg = xmalloc(PROTO_LINE_MAX + 1);
	struct pollfd p[2] = { { .fd = c->s->agent, .events = POLLIN },
			       { .fd = c->s->client, .events = POLLIN | POLLRDHUP } };

	for (;;) {
		int rc = poll(p, 2, PROTO_HEARTBEAT * 1000 / 2);
		ssize_t n;

		if (rc < 0 && errno != EINTR)
			return;
		if (rc == 0 && send_payload(c, "{\"event\":\"phase\",\"name\":\"alive\"}") < 0)
			return;
		if (rc <= 0)
			continue;
		if (p[0].revents) {
			n = recv(c->s->agent, msg, PROTO_LINE_MAX, 0);
			if (n <= 0)
				return;
			msg[n] = '\0';
			if (send_payload(c, msg) < 0)
				return;
		} else if (p[1].revents) {
			return; /* one request per connection: further bytes count as a hang-up */
		}
	}
}

void conn_main(const struct conn_setup *s)
{
	struct conn c = { .s = s, .req.op = "?" };
	struct timeval tv = { .tv_sec = SEND_TIMEOUT };
	char text[64];

	setsockopt(s->client, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof(tv));
	authenticate(&c);
	int n = snprintf(text, sizeof(text), "%s %u", c.req.op, (unsigned)c.uid);
	if (send(s->agent, text, (size_t)n, MSG_NOSIGNAL) == n)
		relay(&c);
	_exit(0);
}
