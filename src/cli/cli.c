#include "cli/cli.h"

#include <errno.h>
#include <getopt.h>
#include <pwd.h>
#include <stdarg.h>
#include <stdlib.h>

void cli_error(const char *command, const char *fmt, ...)
{
	va_list ap;

	fprintf(stderr, "fsched %s: ", command);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
}

int cli_usage(const char *command, const char *fmt, ...)
{
	va_list ap;

	fprintf(stderr, "fsched %s: ", command);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fprintf(stderr, "\nTry \"fsched help %s\".\n", command);
	return CLI_USAGE;
}

int cli_bad_option(const char *command)
{
	fprintf(stderr, "Try \"fsched help %s\".\n", command);
	return CLI_USAGE;
}

int cli_number(const char *text, long min, long max, long *out)
{
	char *end;
	long v;

	if (*text < '0' || *text > '9')
		return -1;
	errno = 0;
	v = strtol(text, &end, 10);
	if (errno || *end || v < min || v > max)
		return -1;
	*out = v;
	return 0;
}

/* json: the first option, which a command may not have; NULL = it has not. */
static int cli_read_options(const char *command, int argc, char **argv, const char **conf, bool *json)
{
	static const struct option options[] = { { "json", no_argument, NULL, 'j' },
						 { "conf", required_argument, NULL, 'c' },
						 { "help", no_argument, NULL, 'h' },
						 { NULL, 0, NULL, 0 } };
	int c;

	while ((c = getopt_long(argc, argv, "h", json ? options : options + 1, NULL)) != -1) {
		switch (c) {
		case 'j': *json = true; break;
		case 'c': *conf = optarg; break;
		case 'h': return cli_help(command) + 1;
		default: return cli_bad_option(command) + 1;
		}
	}
	return 0;
}

int cli_conf_option(const char *command, int argc, char **argv, const char **conf)
{
	return cli_read_options(command, argc, argv, conf, NULL);
}

int cli_json_option(const char *command, int argc, char **argv, const char **conf, bool *json)
{
	return cli_read_options(command, argc, argv, conf, json);
}

int cli_user(const char *user, uid_t *uid, struct err *err)
{
	const struct passwd *pw = getpwnam(user);
	char *end;
	unsigned long n = strtoul(user, &end, 10);

	if (pw)
		*uid = pw->pw_uid;
	else if (*user && !*end && n < UINT32_MAX)
		*uid = (uid_t)n;
	else
		return err_set(err, ENOENT, "there is no user \"%s\"", user);
	return 0;
}

int cli_conf(const char *command, const char *path, struct conf *c)
{
	struct err err;

	if (conf_load(c, path, &err) == 0) {
		if (!path || *c->path)
			return 0;
		err_set(&err, ENOENT, "%s: no such file", path);
	}
	cli_error(command, "%s", err.text);
	return -1;
}
