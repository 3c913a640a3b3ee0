#include "capture/cost.h"

#include <stdio.h>

#define MB       1048576.0
#define PAGE     4096.0

/* A copy that takes less than this is always preferred to a fork. */
#define SMALL_US 3000.0

const char *mem_method_name(enum mem_method r)
{
	static const char *const names[] = { [MEM_DIRECT] = "direct", [MEM_STAGED] = "staged", [MEM_FORKED] = "fork" };

	return names[r];
}

static double drain_s(const struct mem_node *n, const struct mem_cost_input *c)
{
	return (double)c->drain / MB / n->drain_mb_per_s;
}

/* The share of the pages that the job rewrites while the child exists; 1 if the rate is not known. */
static double rewritten(const struct mem_node *n, const struct mem_cost_input *c)
{
	double share = c->rewriting.hot + c->rewriting.spread * drain_s(n, c);

	return c->rewriting.hot < 0 || share > 1 ? 1 : share;
}

struct fork_cost {
	double at_once, later;
};

static struct fork_cost fork_cost(const struct mem_node *n, const struct mem_cost_input *c)
{
	double huge = (double)(c->mapped < c->huge ? c->mapped : c->huge), small = (double)c->mapped - huge;

	return (struct fork_cost){
		small / MB * n->fork_us_per_mb + huge / MB * n->huge_us_per_mb,
		rewritten(n, c) * (small * n->cow_us + huge * n->huge_cow_us) / PAGE,
	};
}

enum mem_method mem_choose_method(const struct mem_node *n, const struct mem_cost_input *c, char *why, size_t len)
{
	double copy = (double)c->bytes / MB * n->copy_us_per_mb;
	struct fork_cost fork = fork_cost(n, c);
	bool room = c->room >= c->bytes, may_fork = c->may_fork && c->cow_room >= c->bytes;

	if (!room && !may_fork) {
		snprintf(why, len, "no memory for a copy%s",
			 c->may_fork ? " and none for what the job would rewrite after a fork"
				     : ", fork is not possible");
		return MEM_DIRECT;
	}
	if (!room || !may_fork) {
		snprintf(why, len,
			 room ? (c->may_fork ? "no memory for what the job would rewrite after a fork"
					     : "fork is not possible")
			      : "no memory for a copy");
		return room ? MEM_STAGED : MEM_FORKED;
	}
	if (c->rewriting.hot < 0)
		snprintf(why, len, "copy %.1f ms, fork %.1f ms and %.1f ms if all of it is rewritten", copy / 1000,
			 fork.at_once / 1000, fork.later / 1000);
	else
		snprintf(why, len,
			 "copy %.1f ms, fork %.1f ms and %.1f ms for %.1f %% that is rewritten in the %.1f s of writing it",
			 copy / 1000, fork.at_once / 1000, fork.later / 1000, 100 * rewritten(n, c), drain_s(n, c));
	return copy <= SMALL_US || copy <= fork.at_once + fork.later ? MEM_STAGED : MEM_FORKED;
}

bool mem_worth_tracking(const struct mem_node *n, double changed)
{
	/* A clean page saves its part of a fork, too. */
	return changed * n->notice_us * (MB / PAGE) < (1 - changed) * (n->compare_us_per_mb + n->fork_us_per_mb);
}
