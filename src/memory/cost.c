#include "memory/cost.h"

#include <stdio.h>

#include "common/util.h"

#define MB 1048576.0
#define PAGE 4096.0

/* A processor writes so much memory per second at most, and the drain reads at least so much. */
#define WRITE_MB_PER_S 4000.0
#define DRAIN_MB_PER_S 700.0

/* No child for what a copy does in no time. */
#define SMALL_US 3000.0

const char *mem_rung_name(enum mem_rung r)
{
	static const char *const names[] = { [MEM_DIRECT] = "direct", [MEM_STAGED] = "staged", [MEM_FORKED] = "fork" };

	return names[r];
}

/* The share of the pages that is rewritten before the child is gone. Unknown: all of them. */
static double rewritten(const struct mem_case *c)
{
	double share = c->busy * WRITE_MB_PER_S / DRAIN_MB_PER_S;

	return c->busy < 0 || share > 1 ? 1 : share;
}

static double fork_cost(const struct mem_node *n, const struct mem_case *c)
{
	double small = (double)(c->bytes > c->huge ? c->bytes - c->huge : 0), huge = (double)(c->bytes < c->huge ? c->bytes : c->huge);

	return small / MB * n->fork_us_per_mb + huge / MB * n->huge_us_per_mb + rewritten(c) * (double)c->bytes / PAGE * n->cow_us;
}

enum mem_rung mem_choose(const struct mem_node *n, const struct mem_case *c, char *why, size_t len)
{
	double copy = (double)c->bytes / MB * n->copy_us_per_mb, fork = fork_cost(n, c);
	bool room = c->room >= c->bytes, may_fork = c->may_fork && c->cow_room >= c->bytes;

	if (!room && !may_fork) {
		snprintf(why, len, "no memory for a copy%s", c->may_fork ? " and none for what the job would rewrite after a fork" : ", fork is not possible");
		return MEM_DIRECT;
	}
	if (!room || !may_fork) {
		snprintf(why, len, room ? (c->may_fork ? "no memory for what the job would rewrite after a fork" : "fork is not possible")
				       : "no memory for a copy");
		return room ? MEM_STAGED : MEM_FORKED;
	}
	snprintf(why, len, "copy %.1f ms, fork %.1f ms with what is rewritten", copy / 1000, fork / 1000);
	return copy <= SMALL_US || copy <= fork ? MEM_STAGED : MEM_FORKED;
}
