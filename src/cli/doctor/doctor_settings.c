/* What slurmctld's configuration says: of the running slurmctld, which may differ from slurm.conf on this node. */
#include "cli/doctor/doctor_settings.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/slurmconf.h"
#include "base/util.h"
#include "cli/doctor/doctor_report.h"
#include "cli/doctor/running_config.h"
#include "cli/doctor/slurm_faults.h"
#include "cli/plugstack.h"
#include "slurm/auth.h"

static char *settings_value(const struct settings *s, const char *key)
{
	return s->running ? running_config_value(s->running, key) : slurmconf_value(s->conf, key);
}

static void settings_job_submit(const struct settings *s)
{
	cleanup_free char *list = settings_value(s, "JobSubmitPlugins"),
			  *file = slurmconf_value(s->conf, "JobSubmitPlugins");

	if (slurmconf_has(list, "fsched") || slurmconf_has(list, "job_submit/fsched"))
		doctor_report(FINDING_OK, "JobSubmitPlugins", "%s", list);
	else if (slurmconf_has(file, "fsched") || slurmconf_has(file, "job_submit/fsched"))
		doctor_report(FINDING_FAILED, "JobSubmitPlugins",
			      "fsched is in %s, but the slurmctld that runs does not have it (%s); restart slurmctld, with this "
			      "slurm.conf on its host",
			      s->conf, list ? list : "none");
	else
		doctor_report(FINDING_FAILED, "JobSubmitPlugins",
			      "fsched is not in it; set JobSubmitPlugins=%s%sfsched in %s and restart slurmctld",
			      list ? list : "", list && *list ? "," : "", s->conf);
}

static void settings_proctrack(const struct settings *s)
{
	cleanup_free char *type = settings_value(s, "ProctrackType");

	if (type && strcasecmp(type, "proctrack/pgid") == 0)
		doctor_report(FINDING_FAILED, "ProctrackType",
			      "proctrack/pgid does not see the processes of a job's pod; "
			      "use proctrack/cgroup or proctrack/linuxproc");
	else
		doctor_report(FINDING_OK, "ProctrackType", "%s", type ? type : "Slurm's default");
}

static void settings_spool(const struct settings *s)
{
	cleanup_free char *dir = settings_value(s, "SlurmdSpoolDir");

	if (dir && (strstr(dir, "%n") || strstr(dir, "%h")))
		doctor_report(FINDING_WARNING, "SlurmdSpoolDir",
			      "%s differs from node to node; a batch script is put back under its old path, "
			      "which should be the same on all nodes",
			      dir);
}

static void settings_auth(const struct settings *s, const char *munge_socket)
{
	cleanup_free char *type = settings_value(s, "AuthType");
	struct err err;

	if (auth_check_munge(type, munge_socket, &err))
		doctor_report(FINDING_FAILED, "AuthType", "%s", err.text);
	else
		doctor_report(FINDING_OK, "AuthType", "%s", type ? type : "auth/munge");
}

/* NamespaceType is the name since Slurm 25.11. */
static void settings_namespace(const struct settings *s)
{
	cleanup_free char *type = settings_value(s, "NamespaceType"), *old = settings_value(s, "JobContainerType");
	const char *name = type ? "NamespaceType" : "JobContainerType", *value = type ? type : old;

	if (!value || !*value || strcasestr(value, "/none"))
		doctor_report(FINDING_OK, "NamespaceType", "none");
	else if (strcasestr(value, "/linux"))
		doctor_report(
			FINDING_WARNING, "NamespaceType",
			"%s: jobs with checkpoints do not start in a PID or user namespace of Slurm's; leave CLONE_NEWPID and "
			"CLONE_NEWUSER out of clone_ns_flags in namespace.yaml. With a mount namespace fsched was not tested",
			value);
	else
		doctor_report(FINDING_WARNING, name,
			      "%s was not tested with fsched, which gives jobs with checkpoints a /tmp and a /dev/shm of their own "
			      "itself; directories that it mounts over others must be there on every node at a restart",
			      value);
}

static void settings_plugstack(const struct settings *s)
{
	cleanup_free char *path = s->running ? running_config_value(s->running, "PlugStackConfig") : NULL,
			  *here = plugstack_path();

	if (path && here && *path == '/' && strcmp(path, here) != 0)
		doctor_report(FINDING_WARNING, "PlugStackConfig",
			      "is %s for slurmctld, and %s by slurm.conf here (%s); the plugin's line must be in the file that the "
			      "slurmd of this node reads",
			      path, here, s->conf);
}

static void settings_version(const struct settings *s)
{
	cleanup_free char *version = s->running ? running_config_value(s->running, "SLURM_VERSION") : NULL;
	const char *faults = version ? slurm_faults(version) : NULL;

	if (faults)
		doctor_report(FINDING_WARNING, "Slurm", "%s: %s", version, faults);
	else if (version)
		doctor_report(FINDING_OK, "Slurm", "%s", version);
}

void settings_check(const struct settings *s, const char *munge_socket)
{
	settings_version(s);
	settings_job_submit(s);
	settings_auth(s, munge_socket);
	settings_proctrack(s);
	settings_namespace(s);
	settings_spool(s);
	settings_plugstack(s);
}
