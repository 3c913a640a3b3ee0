/* Arrays that grow: a pointer v, the number n of elements in use, and room, the number of allocated elements (size_t).
 * All three begin as NULL and 0. Use it as
 *
 *   array_reserve(a->v, a->n, a->room);
 *   a->v[a->n++] = element;
 *
 * The caller frees v. */
#ifndef FSCHED_BASE_ARRAY_H
#define FSCHED_BASE_ARRAY_H

#include <stddef.h>
#include "base/util.h"

/* v with room for at least twice as many elements of size bytes as before, and for at least wanted elements. */
static inline void *array_grow(void *v, size_t *room, size_t wanted, size_t size)
{
	do
		*room = *room ? 2 * *room : 64;
	while (*room < wanted);
	return xrealloc(v, *room * size);
}

/* Makes room for more elements beyond the n in use. */
#define array_reserve_more(v, n, more, room) \
	((void)((more) <= (room) - (n) ? (v) : ((v) = array_grow((v), &(room), (n) + (more), sizeof(*(v))))))

/* Makes room for one more element. */
#define array_reserve(v, n, room) array_reserve_more(v, n, 1, room)

#endif
