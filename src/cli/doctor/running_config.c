#include "cli/doctor/running_config.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "cli/doctor/in_child.h"

#define MAX_SIZE (1u << 20)

static int running_config_exec(const void *arg, FILE *out)
{
	dup2(fileno(out), STDOUT_FILENO);
	execlp("scontrol", "scontrol", "show", "config", (char *)NULL);
	fprintf(stderr, "scontrol cannot be run: %s\n", strerror(errno));
	return 127;
}

char *running_config_load(struct err *err)
{
	int status;
	char *text = in_child(running_config_exec, NULL, MAX_SIZE, &status);

	if (status == 0)
		return text;
	text[strcspn(text, "\n")] = '\0';
	err_set(err, EIO, "%s", text);
	free(text);
	return NULL;
}

/* The value of "Key   = value". */
char *running_config_value(const char *config, const char *key)
{
	const size_t len = strlen(key);

	for (const char *p = config; p; p = strchr(p, '\n')) {
		p += *p == '\n';
		if (strncasecmp(p, key, len) != 0 || (p[len] != ' ' && p[len] != '='))
			continue;
		p += len + strspn(p + len, " ");
		if (*p != '=')
			continue;
		p += 1 + strspn(p + 1, " ");
		if (strncmp(p, "(null)", 6) == 0)
			return NULL;
		return strndup(p, strcspn(p, "\n"));
	}
	return NULL;
}
