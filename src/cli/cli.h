/* The commands of `fsched` and what they have in common: exit status, options, texts. */
#ifndef FSCHED_CLI_CLI_H
#define FSCHED_CLI_CLI_H

#include <stdio.h>
#include "base/conf.h"
#include "base/err.h"

/* Exit status of every command. */
enum {
	CLI_OK = 0,
	CLI_FAILED = 1,
	CLI_USAGE = 2,
	CLI_LATER = 3, /* nothing failed, but it has not happened yet: the operation goes on by itself */
};

struct command {
	const char *name;
	int (*run)(int argc, char **argv); /* argv[0] is the name of the command */
	const char *args;                  /* behind the name in the synopsis */
	const char *summary;               /* a line of `fsched help` */
	const char *help;                  /* the options, one per line; NULL: the command has --help of its own */
};

int checkpoint_cmd(int argc, char **argv);
int list_cmd(int argc, char **argv);
int show_cmd(int argc, char **argv);
int export_cmd(int argc, char **argv);
int prune_cmd(int argc, char **argv);
int config_cmd(int argc, char **argv);
int doctor_cmd(int argc, char **argv);
int pod_cmd(int argc, char **argv);

/* "fsched checkpoint: text" to standard error. */
void cli_error(const char *command, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* The same and where help is to be found; returns CLI_USAGE. */
int cli_usage(const char *command, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* After getopt has said what it does not like: where help is to be found; returns CLI_USAGE. */
int cli_bad_option(const char *command);
/* Prints the help of a command from the table; returns CLI_OK. */
int cli_help(const char *command);

/* A decimal number within [min, max], nothing around it. 0 or -1. */
int cli_number(const char *text, long min, long max, long *out);

/* Options of a command that takes only --conf FILE (and --help). The operands begin at argv[optind].
 * 0, or an exit status + 1 with which to end. */
int cli_conf_option(const char *command, int argc, char **argv, const char **conf);

/* fsched.conf, or -1 with the message printed. path NULL: searched for. */
int cli_conf(const char *command, const char *path, struct conf *c);

#endif
