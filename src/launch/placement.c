#include "launch/placement.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/util.h"
#include "launch/binding.h"
#include "launch/release.h"
#include "launch/say.h"

static const char *const distributions[] = { "block", "cyclic", "arbitrary", "fcyclic", NULL };

static bool placement_is_distribution(const char *text)
{
	size_t n = strcspn(text, ":,");

	if (!strncmp(text, "plane", 5) && (!text[5] || text[5] == '='))
		return true;
	if (!*text || *text == '*')
		return !*text || placement_is_distribution(text + (text[1] == ':' ? 2 : 1));
	for (const char *const *d = distributions; *d; d++)
		if (strlen(*d) == n && !strncasecmp(*d, text, n))
			return text[n] == ':' ? placement_is_distribution(text + n + 1) : true;
	return false;
}

static void placement_distribution(struct placement *p, const struct options *o)
{
	p->distribution = p->ntasks <= p->nodes ? "cyclic" : "block";
	if (!o->distribution)
		return;
	if (!placement_is_distribution(o->distribution)) {
		say_error("Invalid --distribution specification");
		exit(255);
	}
	p->distribution = o->distribution;
}

static void placement_nodes(struct placement *p, const struct options *o, const struct job *j)
{
	p->nodes = 1;
	if (o->min_nodes > 1 && o->nodes_from_env && (o->ntasks == 1 || !o->ntasks))
		return;
	if (o->min_nodes > 1 && o->ntasks && o->ntasks < o->min_nodes)
		say_warning("can't run %d processes on %d nodes, setting nnodes to %d", o->ntasks, o->min_nodes,
			    o->ntasks);
	if (o->min_nodes > 1 && (!o->ntasks || o->ntasks > 1)) {
		say_error("Only allocated 1 nodes asked for %d", o->min_nodes);
		exit(1);
	}
	if (o->nodelist && strcmp(o->nodelist, j->node) != 0 && strcmp(o->nodelist, "localhost") != 0) {
		say_error("Unable to create step for job %s: Requested node configuration is not available", j->id);
		exit(1);
	}
}

static void placement_tasks(struct placement *p, const struct options *o, const struct job *j)
{
	p->ntasks = o->external ? p->nodes : o->ntasks;
	if (o->external)
		return;
	if (o->ntasks && o->per_node && o->per_node != o->ntasks / p->nodes && o->ntasks > o->per_node)
		say_warning("can't honor --ntasks-per-node set to %d which doesn't match the requested tasks %d with the "
			    "%snumber of requested nodes %d. Ignoring --ntasks-per-node.",
			    o->per_node, o->ntasks, release_since(24, 5) ? "maximum " : "", p->nodes);
	if (!p->ntasks && o->per_node)
		p->ntasks = p->nodes * o->per_node;
	if (!p->ntasks && o->cpus_per_task)
		p->ntasks = j->cpus / o->cpus_per_task;
	if (p->ntasks < p->nodes)
		p->ntasks = p->nodes;
}

void placement_count(struct placement *p, const struct options *o, const struct job *j)
{
	int wanted;

	*p = (struct placement){ .cpus_per_task = o->cpus_per_task && !o->external ? o->cpus_per_task : 1 };
	placement_nodes(p, o, j);
	placement_tasks(p, o, j);
	placement_distribution(p, o);
	binding_read(&p->bind, o, j);
	/* -c means --exact, as in Slurm. */
	p->exact = !o->external && (o->exact || o->cpus_per_task);
	wanted = o->overcommit ? p->nodes : p->ntasks * p->cpus_per_task;
	if (wanted > j->cpus) {
		say_error("Unable to create step for job %s: More processors requested than permitted", j->id);
		exit(1);
	}
	p->cpus = p->exact && !o->overcommit ? wanted : j->cpus;
}

void placement_make(struct placement *p, const struct job *j, const struct cpu_list *cpus)
{
	p->v = xcalloc((size_t)p->ntasks, sizeof(*p->v));
	for (int i = 0; i < p->ntasks; i++)
		p->v[i] = (struct place){ .task = i, .local = i };
	binding_apply(p, j, cpus);
}

char *placement_mask(const cpu_set_t *cpus)
{
	char digits[CPU_SETSIZE / 4 + 1] = "0";
	int n = 0;

	for (int at = CPU_SETSIZE - 4; at >= 0; at -= 4) {
		int value = 0;

		for (int bit = 0; bit < 4; bit++)
			value |= CPU_ISSET((size_t)(at + bit), cpus) ? 1 << bit : 0;
		if (value || n)
			digits[n++] = "0123456789ABCDEF"[value];
	}
	digits[n ? n : 1] = '\0';
	return xasprintf("0x%s", digits);
}
