/* The events of a worker, from the pipe to the job's record. The first byte of the input is 0 if a line that is nearly
 * too long comes first. The second byte is the number of bytes that come at a time, 0 = all. */
#include <stdlib.h>
#include <string.h>
#include <jansson.h>

#include "agent/lines.h"
#include "agent/worker_event.h"
#include "base/json.h"
#include "base/util.h"
#include "fuzz.h"
#include "store/store_internal.h"

#define FILLER (LINES_MAX - 300)

static struct job_record rec = { .job_id = 7,
				 .uuid = "01234567-89ab-cdef-0123-456789abcdef",
				 .cluster = "c",
				 .user = "u",
				 .host = "n",
				 .status = -1,
				 .run = 1,
				 .n_epochs = 1 };

/* The result of a worker can be recorded, and the record can be read. */
static void record(const json_t *o)
{
	static struct job_record back;
	struct epoch_summary *e = &rec.epochs[0];
	cleanup_free char *text = NULL;
	cleanup_json json_t *root = NULL;

	memset(e, 0, sizeof(*e));
	memset(&back.epochs[0], 0, sizeof(back.epochs[0]));
	e->number = 3;
	e->run = 1;
	epoch_summary_from_result(e, o);
	text = record_render(&rec);
	root = text ? json_read_text(text, strlen(text), "record", NULL) : NULL;
	if (!root || record_parse(root, &back, NULL) < 0 || memcmp(e, &back.epochs[0], sizeof(*e)) != 0)
		abort();
}

static unsigned left; /* lines until the process is forgotten */

static bool on_line(void *arg, char *line)
{
	struct worker_event e;

	worker_event_parse(line, &e);
	if ((e.kind == WORKER_EVENT_PHASE && !e.name) || (e.kind == WORKER_EVENT_POD && e.init <= 0) ||
	    (e.kind != WORKER_EVENT_UNKNOWN && !e.o))
		abort();
	if (e.kind == WORKER_EVENT_HELD || e.kind == WORKER_EVENT_RESULT)
		record(e.o);
	worker_event_free(&e);
	return --left > 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static char buf[LINES_MAX];
	struct lines l = { .buf = buf };
	size_t piece;

	if (size < 2)
		return 0;
	left = 1000;
	if (data[0] == 0) {
		memset(buf, ' ', FILLER);
		if (lines_add(&l, FILLER, on_line, NULL) != LINES_MORE || l.len != FILLER)
			abort();
	}
	piece = data[1] ? data[1] : size;
	for (size_t at = 2; at < size; at += piece) {
		size_t n = size - at < piece ? size - at : piece;
		enum lines_result rest;

		if (n > LINES_MAX - l.len)
			n = piece = LINES_MAX - l.len;
		memcpy(buf + l.len, data + at, n);
		rest = lines_add(&l, n, on_line, NULL);
		if (rest == LINES_STOPPED)
			break;
		if (l.len >= LINES_MAX || memchr(buf, '\n', l.len) || (rest == LINES_TOO_LONG && l.len))
			abort();
	}
	return 0;
}
