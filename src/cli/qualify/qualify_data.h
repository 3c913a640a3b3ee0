/* What `fsched qualify` was asked for, and what it has found. The verdict (judge.h) and all output (text, JSON, HTML)
 * are made of this alone. */
#ifndef FSCHED_CLI_QUALIFY_QUALIFY_DATA_H
#define FSCHED_CLI_QUALIFY_QUALIFY_DATA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "cli/qualify/compare_files.h"

#define QUALIFY_CYCLES_MAX 100
#define QUALIFY_LINES_MAX  40

/* What a failure is. */
enum qualify_fail {
	QUALIFY_KILL, /* all processes of the job and of fsched on its node are killed, and its owner brings it back */
	QUALIFY_REQUEUE, /* scontrol requeue */
	QUALIFY_NODE,    /* root sets the node DOWN */
};
const char *qualify_fail_name(enum qualify_fail f);

struct qualify_options {
	const char *conf;
	const char *script;
	char **sbatch; /* words for sbatch, not owned */
	size_t n_sbatch;
	char **args; /* words for the script, not owned */
	size_t n_args;
	unsigned cycles;
	uint64_t seed;
	bool vacate, failures; /* which events there are */
	enum qualify_fail fail;
	bool same_node;       /* restarts on other nodes are not tried */
	const char **compare; /* names below the work directory; none = everything. The array is owned, the names are
				 not */
	size_t n_compare;
	struct compare_rules ignore;                       /* its array is owned, the patterns are not */
	const char *command;                               /* that compares two runs; NULL = byte by byte */
	const char *copy;                                  /* directory whose content each run gets; NULL = none */
	uint64_t copy_limit;                               /* bytes */
	const char *directory;                             /* for the runs; NULL = a new one in the current directory */
	bool keep;                                         /* directories and epochs of runs that are well */
	int64_t queue_wait, run_wait, request_wait, limit; /* s; limit and request_wait 0 = not given */
	bool json, quiet;
	const char *html;
};

enum qualify_kind {
	QUALIFY_PLAIN,   /* undisturbed, without --checkpoint unless the script asks for it */
	QUALIFY_POD,     /* undisturbed, with --checkpoint=UNLIMITED */
	QUALIFY_AGAIN,   /* as QUALIFY_PLAIN, to see why the first two differ */
	QUALIFY_VACATED, /* with cycles of vacate and restart */
	QUALIFY_FAILED,  /* with cycles of create, failure and restart */
	QUALIFY_KINDS
};
const char *qualify_kind_name(enum qualify_kind k);  /* a word: of JSON and of the run's directory */
const char *qualify_kind_about(enum qualify_kind k); /* for people */

enum qualify_trouble {
	QUALIFY_NO_TROUBLE,
	QUALIFY_ENDED,        /* the program ended before */
	QUALIFY_REFUSED,      /* the checkpoint was refused before the freeze */
	QUALIFY_NOT_SAVED,    /* it failed later */
	QUALIFY_NOT_FAILED,   /* the failure could not be caused */
	QUALIFY_NOT_RESTORED, /* the job was not restored, or started over */
	QUALIFY_STOPPED,      /* an interrupt, or a time that is over */
};

struct qualify_cycle {
	bool done;
	enum qualify_trouble trouble; /* why not */
	char why[400];                /* the same for people, "" = none; also of a try before the one that was done */
	int64_t at_us;                /* run time of the job at which the checkpoint was asked for */
	int64_t lost_us;              /* of a failure: run time between checkpoint and failure */
	unsigned tries;               /* of the checkpoint */
	unsigned epoch;               /* 0 = none */
	char from[64], to[64];        /* nodes */
	uint64_t bytes;               /* of the epoch. 0 = not known, here and below */
	int64_t frozen_us, total_us, restore_us;
};

enum qualify_compared { QUALIFY_NOT_COMPARED, QUALIFY_SAME, QUALIFY_DIFFERENT };

struct qualify_run {
	enum qualify_kind kind;
	uint32_t job; /* 0 = not submitted */
	char state[32];
	int wait_status;              /* of the script */
	bool completed;               /* it ended by itself with status 0 */
	enum qualify_trouble trouble; /* that ended the run */
	char why[400];
	int64_t run_s; /* for which it has run, without the time in the queue; what it did twice counts once; 0 = not
			  known */
	char node[64]; /* the last one */
	unsigned n_cycles;
	struct qualify_cycle *cycles; /* owned */
	bool started_over;            /* fsched's record says that it began again */
	bool has_record;              /* fsched's record could be read */
	enum qualify_compared compared;
	struct compare_result differences;
};

struct qualify_lines {
	unsigned n;
	char *v[QUALIFY_LINES_MAX]; /* owned */
};

enum qualify_verdict {
	QUALIFY_UNFINISHED,
	QUALIFY_QUALIFIED,
	QUALIFY_PROGRAM_FAILED,    /* the undisturbed run did not end well */
	QUALIFY_NOT_DETERMINISTIC, /* two undisturbed runs differ */
	QUALIFY_DIFFERS_IN_POD,    /* a run with --checkpoint differs before any checkpoint */
	QUALIFY_TOO_SHORT,         /* the program ended before a cycle was possible */
	QUALIFY_WAS_REFUSED,
	QUALIFY_WAS_NOT_SAVED,
	QUALIFY_WAS_NOT_RESTORED,
	QUALIFY_DIFFERS, /* the results after restores differ */
	QUALIFY_VERDICTS
};
const char *qualify_verdict_name(enum qualify_verdict v);

/* Of what was measured: the number, mean and largest of values that are known. */
struct qualify_measure {
	unsigned n;
	int64_t mean, most;
};

struct qualify_result {
	const struct qualify_options *o;
	char script[256]; /* its name, printable */
	char user[64], host[256];
	char directory[4096];         /* of the runs; "" = it was removed */
	int64_t began, ended;         /* Unix */
	unsigned max_epochs;          /* that a job keeps */
	bool script_asks;             /* for --checkpoint itself, so that no run is without */
	bool bytes_differ;            /* undisturbed runs differ byte by byte, and --compare-command decides */
	bool other_node;              /* there is one on which the job may run */
	enum qualify_trouble trouble; /* that ended everything */
	char why[400];
	unsigned n_runs;
	struct qualify_run runs[QUALIFY_KINDS];

	/* made by judge() */
	enum qualify_verdict verdict;
	bool moved; /* a restart was on another node than its checkpoint */
	struct qualify_lines reasons, remarks, advice, untested;
	struct qualify_measure frozen, total, restore, bytes;
	int64_t slower_ppm;    /* by which a run with cycles takes longer than one without; INT64_MIN = not known */
	int64_t cycle_cost_us; /* the same per cycle; INT64_MIN = not known */
};

/* The run of a kind; NULL: there was none. */
const struct qualify_run *qualify_find_run(const struct qualify_result *r, enum qualify_kind k);
unsigned qualify_cycles_done(const struct qualify_run *run);
void qualify_add(struct qualify_lines *l, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void qualify_free(struct qualify_result *r);

#endif
