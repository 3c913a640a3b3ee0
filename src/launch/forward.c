#include "launch/forward.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/array.h"

#define SINK_FULL (256 << 10) /* bytes that wait before the launcher reads no more from the tasks */
#define LINE_MAX_ (64 << 10)  /* a longer line is passed on in parts */

void sink_open(struct sink *s, int fd)
{
	struct stat st;

	*s = (struct sink){ .fd = fd, .chunk = PIPE_BUF };
	if (fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode))
		s->chunk = 1 << 20;
}

static void sink_add(struct sink *s, const char *data, size_t n)
{
	if (s->fd < 0 || s->broken)
		return;
	array_reserve_more(s->data, s->n, n, s->room);
	memcpy(s->data + s->n, data, n);
	s->n += n;
}

static void sink_write(struct sink *s)
{
	ssize_t n = write(s->fd, s->data, s->n < s->chunk ? s->n : s->chunk);

	if (n < 0 && (errno == EINTR || errno == EAGAIN))
		return;
	if (n < 0) {
		s->broken = true;
		s->n = 0;
		return;
	}
	s->n -= (size_t)n;
	memmove(s->data, s->data + n, s->n);
}

static void source_emit(const struct forward *f, const struct source *s, const char *data, size_t n, bool ended)
{
	char label[24];

	if (f->label) {
		int len = snprintf(label, sizeof(label), "%*d: ", f->width, s->task);

		sink_add(s->sink, label, (size_t)len);
	}
	sink_add(s->sink, data, n);
	if (f->label && ended)
		sink_add(s->sink, "\n", 1);
}

/* Passes on the complete lines; with ended, what is left too. */
static void source_lines(const struct forward *f, struct source *s, bool ended)
{
	size_t at = 0;

	while (at < s->n) {
		const char *end = memchr(s->line + at, '\n', s->n - at);
		size_t len = end ? (size_t)(end - s->line) + 1 - at : s->n - at;

		if (!end && !ended && len < LINE_MAX_ && (f->lines || f->label))
			break;
		source_emit(f, s, s->line + at, len, !end);
		at += len;
	}
	s->n -= at;
	memmove(s->line, s->line + at, s->n);
}

static void source_read(const struct forward *f, struct source *s)
{
	ssize_t n;

	array_reserve_more(s->line, s->n, 16384, s->room);
	n = read(s->fd, s->line + s->n, 16384);
	if (n < 0 && (errno == EINTR || errno == EAGAIN))
		return;
	/* EIO: the last process has closed a terminal. */
	if (n <= 0) {
		source_lines(f, s, true);
		close(s->fd);
		s->fd = -1;
		return;
	}
	s->n += (size_t)n;
	source_lines(f, s, false);
}

static void feed_close(struct feed *f, int i)
{
	if (f->to[i] >= 0)
		close(f->to[i]);
	f->to[i] = -1;
}

/* True if some task has not got all of the data that was read. */
static bool feed_has_data(const struct feed *f)
{
	for (int i = 0; i < f->n; i++)
		if (f->to[i] >= 0 && f->done[i] < f->len)
			return true;
	return false;
}

static void feed_end_if_done(struct feed *f)
{
	for (int i = 0; i < f->n; i++)
		if (f->from < 0 && f->done[i] >= f->len)
			feed_close(f, i);
}

static void feed_read(struct feed *f)
{
	ssize_t n = read(f->from, f->data, sizeof(f->data));

	if (n < 0 && (errno == EINTR || errno == EAGAIN))
		return;
	if (n <= 0)
		f->from = -1;
	f->len = n > 0 ? (size_t)n : 0;
	for (int i = 0; i < f->n; i++)
		f->done[i] = 0;
	feed_end_if_done(f);
}

static void feed_write(struct feed *f, int i)
{
	size_t left = f->len - f->done[i];
	ssize_t n = write(f->to[i], f->data + f->done[i], left < PIPE_BUF ? left : PIPE_BUF);

	if (n < 0 && (errno == EINTR || errno == EAGAIN))
		return;
	if (n < 0) {
		feed_close(f, i);
		return;
	}
	f->done[i] += (size_t)n;
	feed_end_if_done(f);
}

size_t forward_prepare(struct forward *f, size_t others)
{
	const size_t most = f->n_sinks + f->n_sources + (size_t)f->feed.n + 1;
	size_t n = 0;

	if (!f->polls)
		f->polls = xcalloc(most + others, sizeof(*f->polls));
	for (size_t i = 0; i < f->n_sinks; i++) {
		const struct sink *s = &f->sinks[i];

		f->polls[n++] = (struct pollfd){ .fd = s->n ? s->fd : -1, .events = POLLOUT };
	}
	for (size_t i = 0; i < f->n_sources; i++) {
		const struct source *s = &f->sources[i];

		f->polls[n++] = (struct pollfd){ .fd = s->sink->n < SINK_FULL ? s->fd : -1, .events = POLLIN };
	}
	for (int i = 0; i < f->feed.n; i++)
		f->polls[n++] = (struct pollfd){ .fd = f->feed.done[i] < f->feed.len ? f->feed.to[i] : -1,
						 .events = POLLOUT };
	f->polls[n++] = (struct pollfd){ .fd = feed_has_data(&f->feed) ? -1 : f->feed.from, .events = POLLIN };
	return n;
}

void forward_work(struct forward *f)
{
	const struct pollfd *p = f->polls;

	for (size_t i = 0; i < f->n_sinks; i++, p++)
		if (p->fd >= 0 && p->revents)
			sink_write(&f->sinks[i]);
	for (size_t i = 0; i < f->n_sources; i++, p++)
		if (p->fd >= 0 && p->revents)
			source_read(f, &f->sources[i]);
	for (int i = 0; i < f->feed.n; i++, p++)
		if (p->fd >= 0 && p->revents)
			feed_write(&f->feed, i);
	if (p->fd >= 0 && p->revents)
		feed_read(&f->feed);
}

bool forward_is_broken(const struct forward *f)
{
	for (size_t i = 0; i < f->n_sinks; i++)
		if (f->sinks[i].broken)
			return true;
	return false;
}

bool forward_is_done(const struct forward *f)
{
	for (size_t i = 0; i < f->n_sources; i++)
		if (f->sources[i].fd >= 0)
			return false;
	for (size_t i = 0; i < f->n_sinks; i++)
		if (f->sinks[i].n)
			return false;
	return true;
}

void forward_finish(struct forward *f)
{
	for (size_t i = 0; i < f->n_sources; i++)
		source_lines(f, &f->sources[i], true);
	for (size_t i = 0; i < f->n_sinks; i++)
		while (f->sinks[i].n && !f->sinks[i].broken)
			sink_write(&f->sinks[i]);
}
