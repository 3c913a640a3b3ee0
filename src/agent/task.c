#include "agent/task.h"

#include <errno.h>
#include <limits.h>
#include <string.h>
#include <jansson.h>

#include "base/interval.h"
#include "base/io.h"
#include "base/util.h"
#include "base/json.h"

#define TASK_MAX   (1 << 20)
#define GROUPS_MAX 65536

/* Reading stops at the first member that is missing or of the wrong type; err then names it. */
struct task_reader {
	json_t *root;
	struct err *err;
	bool failed;
};

static int64_t task_get_int(struct task_reader *r, const char *key, int64_t min, int64_t max)
{
	const json_t *v = json_object_get(r->root, key);

	if (r->failed)
		return min;
	if (!json_is_integer(v) || json_integer_value(v) < min || json_integer_value(v) > max) {
		r->failed = true;
		err_set(r->err, EINVAL, "task file: \"%s\" is missing or not an integer between %lld and %lld", key,
			(long long)min, (long long)max);
		return min;
	}
	return json_integer_value(v);
}

static bool task_get_bool(struct task_reader *r, const char *key)
{
	const json_t *v = json_object_get(r->root, key);

	if (!r->failed && !json_is_boolean(v)) {
		r->failed = true;
		err_set(r->err, EINVAL, "task file: \"%s\" is missing or neither true nor false", key);
	}
	return json_is_true(v);
}

static void task_get_text(struct task_reader *r, const char *key, char *out, size_t len)
{
	const json_t *v = json_object_get(r->root, key);

	if (r->failed)
		return;
	/* jansson rejects strings that contain NUL when it parses */
	if (!json_is_string(v) || json_string_length(v) >= len) {
		r->failed = true;
		err_set(r->err, EINVAL, "task file: \"%s\" is missing, not a string, or longer than %zu bytes", key,
			len - 1);
		return;
	}
	memcpy(out, json_string_value(v), json_string_length(v) + 1);
}

/* The name of a file, which may hold any bytes but NUL. */
static void task_get_name(struct task_reader *r, const char *key, char *out, size_t len)
{
	if (r->failed || json_get_name(r->root, key, out, len, r->err) == 0)
		return;
	r->failed = true;
	err_wrap(r->err, "task file");
}

static void task_get_groups(struct task_reader *r, struct task *t)
{
	const json_t *a = json_object_get(r->root, "groups"), *v;
	size_t i;

	if (r->failed)
		return;
	if (!json_is_array(a) || json_array_size(a) > GROUPS_MAX) {
		r->failed = true;
		err_set(r->err, EINVAL, "task file: \"groups\" is missing or no list of at most %d groups", GROUPS_MAX);
		return;
	}
	t->groups = xcalloc(json_array_size(a) + 1, sizeof(gid_t));
	json_array_foreach(a, i, v) {
		if (!json_is_integer(v) || json_integer_value(v) < 0 || json_integer_value(v) > UINT_MAX) {
			r->failed = true;
			err_set(r->err, EINVAL, "task file: \"groups\" holds something that is no group id");
			return;
		}
		t->groups[t->n_groups++] = (gid_t)json_integer_value(v);
	}
}

static enum at_limit task_get_limit(struct task_reader *r)
{
	char word[16];

	task_get_text(r, "at_limit", word, sizeof(word));
	return !strcmp(word, "hold") ? AT_LIMIT_HOLD : !strcmp(word, "continue") ? AT_LIMIT_CONTINUE : AT_LIMIT_NONE;
}

static void task_get_all(struct task_reader *r, struct task *t)
{
	t->job_id = (uint32_t)task_get_int(r, "job_id", 1, UINT32_MAX);
	t->array_job_id = (uint32_t)task_get_int(r, "array_job_id", 0, UINT32_MAX);
	t->array_task_id = (int32_t)task_get_int(r, "array_task_id", -1, INT32_MAX);
	t->uid = (uid_t)task_get_int(r, "uid", 0, UINT32_MAX - 1);
	t->gid = (gid_t)task_get_int(r, "gid", 0, UINT32_MAX - 1);
	task_get_groups(r, t);
	task_get_text(r, "user", t->user, sizeof(t->user));
	task_get_text(r, "cluster", t->cluster, sizeof(t->cluster));
	task_get_text(r, "node", t->node, sizeof(t->node));
	task_get_text(r, "stderr", t->error_file, sizeof(t->error_file));
	task_get_text(r, "uuid", t->uuid, sizeof(t->uuid));
	t->restart_count = (unsigned)task_get_int(r, "restart_count", 0, INT32_MAX);
	t->interval = task_get_int(r, "interval", INTERVAL_AUTO, INT32_MAX);
	t->truncate = task_get_bool(r, "truncate");
	t->at_limit = task_get_limit(r);
	t->total = task_get_int(r, "total", 0, INT32_MAX);
	task_get_text(r, "tcp", t->tcp, sizeof(t->tcp));
	t->hook_signal = (int)task_get_int(r, "hook_signal", 0, 64);
	t->hook_script = task_get_bool(r, "hook_script");
	t->hook_seconds = (unsigned)task_get_int(r, "hook_seconds", 0, 3600);
	task_get_name(r, "hook_before", t->hook_before, sizeof(t->hook_before));
	task_get_name(r, "hook_after", t->hook_after, sizeof(t->hook_after));
	task_get_text(r, "on_requeue", t->on_requeue, sizeof(t->on_requeue));
	t->cpus = (unsigned)task_get_int(r, "cpus", 0, 1 << 20);
	t->private_tmp = task_get_bool(r, "private_tmp");
	task_get_name(r, "script", t->script, sizeof(t->script));
	task_get_name(r, "cwd", t->cwd, sizeof(t->cwd));
	task_get_name(r, "pod_dir", t->pod_dir, sizeof(t->pod_dir));
	task_get_name(r, "config", t->config, sizeof(t->config));
	t->init_pid = (pid_t)task_get_int(r, "init_pid", 2, INT32_MAX);
	t->leader_pid = (pid_t)task_get_int(r, "leader_pid", 2, INT32_MAX);
	t->script_pid = (pid_t)task_get_int(r, "script_pid", 2, INT32_MAX);
	t->ctl_fd = (int)task_get_int(r, "ctl_fd", 3, 65535);
	t->gate_fd = (int)task_get_int(r, "gate_fd", 3, 65535);
	task_get_text(r, "network_warning", t->network_warning, sizeof(t->network_warning));
	task_get_text(r, "tmp_warning", t->tmp_warning, sizeof(t->tmp_warning));
}

int task_read(struct task *t, int fd, struct err *err)
{
	struct task_reader r = { .err = err };
	cleanup_free char *text = NULL;
	json_error_t je;
	ssize_t len;

	memset(t, 0, sizeof(*t));
	lseek(fd, 0, SEEK_SET);
	len = read_all(fd, TASK_MAX, &text);
	if (len < 0)
		return err_sys(err, errno, "cannot read the task file on descriptor %d", fd);
	close(fd);
	r.root = json_loadb(text, (size_t)len, 0, &je);
	if (!json_is_object(r.root)) {
		json_decref(r.root);
		return err_set(err, EINVAL, "task file: %s", je.text[0] ? je.text : "not a JSON object");
	}
	task_get_all(&r, t);
	json_decref(r.root);
	if (r.failed)
		task_free(t);
	return r.failed ? -1 : 0;
}

void task_free(struct task *t)
{
	free(t->groups);
	t->groups = NULL;
	t->n_groups = 0;
}
