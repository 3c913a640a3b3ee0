/* Lists of node names as text. fsched writes them as "n1,n2"; Slurm's own may have brackets ("n[1-3]"), which every
 * function here reads. Also good for other comma lists of names, such as the partitions of a job. */
#ifndef FSCHED_SLURM_RPC_NODELIST_H
#define FSCHED_SLURM_RPC_NODELIST_H

#include <stdbool.h>

/* Is the node in the list? false also for a list that Slurm cannot parse. */
bool nodelist_has(const char *nodes, const char *node);
/* The list with a node (or a list) appended; it may then be in the list twice. The caller frees. */
char *nodelist_add(const char *nodes, const char *node);
/* The names in nodes that are not in less, separated by commas; "" if none are left or a list cannot be parsed. The
 * caller frees. */
char *nodelist_without(const char *nodes, const char *less);

#endif
