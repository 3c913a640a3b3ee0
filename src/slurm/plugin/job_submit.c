/* job_submit/fsched: runs in slurmctld when a job is submitted.
 *
 * A job without --checkpoint is not changed, except for variables that it has inherited from another job
 * (drop_inherited()). A job with the option is checked, may be requeued, appends to its output (Slurm would truncate
 * the output of a requeued job), runs on one node, and gets its uuid and its Checkpoint entry.
 *
 * Strings that slurmctld frees must come from Slurm's allocator; any other string makes slurmctld abort. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <slurm/slurm.h>
#include <slurm/slurm_errno.h>
#include <slurm/spank.h>

#include "base/conf.h"
#include "base/interval.h"
#include "base/status.h"
#include "base/util.h"
#include "slurm/auth.h"
#include "slurm/option.h"
#include "slurm/plugin/requeue_start.h"

#define EXPORT __attribute__((visibility("default")))

/* Exported by libslurm, but in no public header. */
char *slurm_xstrdup(const char *text);
void slurm_xfree(void **p);
/* slurmctld's configuration in memory. Weak, so that the plugin can be loaded by a Slurm that does not export it. */
extern slurm_conf_t slurm_conf __attribute__((weak));

int init(void);
int fini(void);
int job_submit(job_desc_msg_t *d, uint32_t uid, char **err_msg);
int job_modify(job_desc_msg_t *d, void *job, uint32_t uid);

EXPORT extern const char plugin_name[];
EXPORT extern const char plugin_type[];
EXPORT extern const uint32_t plugin_version;
const char plugin_name[] = "Checkpoint of batch jobs: submit filter";
const char plugin_type[] = "job_submit/fsched";
const uint32_t plugin_version = SLURM_VERSION_NUMBER;

EXPORT int init(void)
{
	requeue_start();
	return SLURM_SUCCESS;
}

EXPORT int fini(void)
{
	requeue_stop();
	return SLURM_SUCCESS;
}

__attribute__((format(printf, 3, 4))) static int submit_refuse(char **err_msg, int code, const char *fmt, ...)
{
	char text[1024];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (err_msg && !*err_msg)
		*err_msg = slurm_xstrdup(text);
	return code;
}

static const char *find_value(char *const *env, uint32_t size)
{
	uint32_t i;

	for (i = 0; env && i < size; i++) {
		const char *value = env[i] ? option_in_env(env[i]) : NULL;

		if (value)
			return value;
	}
	return NULL;
}

/* The value of the first element in which read() finds one, else NULL. */
static const char *find_in_env(const job_desc_msg_t *d, const char *(*read)(const char *element))
{
	const char *value = NULL;

	for (uint32_t i = 0; d->environment && i < d->env_size && !value; i++)
		value = d->environment[i] ? read(d->environment[i]) : NULL;
	return value;
}

/* Rewrites every copy of the variable: slurmstepd, sbatch and a shell may each read a different one. */
static void rewrite_env(job_desc_msg_t *d, const struct option_value *v)
{
	char value[OPTION_MAX], element[sizeof(OPTION_ENV_JOB) + OPTION_MAX];
	uint32_t i;

	option_format(v, value, sizeof(value));
	for (i = 0; i < d->env_size; i++) {
		if (!d->environment[i] || !option_in_env(d->environment[i]))
			continue;
		snprintf(element, sizeof(element), "%s=%s", d->environment[i][0] == '_' ? OPTION_ENV : OPTION_ENV_JOB,
			 value);
		slurm_xfree((void **)&d->environment[i]);
		d->environment[i] = slurm_xstrdup(element);
	}
}

static bool is_variable(const char *element, const char *name)
{
	const size_t n = strlen(name);

	return !strncmp(element, name, n) && element[n] == '=';
}

/* Whether the SPANK plugin has set the variable in the job from which this one is submitted. The user has not asked for
 * it, and this job may use several nodes. */
static bool set_for_other_job(const char *element, const char *set)
{
	for (int i = 0; set && i < MPI_VARIABLES; i++)
		if (is_variable(element, mpi_variables[i].name) && strstr(set, mpi_variables[i].name))
			return true;
	return is_variable(element, MPI_SET_ENV);
}

static const char *find_variable(const job_desc_msg_t *d, const char *name)
{
	for (uint32_t i = 0; i < d->env_size; i++)
		if (d->environment[i] && is_variable(d->environment[i], name))
			return d->environment[i] + strlen(name) + 1;
	return NULL;
}

/* Removes variables that a job submitted from inside another job must not inherit. restart_count: also
 * SLURM_RESTART_COUNT, which Slurm sets itself, but only from the second start on. */
static void drop_inherited(job_desc_msg_t *d, bool restart_count)
{
	const char *found = find_variable(d, MPI_SET_ENV);
	cleanup_free char *set = found ? xstrdup(found) : NULL;
	uint32_t i, kept = 0;

	for (i = 0; i < d->env_size; i++) {
		char *e = d->environment[i];

		if (e && (set_for_other_job(e, set) || (restart_count && is_variable(e, "SLURM_RESTART_COUNT"))))
			slurm_xfree((void **)&d->environment[i]);
		else
			d->environment[kept++] = e;
	}
	/* Slurm also iterates such arrays up to a NULL. */
	for (i = kept; i < d->env_size; i++)
		d->environment[i] = NULL;
	d->env_size = kept;
}

/* The most nodes that the user has asked for; 0 = he has not said. */
static uint32_t nodes_asked(const job_desc_msg_t *d)
{
	uint32_t n = 0;

	if (d->min_nodes != NO_VAL)
		n = d->min_nodes;
	if (d->max_nodes != NO_VAL && d->max_nodes > n)
		n = d->max_nodes;
	if (d->req_nodes) {
		struct hostlist *list = slurm_hostlist_create(d->req_nodes);
		int count = list ? slurm_hostlist_count(list) : 0;

		if (list)
			slurm_hostlist_destroy(list);
		if (count > 0 && (uint32_t)count > n)
			n = (uint32_t)count;
	}
	return n;
}

static int check_cluster(struct conf *conf, char **err_msg)
{
	struct err err;

	if (conf_load(conf, NULL, &err)) {
		slurm_error("job_submit/fsched: %s", err.text);
		return submit_refuse(err_msg, ESLURM_DISABLED,
				     "--checkpoint: the cluster's fsched.conf cannot be used: %s. "
				     "Tell your administrator, or submit without --checkpoint.",
				     err.text);
	}
	if (conf->criu_enabled && &slurm_conf && auth_check_munge(slurm_conf.authtype, conf->munge_socket, &err))
		return submit_refuse(err_msg, ESLURM_DISABLED,
				     "--checkpoint: on slurmctld's host: %s. Tell your administrator.", err.text);
	if (conf->criu_enabled)
		return SLURM_SUCCESS;
	if (conf->path[0])
		return submit_refuse(err_msg, ESLURM_DISABLED,
				     "--checkpoint: this cluster has checkpointing switched off (CheckpointType "
				     "is checkpoint/none in %s). Submit without --checkpoint, or ask your administrator to set "
				     "CheckpointType = checkpoint/criu.",
				     conf->path);
	return submit_refuse(
		err_msg, ESLURM_DISABLED,
		"--checkpoint: this cluster has checkpointing switched off (the controller has no "
		"fsched.conf beside its slurm.conf). Submit without --checkpoint, or ask your administrator for an fsched.conf "
		"with CheckpointType = checkpoint/criu.");
}

static int check_job(const job_desc_msg_t *d, char **err_msg)
{
	uint32_t nodes = nodes_asked(d);

	if (!d->script)
		return submit_refuse(
			err_msg, ESLURM_NOT_SUPPORTED,
			"--checkpoint works with sbatch only: an allocation of salloc or srun has "
			"no batch script that could be restored. Put the commands into a script, or leave --checkpoint out.");
	if (d->het_job_offset != NO_VAL)
		return submit_refuse(err_msg, ESLURM_NOT_SUPPORTED,
				     "--checkpoint does not work with heterogeneous jobs: their components run "
				     "on several nodes. Submit one plain job, or leave --checkpoint out.");
	if (nodes > 1)
		return submit_refuse(err_msg, ESLURM_INVALID_NODE_COUNT,
				     "--checkpoint works with jobs on one node; this one asks for up to %u. "
				     "Use -N1, or leave --checkpoint out.",
				     nodes);
	return SLURM_SUCCESS;
}

static bool output_is_truncated(const job_desc_msg_t *d)
{
	if (d->open_mode == OPEN_MODE_APPEND || d->open_mode == OPEN_MODE_TRUNCATE)
		return d->open_mode == OPEN_MODE_TRUNCATE;
	return !&slurm_conf || !slurm_conf.job_file_append;
}

static void set_entry(job_desc_msg_t *d, const struct option_value *v)
{
	struct status status = { .state = STATUS_ENABLED, .interval = v->interval };
	cleanup_free char *text = NULL;

	snprintf(status.uuid, sizeof(status.uuid), "%s", v->uuid);
	text = status_replace(d->admin_comment, &status);
	slurm_xfree((void **)&d->admin_comment);
	d->admin_comment = slurm_xstrdup(text);
}

static const char *hook_value(const job_desc_msg_t *d, const char *name)
{
	char second[128];
	const char *value = find_variable(d, name);

	snprintf(second, sizeof(second), OPTION_ENV_PREFIX "%s", name);
	return value ? value : find_variable(d, second);
}

/* The name of a hook's option that the job has, else NULL. */
static const char *hook_of(const job_desc_msg_t *d)
{
	return hook_value(d, OPTION_SIGNAL_ENV)   ? OPTION_SIGNAL
	       : hook_value(d, OPTION_BEFORE_ENV) ? OPTION_BEFORE
	       : hook_value(d, OPTION_AFTER_ENV)  ? OPTION_AFTER
						  : NULL;
}

static int check_hooks(const job_desc_msg_t *d, char **err_msg)
{
	const char *sig = hook_value(d, OPTION_SIGNAL_ENV), *before = hook_value(d, OPTION_BEFORE_ENV),
		   *after = hook_value(d, OPTION_AFTER_ENV);
	struct option_signal s;
	struct err err;

	if (sig && option_signal_parse(sig, &s, &err))
		return submit_refuse(err_msg, ESLURM_NOT_SUPPORTED, "--checkpoint-signal: %s", err.text);
	if ((before && strlen(before) >= OPTION_COMMAND_MAX) || (after && strlen(after) >= OPTION_COMMAND_MAX))
		return submit_refuse(err_msg, ESLURM_NOT_SUPPORTED,
				     "--checkpoint-%s: the command is longer than %d bytes",
				     before && strlen(before) >= OPTION_COMMAND_MAX ? "before" : "after",
				     OPTION_COMMAND_MAX - 1);
	return SLURM_SUCCESS;
}

static int submit_enable(job_desc_msg_t *d, const char *value, char **err_msg)
{
	cleanup_free struct conf *conf = xcalloc(1, sizeof(*conf));
	struct option_value v;
	const char *tcp = find_in_env(d, option_tcp_in_env), *limit = find_in_env(d, option_limit_in_env),
		   *requeue = find_in_env(d, option_requeue_in_env);
	struct err err;
	int rc;

	rc = check_cluster(conf, err_msg);
	if (rc != SLURM_SUCCESS)
		return rc;
	if (option_parse_submitted(value, &v, &err) || interval_check_min(v.interval, conf->min_interval, &err))
		return submit_refuse(err_msg, ESLURM_INVALID_TIME_VALUE, "--checkpoint: %s", err.text);
	rc = check_job(d, err_msg);
	if (rc != SLURM_SUCCESS)
		return rc;
	uuid_text_new(v.uuid);
	v.truncate = output_is_truncated(d);
	if (limit && option_limit_parse(limit, &v, &err))
		return submit_refuse(err_msg, ESLURM_INVALID_TIME_VALUE, "--checkpoint-at-limit: %s", err.text);
	if (tcp && option_tcp_parse(tcp, &v.tcp))
		return submit_refuse(err_msg, ESLURM_NOT_SUPPORTED, "--checkpoint-tcp: allowed: refuse or close");
	if (requeue && option_requeue_parse(requeue, &v.on_requeue))
		return submit_refuse(err_msg, ESLURM_NOT_SUPPORTED,
				     "--checkpoint-on-requeue: allowed: resume or restart");
	rc = check_hooks(d, err_msg);
	if (rc != SLURM_SUCCESS)
		return rc;
	d->requeue = 1;
	d->open_mode = OPEN_MODE_APPEND;
	d->max_nodes = 1;
	rewrite_env(d, &v);
	drop_inherited(d, true);
	set_entry(d, &v);
	return SLURM_SUCCESS;
}

EXPORT int job_submit(job_desc_msg_t *d, uint32_t uid, char **err_msg)
{
	const char *value = find_value(d->environment, d->env_size);

	/* salloc and srun pass the option in spank_job_env, not in the environment. */
	if (!value && !d->script)
		value = find_value(d->spank_job_env, d->spank_job_env_size);
	if (!value && find_in_env(d, option_limit_in_env))
		return submit_refuse(err_msg, ESLURM_NOT_SUPPORTED,
				     "--checkpoint-at-limit needs --checkpoint too: a job without checkpoints "
				     "cannot be continued after its time limit.");
	if (!value && find_in_env(d, option_tcp_in_env))
		return submit_refuse(err_msg, ESLURM_NOT_SUPPORTED, "--checkpoint-tcp needs --checkpoint too.");
	if (!value && find_in_env(d, option_requeue_in_env))
		return submit_refuse(err_msg, ESLURM_NOT_SUPPORTED, "--checkpoint-on-requeue needs --checkpoint too.");
	if (!value && d->environment && hook_of(d))
		return submit_refuse(err_msg, ESLURM_NOT_SUPPORTED, "--%s needs --checkpoint too.", hook_of(d));
	if (value)
		return submit_enable(d, value, err_msg);
	if (d->environment)
		drop_inherited(d, false);
	return SLURM_SUCCESS;
}

EXPORT int job_modify(job_desc_msg_t *d, void *job, uint32_t uid)
{
	return SLURM_SUCCESS;
}
