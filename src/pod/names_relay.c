#include "pod/names_relay.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/fanotify.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define RELAY_READ     65536
#define RELAY_KEPT_MAX (16u << 20)
#define RELAY_READS    16 /* at a time: pid 1 has other things to do */
#define RELAY_PAUSE_MS 10
#define RELAY_END_MS   50 /* one wait for the agent at the end */
#define RELAY_ENDS     10

static void names_relay_close(struct names_relay *r)
{
	if (r->group >= 0)
		close(r->group);
	if (r->agent >= 0)
		close(r->agent);
	free(r->kept);
	*r = (struct names_relay){ .group = -1, .agent = -1 };
}

void names_relay_begin(struct names_relay *r, int group, int agent)
{
	names_relay_close(r);
	r->group = group;
	r->agent = agent;
}

static int64_t names_relay_now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

int names_relay_wait_ms(const struct names_relay *r)
{
	const int64_t left = r->due - names_relay_now_ms();

	return r->group < 0 || left <= 0 ? -1 : (int)left;
}

void names_relay_poll(const struct names_relay *r, struct pollfd p[NAMES_RELAY_POLLS])
{
	const bool sends = r->to > r->from || r->asked;

	p[0] = (struct pollfd){ names_relay_wait_ms(r) > 0 ? -1 : r->group, POLLIN, 0 };
	p[1] = (struct pollfd){ r->agent, (short)(POLLIN | (sends ? POLLOUT : 0)), 0 };
}

/* Room for RELAY_READ bytes more. */
static bool names_relay_has_room(struct names_relay *r)
{
	char *more;
	size_t room;

	if (r->from && r->to + RELAY_READ > r->room) {
		memmove(r->kept, r->kept + r->from, r->to - r->from);
		r->to -= r->from;
		r->from = 0;
	}
	if (r->to + RELAY_READ <= r->room)
		return true;
	room = r->room ? r->room * 2 : 2 * RELAY_READ;
	more = room > RELAY_KEPT_MAX ? NULL : realloc(r->kept, room);
	if (!more)
		return false;
	r->kept = more;
	r->room = room;
	return true;
}

static void names_relay_add_mark(struct names_relay *r, unsigned long long mask)
{
	const struct fanotify_event_metadata m = { .event_len = sizeof(m),
						   .vers = FANOTIFY_METADATA_VERSION,
						   .metadata_len = sizeof(m),
						   .mask = mask,
						   .fd = FAN_NOFD };

	memcpy(r->kept + r->to, &m, sizeof(m));
	r->to += sizeof(m);
}

/* Reads once. False if there was nothing to read. */
static bool names_relay_read(struct names_relay *r)
{
	char buf[RELAY_READ] __attribute__((aligned(__alignof__(struct fanotify_event_metadata))));
	ssize_t len = read(r->group, buf, sizeof(buf));
	const struct fanotify_event_metadata *m = (const void *)buf;
	const bool room = names_relay_has_room(r);

	if (len <= 0)
		return false;
	for (; FAN_EVENT_OK(m, len); m = FAN_EVENT_NEXT(m, len)) {
		if (!m->pid && !(m->mask & FAN_Q_OVERFLOW))
			continue;
		r->lost |= !room;
		if (!room)
			continue;
		memcpy(r->kept + r->to, m, m->event_len);
		r->to += m->event_len;
	}
	return true;
}

/* False once the agent is gone. */
static bool names_relay_send(struct names_relay *r)
{
	ssize_t n;

	while (r->to > r->from) {
		n = send(r->agent, r->kept + r->from, r->to - r->from, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (n < 0)
			return errno == EAGAIN || errno == EINTR;
		r->from += (size_t)n;
	}
	r->from = r->to = 0;
	return true;
}

static void names_relay_read_all(struct names_relay *r)
{
	int i = 0;

	while (i < RELAY_READS && names_relay_read(r))
		i++;
	if (r->lost && names_relay_has_room(r)) {
		names_relay_add_mark(r, FAN_Q_OVERFLOW);
		r->lost = false;
	}
	if (r->asked && i < RELAY_READS && names_relay_has_room(r)) {
		names_relay_add_mark(r, 0);
		r->asked = false;
	}
}

void names_relay_run(struct names_relay *r, const struct pollfd p[NAMES_RELAY_POLLS])
{
	char byte[16];
	ssize_t n;

	if (r->group < 0 || (!p[0].revents && !p[1].revents))
		return;
	n = recv(r->agent, byte, sizeof(byte), MSG_DONTWAIT);
	r->due = names_relay_now_ms() + RELAY_PAUSE_MS;
	const bool gone = n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR);
	r->asked |= n > 0;
	names_relay_read_all(r);
	if (gone || !names_relay_send(r))
		names_relay_close(r);
}

void names_relay_end(struct names_relay *r)
{
	for (int i = 0; r->group >= 0 && i < RELAY_ENDS; i++) {
		struct pollfd p = { r->agent, POLLOUT, 0 };

		names_relay_read_all(r);
		if (!names_relay_send(r) || r->to == r->from)
			break;
		poll(&p, 1, RELAY_END_MS);
	}
	names_relay_close(r);
}
