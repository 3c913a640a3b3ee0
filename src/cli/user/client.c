#include "cli/user/client.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "agent/protocol.h"
#include "base/credential.h"
#include "base/text.h"
#include "base/clock.h"
#include "base/util.h"

#define CONNECT_TIMEOUT_US 10000000
#define TICK_MS            100

struct talk {
	const struct client_target *t;
	struct progress *p;
	int fd;
	char nonce[PROTO_NONCE + 1];
	char line[PROTO_LINE_MAX];
	size_t len;       /* bytes in line */
	int64_t deadline; /* now_us(), 0 = none */
};

static int client_connect_to(const struct addrinfo *a, struct progress *p)
{
	cleanup_close int fd = socket(a->ai_family, a->ai_socktype | SOCK_CLOEXEC | SOCK_NONBLOCK, a->ai_protocol);
	int64_t until = now_us() + CONNECT_TIMEOUT_US;
	int num = 0, one = 1;
	socklen_t len = sizeof(num);

	if (fd < 0)
		return -1;
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	if (connect(fd, a->ai_addr, a->ai_addrlen) == 0)
		return steal_fd(&fd);
	if (errno != EINPROGRESS)
		return -1;
	for (;;) {
		struct pollfd pfd = { .fd = fd, .events = POLLOUT };

		if (poll(&pfd, 1, TICK_MS) > 0)
			break;
		progress_tick(p);
		if (now_us() > until) {
			errno = ETIMEDOUT;
			return -1;
		}
	}
	if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &num, &len) < 0 || num) {
		errno = num ? num : EIO;
		return -1;
	}
	return steal_fd(&fd);
}

/* Does not use AI_ADDRCONFIG, with which getaddrinfo() finds nothing on a host that has only a loopback interface. */
static enum client_outcome client_connect(struct talk *k, struct err *err)
{
	struct addrinfo hints = { .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM };
	struct addrinfo *list = NULL;
	int rc = getaddrinfo(k->t->host, k->t->port, &hints, &list);
	int num = EADDRNOTAVAIL;

	if (rc) {
		err_set(err, 0, "the address of node %s (%s) cannot be found: %s", k->t->node, k->t->host,
			gai_strerror(rc));
		return CLIENT_NOT_SENT;
	}
	for (struct addrinfo *a = list; a && k->fd < 0; a = a->ai_next) {
		k->fd = client_connect_to(a, k->p);
		if (k->fd < 0)
			num = errno;
	}
	freeaddrinfo(list);
	if (k->fd >= 0)
		return CLIENT_DONE;
	err_sys(err, num, "the agent on node %s, port %s, cannot be reached", k->t->node, k->t->port);
	return num == ECONNREFUSED ? CLIENT_NO_AGENT : CLIENT_NOT_SENT;
}

static int make_nonce(char nonce[PROTO_NONCE + 1])
{
	uint64_t r;

	if (getrandom(&r, sizeof(r), 0) != sizeof(r))
		return -1;
	snprintf(nonce, PROTO_NONCE + 1, "%016llx", (unsigned long long)r);
	return 0;
}

static int client_send_request(struct talk *k, const char *op, struct err *err)
{
	cleanup_free char *payload = NULL, *cred = NULL, *line = NULL;
	json_t *req;
	size_t sent = 0, len;

	if (make_nonce(k->nonce) < 0)
		return err_sys(err, errno, "no random numbers");
	req = json_pack("{s:i, s:s, s:I, s:s, s:s, s:I}", "v", PROTO_VERSION, "op", op, "job_id",
			(json_int_t)k->t->job_id, "uuid", k->t->uuid, "nonce", k->nonce, "time", (json_int_t)time(NULL));
	payload = req ? json_dumps(req, JSON_COMPACT) : NULL;
	json_decref(req);
	if (!payload)
		return err_set(err, 0, "the request cannot be written as JSON");
	cred = credential_make(k->t->munge_socket, payload, 0, err);
	if (!cred)
		return -1;
	line = xasprintf("%s\n", cred);
	len = strlen(line);
	while (sent < len) {
		struct pollfd pfd = { .fd = k->fd, .events = POLLOUT };
		ssize_t n = send(k->fd, line + sent, len - sent, MSG_NOSIGNAL);

		if (n > 0)
			sent += (size_t)n;
		else if (errno != EAGAIN && errno != EINTR)
			return err_sys(err, errno, "the request cannot be sent");
		else if (poll(&pfd, 1, PROTO_HELLO_TIMEOUT * 1000) == 0)
			return err_set(err, ETIMEDOUT, "the agent does not take the request");
	}
	return 0;
}

/* Receives the next line into k->line. 1: *line; 0: end of the connection; -1: timeout; -2 with err: another error. */
static int client_next_line(struct talk *k, char **line, struct err *err)
{
	int64_t silent = now_us() + PROTO_CLIENT_TIMEOUT * INT64_C(1000000);

	for (;;) {
		struct pollfd pfd = { .fd = k->fd, .events = POLLIN };
		char *nl = memchr(k->line, '\n', k->len);
		int64_t now = now_us();
		ssize_t n;

		if (nl) {
			*nl = '\0';
			*line = k->line;
			return 1;
		}
		if (k->len >= sizeof(k->line)) {
			err_set(err, 0, "the answer has a line longer than %d bytes", PROTO_LINE_MAX);
			return -2;
		}
		if (now > silent || (k->deadline && now > k->deadline))
			return -1;
		if (poll(&pfd, 1, TICK_MS) <= 0) {
			progress_tick(k->p);
			continue;
		}
		n = recv(k->fd, k->line + k->len, sizeof(k->line) - k->len, 0);
		if (n == 0)
			return 0;
		if (n < 0 && errno != EAGAIN && errno != EINTR) {
			err_sys(err, errno, "the connection to the agent broke");
			return -2;
		}
		if (n > 0)
			k->len += (size_t)n;
	}
}

static void client_drop_line(struct talk *k)
{
	size_t used = strlen(k->line) + 1;

	memmove(k->line, k->line + used, k->len - used);
	k->len -= used;
}

/* Any user of that host may listen on a port, so only credentials made by root count. Any user between may have
 * recorded one, so only those with the nonce of this request count. */
static json_t *client_open_line(struct talk *k, const char *line, struct err *err)
{
	cleanup_free char *payload = NULL;
	const char *nonce;
	json_t *j;
	uid_t maker;

	payload = credential_open(k->t->munge_socket, line, &maker, err);
	if (!payload)
		return NULL;
	if (maker != 0) {
		err_set(err, 0,
			"the answer from node %s, port %s, was made by uid %u and not by root: it is not the agent's",
			k->t->node, k->t->port, (unsigned)maker);
		return NULL;
	}
	j = json_loads(payload, 0, NULL);
	if (!json_is_object(j)) {
		json_decref(j);
		err_set(err, 0, "the agent's answer is no JSON object");
		return NULL;
	}
	nonce = json_string_value(json_object_get(j, "nonce"));
	if (!nonce || strcmp(nonce, k->nonce) != 0) {
		json_decref(j);
		err_set(err, 0,
			"the answer from node %s, port %s, is not to this request: it is an earlier one that was sent again, "
			"or the agent there is of another version of fsched",
			k->t->node, k->t->port);
		return NULL;
	}
	return j;
}

static void show_phase(struct talk *k, const json_t *j)
{
	const char *name = json_string_value(json_object_get(j, "name"));
	const char *text = name ? progress_phase(name) : NULL;

	if (text)
		progress_doing(k->p, text);
}

static enum client_outcome client_finish(json_t *j, json_t **result, struct err *err)
{
	const char *text;
	char shown[sizeof(err->text)];

	*result = j;
	if (json_is_true(json_object_get(j, "ok")))
		return CLIENT_DONE;
	text = json_string_value(json_object_get(j, "error"));
	err_set(err, 0, "%s",
		printable(text && *text ? text : "the agent refused without a reason", shown, sizeof(shown)));
	return CLIENT_REFUSED;
}

/* An agent that cannot authenticate a request closes the connection without an answer. */
static void client_explain_end(bool heard, struct err *err)
{
	if (heard)
		err_set(err, 0, "the agent closed the connection without an answer");
	else
		err_set(err, 0,
			"the agent closed the connection without a word: it has ended, or did not accept the MUNGE credential "
			"(different MUNGE keys or clocks?)");
}

static enum client_outcome client_read_answer(struct talk *k, json_t **result, struct err *err)
{
	for (bool heard = false;; heard = true) {
		const char *event;
		char *line = NULL;
		json_t *j;
		int rc = client_next_line(k, &line, err);

		if (rc == -1) {
			err_set(err, ETIMEDOUT, "no answer from the agent in time");
			return CLIENT_SILENT;
		}
		if (rc == 0)
			client_explain_end(heard, err);
		if (rc != 1)
			return CLIENT_LOST;
		j = client_open_line(k, line, err);
		if (!j)
			return CLIENT_LOST;
		client_drop_line(k);
		event = json_string_value(json_object_get(j, "event"));
		if (event && strcmp(event, "result") == 0)
			return client_finish(j, result, err);
		show_phase(k, j);
		json_decref(j);
	}
}

enum client_outcome client_request(const struct client_target *t, const char *op, int timeout_s, struct progress *p,
				   json_t **result, struct err *err)
{
	struct talk *k = xcalloc(1, sizeof(*k));
	enum client_outcome o;

	*result = NULL;
	k->t = t;
	k->p = p;
	k->fd = -1;
	if (timeout_s > 0)
		k->deadline = now_us() + timeout_s * INT64_C(1000000);
	o = client_connect(k, err);
	if (o == CLIENT_DONE && client_send_request(k, op, err) < 0)
		o = CLIENT_NOT_SENT;
	if (o == CLIENT_DONE) {
		t->on_sent(t->arg);
		o = client_read_answer(k, result, err);
	}
	if (k->fd >= 0)
		close(k->fd);
	free(k);
	return o;
}
