/* The commands of `fsched`, and what they share: exit status, options, messages. */
#ifndef FSCHED_CLI_CLI_H
#define FSCHED_CLI_CLI_H

#include <stdbool.h>
#include <stdio.h>
#include <sys/types.h>
#include "base/conf.h"
#include "base/err.h"

/* Exit status of every command. */
enum {
	CLI_OK = 0,
	CLI_FAILED = 1,
	CLI_USAGE = 2,
	CLI_LATER = 3, /* nothing failed, but the operation is not finished; it continues without the command */
};

/* The commands. argv[0] is the name of the command. Each returns its exit status. */
int checkpoint_cmd(int argc, char **argv);
int list_cmd(int argc, char **argv);
int show_cmd(int argc, char **argv);
int export_cmd(int argc, char **argv);
int verify_cmd(int argc, char **argv);
int prune_cmd(int argc, char **argv);
int config_cmd(int argc, char **argv);
int doctor_cmd(int argc, char **argv);
int metrics_cmd(int argc, char **argv);
int advise_cmd(int argc, char **argv);
int report_cmd(int argc, char **argv);
int qualify_cmd(int argc, char **argv);
int pod_cmd(int argc, char **argv);

/* Prints "fsched COMMAND: text" on standard error. */
void cli_error(const char *command, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* The same, with a second line that names the help. Returns CLI_USAGE. */
int cli_usage(const char *command, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Prints only the line that names the help, after getopt has printed its message. Returns CLI_USAGE. */
int cli_bad_option(const char *command);
/* Parses a decimal number in [min, max] without blanks or sign. 0 or -1. */
int cli_number(const char *text, long min, long max, long *out);

/* Options of a command that takes only --conf FILE (and --help). The operands begin at argv[optind].
 * Returns 0, or the exit status + 1 with which the program is to end. */
int cli_conf_option(const char *command, int argc, char **argv, const char **conf);

/* The same with --json. */
int cli_json_option(const char *command, int argc, char **argv, const char **conf, bool *json);

/* A user by name, or by number. -1 with err: nobody has the name. */
int cli_user(const char *user, uid_t *uid, struct err *err);

/* Loads fsched.conf. path NULL: searches for it. -1: the message has been printed. */
int cli_conf(const char *command, const char *path, struct conf *c);

/* ---- help.c: the usage texts */

/* Prints that of a command. Returns CLI_OK. */
int cli_help(const char *command);
/* False: the command prints --help itself. */
bool cli_has_help(const char *command);
/* Prints the list of all commands. */
void cli_overview(FILE *out);

#endif
