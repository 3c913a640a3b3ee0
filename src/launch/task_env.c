#include "launch/task_env.h"

#include <ctype.h>
#include <grp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/array.h"
#include "launch/binding.h"
#include "launch/release.h"

extern char **environ;

static size_t env_find(const struct env *e, const char *name, size_t len)
{
	size_t i = 0;

	while (i < e->n && (strncmp(e->v[i], name, len) != 0 || e->v[i][len] != '='))
		i++;
	return i;
}

/* Takes over text, "NAME=value". */
static void env_take(struct env *e, char *text)
{
	size_t i = env_find(e, text, strcspn(text, "="));

	if (i < e->n) {
		free(e->v[i]);
		e->v[i] = text;
		return;
	}
	array_reserve_more(e->v, e->n, 2, e->room);
	e->v[e->n++] = text;
	e->v[e->n] = NULL;
}

void env_set(struct env *e, const char *name, const char *fmt, ...)
{
	char *value = NULL;
	va_list ap;

	va_start(ap, fmt);
	if (vasprintf(&value, fmt, ap) < 0)
		abort();
	va_end(ap);
	env_take(e, xasprintf("%s=%s", name, value));
	free(value);
}

void env_unset(struct env *e, const char *name)
{
	size_t i = env_find(e, name, strlen(name));

	if (i == e->n)
		return;
	free(e->v[i]);
	memmove(&e->v[i], &e->v[i + 1], (e->n - i) * sizeof(*e->v));
	e->n--;
}

const char *env_get(const struct env *e, const char *name)
{
	size_t len = strlen(name), i = env_find(e, name, len);

	return i < e->n ? e->v[i] + len + 1 : NULL;
}

void env_free(struct env *e)
{
	for (size_t i = 0; i < e->n; i++)
		free(e->v[i]);
	free(e->v);
	*e = (struct env){ 0 };
}

void env_adopt(struct env *e, char **v)
{
	e->v = v;
	for (e->n = 0; v && v[e->n]; e->n++)
		;
	e->room = e->n + 1;
}

void env_copy(struct env *to, const struct env *from)
{
	*to = (struct env){ 0 };
	for (size_t i = 0; i < from->n; i++) {
		array_reserve_more(to->v, to->n, 2, to->room);
		to->v[to->n++] = xstrdup(from->v[i]);
	}
	if (to->v)
		to->v[to->n] = NULL;
}

static void env_add_all(struct env *e, const char *prefix)
{
	for (char **v = environ; *v; v++)
		if (!strncmp(*v, prefix, strlen(prefix)))
			env_take(e, xstrdup(*v));
}

/* The next word of --export; a value may be quoted and have commas then. */
static size_t task_env_word(const char *p)
{
	size_t n = 0;
	char quote = '\0';

	for (; p[n] && (quote || p[n] != ','); n++)
		if (quote ? p[n] == quote : p[n] == '\'' || p[n] == '"')
			quote = quote ? '\0' : p[n];
	return n;
}

static void task_env_export_word(struct env *e, char *word)
{
	char *eq = strchr(word, '=');
	size_t n;

	if (!eq) {
		if (getenv(word))
			env_set(e, word, "%s", getenv(word));
		return;
	}
	*eq++ = '\0';
	n = strlen(eq);
	if (n > 1 && (*eq == '\'' || *eq == '"') && eq[n - 1] == *eq) {
		eq[n - 1] = '\0';
		eq++;
	}
	env_set(e, word, "%s", eq);
}

/* --export: ALL (default), NONE, or names and NAME=value, with ALL among them or not. SLURM_* and SPANK's variables
 * always come along. True if the whole environment does. */
static bool task_env_export(struct env *e, const char *list)
{
	struct env given = { 0 };
	bool all = !list;

	for (const char *p = list ? list : ""; *p;) {
		size_t n = task_env_word(p);
		cleanup_free char *word = xasprintf("%.*s", (int)n, p);

		if (!strcasecmp(word, "ALL"))
			all = true;
		if (!strcasecmp(word, "NONE"))
			break;
		task_env_export_word(&given, word);
		p += n + (p[n] == ',');
	}
	env_add_all(e, all ? "" : "SLURM");
	for (size_t i = 0; i < given.n; i++)
		env_take(e, xstrdup(given.v[i]));
	env_free(&given);
	return all;
}

static void task_env_bind(struct env *e, const struct binding *b)
{
	const char *verbose = b->verbose ? "verbose" : "quiet", *type = binding_type(b), *list = b->list ? b->list : "";

	if (!b->given && !b->list)
		return;
	env_set(e, "SLURM_CPU_BIND", "%s%s%s%s", verbose, *type ? "," : "", type, list);
	env_set(e, "SLURM_CPU_BIND_LIST", "%s", list);
	env_set(e, "SLURM_CPU_BIND_TYPE", "%s", type);
	env_set(e, "SLURM_CPU_BIND_VERBOSE", "%s", verbose);
}

static void task_env_no_mem_bind(struct env *e)
{
	env_set(e, "SLURM_MEM_BIND", "quiet,none");
	env_set(e, "SLURM_MEM_BIND_LIST", "%s", "");
	env_set(e, "SLURM_MEM_BIND_TYPE", "none");
	env_set(e, "SLURM_MEM_BIND_VERBOSE", "quiet");
}

/* What the options set. */
static void task_env_options(struct env *e, const struct options *o, const struct placement *p)
{
	const char *plane = strchr(p->distribution, '=');
	const mode_t mask = umask(0);

	umask(mask);
	env_set(e, "SLURM_UMASK", "%04o", mask);
	env_set(e, "SLURM_DISTRIBUTION", "%.*s", (int)strcspn(p->distribution, "="), p->distribution);
	if (plane && !strncmp(p->distribution, "plane", 5))
		env_set(e, "SLURM_DIST_PLANESIZE", "%s", plane + 1);
	env_set(e, "SLURM_PRIO_PROCESS", "%d", getpriority(PRIO_PROCESS, 0));
	if (o->cpus_per_task)
		env_set(e, "SLURM_CPUS_PER_TASK", "%d", o->cpus_per_task);
	if (o->cpus_per_task && release_since(23, 11))
		env_set(e, "SLURM_TRES_PER_TASK", "cpu=%d", o->cpus_per_task);
	if (release_since(23, 2))
		env_set(e, "SLURMD_DEBUG", "2"); /* errors; only root can choose */
	if (o->per_node && (!o->ntasks || o->per_node == o->ntasks))
		env_set(e, "SLURM_NTASKS_PER_NODE", "%d", o->per_node);
	if (o->per_core)
		env_set(e, "SLURM_NTASKS_PER_CORE", "%d", o->per_core);
	if (o->per_socket)
		env_set(e, "SLURM_NTASKS_PER_SOCKET", "%d", o->per_socket);
	if (o->threads_per_core || (o->hint && !strcasecmp(o->hint, "nomultithread")))
		env_set(e, "SLURM_THREADS_PER_CORE", "%d", o->threads_per_core ? o->threads_per_core : 1);
	if (o->overcommit)
		env_set(e, "SLURM_OVERCOMMIT", "1");
	if (o->label)
		env_set(e, "SLURM_LABELIO", "1");
	if (o->name_given)
		env_set(e, "SLURM_JOB_NAME", "%s", o->job_name);
	task_env_bind(e, &p->bind);
	if (o->external)
		task_env_no_mem_bind(e);
}

/* What describes the step. Tasks have nobody to talk to at SLURM_SRUN_COMM_PORT, which is therefore 0. */
static void task_env_step(struct env *e, const struct options *o, const struct job *j, const struct placement *p, int step)
{
	const char *cpus = getenv("SLURM_JOB_CPUS_PER_NODE");
	const struct group *group = release_since(25, 11) ? getgrgid(getgid()) : NULL;

	if (!o->preserve_env) {
		env_set(e, "SLURM_NTASKS", "%d", p->ntasks);
		env_set(e, "SLURM_NPROCS", "%d", p->ntasks);
		env_set(e, "SLURM_TASKS_PER_NODE", "%d", p->ntasks);
		env_set(e, "SLURM_NNODES", "%d", p->nodes);
	}
	env_set(e, "SLURM_JOB_ID", "%s", j->id);
	env_set(e, "SLURM_JOBID", "%s", j->id);
	env_set(e, "SLURM_STEP_ID", "%d", step);
	env_set(e, "SLURM_STEPID", "%d", step);
	env_set(e, "SLURM_STEP_NODELIST", "%s", j->node);
	env_set(e, "SLURM_STEP_NUM_NODES", "%d", p->nodes);
	env_set(e, "SLURM_STEP_NUM_TASKS", "%d", p->ntasks);
	env_set(e, "SLURM_STEP_TASKS_PER_NODE", "%d", p->ntasks);
	env_set(e, "SLURM_STEP_LAUNCHER_PORT", "0");
	env_set(e, "SLURM_SRUN_COMM_PORT", "0");
	env_set(e, "SLURM_SRUN_COMM_HOST", "127.0.0.1");
	env_set(e, "SLURM_LAUNCH_NODE_IPADDR", "127.0.0.1");
	env_set(e, "SLURM_CPUS_ON_NODE", "%d", p->cpus);
	if (group)
		env_set(e, "SLURM_JOB_GROUP", "%s", group->gr_name);
	if (cpus && !release_since(23, 2))
		env_set(e, "SLURM_JOB_CPUS_PER_NODE_PACK_GROUP_0", "%s", cpus);
}

void task_env_of_step(struct env *e, const struct options *o, const struct job *j, const struct placement *p, int step)
{
	char *text = NULL;
	size_t len;
	FILE *ids = open_memstream(&text, &len);

	if (!ids)
		abort();
	for (int i = 0; i < p->ntasks; i++)
		fprintf(ids, "%s%d", i ? "," : "", i);
	fclose(ids);
	if (task_env_export(e, o->export_env))
		env_set(e, "SRUN_DEBUG", "%d", o->quiet ? 2 : 3 + o->verbose);
	task_env_options(e, o, p);
	task_env_step(e, o, j, p, step);
	env_set(e, "SLURM_GTIDS", "%s", text);
	free(text);
}

void task_env_of_task(struct env *e, const struct place *t)
{
	env_set(e, "SLURM_PROCID", "%d", t->task);
	env_set(e, "SLURM_LOCALID", "%d", t->local);
	env_set(e, "SLURM_NODEID", "%d", t->node);
}
