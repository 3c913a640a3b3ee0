/* What `fsched report` shows. The page is made of this alone (report_page.h). */
#ifndef FSCHED_CLI_REPORT_REPORT_DATA_H
#define FSCHED_CLI_REPORT_REPORT_DATA_H

#include "store/history.h"
#include "store/proofs.h"

struct report_job {
	uint32_t id;
	char label[64]; /* "12_3"; or of an older job with a used id "12 (older)" */
	char name[128]; /* Slurm's, "" = Slurm does not know the job any more. Of the user, any text */
	char user[64];  /* printable */
	char state[32]; /* Slurm's in lower case, or else the record's */
	char node[256]; /* that has or had it last */
	char uuid[37];
	bool running;
	bool aside;                 /* Slurm has used its id again */
	int64_t interval, used;     /* s */
	uint64_t kept, prunable;    /* bytes */
	unsigned n_epochs;          /* on disk */
	int64_t last;               /* Unix time of the last event */
	struct job_history history; /* events also of epochs that only the record has (older versions of fsched) */
	struct proofs *proofs;      /* restores on trial; owned. NULL: there was none */
};

struct report {
	int64_t now, since; /* since 0 = from the beginning */
	char scope[256];    /* which jobs these are, for people. Has texts of the command line */
	char host[256];
	unsigned hidden;          /* directories of others */
	struct report_job **jobs; /* the newest first */
	size_t n_jobs, jobs_room;
	struct history_tally tally; /* of these jobs */
};

/* Adds a job and owns it from then on. */
void report_add(struct report *r, struct report_job *j);
/* Newest first. */
void report_sort(struct report *r);
void report_free(struct report *r);
void report_free_job(struct report_job *j);

/* Fills a job from its record and history. */
void report_fill_job(struct report_job *j, const struct job_record *rec, const struct job_history *h);

/* For how long a job was where. */
struct report_stretch {
	int64_t from, to; /* Unix */
	char node[64];
	bool lost; /* its end has no event: the node has failed */
};
#define REPORT_STRETCHES 200
/* The stretches of a job, oldest first; the last ones if there are more. Returns their number. */
unsigned report_stretches(const struct report_job *j, int64_t now, struct report_stretch v[REPORT_STRETCHES]);

#endif
