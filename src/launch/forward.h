/* Forwards the input and output of the tasks: pipes on their side, files on the launcher's. Nothing here blocks. */
#ifndef FSCHED_LAUNCH_FORWARD_H
#define FSCHED_LAUNCH_FORWARD_H

#include <poll.h>
#include <stdbool.h>
#include <stddef.h>

/* A file, pipe or terminal to which the launcher writes. */
struct sink {
	int fd;       /* -1: discard */
	bool broken;  /* nobody reads any more */
	size_t chunk; /* bytes that a write takes without blocking once poll() says so */
	char *data;
	size_t n, room;
};

/* One end of what a task writes; or, with task -1, nothing. */
struct source {
	int fd; /* -1 = ended */
	int task;
	struct sink *sink;
	char *line; /* begun and not complete */
	size_t n, room;
};

/* The input of all tasks that get it. */
struct feed {
	int from;     /* -1 = ended */
	int *to;      /* owned array; -1 = closed */
	size_t *done; /* bytes of data that to[i] has got */
	int n;
	char data[65536];
	size_t len;
};

struct forward {
	struct sink *sinks;
	size_t n_sinks;
	struct source *sources;
	size_t n_sources;
	struct feed feed;
	bool label, lines; /* lines: hold back a line until it is complete */
	int width;         /* digits of a label */
	struct pollfd *polls;
};

void sink_open(struct sink *s, int fd);
/* Sets the descriptors to wait for. Returns how many: there is room for others after them. */
size_t forward_prepare(struct forward *f, size_t others);
/* Reads and writes what poll() has found. */
void forward_work(struct forward *f);
/* True if a reader of output has gone away. */
bool forward_is_broken(const struct forward *f);
/* True if the tasks' output has ended and is written. */
bool forward_is_done(const struct forward *f);
/* Writes what is left, and gives up when nobody reads it. */
void forward_finish(struct forward *f);

#endif
