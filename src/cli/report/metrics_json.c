#include "cli/report/metrics_json.h"

#include <stdio.h>

#include "cli/json_out.h"
#include "cli/report/metrics_families.h"

static void json_family(void *arg, const char *name, const char *type, const char *help)
{
	char whole[96];

	snprintf(whole, sizeof(whole), METRICS_PREFIX "%s", name);
	json_array_append_new(arg,
			      json_pack("{s:s, s:s, s:s, s:[]}", "name", whole, "type", type, "help", help, "samples"));
}

static void json_sample(void *arg, const char *name, const char *suffix, const struct metrics_label *labels, size_t n,
			struct metrics_value v)
{
	json_t *samples = json_object_get(json_array_get(arg, json_array_size(arg) - 1), "samples");
	json_t *o = json_object();
	char whole[96];

	for (size_t i = 0; i < n; i++)
		json_object_set_new(o, labels[i].name, json_out_text(labels[i].value));
	snprintf(whole, sizeof(whole), METRICS_PREFIX "%s%s", name, suffix);
	json_array_append_new(samples, json_pack("{s:s, s:o, s:f}", "name", whole, "labels", o, "value",
						 (double)v.whole + v.millionths / 1e6));
}

json_t *metrics_json(const struct metrics *m)
{
	json_t *root = json_out_new("metrics", 1), *list = json_array();
	const struct metrics_sink sink = { .arg = list, .family = json_family, .sample = json_sample };

	json_object_set_new(root, "time", json_integer(m->now));
	json_object_set_new(root, "metrics", list);
	metrics_walk(m, &sink);
	return root;
}
