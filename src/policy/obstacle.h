/* What prevents a checkpoint or a restore, found by the text of its error: criu reports errors as texts only, and so
 * does the code that handles the job's files. One table says what each error means to a person, what he can do about
 * it, how a restore goes on after it, and whether a checkpoint that failed with it is tried again soon. */
#ifndef FSCHED_POLICY_OBSTACLE_H
#define FSCHED_POLICY_OBSTACLE_H

#include <stdbool.h>

enum obstacle_class {
	OBSTACLE_UNKNOWN,
	OBSTACLE_PASSES, /* it goes away by itself on this node: try the same again later */
	OBSTACLE_NODE,   /* it may not exist on another node */
	OBSTACLE_EPOCH,  /* it may not exist with another epoch */
	OBSTACLE_JOB,    /* a person has to remove it */
	OBSTACLE_GIVEN,  /* the job's share of a node is too small: the same on other nodes and with other epochs */
};

enum obstacle_retry {
	RETRY_UNKNOWN, /* the row does not answer this */
	RETRY_NO,
	RETRY_YES,
};

struct obstacle {
	const char *needle;        /* the error's text contains it, case ignored */
	const char *also;          /* and this; NULL: needle is enough */
	enum obstacle_class class; /* at a restore */
	const char *sentence;      /* for people; NULL: the error's own text says it */
	const char *hint;          /* what a person can do; NULL: nothing */
	enum obstacle_retry retry; /* at a checkpoint: whether the same may succeed some seconds later */
};

/* The row with the class and sentence of the error; static. NULL: the table does not know the error. */
const struct obstacle *obstacle_find(const char *text);
/* The row's class; OBSTACLE_UNKNOWN if there is no row. */
enum obstacle_class obstacle_class(const char *text);
/* True if a checkpoint that failed with this error is worth another attempt soon. False for an unknown error. */
bool obstacle_retry_checkpoint(const char *text);

#endif
