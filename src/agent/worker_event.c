#include "agent/worker_event.h"

#include <limits.h>
#include <string.h>

#include "base/util.h"

/* clang-format off */
static const struct {
	const char *name;
	enum worker_event_kind kind;
} event_names[] = {
	{ "phase",  WORKER_EVENT_PHASE },
	{ "held",   WORKER_EVENT_HELD },
	{ "pod",    WORKER_EVENT_POD },
	{ "result", WORKER_EVENT_RESULT },
};
/* clang-format on */

void worker_event_parse(const char *line, struct worker_event *e)
{
	const char *event;
	json_int_t init;

	*e = (struct worker_event){ .o = json_loads(line, 0, NULL) };
	event = json_string_value(json_object_get(e->o, "event"));
	for (size_t i = 0; event && i < ARRAY_SIZE(event_names); i++)
		if (strcmp(event, event_names[i].name) == 0)
			e->kind = event_names[i].kind;
	e->name = json_string_value(json_object_get(e->o, "name"));
	/* A number of more than 32 bits must not be cut: it could become pid 1. */
	init = json_integer_value(json_object_get(e->o, "init_pid"));
	e->init = init > 0 && init <= INT_MAX ? (pid_t)init : 0;
	if ((e->kind == WORKER_EVENT_PHASE && !e->name) || (e->kind == WORKER_EVENT_POD && !e->init))
		e->kind = WORKER_EVENT_UNKNOWN;
}

void worker_event_free(struct worker_event *e)
{
	json_decref(e->o);
	*e = (struct worker_event){ 0 };
}
