/* The request: one JSON object on the first line of standard input. Single words, one a line, may follow: "go",
 * "hurry", and for a vacate "kill" or "resume". */
#include "worker/worker.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

#include "base/array.h"
#include "base/clock.h"
#include "base/util.h"
#include "base/json.h"

#define LINE_MAX_BYTES    (1 << 20)
#define PROVE_SECONDS_MAX 86400
#define HURRY             "hurry\n"

/* Reads byte by byte: what follows the line is left for request_word(). */
static char *request_read_line(struct err *err)
{
	size_t n = 0, room = 0;
	char *buf = NULL;
	ssize_t got;

	for (;;) {
		array_reserve_more(buf, n, 2, room);
		got = read(STDIN_FILENO, buf + n, 1);
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			err_sys(err, errno, "cannot read the request");
		else if (got == 0)
			err_set(err, EBADMSG, "the request ended in the middle of a line");
		else if (n == LINE_MAX_BYTES)
			err_set(err, EMSGSIZE, "the request is too long");
		if (got <= 0 || n == LINE_MAX_BYTES) {
			free(buf);
			return NULL;
		}
		if (buf[n] == '\n')
			break;
		n++;
	}
	buf[n] = '\0';
	return buf;
}

static bool hurried;

bool request_hurried(void)
{
	char word[sizeof(HURRY)];
	const ssize_t len = sizeof(HURRY) - 1;

	/* Any other word is left for request_word(). Where standard input is no socket recv() fails: nobody sends
	 * "hurry" then. */
	if (!hurried && recv(STDIN_FILENO, word, (size_t)len, MSG_PEEK | MSG_DONTWAIT) == len &&
	    !memcmp(word, HURRY, (size_t)len))
		hurried = recv(STDIN_FILENO, word, (size_t)len, MSG_DONTWAIT) == len;
	return hurried;
}

bool request_word(char *buf, size_t len, int timeout_ms)
{
	int64_t end = now_us() + (int64_t)timeout_ms * 1000;
	size_t n = 0;

	while (n + 1 < len) {
		struct pollfd p = { STDIN_FILENO, POLLIN, 0 };
		int64_t left = (end - now_us()) / 1000;
		ssize_t got;

		if (left <= 0)
			return false;
		if (poll(&p, 1, (int)left) <= 0)
			continue;
		got = read(STDIN_FILENO, buf + n, 1);
		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			return false;
		if (buf[n++] != '\n')
			continue;
		if (n != sizeof(HURRY) - 1 || memcmp(buf, HURRY, n) != 0)
			break;
		n = 0; /* "hurry" came after the last call of request_hurried() */
	}
	buf[n > 0 ? n - 1 : 0] = '\0';
	return true;
}

static int request_get_groups(const json_t *o, struct request *r, struct err *err)
{
	const json_t *list = json_get_list(o, "groups", NGROUPS_MAX, err);
	const json_t *g;
	size_t i;

	if (!list)
		return -1;
	r->groups = xcalloc(json_array_size(list) + 1, sizeof(*r->groups));
	json_array_foreach(list, i, g) {
		if (!json_is_integer(g) || json_integer_value(g) < 0 || json_integer_value(g) > UINT32_MAX - 1)
			return err_set(err, EBADMSG, "member \"groups\" holds something that is no group");
		r->groups[i] = (gid_t)json_integer_value(g);
	}
	r->n_groups = (int)json_array_size(list);
	return 0;
}

static int get_path(const json_t *o, const char *key, char *buf, size_t len, bool may_be_empty, struct err *err)
{
	if (json_get_name(o, key, buf, len, err))
		return -1;
	if (buf[0] != '/' && !(may_be_empty && !buf[0]))
		return err_set(err, EBADMSG, "member \"%s\" is no absolute path", key);
	return 0;
}

static int get_id(const json_t *o, const char *key, int64_t max, int64_t *out, struct err *err)
{
	return json_get_int(o, key, 0, max, out, err);
}

static int parse_common(const json_t *o, struct request *r, struct err *err)
{
	if (get_path(o, "job_dir", r->job_dir, sizeof(r->job_dir), false, err) ||
	    get_path(o, "config", r->config, sizeof(r->config), true, err) ||
	    json_get_uint(o, "epoch", &r->epoch, err) || json_get_bool(o, "sign", &r->sign, err))
		return -1;
	return r->epoch > 0 ? 0 : err_set(err, EBADMSG, "epochs are numbered from 1 on");
}

/* "job_id" is optional: `fsched pod` knows none. */
static int parse_job(const json_t *o, struct request *r, struct err *err)
{
	unsigned job = 0;
	int64_t uid, gid;

	if (get_path(o, "pod_dir", r->pod_dir, sizeof(r->pod_dir), false, err) ||
	    get_path(o, "script", r->script, sizeof(r->script), true, err) ||
	    json_get_text(o, "uuid", r->uuid, sizeof(r->uuid), err) || get_id(o, "uid", UINT32_MAX - 1, &uid, err) ||
	    get_id(o, "gid", UINT32_MAX - 1, &gid, err) || request_get_groups(o, r, err) ||
	    json_get_bool(o, "private_tmp", &r->private_tmp, err))
		return -1;
	if (json_object_get(o, "job_id") && json_get_uint(o, "job_id", &job, err))
		return -1;
	if (job)
		snprintf(r->job_id, sizeof(r->job_id), "%u", job);
	r->uid = (uid_t)uid;
	r->gid = (gid_t)gid;
	return 0;
}

/* "tcp_close" is optional: without it CheckpointTcp holds. */
static int parse_tcp(const json_t *o, struct request *r, struct err *err)
{
	bool close = false;

	r->tcp_given = json_object_get(o, "tcp_close") != NULL;
	if (r->tcp_given && json_get_bool(o, "tcp_close", &close, err))
		return -1;
	r->tcp = close ? CONF_TCP_CLOSE : CONF_TCP_REFUSE;
	return 0;
}

static int parse_pod(const json_t *o, struct request *r, struct err *err)
{
	int64_t init, port;

	if (json_get_int(o, "init_pid", 2, INT_MAX, &init, err) || json_get_int(o, "agent_port", 0, 65535, &port, err))
		return -1;
	r->init = (pid_t)init;
	r->agent_port = (int)port;
	return parse_tcp(o, r, err);
}

/* "mailbox" is optional: {"pid": of the process that holds it, "in", "out": its descriptors in that process}. */
static int parse_mailbox(const json_t *root, struct request *r, struct err *err)
{
	const json_t *o = json_object_get(root, "mailbox");
	int64_t pid, in, out;

	if (!o)
		return 0;
	if (json_get_int(o, "pid", 2, INT_MAX, &pid, err) || json_get_int(o, "in", 0, INT_MAX, &in, err) ||
	    json_get_int(o, "out", 0, INT_MAX, &out, err))
		return err_wrap(err, "member \"mailbox\"");
	r->keeper = (pid_t)pid;
	r->keeper_in = (int)in;
	r->keeper_out = (int)out;
	return 0;
}

static int parse_checkpoint(const json_t *o, struct request *r, struct err *err)
{
	if (parse_mailbox(o, r, err) || parse_pod(o, r, err) || json_get_bool(o, "vacate", &r->vacate, err) ||
	    json_get_bool(o, "written", &r->write_list, err) ||
	    (json_object_get(o, "gap") && json_get_text(o, "gap", r->gap, sizeof(r->gap), err)) ||
	    json_get_text(o, "reason", r->reason, sizeof(r->reason), err) || json_get_uint(o, "run", &r->run, err))
		return -1;
	return 0;
}

static int parse_restore(const json_t *o, struct request *r, struct err *err)
{
	int64_t ctl;

	if (json_get_int(o, "ctl_fd", 3, INT_MAX, &ctl, err))
		return -1;
	r->ctl_fd = (int)ctl;
	return 0;
}

/* "node" is optional: the name of the node in Slurm. */
static int parse_prove(const json_t *o, struct request *r, struct err *err)
{
	int64_t seconds;

	if (json_get_int(o, "seconds", 0, PROVE_SECONDS_MAX, &seconds, err) || json_get_bool(o, "low", &r->low, err) ||
	    (json_object_get(o, "node") && json_get_name(o, "node", r->node, sizeof(r->node), err)))
		return -1;
	r->seconds = (unsigned)seconds;
	return 0;
}

static int request_parse(const json_t *o, struct request *r, struct err *err)
{
	if (parse_common(o, r, err))
		return -1;
	switch (r->op) {
	case OP_CHECKPOINT: return parse_job(o, r, err) || parse_checkpoint(o, r, err) ? -1 : 0;
	case OP_PREFLIGHT: return parse_job(o, r, err) || parse_pod(o, r, err) ? -1 : 0;
	case OP_PROVE: return parse_job(o, r, err) || parse_prove(o, r, err) ? -1 : 0;
	default: return parse_job(o, r, err) || parse_restore(o, r, err) ? -1 : 0;
	}
}

int request_read(struct request *r, enum op op, struct err *err)
{
	cleanup_free char *line = NULL;
	cleanup_json json_t *o = NULL;
	json_error_t je;

	*r = (struct request){ .op = op, .init = -1, .ctl_fd = -1 };
	line = request_read_line(err);
	if (!line)
		return -1;
	o = json_loads(line, JSON_REJECT_DUPLICATES, &je);
	if (!json_is_object(o))
		return err_set(err, EBADMSG, "the request is no JSON object: %s", je.text);
	return request_parse(o, r, err) ? err_wrap(err, "malformed request") : 0;
}

void request_free(struct request *r)
{
	free(r->groups);
	r->groups = NULL;
}
