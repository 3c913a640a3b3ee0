#include "launch/job.h"

#include <ctype.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/slurmconf.h"
#include "base/util.h"

/* The first number of "4", "4(x2),8". */
static int job_first_number(const char *text)
{
	return text && isdigit((unsigned char)*text) ? atoi(text) : 0;
}

static int job_setting(const char *conf, const char *key, int missing)
{
	cleanup_free char *value = conf ? slurmconf_value(conf, key) : NULL;

	return value && isdigit((unsigned char)*value) ? atoi(value) : missing;
}

static void job_names(struct job *j)
{
	const char *node = getenv("SLURMD_NODENAME"), *user = getenv("SLURM_JOB_USER");
	const struct passwd *pw;

	if (gethostname(j->host, sizeof(j->host) - 1))
		j->host[0] = '\0';
	j->host[strcspn(j->host, ".")] = '\0';
	snprintf(j->node, sizeof(j->node), "%s", node ? node : j->host);
	pw = user ? NULL : getpwuid(getuid());
	if (user || pw)
		snprintf(j->user, sizeof(j->user), "%s", user ? user : pw->pw_name);
	else
		snprintf(j->user, sizeof(j->user), "%u", getuid());
}

static void job_settings(struct job *j, struct options *o)
{
	const char *conf = slurmconf_path();
	cleanup_free char *plugin = conf ? slurmconf_value(conf, "TaskPlugin") : NULL;
	cleanup_free char *mpi = conf ? slurmconf_value(conf, "MpiDefault") : NULL;

	j->binding = plugin && (strstr(plugin, "affinity") || strstr(plugin, "cgroup"));
	j->file_append = job_setting(conf, "JobFileAppend", 0) != 0;
	j->kill_wait = job_setting(conf, "KillWait", 30);
	j->ctld_timeout = job_setting(conf, "SlurmctldTimeout", 120);
	if (conf) {
		j->task_prolog = slurmconf_value(conf, "TaskProlog");
		j->task_epilog = slurmconf_value(conf, "TaskEpilog");
		j->prolog = slurmconf_value(conf, "SrunProlog");
		j->epilog = slurmconf_value(conf, "SrunEpilog");
	}
	if (o->kill_on_bad_exit < 0)
		o->kill_on_bad_exit = job_setting(conf, "KillOnBadExit", 0);
	if (o->wait < 0)
		o->wait = job_setting(conf, "WaitTime", 0);
	/* Where Slurm has no default, MPI programs that know PMI get it too. */
	if (!o->mpi_given)
		o->mpi = MPI_PMI2;
	if (!o->mpi_given && mpi && strcmp(mpi, "none") != 0)
		o->mpi = !strncmp(mpi, "pmix", 4) ? MPI_PMIX : !strcmp(mpi, "pmi2") ? MPI_PMI2 : MPI_NONE;
}

void job_read(struct job *j, struct options *o)
{
	*j = (struct job){ .id = getenv("SLURM_JOB_ID") };
	job_names(j);
	job_settings(j, o);
	CPU_ZERO(&j->allowed);
	if (sched_getaffinity(0, sizeof(j->allowed), &j->allowed))
		CPU_ZERO(&j->allowed);
	j->cpus = job_first_number(getenv("SLURM_JOB_CPUS_PER_NODE"));
	if (j->cpus <= 0)
		j->cpus = job_first_number(getenv("SLURM_CPUS_ON_NODE"));
	if (j->cpus <= 0)
		j->cpus = CPU_COUNT(&j->allowed) ? CPU_COUNT(&j->allowed) : 1;
}
