/* The SPANK plugin: registers --checkpoint, and starts pod and agent in the batch step of a job that has the option.
 *
 * Only the callbacks may be exported: sbatch itself exports names like "opt", to which a global symbol of the same name
 * here would be bound. */
#include <errno.h>
#include <pwd.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <slurm/slurm.h>
#include <slurm/slurm_errno.h>

#include "base/conf.h"
#include "base/interval.h"
#include "base/util.h"
#include "slurm/option.h"
#include "slurm/plugin/spank_fsched.h"

#pragma GCC visibility push(default)
SPANK_PLUGIN(fsched, 1)
#pragma GCC visibility pop

#define EXPORT __attribute__((visibility("default")))

/* Static, because the plugin API has no place for state. A process handles one job. */
static struct spank_args plugin_args;
static struct spank_batch batch; /* value "" = nothing to do */
static struct spank_script script = { .gate = -1 };

static int parse_args(int ac, char **av)
{
	int i, rc = 0;

	snprintf(plugin_args.libexec, sizeof(plugin_args.libexec), "%s", FSCHED_LIBEXECDIR);
	plugin_args.conf[0] = '\0';
	for (i = 0; i < ac; i++) {
		if (!strncmp(av[i], "libexec=/", 9)) {
			snprintf(plugin_args.libexec, sizeof(plugin_args.libexec), "%s", av[i] + 8);
		} else if (!strncmp(av[i], "conf=/", 6)) {
			snprintf(plugin_args.conf, sizeof(plugin_args.conf), "%s", av[i] + 5);
		} else {
			slurm_error("fsched: plugstack.conf: unknown argument \"%s\"; allowed: libexec=/DIRECTORY conf=/FILE",
				    av[i]);
			rc = -1;
		}
	}
	return rc;
}

/* On the submit host, for an early message only: the job_submit plugin makes all checks again in slurmctld. */
static int check_submission(const char *value)
{
	cleanup_free struct conf *conf = NULL;
	struct err err;
	int64_t interval;

	if (spank_context() == S_CTX_LOCAL || !strcmp(program_invocation_short_name, "salloc")) {
		slurm_error(
			"--checkpoint works with sbatch only: put the commands into a batch script, or leave --checkpoint out");
		return -1;
	}
	if (interval_parse_option(value, &interval, &err)) {
		slurm_error("--checkpoint: %s", err.text);
		return -1;
	}
	conf = xcalloc(1, sizeof(*conf));
	if (conf_load(conf, plugin_args.conf[0] ? plugin_args.conf : NULL, NULL) || !conf->path[0])
		return 0;
	if (!conf->criu_enabled) {
		slurm_error(
			"--checkpoint: this cluster has checkpointing switched off (CheckpointType is checkpoint/none in %s). "
			"Submit without --checkpoint, or ask your administrator to set CheckpointType = checkpoint/criu.",
			conf->path);
		return -1;
	}
	if (interval_check_min(interval, conf->min_interval, &err)) {
		slurm_error("--checkpoint: %s", err.text);
		return -1;
	}
	warn_of_quota(conf);
	return 0;
}

static int on_option(int val, const char *value, int remote)
{
	if (!remote)
		return check_submission(value ? value : "");
	/* An invalid value is refused in slurm_spank_task_init_privileged(): a failure here would drain the node. */
	snprintf(batch.value, sizeof(batch.value), "%s", value ? value : "");
	return 0;
}

static struct spank_option checkpoint_option = {
	.name = (char[]){ OPTION_NAME },
	.arginfo = (char[]){ "interval" },
	.usage = (char[]){ "checkpoint the job at this interval, so that it can be vacated and restarted (scontrol checkpoint; "
			   "batch jobs on one node). interval: minutes, minutes:seconds, hours:minutes:seconds, days-hours, "
			   "days-hours:minutes, days-hours:minutes:seconds, UNLIMITED: on request only, or auto: as often as pays" },
	.has_arg = 1,
	.cb = on_option,
};

/* Only the job_submit plugin uses this option; it adds it to the value of --checkpoint. */
static int on_limit_option(int val, const char *value, int remote)
{
	struct option_value v;
	struct err err;

	if (remote)
		return 0;
	if (spank_context() == S_CTX_LOCAL || !strcmp(program_invocation_short_name, "salloc"))
		slurm_error("--checkpoint-at-limit works with sbatch only, together with --checkpoint");
	else if (option_limit_parse(value ? value : "", &v, &err))
		slurm_error("--checkpoint-at-limit: %s", err.text);
	else
		return 0;
	return -1;
}

static struct spank_option limit_option = {
	.name = (char[]){ OPTION_LIMIT },
	.arginfo = (char[]){ "hold|continue[:time]" },
	.usage = (char[]){ "with --checkpoint: save a job that is about to reach its time limit instead of killing it. hold (the default): it is "
			   "held in the queue until scontrol checkpoint restart. continue: it goes back into the queue and continues by itself, "
			   "until it has run for that time in all" },
	.has_arg = 2,
	.cb = on_limit_option,
};

/* Also only for the job_submit plugin. */
static int on_tcp_option(int val, const char *value, int remote)
{
	enum option_tcp tcp;

	if (remote)
		return 0;
	if (spank_context() == S_CTX_LOCAL || !strcmp(program_invocation_short_name, "salloc"))
		slurm_error("--checkpoint-tcp works with sbatch only, together with --checkpoint");
	else if (option_tcp_parse(value ? value : "", &tcp))
		slurm_error("--checkpoint-tcp: allowed: refuse or close");
	else
		return 0;
	return -1;
}

static struct spank_option tcp_option = {
	.name = (char[]){ OPTION_TCP },
	.arginfo = (char[]){ "refuse|close" },
	.usage = (char[]){ "with --checkpoint: what becomes of TCP connections to other hosts. refuse: no checkpoint is made while there is one. "
			   "close: checkpoints are made, and after a restart the connections are closed" },
	.has_arg = 1,
	.cb = on_tcp_option,
};

/* Also only for the job_submit plugin. */
static int on_requeue_option(int val, const char *value, int remote)
{
	enum option_requeue on_requeue;

	if (remote)
		return 0;
	if (spank_context() == S_CTX_LOCAL || !strcmp(program_invocation_short_name, "salloc"))
		slurm_error("--checkpoint-on-requeue works with sbatch only, together with --checkpoint");
	else if (option_requeue_parse(value ? value : "", &on_requeue))
		slurm_error("--checkpoint-on-requeue: allowed: resume or restart");
	else
		return 0;
	return -1;
}

static struct spank_option requeue_option = {
	.name = (char[]){ OPTION_REQUEUE },
	.arginfo = (char[]){ "resume|restart" },
	.usage = (char[]){ "with --checkpoint: what scontrol requeue from outside of the job does. resume: the job continues from its newest "
			   "checkpoint. restart: it starts over. A job that requeues itself always starts over" },
	.has_arg = 1,
	.cb = on_requeue_option,
};

/* The hooks. The node finds their values in the job's environment. */
static int on_hook_option(int val, const char *value, int remote)
{
	struct option_signal s;
	struct err err;

	if (remote)
		return 0;
	if (spank_context() == S_CTX_LOCAL || !strcmp(program_invocation_short_name, "salloc"))
		slurm_error("--checkpoint-signal, --checkpoint-before and --checkpoint-after work with sbatch only, together with "
			    "--checkpoint");
	else if (val && option_signal_parse(value ? value : "", &s, &err))
		slurm_error("--checkpoint-signal: %s", err.text);
	else
		return 0;
	return -1;
}

static struct spank_option hook_options[] = {
	{ .name = (char[]){ OPTION_SIGNAL },
	  .arginfo = (char[]){ "[B:]signal@seconds" },
	  .usage = (char[]){ "with --checkpoint: send the job this signal so many seconds before each checkpoint. B: to the batch script "
			     "alone. Processes that do not handle it do not get it" },
	  .has_arg = 1,
	  .val = 1,
	  .cb = on_hook_option },
	{ .name = (char[]){ OPTION_BEFORE },
	  .arginfo = (char[]){ "command" },
	  .usage = (char[]){ "with --checkpoint: run this command in the job before each checkpoint (sh -c; $FSCHED_EPOCH, $FSCHED_NODE)" },
	  .has_arg = 1,
	  .cb = on_hook_option },
	{ .name = (char[]){ OPTION_AFTER },
	  .arginfo = (char[]){ "command" },
	  .usage = (char[]){ "with --checkpoint: run this command in the job after it was restored" },
	  .has_arg = 1,
	  .cb = on_hook_option },
};

static bool is_batch_step(spank_t sp)
{
	uint32_t step = 0;

	return spank_context() == S_CTX_REMOTE && spank_get_item(sp, S_JOB_STEPID, &step) == ESPANK_SUCCESS &&
	       step == SLURM_BATCH_SCRIPT;
}

EXPORT int slurm_spank_init(spank_t sp, int ac, char **av)
{
	spank_context_t context = spank_context();
	int rc;

	if (context != S_CTX_LOCAL && context != S_CTX_ALLOCATOR && context != S_CTX_REMOTE)
		return 0;
	/* In a step slurm_spank_task_init_privileged() refuses wrong arguments: a failure here would drain the node. */
	if (parse_args(ac, av) && context != S_CTX_REMOTE)
		return -1;
	rc = spank_option_register(sp, &checkpoint_option);
	if (rc == ESPANK_SUCCESS)
		rc = spank_option_register(sp, &limit_option);
	if (rc == ESPANK_SUCCESS)
		rc = spank_option_register(sp, &tcp_option);
	if (rc == ESPANK_SUCCESS)
		rc = spank_option_register(sp, &requeue_option);
	for (size_t i = 0; rc == ESPANK_SUCCESS && i < ARRAY_SIZE(hook_options); i++)
		rc = spank_option_register(sp, &hook_options[i]);
	if (rc != ESPANK_SUCCESS)
		slurm_error("fsched: cannot register the option --checkpoint: %s", spank_strerror(rc));
	return 0;
}

static void find_hook(spank_t sp, const char *name, char *value, size_t len)
{
	char second[128];

	snprintf(second, sizeof(second), OPTION_ENV_PREFIX "%s", name);
	if (spank_getenv(sp, second, value, (int)len) != ESPANK_SUCCESS &&
	    spank_getenv(sp, name, value, (int)len) != ESPANK_SUCCESS)
		value[0] = '\0';
}

static void forget_hook(spank_t sp, const char *name)
{
	char second[128];

	snprintf(second, sizeof(second), OPTION_ENV_PREFIX "%s", name);
	spank_unsetenv(sp, second);
	spank_unsetenv(sp, name);
}

/* Looks up the user here: the process of the task is a fork of a process with threads, in which getpwuid_r() could
 * deadlock. */
EXPORT int slurm_spank_init_post_opt(spank_t sp, int ac, char **av)
{
	char buf[4096];
	struct passwd pw, *found = NULL;
	uid_t uid;

	if (!is_batch_step(sp))
		return 0;
	if (!batch.value[0] && spank_getenv(sp, OPTION_ENV_JOB, batch.value, sizeof(batch.value)) != ESPANK_SUCCESS)
		batch.value[0] = '\0';
	if (!batch.value[0] || spank_get_item(sp, S_JOB_UID, &uid) != ESPANK_SUCCESS)
		return 0;
	if (getpwuid_r(uid, &pw, buf, sizeof(buf), &found) == 0 && found)
		snprintf(batch.user, sizeof(batch.user), "%s", pw.pw_name);
	else
		snprintf(batch.user, sizeof(batch.user), "%u", uid);
	batch.stepd = getpid();
	outer_namespaces_note(batch.user_ns);
	find_hook(sp, OPTION_SIGNAL_ENV, batch.hook_signal, sizeof(batch.hook_signal));
	find_hook(sp, OPTION_BEFORE_ENV, batch.hook_before, sizeof(batch.hook_before));
	find_hook(sp, OPTION_AFTER_ENV, batch.hook_after, sizeof(batch.hook_after));
	return 0;
}

/* Fails the job; the text reaches the job's output. The callback does not return an error instead: Slurm ignores errors
 * of a plugin that is "optional" in plugstack.conf, and the job would run without checkpoints. */
static _Noreturn void fail_job(spank_t sp, const char *text)
{
	uint32_t job_id = 0;

	spank_get_item(sp, S_JOB_ID, &job_id);
	slurm_error("fsched: job %u cannot start with --checkpoint: %s", job_id, text);
	_exit(1);
}

EXPORT int slurm_spank_task_init_privileged(spank_t sp, int ac, char **av)
{
	struct err err;

	if (!is_batch_step(sp) || !batch.value[0])
		return 0;
	if (parse_args(ac, av))
		fail_job(sp, "the plugin's line in plugstack.conf is wrong");
	if (start_checkpointed(sp, &plugin_args, &batch, &script, &err))
		fail_job(sp, err.text);
	return 0;
}

/* Slurm sets SLURM_RESTART_COUNT just before the task starts, and S_SLURM_RESTART_COUNT is always 0. The job_submit
 * plugin has removed a value that the user had set. */
static unsigned restart_count(spank_t sp)
{
	char text[16];

	if (spank_getenv(sp, "SLURM_RESTART_COUNT", text, sizeof(text)) != ESPANK_SUCCESS || !text[0] ||
	    text[strspn(text, "0123456789")] || strlen(text) > 6)
		return 0;
	return (unsigned)atoi(text);
}

static bool is_in_env(spank_t sp, const char *name)
{
	char text[8];

	return spank_getenv(sp, name, text, sizeof(text)) != ESPANK_ENV_NOEXIST;
}

static bool is_env(spank_t sp, const char *name, const char *value)
{
	char text[32];

	return spank_getenv(sp, name, text, sizeof(text)) == ESPANK_SUCCESS && !strcmp(text, value);
}

/* What sbatch has set by itself is no choice of the user's. */
static void forget_default_of_intel_mpi(spank_t sp)
{
	if (!is_env(sp, MPI_INTEL, MPI_INTEL_SLURMS) || !is_env(sp, MPI_INTEL_ARGS, MPI_INTEL_ARGS_SLURMS))
		return;
	spank_unsetenv(sp, MPI_INTEL);
	spank_unsetenv(sp, MPI_INTEL_ARGS);
}

/* Keeps MPI's ranks in the pod: mpiexec starts them by srun wherever it detects a job of Slurm, even on one node. */
static void keep_mpi_inside(spank_t sp)
{
	char set[256] = "", tasks[16];
	bool openmpi = spank_getenv(sp, "SLURM_TASKS_PER_NODE", tasks, sizeof(tasks)) == ESPANK_SUCCESS &&
		       atoi(tasks) > 0;

	forget_default_of_intel_mpi(sp);
	snprintf(tasks, sizeof(tasks), "%d", openmpi ? atoi(tasks) : 0);
	for (int i = MPI_OPENMPI; i < MPI_VARIABLES; i++)
		openmpi &= !is_in_env(sp, mpi_variables[i].name);
	for (int i = 0; i < (openmpi ? MPI_VARIABLES : MPI_OPENMPI); i++) {
		const struct mpi_variable *v = &mpi_variables[i];
		const size_t n = strlen(set);

		if (!is_in_env(sp, v->name) && spank_setenv(sp, v->name, v->value ? v->value : tasks, 0) == ESPANK_SUCCESS)
			snprintf(set + n, sizeof(set) - n, "%s%s", n ? "," : "", v->name);
	}
	if (*set)
		spank_setenv(sp, MPI_SET_ENV, set, 1);
}

EXPORT int slurm_spank_task_init(spank_t sp, int ac, char **av)
{
	enum gate_answer answer;
	struct err err;
	char pid[16];

	/* Steps of the job, and jobs submitted from inside it, must not inherit the option. */
	spank_unsetenv(sp, OPTION_ENV_JOB);
	spank_unsetenv(sp, OPTION_ENV);
	spank_unsetenv(sp, OPTION_LIMIT_ENV_JOB);
	spank_unsetenv(sp, OPTION_LIMIT_ENV);
	spank_unsetenv(sp, OPTION_TCP_ENV_JOB);
	spank_unsetenv(sp, OPTION_TCP_ENV);
	spank_unsetenv(sp, OPTION_REQUEUE_ENV_JOB);
	spank_unsetenv(sp, OPTION_REQUEUE_ENV);
	forget_hook(sp, OPTION_SIGNAL_ENV);
	forget_hook(sp, OPTION_BEFORE_ENV);
	forget_hook(sp, OPTION_AFTER_ENV);
	if (script.gate < 0)
		return 0;
	reopen_stdio();
	snprintf(pid, sizeof(pid), "%d", getpid());
	spank_setenv(sp, "SLURM_TASK_PID", pid, 1);
	keep_mpi_inside(sp);
	*script.restarts = restart_count(sp);
	if (gate_wait(script.gate, &answer, &err))
		fail_job(sp, err.text);
	if (answer == GATE_EXIT)
		_exit(0);
	close(script.gate);
	script.gate = -1;
	return 0;
}

EXPORT int slurm_spank_exit(spank_t sp, int ac, char **av)
{
	if (is_batch_step(sp) && batch.value[0])
		cleanup_checkpointed(sp, &plugin_args, &batch);
	return 0;
}
