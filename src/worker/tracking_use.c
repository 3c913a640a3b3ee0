/* How much memory of each tracked process is in use, and how much of that is not clean. */
#include "worker/worker.h"

#include "base/array.h"
#include "base/util.h"

struct tracking_use *tracking_use_of(struct tracking *p, uint64_t id)
{
	for (size_t i = p->n_uses; i > 0; i--)
		if (p->uses[i - 1].id == id)
			return &p->uses[i - 1];
	array_reserve(p->uses, p->n_uses, p->uses_room);
	p->uses[p->n_uses] = (struct tracking_use){ .id = id };
	return &p->uses[p->n_uses++];
}

void tracking_set_used(struct tracking *p, const struct mem_ranges *present)
{
	p->n_uses = 0;
	for (size_t i = 0; i < present->n; i++)
		tracking_use_of(p, present->v[i].id)->used += present->v[i].npages * MEM_PAGE;
}

uint64_t tracking_set_left(struct tracking *p, const struct mem_ranges *clean)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < p->n_uses; i++)
		p->uses[i].left = p->uses[i].used;
	for (size_t i = 0; i < clean->n; i++) {
		struct tracking_use *u = tracking_use_of(p, clean->v[i].id);
		uint64_t bytes = clean->v[i].npages * MEM_PAGE;

		u->left -= bytes < u->left ? bytes : u->left;
	}
	for (size_t i = 0; i < p->n_uses; i++)
		sum += p->uses[i].left;
	return sum;
}
