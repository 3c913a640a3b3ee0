/* Arrays that grow: a pointer v, the number n of elements in use, and room, the number of allocated elements; all three
 * begin as NULL and 0. Use it as
 *
 *   array_reserve(a->v, a->n, a->room);
 *   a->v[a->n++] = element;
 *
 * The caller frees v. */
#ifndef FSCHED_BASE_ARRAY_H
#define FSCHED_BASE_ARRAY_H

#include <stddef.h>
#include "base/util.h"

/* v with room for at least twice as many elements of size bytes as before. */
static inline void *array_grow(void *v, size_t *room, size_t size)
{
	*room = *room ? 2 * *room : 64;
	return xrealloc(v, *room * size);
}

/* Makes room for one more element. */
#define array_reserve(v, n, room) ((void)((n) < (room) ? (v) : ((v) = array_grow((v), &(room), sizeof(*(v))))))

#endif
