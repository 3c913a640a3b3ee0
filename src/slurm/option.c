#include "slurm/option.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uuid.h>
#include <nettle/sha2.h>

#include "base/interval.h"
#include "base/util.h"

static const char *option_value_of(const char *element, const char *name, size_t len)
{
	return !strncmp(element, name, len) && element[len] == '=' ? element + len + 1 : NULL;
}

const struct mpi_variable mpi_variables[MPI_VARIABLES] = {
	{ "HYDRA_LAUNCHER", "fork" }, /* MPICH and its kin; stronger than HYDRA_BOOTSTRAP, which sbatch sets */
	{ MPI_INTEL, "fork" },
	/* Open MPI 4 takes this node for a remote one, and uses srun, if Slurm's name of the node differs from the host
	   name. */
	{ "OMPI_MCA_plm", "isolated" },
	{ "OMPI_MCA_ras", "^slurm" },
	{ "OMPI_MCA_orte_set_default_slots", NULL },
	/* Open MPI 5 starts its ranks by PRRTE, which does the same, has no "isolated", and takes each OMPI_MCA_
	   variable of its frameworks for its own unless there is one with its prefix. */
	{ "PRTE_MCA_plm", "^slurm" },
	{ "PRTE_MCA_ras", "^slurm" },
	{ "PRTE_MCA_prte_set_default_slots", NULL },
};

const char *option_in_env(const char *element)
{
	if (element[0] == '_')
		return option_value_of(element, OPTION_ENV, strlen(OPTION_ENV));
	if (element[0] == 'S')
		return option_value_of(element, OPTION_ENV_JOB, strlen(OPTION_ENV_JOB));
	return NULL;
}

const char *option_limit_in_env(const char *element)
{
	const char *value = option_value_of(element, OPTION_LIMIT_ENV, strlen(OPTION_LIMIT_ENV));

	return value ? value : option_value_of(element, OPTION_LIMIT_ENV_JOB, strlen(OPTION_LIMIT_ENV_JOB));
}

int option_limit_parse(const char *value, struct option_value *v, struct err *err)
{
	static const char with_total[] = "continue:";

	v->total = 0;
	v->at_limit = OPTION_LIMIT_HOLD;
	if (!*value || !strcmp(value, "(null)") || !strcmp(value, "hold"))
		return 0;
	v->at_limit = OPTION_LIMIT_CONTINUE;
	if (!strcmp(value, "continue"))
		return 0;
	if (strncmp(value, with_total, sizeof(with_total) - 1))
		return err_set(err, EINVAL, "allowed: hold, continue, or continue:TIME");
	if (interval_parse(value + sizeof(with_total) - 1, &v->total, err))
		return err_wrap(err, "the running time after which the job is held");
	return 0;
}

const char *option_tcp_in_env(const char *element)
{
	const char *value = option_value_of(element, OPTION_TCP_ENV, strlen(OPTION_TCP_ENV));

	return value ? value : option_value_of(element, OPTION_TCP_ENV_JOB, strlen(OPTION_TCP_ENV_JOB));
}

int option_tcp_parse(const char *value, enum option_tcp *tcp)
{
	*tcp = !strcmp(value, "close")    ? OPTION_TCP_CLOSE
	       : !strcmp(value, "refuse") ? OPTION_TCP_REFUSE
					  : OPTION_TCP_NONE;
	return *tcp == OPTION_TCP_NONE ? -1 : 0;
}

const char *option_requeue_in_env(const char *element)
{
	const char *value = option_value_of(element, OPTION_REQUEUE_ENV, strlen(OPTION_REQUEUE_ENV));

	return value ? value : option_value_of(element, OPTION_REQUEUE_ENV_JOB, strlen(OPTION_REQUEUE_ENV_JOB));
}

int option_requeue_parse(const char *value, enum option_requeue *on_requeue)
{
	*on_requeue = !strcmp(value, "resume")    ? OPTION_REQUEUE_RESUME
		      : !strcmp(value, "restart") ? OPTION_REQUEUE_RESTART
						  : OPTION_REQUEUE_NONE;
	return *on_requeue == OPTION_REQUEUE_NONE ? -1 : 0;
}

/* The number of a signal by its number or name, which ends at end; 0: there is none, or nobody can handle it. */
static int option_signal_number(const char *name, const char *end)
{
	static const struct {
		const char *name;
		int number;
	} names[] = { { "HUP", SIGHUP },   { "INT", SIGINT },   { "QUIT", SIGQUIT },
		      { "USR1", SIGUSR1 }, { "USR2", SIGUSR2 }, { "TERM", SIGTERM },
		      { "ALRM", SIGALRM }, { "URG", SIGURG },   { "CONT", SIGCONT } };
	char *stop;
	long number = strtol(name, &stop, 10);

	if (stop == end && *name >= '1' && *name <= '9')
		return number < 65 && number != SIGKILL && number != SIGSTOP ? (int)number : 0;
	name += strncmp(name, "SIG", 3) ? 0 : 3;
	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (strlen(names[i].name) == (size_t)(end - name) && !strncmp(names[i].name, name, (size_t)(end - name)))
			return names[i].number;
	return 0;
}

int option_signal_parse(const char *value, struct option_signal *s, struct err *err)
{
	const bool script_only = !strncmp(value, "B:", 2);
	const char *name = value + (script_only ? 2 : 0), *at = strchr(name, '@');
	const int number = at ? option_signal_number(name, at) : 0;
	char *end;
	unsigned long seconds = at ? strtoul(at + 1, &end, 10) : 0;

	if (!number || at[1] < '0' || at[1] > '9' || *end || seconds < 1 || seconds > OPTION_SIGNAL_SECONDS_MAX)
		return err_set(err, EINVAL,
			       "allowed: [B:]SIGNAL@SECONDS, SIGNAL a number or HUP, INT, QUIT, USR1, USR2, TERM, ALRM, URG "
			       "or CONT, SECONDS 1 to %d",
			       OPTION_SIGNAL_SECONDS_MAX);
	*s = (struct option_signal){ .number = number, .script_only = script_only, .seconds = (unsigned)seconds };
	return 0;
}

/* "[l|n[SECONDS]][c|r][b|u]" */
static int option_parse_flags(const char *text, struct option_value *v)
{
	v->at_limit = *text == 'l' ? OPTION_LIMIT_HOLD : *text == 'n' ? OPTION_LIMIT_CONTINUE : OPTION_LIMIT_NONE;
	text += v->at_limit != OPTION_LIMIT_NONE;
	while (v->at_limit == OPTION_LIMIT_CONTINUE && *text >= '0' && *text <= '9' && v->total <= INTERVAL_MAX)
		v->total = v->total * 10 + (*text++ - '0');
	if (v->total > INTERVAL_MAX)
		return -1;
	v->tcp = *text == 'c' ? OPTION_TCP_CLOSE : *text == 'r' ? OPTION_TCP_REFUSE : OPTION_TCP_NONE;
	text += v->tcp != OPTION_TCP_NONE;
	v->on_requeue = *text == 'b'   ? OPTION_REQUEUE_RESTART
			: *text == 'u' ? OPTION_REQUEUE_RESUME
				       : OPTION_REQUEUE_NONE;
	text += v->on_requeue != OPTION_REQUEUE_NONE;
	return *text ? -1 : 0;
}

int option_parse_submitted(const char *value, struct option_value *v, struct err *err)
{
	size_t len = strcspn(value, "/");

	memset(v, 0, sizeof(*v));
	/* A longer text is no time: it is cut for the message of the refusal. */
	if (len >= sizeof(v->interval_text))
		len = sizeof(v->interval_text) - 1;
	memcpy(v->interval_text, value, len);
	return interval_parse_option(v->interval_text, &v->interval, err);
}

int option_parse(const char *value, struct option_value *v, struct err *err)
{
	const char *uuid = strchr(value, '/');
	const char *mode = uuid ? strchr(uuid + 1, '/') : NULL;

	if (option_parse_submitted(value, v, err))
		return -1;
	if (!uuid)
		return err_set(err, ENOENT,
			       "the job_submit plugin of fsched did not see this job: slurm.conf of the controller "
			       "needs JobSubmitPlugins=fsched (and a restart of slurmctld)");
	if ((size_t)(uuid - value) >= sizeof(v->interval_text) || !mode || mode - uuid != UUID_TEXT_LEN + 1 ||
	    (mode[1] != 't' && mode[1] != 'a') || option_parse_flags(mode + 2, v))
		return err_set(err, EINVAL,
			       "the value of --checkpoint in the job's environment is malformed; was it set by hand?");
	memcpy(v->uuid, uuid + 1, UUID_TEXT_LEN);
	v->truncate = mode[1] == 't';
	if (!uuid_text_valid(v->uuid))
		return err_set(
			err, EINVAL,
			"the value of --checkpoint in the job's environment has no valid uuid; was it set by hand?");
	return 0;
}

char *option_format(const struct option_value *v, char *buf, size_t len)
{
	static const char *const tcp[] = { [OPTION_TCP_NONE] = "", [OPTION_TCP_REFUSE] = "r", [OPTION_TCP_CLOSE] = "c" };

	static const char *const limit[] = {
		[OPTION_LIMIT_NONE] = "", [OPTION_LIMIT_HOLD] = "l", [OPTION_LIMIT_CONTINUE] = "n"
	};
	static const char *const requeue[] = {
		[OPTION_REQUEUE_NONE] = "", [OPTION_REQUEUE_RESUME] = "u", [OPTION_REQUEUE_RESTART] = "b"
	};
	char total[24] = "";

	if (v->total)
		snprintf(total, sizeof(total), "%lld", (long long)v->total);
	snprintf(buf, len, "%s/%s/%c%s%s%s%s", v->interval_text, v->uuid, v->truncate ? 't' : 'a', limit[v->at_limit],
		 total, tcp[v->tcp], requeue[v->on_requeue]);
	return buf;
}

void option_uuid_of_task(const char *array_uuid, uint32_t task, char uuid[UUID_TEXT_LEN + 1])
{
	char text[UUID_TEXT_LEN + 16];
	struct sha256_ctx sha;
	uuid_t u;

	snprintf(text, sizeof(text), "%s_%u", array_uuid, task);
	sha256_init(&sha);
	sha256_update(&sha, strlen(text), (const uint8_t *)text);
	sha256_digest(&sha, sizeof(u), u);
	/* RFC 4122: version 5, made from a name, in the seventh byte; the variant in the ninth. libuuid would take
	 * SHA-1. */
	u[6] = (u[6] & 0x0f) | 5 << 4;
	u[8] = (u[8] & 0x3f) | 0x80;
	uuid_unparse_lower(u, uuid);
}
