#include "launch/binding.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/util.h"
#include "launch/release.h"
#include "launch/say.h"

static const struct {
	const char *name;
	enum bind_kind kind;
	bool list;
} kinds[] = {
	{ "no", BIND_NONE },
	{ "none", BIND_NONE },
	{ "thread", BIND_THREADS },
	{ "threads", BIND_THREADS },
	{ "core", BIND_CORES },
	{ "cores", BIND_CORES },
	{ "socket", BIND_SOCKETS },
	{ "sockets", BIND_SOCKETS },
	{ "rank", BIND_RANK },
	{ "map_cpu", BIND_MAP, true },
	{ "mapcpu", BIND_MAP, true },
	{ "mask_cpu", BIND_MASK, true },
	{ "maskcpu", BIND_MASK, true },
};

/* Repeats "3*4" of a list: "3,3,3,3". */
static char *binding_expand(const char *list)
{
	char *text = NULL;
	size_t len;
	FILE *out = open_memstream(&text, &len);

	if (!out)
		abort();
	while (*list) {
		size_t n = strcspn(list, ","), value = strcspn(list, ",*");
		int times = list[value] == '*' ? atoi(list + value + 1) : 1;

		for (int i = 0; i < times; i++)
			fprintf(out, "%s%.*s", ftello(out) > 0 ? "," : "", (int)value, list);
		list += n + (list[n] == ',');
	}
	fclose(out);
	return text;
}

static _Noreturn void binding_wrong(const char *word)
{
	if (strstr(word, "ldom"))
		say_error("--cpu-bind=%s cannot be used in a job that is checkpointed: bind to sockets, cores or threads, or set "
			  "FSCHED_SRUN=real to use Slurm's srun, during which the job cannot be checkpointed",
			  word);
	else
		say_error("unrecognized --cpu-bind argument \"%s\"", word);
	say_fatal("Failed to parse --cpu-bind= values.");
}

static void binding_word(struct binding *b, const char *word, size_t n)
{
	cleanup_free char *text = xasprintf("%.*s", (int)n, word);
	const size_t name = strcspn(text, ":=");

	if (!strcasecmp(text, "v") || !strcasecmp(text, "verbose")) {
		b->verbose = true;
		return;
	}
	if (!strcasecmp(text, "q") || !strcasecmp(text, "quiet")) {
		b->verbose = false;
		return;
	}
	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		if (strlen(kinds[i].name) != name || strncasecmp(kinds[i].name, text, name) != 0)
			continue;
		if (kinds[i].list != (text[name] && text[name + 1])) {
			if (!kinds[i].list)
				break;
			say_error("missing list for \"%s:<list>\"", kinds[i].kind == BIND_MAP ? "map_cpu" : "mask_cpu");
			say_fatal("Failed to parse --cpu-bind= values.");
		}
		if (kinds[i].kind == BIND_RANK && release_since(24, 11)) {
			say_info("Ignoring --cpu-bind=rank. Rank binding is obsolete.");
			return;
		}
		free(b->list);
		b->list = kinds[i].list ? binding_expand(text + name + 1) : NULL;
		b->kind = kinds[i].kind;
		b->given = true;
		return;
	}
	binding_wrong(text);
}

/* Words are separated by commas; so are the numbers of a list, which begin with a digit. */
static void binding_words(struct binding *b, const char *text)
{
	while (*text) {
		size_t n = strcspn(text, ",");

		while (text[n] == ',' && isxdigit((unsigned char)text[n + 1]) && strcspn(text + n + 1, ",:=") &&
		       isdigit((unsigned char)text[n + 1]))
			n += 1 + strcspn(text + n + 1, ",");
		binding_word(b, text, n);
		text += n + (text[n] == ',');
	}
}

static void binding_hint(struct binding *b, const char *hint)
{
	if (!strcasecmp(hint, "compute_bound") || !strcasecmp(hint, "memory_bound"))
		b->kind = BIND_CORES;
	else if (!strcasecmp(hint, "multithread") || !strcasecmp(hint, "nomultithread"))
		b->kind = BIND_THREADS;
	else {
		say_error("unrecognized --hint argument \"%s\", see --hint=help", hint);
		exit(1);
	}
	b->given = true;
}

/* srun says it up to 23.02. */
static void binding_say_support(const struct job *j)
{
	if (!j->binding && !release_since(23, 11))
		say_info("cluster configuration lacks support for cpu binding");
}

void binding_read(struct binding *b, const struct options *o, const struct job *j)
{
	*b = (struct binding){ .kind = o->external ? BIND_NONE : BIND_AUTO, .given = o->external };
	if (o->external)
		return;
	if (o->cpu_bind && *o->cpu_bind) {
		binding_say_support(j);
		binding_words(b, o->cpu_bind);
	}
	if (b->given)
		return;
	if (o->hint) {
		binding_hint(b, o->hint);
	} else if (o->threads_per_core) {
		binding_say_support(j);
		*b = (struct binding){ .kind = BIND_THREADS, .given = true, .verbose = b->verbose };
	} else if (o->per_core || o->per_socket) {
		*b = (struct binding){ .kind = o->per_core ? BIND_CORES : BIND_SOCKETS,
				       .given = true,
				       .verbose = b->verbose };
	}
}

const char *binding_type(const struct binding *b)
{
	if (b->list && b->kind != BIND_MAP)
		return "mask_cpu:";
	switch (b->kind) {
	case BIND_NONE: return "none";
	case BIND_THREADS: return "threads";
	case BIND_CORES: return "cores";
	case BIND_SOCKETS: return "sockets";
	case BIND_RANK: return "rank";
	case BIND_MAP: return "map_cpu:";
	case BIND_AUTO:
	case BIND_MASK: break;
	}
	return "";
}

const char *binding_name(const struct binding *b)
{
	return b->kind == BIND_NONE ? "NONE" : b->kind == BIND_RANK ? "RANK" : b->kind == BIND_MAP ? "MAP" : "MASK";
}

/* The number on the node of the job's CPU with this index. */
static int binding_cpu(const struct job *j, int index)
{
	int n = CPU_COUNT(&j->allowed);

	index = n ? index % n : 0;
	for (int cpu = 0; cpu < CPU_SETSIZE; cpu++)
		if (CPU_ISSET((size_t)cpu, &j->allowed) && index-- == 0)
			return cpu;
	return 0;
}

/* A file of the kernel's topology of a CPU, as a list of CPUs "0-3,8". */
static bool binding_siblings(int cpu, const char *file, cpu_set_t *set)
{
	cleanup_free char *path = xasprintf("/sys/devices/system/cpu/cpu%d/topology/%s", cpu, file);
	cleanup_file FILE *f = fopen(path, "re");
	int from, to;

	while (f && fscanf(f, "%d", &from) == 1) {
		to = from;
		if (fscanf(f, "-%d", &to) != 1)
			to = from;
		for (; from <= to && from < CPU_SETSIZE; from++)
			CPU_SET((size_t)from, set);
		if (fgetc(f) != ',')
			break;
	}
	return f != NULL;
}

/* Adds the CPUs of the step that are in the same core or socket as one of the set. */
static void binding_widen(cpu_set_t *set, const cpu_set_t *step, const char *file)
{
	cpu_set_t wide;

	CPU_ZERO(&wide);
	for (int cpu = 0; cpu < CPU_SETSIZE; cpu++)
		if (CPU_ISSET((size_t)cpu, set) && !binding_siblings(cpu, file, &wide))
			return;
	CPU_AND(set, &wide, step);
}

/* The entry of a list for a task; a short list is used again from its beginning. */
static char *binding_entry(const char *list, int task)
{
	int n = 1;

	for (const char *c = list; *c; c++)
		n += *c == ',';
	for (task %= n; task > 0; task--)
		list = strchr(list, ',') + 1;
	return xasprintf("%.*s", (int)strcspn(list, ","), list);
}

static void binding_from_mask(cpu_set_t *set, const char *text)
{
	size_t n;

	text += !strncasecmp(text, "0x", 2) ? 2 : 0;
	n = strlen(text);
	for (size_t i = 0; i < n; i++) {
		const char digit[2] = { text[n - 1 - i], '\0' };
		long value = strtol(digit, NULL, 16);

		for (size_t bit = 0; bit < 4; bit++)
			if (value & (1L << bit) && 4 * i + bit < CPU_SETSIZE)
				CPU_SET(4 * i + bit, set);
	}
}

static void binding_from_list(struct place *t, const struct binding *b)
{
	cleanup_free char *entry = binding_entry(b->list, t->local);
	long cpu = strtol(entry, NULL, 0);

	if (b->kind == BIND_MASK)
		binding_from_mask(&t->cpus, entry);
	else if (cpu >= 0 && cpu < CPU_SETSIZE)
		CPU_SET((size_t)cpu, &t->cpus);
}

/* Each task gets CPUs of its own, in the order of the tasks. */
static void binding_share(struct placement *p, const struct job *j, const struct cpu_list *cpus, const cpu_set_t *step)
{
	for (int i = 0; i < p->ntasks; i++) {
		cpu_set_t *set = &p->v[i].cpus;

		for (int k = 0; k < p->cpus_per_task; k++)
			CPU_SET((size_t)binding_cpu(j, cpus->index[(i * p->cpus_per_task + k) % cpus->n]), set);
		if (p->bind.kind == BIND_CORES)
			binding_widen(set, step, "thread_siblings_list");
		else if (p->bind.kind == BIND_SOCKETS)
			binding_widen(set, step, "core_siblings_list");
	}
}

/* Makes a list of masks of the first n tasks, which Slurm's environment has in place of "cores" and the like. */
static void binding_describe(struct placement *p, int n)
{
	char *text = NULL;
	size_t len;
	FILE *out = open_memstream(&text, &len);

	if (!out)
		abort();
	for (int i = 0; i < n; i++) {
		cleanup_free char *mask = placement_mask(&p->v[i].cpus);

		fprintf(out, "%s%s", i ? "," : "", mask);
	}
	fclose(out);
	p->bind.list = text;
}

void binding_apply(struct placement *p, const struct job *j, const struct cpu_list *cpus)
{
	cpu_set_t step;
	int i;

	if (!j->binding || !CPU_COUNT(&j->allowed) || !cpus->n || p->bind.kind == BIND_NONE)
		return;
	CPU_ZERO(&step);
	for (i = 0; i < cpus->n; i++)
		CPU_SET((size_t)binding_cpu(j, cpus->index[i]), &step);
	switch (p->bind.kind) {
	case BIND_MAP:
	case BIND_MASK:
		for (i = 0; i < p->ntasks; i++)
			binding_from_list(&p->v[i], &p->bind);
		break;
	case BIND_RANK:
		for (i = 0; i < p->ntasks; i++)
			CPU_SET((size_t)binding_cpu(j, cpus->index[p->v[i].local % cpus->n]), &p->v[i].cpus);
		break;
	case BIND_AUTO:
		if (p->ntasks * p->cpus_per_task == cpus->n) {
			binding_share(p, j, cpus, &step);
			binding_describe(p, p->ntasks);
			break;
		}
		for (i = 0; i < p->ntasks; i++)
			p->v[i].cpus = step;
		binding_describe(p, 1);
		break;
	default: binding_share(p, j, cpus, &step); binding_describe(p, p->ntasks);
	}
}
