/* What stands in the way of a checkpoint or a restore, told by the text of the error: criu has nothing but texts, and
 * the job's files are described in words too. One table says what each means for people, and what can be done about it.
 */
#ifndef FSCHED_POLICY_OBSTACLE_H
#define FSCHED_POLICY_OBSTACLE_H

enum obstacle_class {
	OBSTACLE_UNKNOWN,
	OBSTACLE_PASSES, /* goes away by itself on this node: the same attempt again, later */
	OBSTACLE_NODE,   /* another node may not have it */
	OBSTACLE_EPOCH,  /* another epoch may not have it */
	OBSTACLE_JOB,    /* somebody has to put something in order */
};

struct obstacle {
	const char *needle, *also; /* both are in the text; also may be NULL */
	enum obstacle_class class; /* at a restore */
	const char *sentence;
	const char *hint; /* what to do, NULL = nothing that a person could */
};

/* NULL: the table does not know it. */
const struct obstacle *obstacle_find(const char *text);
enum obstacle_class obstacle_class(const char *text);

#endif
