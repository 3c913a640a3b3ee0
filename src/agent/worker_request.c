#include "agent/worker_request.h"

#include <string.h>

#include "base/json.h"

json_t *worker_request(const struct job *j)
{
	const struct task *t = &j->task;

	json_t *o = json_pack("{s:I, s:I, s:I, s:o, s:b, s:b, s:s}", "job_id", (json_int_t)t->job_id, "uid",
			      (json_int_t)t->uid, "gid", (json_int_t)t->gid, "groups", json_gids(t->groups, t->n_groups),
			      "sign", 1, "private_tmp", t->private_tmp ? 1 : 0, "uuid", t->uuid);

	json_set_name(o, "job_dir", j->store.path);
	json_set_name(o, "config", t->config);
	json_set_name(o, "script", t->script);
	return o;
}

json_t *worker_request_pod(const struct job *j, const struct pod_watch *pod, unsigned agent_port, unsigned epoch)
{
	json_t *o = worker_request(j);

	json_object_set_new(o, "init_pid", json_integer(pod->init));
	json_set_name(o, "pod_dir", pod->dir);
	json_object_set_new(o, "epoch", json_integer(epoch));
	json_object_set_new(o, "agent_port", json_integer(agent_port));
	if (j->task.tcp[0])
		json_object_set_new(o, "tcp_close", json_boolean(strcmp(j->task.tcp, "close") == 0));
	return o;
}

char *worker_request_text(json_t *o)
{
	char *text = json_dumps(o, JSON_COMPACT);

	json_decref(o);
	return text;
}
