#include "launch/pmi.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/util.h"
#include "launch/say.h"

#define KEY_MOST     64
#define VALUE_MOST   1024
#define NAME_MOST    256
#define REQUEST_MOST 8192
#define PMI2_HEAD    6 /* digits of the length before each message of PMI-2 */

struct pair {
	char *key, *value;
	struct pair *next;
};

struct client {
	int fd, theirs; /* ends of a socket pair; -1 = closed */
	int version;    /* 1 or 2; 0 = not said yet */
	bool waits;     /* in a barrier or fence */
	char *wanted;   /* an attribute of the node for which it waits, or NULL */
	char *ring[2];  /* what its left and right neighbour are to get, or NULL: it is in no ring */
	char in[REQUEST_MOST];
	size_t n;
};

struct pmi {
	const char *job_id;
	int step, ntasks, waiting, in_ring;
	struct pair *kvs, *names, *node_attributes;
	struct client *v;
	bool aborted;
};

/* A request: its words, separated by blanks (PMI-1) or semicolons (PMI-2). */
struct request {
	const char *text;
	char sep;
};

static const char *pairs_get(const struct pair *p, const char *key)
{
	while (p && strcmp(p->key, key) != 0)
		p = p->next;
	return p ? p->value : NULL;
}

/* A key that is put again has the new value. */
static void pairs_put(struct pair **list, const char *key, const char *value)
{
	struct pair *p = xcalloc(1, sizeof(*p));

	*p = (struct pair){ xstrdup(key), xstrdup(value), *list };
	*list = p;
}

static void pairs_free(struct pair *p)
{
	while (p) {
		struct pair *next = p->next;

		free(p->key);
		free(p->value);
		free(p);
		p = next;
	}
}

/* Copies the value of a key. The value of "value" in PMI-1 may have blanks: it is the last word. False: no such key. */
static bool request_get(struct request r, const char *key, char *buf, size_t len)
{
	const size_t k = strlen(key);
	const char *p = r.text;

	for (; p; p = strchr(p, r.sep), p = p ? p + 1 : NULL) {
		if (strncmp(p, key, k) != 0 || p[k] != '=')
			continue;
		p += k + 1;
		snprintf(buf, len, "%.*s",
			 (int)(r.sep == ' ' && !strcmp(key, "value") ? strlen(p) : strcspn(p, (char[]){ r.sep, 0 })), p);
		return true;
	}
	return false;
}

static bool request_says_true(struct request r, const char *key)
{
	char value[8];

	return request_get(r, key, value, sizeof(value)) && !strcasecmp(value, "TRUE");
}

static void client_close(struct client *c)
{
	if (c->fd >= 0)
		close(c->fd);
	c->fd = -1;
}

/* A client that does not read its answers is not served any more; nothing here may block. */
static void client_send(struct client *c, const char *text, size_t n)
{
	if (c->fd >= 0 && send(c->fd, text, n, MSG_NOSIGNAL | MSG_DONTWAIT) != (ssize_t)n)
		client_close(c);
}

__attribute__((format(printf, 2, 3))) static void client_answer(struct client *c, const char *fmt, ...)
{
	char text[PMI2_HEAD + REQUEST_MOST], *body = text + (c->version == 2 ? PMI2_HEAD : 0);
	char head[PMI2_HEAD + 1];
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(body, REQUEST_MOST, fmt, ap);
	va_end(ap);
	if (n < 0 || n >= REQUEST_MOST) {
		client_close(c);
		return;
	}
	if (c->version == 2) {
		snprintf(head, sizeof(head), "%*d", PMI2_HEAD, n);
		memcpy(text, head, PMI2_HEAD);
		n += PMI2_HEAD;
	}
	client_send(c, text, (size_t)n);
}

static void client_leave_ring(struct client *c)
{
	for (size_t i = 0; i < ARRAY_SIZE(c->ring); i++) {
		free(c->ring[i]);
		c->ring[i] = NULL;
	}
}

/* When all tasks have come, all may go on. */
static void pmi_barrier(struct pmi *p, struct client *c)
{
	if (!c->waits)
		p->waiting++;
	c->waits = true;
	if (p->waiting < p->ntasks)
		return;
	p->waiting = 0;
	for (int i = 0; i < p->ntasks; i++) {
		p->v[i].waits = false;
		if (p->v[i].version == 2)
			client_answer(&p->v[i], "cmd=kvs-fence-response;rc=0;");
		else
			client_answer(&p->v[i], "cmd=barrier_out rc=0\n");
	}
}

static void pmi1_put(struct pmi *p, struct client *c, struct request r)
{
	char key[KEY_MOST + 1], value[VALUE_MOST + 1];

	if (request_get(r, "key", key, sizeof(key)) && request_get(r, "value", value, sizeof(value))) {
		pairs_put(&p->kvs, key, value);
		client_answer(c, "cmd=put_result rc=0 msg=success\n");
	} else {
		client_answer(c, "cmd=put_result rc=-1 msg=no_key\n");
	}
}

static void pmi1_get(struct pmi *p, struct client *c, struct request r)
{
	char key[KEY_MOST + 1] = "";
	const char *value;

	request_get(r, "key", key, sizeof(key));
	value = pairs_get(p->kvs, key);
	if (value)
		client_answer(c, "cmd=get_result rc=0 msg=success value=%s\n", value);
	else
		client_answer(c, "cmd=get_result rc=-1 msg=key_%s_not_found value=unknown\n", key);
}

/* Names of MPI_Publish_name(), known in this step only. */
static void pmi1_publish(struct pmi *p, struct client *c, struct request r)
{
	char name[NAME_MOST] = "", port[VALUE_MOST] = "";

	request_get(r, "service", name, sizeof(name));
	request_get(r, "port", port, sizeof(port));
	pairs_put(&p->names, name, port);
	client_answer(c, "cmd=publish_result info=ok rc=0 msg=success\n");
}

static void pmi1_unpublish(struct pmi *p, struct client *c, struct request r)
{
	char name[NAME_MOST] = "";

	request_get(r, "service", name, sizeof(name));
	pairs_put(&p->names, name, "");
	client_answer(c, "cmd=unpublish_result info=ok rc=0 msg=success\n");
}

static void pmi1_lookup(struct pmi *p, struct client *c, struct request r)
{
	char name[NAME_MOST] = "";
	const char *port;

	request_get(r, "service", name, sizeof(name));
	port = pairs_get(p->names, name);
	if (port && *port)
		client_answer(c, "cmd=lookup_result port=%s info=ok rc=0 msg=success\n", port);
	else
		client_answer(c, "cmd=lookup_result info=notok rc=-1 msg=service_%s_not_found\n", name);
}

static void pmi1_do(struct pmi *p, struct client *c, const char *cmd, struct request r)
{
	if (!strcmp(cmd, "get_maxes"))
		client_answer(c, "cmd=maxes kvsname_max=%d keylen_max=%d vallen_max=%d\n", NAME_MOST, KEY_MOST,
			      VALUE_MOST);
	else if (!strcmp(cmd, "get_universe_size"))
		client_answer(c, "cmd=universe_size size=%d rc=0\n", p->ntasks);
	else if (!strcmp(cmd, "get_appnum"))
		client_answer(c, "cmd=appnum appnum=0 rc=0\n");
	else if (!strcmp(cmd, "get_my_kvsname"))
		client_answer(c, "cmd=my_kvsname kvsname=%s.%d rc=0\n", p->job_id, p->step);
	else if (!strcmp(cmd, "barrier_in"))
		pmi_barrier(p, c);
	else if (!strcmp(cmd, "put"))
		pmi1_put(p, c, r);
	else if (!strcmp(cmd, "get"))
		pmi1_get(p, c, r);
	else if (!strcmp(cmd, "publish_name"))
		pmi1_publish(p, c, r);
	else if (!strcmp(cmd, "unpublish_name"))
		pmi1_unpublish(p, c, r);
	else if (!strcmp(cmd, "lookup_name"))
		pmi1_lookup(p, c, r);
	else if (!strcmp(cmd, "abort"))
		p->aborted = true;
	else if (!strcmp(cmd, "finalize"))
		client_answer(c, "cmd=finalize_ack rc=0\n");
	else {
		say_error("mpi/pmi2: PMI1 request of '%.60s' not supported", cmd);
		client_close(c);
	}
}

static void pmi2_init(const struct pmi *p, struct client *c)
{
	client_answer(c,
		      "cmd=fullinit-response;rc=0;pmi-version=2;pmi-subversion=0;rank=%d;size=%d;appnum=-1;debugged=FALSE;"
		      "pmiverbose=FALSE;",
		      (int)(c - p->v), p->ntasks);
}

static void pmi2_found(struct client *c, const char *cmd, const char *value)
{
	if (value)
		client_answer(c, "cmd=%s-response;rc=0;found=TRUE;value=%s;", cmd, value);
	else
		client_answer(c, "cmd=%s-response;rc=0;found=FALSE;", cmd);
}

static void pmi2_put(struct pair **list, struct client *c, const char *cmd, struct request r)
{
	char key[KEY_MOST + 1] = "", value[VALUE_MOST + 1] = "";

	request_get(r, "key", key, sizeof(key));
	request_get(r, "value", value, sizeof(value));
	pairs_put(list, key, value);
	client_answer(c, "cmd=%s-response;rc=0;", cmd);
}

/* Those who wait for an attribute of the node get it when somebody puts it. */
static void pmi2_serve_waiting(struct pmi *p)
{
	for (int i = 0; i < p->ntasks; i++) {
		const char *value = p->v[i].wanted ? pairs_get(p->node_attributes, p->v[i].wanted) : NULL;

		if (!value)
			continue;
		pmi2_found(&p->v[i], "info-getnodeattr", value);
		free(p->v[i].wanted);
		p->v[i].wanted = NULL;
	}
}

static void pmi2_get_node(struct pmi *p, struct client *c, struct request r)
{
	char key[KEY_MOST + 1] = "";
	const char *value;

	request_get(r, "key", key, sizeof(key));
	value = pairs_get(p->node_attributes, key);
	if (!value && request_says_true(r, "wait"))
		c->wanted = xstrdup(key);
	else
		pmi2_found(c, "info-getnodeattr", value);
}

static void pmi2_get_job(const struct pmi *p, struct client *c, struct request r)
{
	char key[KEY_MOST + 1] = "", number[16];

	request_get(r, "key", key, sizeof(key));
	snprintf(number, sizeof(number), "%d", p->ntasks);
	pmi2_found(c, "info-getjobattr", !strcmp(key, "universeSize") ? number : pairs_get(p->kvs, key));
}

static void pmi2_name(struct pmi *p, struct client *c, const char *cmd, struct request r)
{
	char name[NAME_MOST] = "", port[VALUE_MOST] = "";
	const char *known;

	request_get(r, "name", name, sizeof(name));
	request_get(r, "port", port, sizeof(port));
	if (strcmp(cmd, "name-lookup") != 0) {
		pairs_put(&p->names, name, port);
		client_answer(c, "cmd=%s-response;rc=0;", cmd);
		return;
	}
	known = pairs_get(p->names, name);
	if (known && *known)
		client_answer(c, "cmd=name-lookup-response;rc=0;value=%s;", known);
	else
		client_answer(c, "cmd=name-lookup-response;rc=1;");
}

/* Slurm's own addition, which MVAPICH uses: when all tasks have come, each gets its place and what its neighbours have
 * brought. */
static void pmi2_ring(struct pmi *p, struct client *c, struct request r)
{
	char value[VALUE_MOST + 1] = "";

	if (c->ring[0])
		return;
	request_get(r, "ring-left", value, sizeof(value));
	c->ring[0] = xstrdup(value);
	request_get(r, "ring-right", value, sizeof(value));
	c->ring[1] = xstrdup(value);
	if (++p->in_ring < p->ntasks)
		return;
	p->in_ring = 0;
	for (int i = 0; i < p->ntasks; i++)
		client_answer(&p->v[i], "cmd=ring-response;rc=0;ring-count=%d;ring-left=%s;ring-right=%s;", i,
			      p->v[(i + p->ntasks - 1) % p->ntasks].ring[1], p->v[(i + 1) % p->ntasks].ring[0]);
	for (int i = 0; i < p->ntasks; i++)
		client_leave_ring(&p->v[i]);
}

static void pmi2_do(struct pmi *p, struct client *c, const char *cmd, struct request r)
{
	char key[KEY_MOST + 1] = "";

	if (!strcmp(cmd, "fullinit"))
		pmi2_init(p, c);
	else if (!strcmp(cmd, "job-getid"))
		client_answer(c, "cmd=job-getid-response;rc=0;jobid=%s.%d;", p->job_id, p->step);
	else if (!strcmp(cmd, "kvs-put"))
		pmi2_put(&p->kvs, c, cmd, r);
	else if (!strcmp(cmd, "kvs-get"))
		pmi2_found(c, cmd, request_get(r, "key", key, sizeof(key)) ? pairs_get(p->kvs, key) : NULL);
	else if (!strcmp(cmd, "kvs-fence"))
		pmi_barrier(p, c);
	else if (!strcmp(cmd, "ring"))
		pmi2_ring(p, c, r);
	else if (!strcmp(cmd, "info-getjobattr"))
		pmi2_get_job(p, c, r);
	else if (!strcmp(cmd, "info-getnodeattr"))
		pmi2_get_node(p, c, r);
	else if (!strcmp(cmd, "info-putnodeattr")) {
		pmi2_put(&p->node_attributes, c, cmd, r);
		pmi2_serve_waiting(p);
	} else if (!strncmp(cmd, "name-", 5))
		pmi2_name(p, c, cmd, r);
	else if (!strcmp(cmd, "finalize"))
		client_answer(c, "cmd=finalize-response;rc=0;");
	else if (!strcmp(cmd, "abort"))
		p->aborted = true;
	else
		client_answer(c, "cmd=%.60s-response;rc=14;errmsg=not supported;", cmd);
}

/* The first message tells the version, in the form of PMI-1. */
static void pmi_init(struct client *c, struct request r)
{
	char version[8] = "1", sub[8] = "1";

	request_get(r, "pmi_version", version, sizeof(version));
	request_get(r, "pmi_subversion", sub, sizeof(sub));
	c->version = 1; /* also for the form of this answer */
	if (atoi(version) == 2) {
		client_answer(c, "cmd=response_to_init pmi_version=2 pmi_subversion=0 rc=0\n");
		c->version = 2;
	} else {
		client_answer(c, "cmd=response_to_init pmi_version=1 pmi_subversion=1 rc=0\n");
	}
}

static void pmi_do(struct pmi *p, struct client *c, const char *text)
{
	const struct request r = { text, c->version == 2 ? ';' : ' ' };
	char cmd[64];

	if (!strncmp(text, "mcmd=", 5)) {
		/* Lines follow up to "endcmd", each of which is taken for an unknown one and ignored. */
		if (!strncmp(text, "mcmd=spawn", 10))
			say_error("MPI_Comm_spawn() does not work in a step of srun in a job that is checkpointed: start the "
				  "program by mpiexec or mpirun");
		return;
	}
	if (!request_get(r, "cmd", cmd, sizeof(cmd)))
		return;
	if (!strcmp(cmd, "init") && c->version != 2)
		pmi_init(c, r);
	else if (c->version == 2)
		pmi2_do(p, c, cmd, r);
	else
		pmi1_do(p, c, cmd, r);
}

/* The length of the first complete message in c->in with what stands before it; 0 = there is none. *body: its text. */
static size_t client_message(struct client *c, char **body)
{
	char head[PMI2_HEAD + 1], *end;
	long len;

	*body = c->in;
	if (c->version != 2) {
		end = memchr(c->in, '\n', c->n);
		if (!end)
			return 0;
		*end = '\0';
		if (!strncmp(c->in, "endcmd", 6) && c->version)
			client_answer(c, "cmd=spawn_result rc=-1 status=not_supported\n");
		return (size_t)(end - c->in) + 1;
	}
	if (c->n < PMI2_HEAD)
		return 0;
	memcpy(head, c->in, PMI2_HEAD);
	head[PMI2_HEAD] = '\0';
	len = strtol(head, NULL, 10);
	if (len <= 0 || len > REQUEST_MOST - PMI2_HEAD - 1) {
		client_close(c);
		return 0;
	}
	*body = c->in + PMI2_HEAD;
	return c->n < PMI2_HEAD + (size_t)len ? 0 : PMI2_HEAD + (size_t)len;
}

static void client_do_messages(struct pmi *p, struct client *c)
{
	char *body;
	size_t len;

	while (c->fd >= 0 && (len = client_message(c, &body))) {
		cleanup_free char *text = xasprintf("%.*s", (int)(c->in + len - body), body);

		pmi_do(p, c, text);
		c->n -= len;
		memmove(c->in, c->in + len, c->n);
	}
	if (c->n == sizeof(c->in) - 1)
		client_close(c);
}

static void client_read(struct pmi *p, struct client *c)
{
	ssize_t n = read(c->fd, c->in + c->n, sizeof(c->in) - 1 - c->n);

	if (n < 0 && (errno == EINTR || errno == EAGAIN))
		return;
	if (n <= 0) {
		client_close(c);
		return;
	}
	c->n += (size_t)n;
	client_do_messages(p, c);
}

struct pmi *pmi_new(const char *job_id, int step, int ntasks, struct err *err)
{
	struct pmi *p = xcalloc(1, sizeof(*p));
	char map[64];
	int pair[2];

	*p = (struct pmi){ .job_id = job_id, .step = step };
	p->v = xcalloc((size_t)ntasks, sizeof(*p->v));
	for (; p->ntasks < ntasks; p->ntasks++) {
		if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair)) {
			err_sys(err, errno, "cannot make the PMI socket of task %d", p->ntasks);
			pmi_free(p);
			return NULL;
		}
		p->v[p->ntasks].fd = pair[0];
		p->v[p->ntasks].theirs = pair[1];
	}
	/* From node 0 on, one node, all tasks there: they use shared memory. */
	snprintf(map, sizeof(map), "(vector,(0,1,%d))", ntasks);
	pairs_put(&p->kvs, "PMI_process_mapping", map);
	return p;
}

void pmi_free(struct pmi *p)
{
	for (int i = 0; i < p->ntasks; i++) {
		client_close(&p->v[i]);
		pmi_forked(p, i);
		free(p->v[i].wanted);
		client_leave_ring(&p->v[i]);
	}
	pairs_free(p->kvs);
	pairs_free(p->names);
	pairs_free(p->node_attributes);
	free(p->v);
	free(p);
}

int pmi_task_fd(const struct pmi *p, int task)
{
	return p->v[task].theirs;
}

void pmi_forked(struct pmi *p, int task)
{
	if (p->v[task].theirs >= 0)
		close(p->v[task].theirs);
	p->v[task].theirs = -1;
}

void pmi_prepare(const struct pmi *p, struct pollfd *polls)
{
	for (int i = 0; i < p->ntasks; i++)
		polls[i] = (struct pollfd){ .fd = p->v[i].fd, .events = POLLIN };
}

bool pmi_work(struct pmi *p, const struct pollfd *polls)
{
	for (int i = 0; i < p->ntasks; i++)
		if (p->v[i].fd >= 0 && polls[i].revents)
			client_read(p, &p->v[i]);
	return p->aborted;
}
