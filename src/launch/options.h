/* The options of srun: those of the environment first, then those of the command line. */
#ifndef FSCHED_LAUNCH_OPTIONS_H
#define FSCHED_LAUNCH_OPTIONS_H

#include <stdbool.h>

enum open_mode { OPEN_MODE_DEFAULT, OPEN_MODE_APPEND, OPEN_MODE_TRUNCATE };
enum mpi_type { MPI_NONE, MPI_PMI2, MPI_PMIX };

/* Options that Slurm's srun takes itself or that are for a step of another job. */
enum options_use { USE_STEP, USE_SLURM };

struct options {
	int ntasks, cpus_per_task;                            /* 0 = not given */
	int min_nodes, max_nodes;                             /* 0 = not given */
	bool nodes_from_env;                                  /* -N was not on the command line */
	int per_node, per_core, per_socket, threads_per_core; /* --ntasks-per-…; 0 = not given */
	const char *input, *output, *error;                   /* patterns; NULL = all */
	enum open_mode open_mode;
	const char *chdir, *export_env, *job_name, *nodelist, *hint, *propagate;
	const char *bcast; /* where to copy the program, "" = the working directory; NULL = not at all */
	const char *cpu_bind, *mem_bind, *distribution, *prolog, *epilog, *task_prolog, *task_epilog;
	bool name_given; /* -J was on the command line */
	const char *pty; /* descriptor of the terminal in --pty=FD, "" without; NULL = no --pty */
	bool label, unbuffered, overlap, exact, overcommit, multi_prog, preserve_env, disable_status, quit_on_interrupt;
	bool external;        /* --external-launcher: an MPI's own launcher, which may use all that the job has */
	int kill_on_bad_exit; /* -1 = as slurm.conf says */
	int wait;             /* s after the first task has ended, 0 = unlimited; -1 = as slurm.conf says */
	int time_limit;       /* min, 0 = none */
	int immediate;        /* s, 0 = wait as long as it takes */
	enum mpi_type mpi;
	bool mpi_given, mpi_list;
	int verbose;
	bool quiet;
	int argc;
	char **argv; /* the command; argc of them and NULL */
};

/* Reads environment and command line. Says what is wrong with them and ends the program as srun does. Returns USE_SLURM
 * if the real srun must do this: --help, --usage, --version, --jobid of another job. */
enum options_use options_read(struct options *o, int argc, char **argv);

/* Parses "minutes", "minutes:seconds", "hours:minutes:seconds", "days-hours[:minutes[:seconds]]" or UNLIMITED.
 * Returns minutes, rounded up, 0 for UNLIMITED, or -1. */
int options_minutes(const char *text);

#endif
