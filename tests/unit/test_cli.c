/* Job ids of the command line, scontrol's command line, slurm.conf and plugstack.conf. */
#include "unit.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "cli/doctor/running_config.h"
#include "cli/doctor/slurm_faults.h"
#include "cli/job_ids.h"
#include "cli/plugstack.h"
#include "cli/shim_scan.h"
#include "base/slurmconf.h"
#include "base/dir_tree.h"
#include "base/util.h"

/* ---- ids ---- */

static char *parse(const char *text)
{
	struct job_ref *refs = NULL;
	size_t n = 0;
	struct err err = { 0 };
	char *out = xstrdup("");

	if (ids_parse(text, &refs, &n, &err) < 0) {
		assert_true(strlen(err.text) > 0);
		assert_null(refs);
		assert_int_equal(n, 0);
		free(out);
		return xstrdup("refused");
	}
	for (size_t i = 0; i < n; i++) {
		char one[32];
		char *more = xasprintf("%s%s%s", out, i ? " " : "", ids_format(&refs[i], one, sizeof(one)));

		free(out);
		out = more;
	}
	free(refs);
	return out;
}

static void check_ids(const char *text, const char *want)
{
	cleanup_free char *got = parse(text);

	assert_string_equal(got, want);
}

static void ids_good(void **state)
{
	check_ids("12", "12");
	check_ids("12,13", "12 13");
	check_ids("12,12", "12");
	check_ids("12_3", "12_3");
	check_ids("12_0,12", "12_0 12");
	check_ids("12_[1-3]", "12_1 12_2 12_3");
	check_ids("12_[1,5-9:2],4", "12_1 12_5 12_7 12_9 4");
	check_ids("67108863", "67108863");
}

static void ids_bad(void **state)
{
	static const char *const bad[] = {
		"",
		" 12",
		"12 ",
		"0",
		"-1",
		"+1",
		"abc",
		"12,",
		",12",
		"12,,13",
		"67108864",
		"99999999999999999999",
		"12.0",
		"12.batch",
		"12+1",
		"12_",
		"12_x",
		"12_[",
		"12_[]",
		"12_[1",
		"12_[3-1]",
		"12_[1-]",
		"12_[1:0]",
		"12_[1-3]x",
		"12_[0-3999999]",
		"12_4000001",
		"12\n13",
		"0x12",
		"12_[1-3%2]",
	};

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		check_ids(bad[i], "refused");
}

static void ids_append(void **state)
{
	struct job_ref *refs = NULL;
	size_t n = 0;
	struct err err;

	assert_int_equal(ids_parse("1,2", &refs, &n, &err), 0);
	assert_int_equal(ids_parse("2,3", &refs, &n, &err), 0);
	assert_int_equal(n, 3);
	assert_int_equal(ids_parse("4,x", &refs, &n, &err), -1);
	assert_int_equal(n, 3);
	assert_int_equal(refs[2].id, 3);
	free(refs);
}

/* ---- scontrol's command line ---- */

#define SCAN(...) scan((char *[]){ (char *)(uintptr_t) "scontrol", __VA_ARGS__, NULL })
#define W(s)      (char *)(uintptr_t)(s)

static struct shim_scan scan(char **argv)
{
	int argc = 0;

	while (argv[argc])
		argc++;
	return shim_scan(argc, argv);
}

static void shim_checkpoint(void **state)
{
	struct shim_scan s = SCAN(W("checkpoint"), W("create"), W("12"));

	assert_true(s.checkpoint);
	assert_int_equal(s.next, 2);
	assert_true(SCAN(W("ch"), W("create"), W("1")).checkpoint);
	assert_true(SCAN(W("CheckPoint"), W("create"), W("1")).checkpoint);
	assert_true(SCAN(W("-adoQ"), W("check"), W("-M"), W("x")).checkpoint);
	s = SCAN(W("-Q"), W("--clu=far"), W("-u"), W("bob"), W("checkpoint"), W("able"), W("1"));
	assert_true(s.checkpoint && s.quiet);
	assert_string_equal(s.cluster, "far");
	assert_string_equal(s.uid, "bob");
	assert_int_equal(s.next, 6);
	assert_true(SCAN(W("--"), W("checkpoint")).checkpoint);
}

static void shim_real(void **state)
{
	assert_false(SCAN(W("c")).checkpoint);
	assert_false(SCAN(W("checkpoints")).checkpoint);
	assert_false(SCAN(W("create"), W("checkpoint")).checkpoint);
	assert_false(SCAN(W("cl")).checkpoint);
	assert_false(SCAN(W("show"), W("job"), W("1")).checkpoint);
	assert_false(SCAN(W("-M"), W("checkpoint")).checkpoint);
	assert_false(SCAN(W("-M"), W("checkpoint"), W("show")).checkpoint);
	assert_false(SCAN(W("-V"), W("checkpoint")).checkpoint);
	assert_false(SCAN(W("--help"), W("checkpoint")).checkpoint);
	assert_false(SCAN(W("--nonsense"), W("checkpoint")).checkpoint);
	assert_false(scan((char *[]){ W("scontrol"), NULL }).checkpoint);
}

static void shim_requeue(void **state)
{
	struct shim_scan s = SCAN(W("-Q"), W("requeue"), W("12"));

	assert_true(s.requeue && !s.checkpoint);
	assert_int_equal(s.next, 3);
	assert_true(SCAN(W("req"), W("1")).requeue);
	assert_true(SCAN(W("requeueh"), W("1")).requeue);
	assert_true(SCAN(W("RequeueHold"), W("1")).requeue);
	assert_false(SCAN(W("re"), W("1")).requeue);
	assert_false(SCAN(W("requeueholds"), W("1")).requeue);
	assert_false(SCAN(W("release"), W("requeue")).requeue);
	assert_false(SCAN(W("checkpoint"), W("requeue"), W("1")).requeue);
}

static void shim_order(void **state)
{
	char *argv[] = { W("scontrol"), W("show"), W("-o"), W("job"), W("--all"), NULL };

	shim_scan(5, argv);
	assert_string_equal(argv[1], "show");
	assert_string_equal(argv[2], "-o");
	assert_string_equal(argv[4], "--all");
}

/* ---- Slurm's files ---- */

struct files {
	char dir[64];
};

static void put(const char *dir, const char *name, const char *text)
{
	cleanup_free char *path = xasprintf("%s/%s", dir, name);
	cleanup_file FILE *f = fopen(path, "w");

	assert_non_null(f);
	fputs(text, f);
}

static int setup(void **state)
{
	struct files *f = xcalloc(1, sizeof(*f));
	cleanup_free char *conf = NULL;

	snprintf(f->dir, sizeof(f->dir), "/tmp/fsched-test.XXXXXX");
	if (!mkdtemp(f->dir))
		return -1;
	put(f->dir, "slurm.conf",
	    "ClusterName=x # AuthInfo=socket=/no\n#JobSubmitPlugins=no\ninclude more.conf\nproctracktype=\"proctrack/cgroup\"\n"
	    "SlurmctldPort=1 \\\n SlurmdPort=2\nInclude slurm.conf\nInclude missing\n");
	put(f->dir, "more.conf",
	    "JobSubmitPlugins=lua,fsched\nAuthInfo=cred_expire=5,socket=/run/m\nSlurmctldHost=a(127.0.0.1)\nslurmctldhost=b\n");
	put(f->dir, "plugstack.conf", "# required spank_fsched.so\noptional other.so\ninclude plug*.d/*\n");
	put(f->dir, "x.conf", "");
	conf = xasprintf("%s/slurm.conf", f->dir);
	setenv("SLURM_CONF", conf, 1);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct files *f = *state;

	unsetenv("SLURM_CONF");
	remove_tree_at(AT_FDCWD, f->dir);
	free(f);
	return 0;
}

static void slurm_conf(void **state)
{
	static const char *const want[][2] = {
		{ "ClusterName", "x" },
		{ "JobSubmitPlugins", "lua,fsched" },
		{ "ProctrackType", "proctrack/cgroup" },
		{ "SlurmdPort", "2" },
		{ "AuthInfo", "cred_expire=5,socket=/run/m" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(want); i++) {
		cleanup_free char *got = slurmconf_value(slurmconf_path(), want[i][0]);

		assert_non_null(got);
		assert_string_equal(got, want[i][1]);
	}
	assert_null(slurmconf_value(slurmconf_path(), "Port"));
	assert_null(slurmconf_value("/nonexistent", "ClusterName"));
}

static void take_first_two(const char *value, void *arg)
{
	char *text = arg;

	if (strlen(text) < 15)
		snprintf(text + strlen(text), 32 - strlen(text), "%s;", value);
}

static void slurm_keys_that_are_repeated(void **state)
{
	char got[32] = "";

	slurmconf_each(slurmconf_path(), "SlurmctldHost", take_first_two, got);
	assert_string_equal(got, "a(127.0.0.1);b;");
	slurmconf_each(NULL, "SlurmctldHost", take_first_two, got);
}

static void slurm_lists(void **state)
{
	cleanup_free char *option = slurmconf_option("a=1,socket=/x,socketx=2", "socket");
	cleanup_free char *socket = slurmconf_munge_socket("");
	cleanup_free char *own = slurmconf_munge_socket("/own");

	assert_string_equal(option, "/x");
	assert_null(slurmconf_option("socke=1", "socket"));
	assert_null(slurmconf_option(NULL, "socket"));
	assert_true(slurmconf_has("lua,fsched", "fsched"));
	assert_false(slurmconf_has("fsched2", "fsched"));
	assert_false(slurmconf_has(NULL, "fsched"));
	assert_string_equal(socket, "/run/m");
	assert_string_equal(own, "/own");
}

static void plugstack(void **state)
{
	struct files *f = *state;
	cleanup_free char *dir = xasprintf("%s/plugstack.conf.d", f->dir);
	cleanup_free char *libexec = NULL, *conf = NULL;
	struct plugstack_line l;

	assert_int_equal(plugstack_find(&l), 0);
	plugstack_free(&l);
	assert_int_equal(mkdir_parents(dir, 0755), 0);
	put(dir, "a.conf", "required /opt/spank_fsched.so  libexec=/opt/x conf=/etc/f # comment\n");
	assert_int_equal(plugstack_find(&l), 1);
	assert_string_equal(l.plugin, "/opt/spank_fsched.so");
	assert_false(l.optional);
	libexec = plugstack_libexec();
	conf = plugstack_arg(&l, "conf");
	assert_string_equal(libexec, "/opt/x");
	assert_string_equal(conf, "/etc/f");
	assert_null(plugstack_arg(&l, "con"));
	plugstack_free(&l);
}

/* ---- doctor ---- */

static void check_running(const char *key, const char *want)
{
	static const char config[] = "Configuration data as of 2026-11-30T18:00:00\n"
				     "AuthInfo                = (null)\n"
				     "AuthType                = auth/slurm\n"
				     "JobSubmitPlugins        = lua,fsched\n"
				     "ProctrackType           = proctrack/cgroup\n"
				     "SLURM_VERSION           = 25.11.7\n"
				     "Empty                   = \n"
				     "\nCgroup Support Configuration:\n"
				     "CgroupPlugin            = autodetect";
	cleanup_free char *got = running_config_value(config, key);

	if (!want)
		assert_null(got);
	else
		assert_string_equal(got, want);
}

static void values_of_the_running_slurmctld(void **state)
{
	check_running("AuthType", "auth/slurm");
	check_running("authtype", "auth/slurm");
	check_running("AuthInfo", NULL);
	check_running("Auth", NULL);
	check_running("JobSubmitPlugins", "lua,fsched");
	check_running("CgroupPlugin", "autodetect");
	check_running("Empty", "");
	check_running("NamespaceType", NULL);
}

static void versions_with_faults(void **state)
{
	static const char *const bad[] = { "25.05.8", "25.05.0", "25.11.7", "26.05.3" }, *const good[] = {
		"22.05.8", "24.11.5", "25.05.9", "25.11.8", "26.05.4", "26.05.5-2", "26.11.0", "unknown"
	};

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_non_null(slurm_faults(bad[i]));
	for (size_t i = 0; i < ARRAY_SIZE(good); i++)
		assert_null(slurm_faults(good[i]));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(values_of_the_running_slurmctld),
		cmocka_unit_test(versions_with_faults),
		cmocka_unit_test(ids_good),
		cmocka_unit_test(ids_bad),
		cmocka_unit_test(ids_append),
		cmocka_unit_test(shim_checkpoint),
		cmocka_unit_test(shim_real),
		cmocka_unit_test(shim_requeue),
		cmocka_unit_test(shim_order),
		cmocka_unit_test_setup_teardown(slurm_conf, setup, teardown),
		cmocka_unit_test_setup_teardown(slurm_keys_that_are_repeated, setup, teardown),
		cmocka_unit_test_setup_teardown(slurm_lists, setup, teardown),
		cmocka_unit_test_setup_teardown(plugstack, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
