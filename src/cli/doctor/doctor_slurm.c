/* Slurm: its plugins, programs, the controller. */
#include "cli/doctor/doctor.h"

#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/plugstack.h"
#include "base/slurmconf.h"
#include "base/util.h"
#include "cli/doctor/doctor_report.h"
#include "cli/doctor/doctor_settings.h"
#include "cli/doctor/in_child.h"
#include "cli/doctor/running_config.h"

/* The caller frees it; NULL: slurmctld does not answer. */
static char *check_controller(const char *conf)
{
	struct err err;
	char *config = running_config_load(&err);

	if (config)
		doctor_report(FINDING_OK, "slurmctld", "answers");
	else
		doctor_report(FINDING_WARNING, "slurmctld", "does not answer: %s; %s is looked at instead", err.text,
			      conf);
	return config;
}

struct plugin {
	const char *library; /* path of libslurmfull.so */
	const char *sample;  /* path of one of Slurm's own plugins, which tells the installed version; NULL = not found
			      */
	const char *path;
};

static void print_version(FILE *out, uint32_t v)
{
	fprintf(out, "%u.%02u.%u", v >> 16 & 0xff, v >> 8 & 0xff, v & 0xff);
}

/* The plugins use functions of the daemons that load them. libslurmfull has all of these. */
static int load_plugin(const void *arg, FILE *out)
{
	const struct plugin *p = arg;
	const uint32_t *built, *have;
	void *plugin, *sample;

	dlopen(p->library, RTLD_LAZY | RTLD_GLOBAL);
	plugin = dlopen(p->path, RTLD_NOW);
	if (!plugin) {
		fprintf(out, "%s\n", dlerror());
		return 1;
	}
	built = dlsym(plugin, "plugin_version");
	if (!built) {
		fprintf(out, "is no Slurm plugin\n");
		return 1;
	}
	sample = p->sample ? dlopen(p->sample, RTLD_LAZY) : NULL;
	have = sample ? dlsym(sample, "plugin_version") : NULL;
	fputs("built for Slurm ", out);
	print_version(out, *built);
	/* Slurm's daemons load only plugins of the same major release */
	if (have && *have >> 8 != *built >> 8) {
		fputs(", but installed is ", out);
		print_version(out, *have);
		fputs("; install the package of fsched for that version\n", out);
		return 1;
	}
	fputc('\n', out);
	return 0;
}

/* The plugin is loaded by daemons of root, so nobody else may be able to change it. A missing file is no finding. */
static bool check_plugin_owner(const char *what, const char *path)
{
	struct stat st;

	if (stat(path, &st) < 0 || (st.st_uid == 0 && !(st.st_mode & (S_IWGRP | S_IWOTH))))
		return true;
	doctor_report(FINDING_FAILED, what, "%s must belong to root and be writable by nobody else", path);
	return false;
}

static char *plugin_dir(const char *conf)
{
	char *dir = slurmconf_value(conf, "PluginDir");

	return dir ? dir : xstrdup(FSCHED_PLUGINDIR);
}

/* Looks up name in dirs, which may be a list with colons. The caller frees; NULL: it was not found. */
static char *find_plugin(const char *dirs, const char *name)
{
	if (*name == '/')
		return xstrdup(name);
	for (const char *p = dirs; *p;) {
		size_t n = strcspn(p, ":");
		char *path = xasprintf("%.*s/%s", (int)n, p, name);

		if (access(path, F_OK) == 0)
			return path;
		free(path);
		p += n + (p[n] == ':');
	}
	return NULL;
}

static void check_plugin(const char *conf, const char *name, enum finding missing, const char *where)
{
	cleanup_free char *dirs = plugin_dir(conf);
	cleanup_free char *path = find_plugin(dirs, name);
	cleanup_free char *library = find_plugin(dirs, "libslurmfull.so");
	cleanup_free char *sample = find_plugin(dirs, "auth_munge.so");
	const char *slash = strrchr(name, '/');
	const char *what = slash ? slash + 1 : name;
	cleanup_free char *said = NULL;
	struct plugin p;
	int status;

	if (!path || access(path, R_OK) < 0) {
		doctor_report(missing, what, "is not in %s; %s", path ? path : dirs, where);
		return;
	}
	if (!check_plugin_owner(what, path))
		return;
	p = (struct plugin){ .library = library ? library : FSCHED_PLUGINDIR "/libslurmfull.so",
			     .sample = sample,
			     .path = path };
	said = in_child(load_plugin, &p, 4096, &status);
	said[strcspn(said, "\n")] = '\0';
	if (status == 0)
		doctor_report(FINDING_OK, what, "%s, %s", path, said);
	else
		doctor_report(FINDING_FAILED, what, "%s: %s", path, said);
}

static void check_plugstack(const char *conf)
{
	cleanup_free char *path = plugstack_path();
	struct plugstack_line l;

	if (!plugstack_find(&l)) {
		doctor_report(FINDING_FAILED, "PlugStackConfig",
			      "%s does not load the plugin; add the line: required spank_fsched.so", path);
	} else {
		if (l.optional)
			doctor_report(FINDING_WARNING, "PlugStackConfig",
				      "%s: the plugin is optional, so a job runs without checkpoints "
				      "where it cannot be loaded; write: required %s",
				      l.file, l.plugin);
		else
			doctor_report(FINDING_OK, "PlugStackConfig", "%s", l.file);
		check_plugin(conf, l.plugin, FINDING_FAILED, "install it on this node");
	}
	plugstack_free(&l);
}

static void check_programs(void)
{
	static const char *const names[] = { "fsched-agent", "fsched-worker", "fsched-init", "fsched-leader",
					     "fsched-net",   "fsched-slurm",  "fsched-srun" };
	cleanup_free char *dir = plugstack_libexec();
	char missing[256] = "";

	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		cleanup_free char *path = xasprintf("%s/%s", dir, names[i]);

		if (access(path, X_OK) < 0) {
			size_t len = strlen(missing);

			snprintf(missing + len, sizeof(missing) - len, "%s%s", len ? ", " : "", names[i]);
		}
	}
	if (*missing)
		doctor_report(FINDING_FAILED, "programs",
			      "%s: %s cannot be run; is fsched installed completely on this node?", dir, missing);
	else
		doctor_report(FINDING_OK, "programs", "%s", dir);
}

/* The path of the program that a shell would run. The caller frees; NULL: it was not found. */
static char *find_in_path(const char *name)
{
	const char *dirs = getenv("PATH");
	char *path;

	for (const char *p = dirs ? dirs : ""; *p; p += strspn(p, ":")) {
		int n = (int)strcspn(p, ":");

		path = xasprintf("%.*s/%s", n, p, name);
		if (access(path, X_OK) == 0)
			return path;
		free(path);
		p += n;
	}
	return NULL;
}

/* Checks that the first scontrol in PATH is fsched's, which knows "checkpoint". */
static void check_scontrol(void)
{
	static const char ours[] = "/fsched/bin/scontrol";
	cleanup_free char *path = find_in_path("scontrol"), *real = path ? realpath(path, NULL) : NULL;
	cleanup_free char *dir = plugstack_libexec();
	size_t len = real ? strlen(real) : 0;

	if (len >= sizeof(ours) - 1 && !strcmp(real + len - (sizeof(ours) - 1), ours))
		doctor_report(FINDING_OK, "scontrol", "%s is fsched's", path);
	else
		doctor_report(FINDING_WARNING, "scontrol",
			      "%s in PATH does not know \"checkpoint\"; on hosts where people use it put "
			      "%s/bin first in PATH (fsched checkpoint works without)",
			      path ? path : "none", dir);
}

/* Whether one of the paths, separated by colons, leads to the file real. */
static bool leads_to(const char *paths, const char *real)
{
	cleanup_free char *list = xstrdup(paths);
	char *save = NULL;

	for (const char *path = strtok_r(list, ":", &save); path; path = strtok_r(NULL, ":", &save)) {
		cleanup_free char *end = realpath(path, NULL);

		if (end && !strcmp(end, real))
			return true;
	}
	return false;
}

/* A job whose script runs an srun that fsched's does not replace cannot be checkpointed while that runs. */
static void check_srun(const struct conf *c)
{
	cleanup_free char *path = find_in_path("srun"), *real = path ? realpath(path, NULL) : NULL;

	if (!*c->srun)
		doctor_report(
			FINDING_WARNING, "SrunPath",
			"NO: jobs whose script uses srun are not checkpointed while it runs; set it to the paths of srun");
	else if (!real)
		doctor_report(FINDING_OK, "SrunPath", "there is no srun in PATH");
	else if (leads_to(c->srun, real))
		doctor_report(FINDING_OK, "SrunPath", "jobs with --checkpoint have fsched's srun for %s", path);
	else
		doctor_report(FINDING_WARNING, "SrunPath",
			      "%s is not among the paths of srun that fsched knows (%s), so jobs whose script uses it are not "
			      "checkpointed while it runs; add it to SrunPath in fsched.conf on all nodes",
			      path, c->srun);
}

void doctor_slurm(const struct conf *c, bool root)
{
	const char *conf = slurmconf_path();
	cleanup_free char *running = NULL;

	check_programs();
	check_scontrol();
	check_srun(c);
	if (!conf || access(conf, R_OK) < 0) {
		doctor_report(FINDING_FAILED, "slurm.conf", "%s cannot be read; set SLURM_CONF or install Slurm",
			      conf ? conf : "/etc/slurm/slurm.conf");
		return;
	}
	running = check_controller(conf);
	settings_check(&(struct settings){ running, conf }, c->munge_socket);
	check_plugstack(conf);
	check_plugin(conf, "job_submit_fsched.so", FINDING_WARNING, "it is needed on the hosts of slurmctld only");
}
