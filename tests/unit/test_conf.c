#include "unit.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/conf.h"
#include "base/dir_tree.h"
#include "base/io.h"
#include "base/util.h"

static char dir[] = "/tmp/test_conf.XXXXXX";
static char file[64];

static void write_file(const char *path, const void *text, size_t len, mode_t mode)
{
	cleanup_close int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(write_all(fd, text, len), 0);
	assert_int_equal(fchmod(fd, mode), 0);
}

static int load(const char *text, struct conf *c, struct err *err)
{
	write_file(file, text, strlen(text), 0644);
	memset(err, 0, sizeof(*err));
	return conf_load(c, file, err);
}

static void good(const char *text, struct conf *c)
{
	struct err err;

	if (load(text, c, &err) < 0)
		fail_msg("%s: %s", text, err.text);
}

/* want: what stands behind "PATH:" */
static void bad(const char *text, const char *want)
{
	cleanup_free char *expected = xasprintf("%s:%s", file, want);
	struct conf c;
	struct err err;

	if (load(text, &c, &err) == 0)
		fail_msg("accepted: %s", text);
	assert_string_equal(err.text, expected);
}

static void defaults(void **state)
{
	struct conf c;

	good("", &c);
	assert_string_equal(c.path, file);
	assert_false(c.criu_enabled);
	assert_int_equal(c.max_epochs, 1);
	assert_false(c.incremental);
	assert_int_equal(c.full_every, 10);
	assert_false(c.pre_dump);
	assert_int_equal(c.pre_dump_delay, 5);
	assert_false(c.load_aware);
	assert_true(c.load_cpu == 0.95 && c.load_io == 0.50 && c.load_memory == 0.85);
	assert_string_equal(c.dir, "/var/lib/fsched/checkpoint");
	assert_int_equal(c.min_interval, 60);
	assert_int_equal(c.auto_max, 4 * 3600);
	assert_int_equal(c.mtbf, 365 * 86400);
	assert_int_equal(c.max_bytes_user, 0);
	assert_int_equal(c.max_bytes, 0);
	assert_false(c.quota_prune);
	assert_int_equal(c.max_writers, 0);
	assert_int_equal(c.writer_wait, 600);
	assert_int_equal(c.max_skip, 3);
	assert_int_equal(c.timeout, 1800);
	assert_int_equal(c.freeze_timeout, 60);
	assert_int_equal(c.job_limit, 0);
	assert_int_equal(c.file_limit, 0);
	assert_int_equal(c.tmp_limit, 0);
	assert_int_equal(c.port_min, 0);
	assert_int_equal(c.port_max, 0);
	assert_string_equal(c.criu, "");
	assert_string_equal(c.munge_socket, "");
	assert_string_equal(c.pod_dir, "/var/lib/fsched/pod");
	assert_true(c.private_tmp);
	assert_int_equal(c.tmp, CONF_TMP_IMAGE);
	assert_int_equal(c.tmp_size, 0);
	assert_int_equal(c.network, CONF_NETWORK_PRIVATE);
	assert_string_equal(c.net_range, "198.18.224.0/20");
	assert_int_equal(c.on_restore_failure, CONF_HOLD);
	assert_int_equal(c.on_requeue, CONF_REQUEUE_RESUME);
	assert_int_equal(c.hook_time, 60);
	assert_int_equal(c.keep_days, 0);
	assert_int_equal(c.restore_retry, 180);
	assert_int_equal(c.tcp, CONF_TCP_REFUSE);
	assert_int_equal(c.log, CONF_LOG_SYSLOG);
}

static const char everything[] = "# a comment\n"
				 "\n"
				 "CheckpointType = checkpoint/criu\n"
				 "criu_maxepochs=3#three\n"
				 "CRIU_Incremental\t=\tyes\r\n"
				 "  CRIU_FullEvery = 5  # often\n"
				 "CRIU_PreDump = TRUE\n"
				 "CRIU_PreDumpDelay = 0\n"
				 "CRIU_LoadAware = YES\n"
				 "CRIU_LoadThresholdCPU = .9\n"
				 "CRIU_LoadThresholdIO = 1.0\n"
				 "CRIU_LoadThresholdMemory = 0\n"
				 "JobCheckpointDir = \"/ckpt/with blank # and hash/\"   # quoted\n"
				 "CheckpointMinInterval = 0:05\n"
				 "CheckpointMaxWriters = 2\n"
				 "CheckpointWriterWait = 0\n"
				 "CheckpointAutoMax = 1-0\n"
				 "CheckpointMTBF = 100-0\n"
				 "CheckpointMaxBytesUser = 500G\n"
				 "CheckpointMaxBytes = 20T\n"
				 "CheckpointQuotaPrune = YES\n"
				 "CheckpointMaxSkip = 0\n"
				 "CheckpointTimeout = 86400\n"
				 "CheckpointFreezeTimeout = 5\n"
				 "CheckpointJobLimit = 3G\n"
				 "CheckpointFileLimit = 512m\n"
				 "CheckpointTmpLimit = 1025\n"
				 "CheckpointPorts = 60001-60099\n"
				 "CriuPath = /opt/criu\n"
				 "MungeSocket = /run/munge/munge.socket.2\n"
				 "PodDir = /local/pod\n"
				 "PodPrivateTmp = no\n"
				 "PodTmp = Directory\n"
				 "PodTmpSize = 2T\n"
				 "PodNetwork = Private\n"
				 "PodNetworkRange = 100.64.0.0/16\n"
				 "PodScratch = /scratch:/local/job\n"
				 "SrunPath = /opt/slurm/bin/srun:/usr/bin/srun\n"
				 "CheckpointOnRestoreFailure = requeue_fresh\n"
				 "CheckpointOnRequeue = restart\n"
				 "CheckpointRestoreRetry = 0\n"
				 "CheckpointTcp = Close\n"
				 "CheckpointProve = every:7\n"
				 "CheckpointLog = /var/log/fsched.log";

static void every_key(void **state)
{
	struct conf c;

	good(everything, &c);
	assert_true(c.criu_enabled);
	assert_int_equal(c.max_epochs, 3);
	assert_true(c.incremental);
	assert_int_equal(c.full_every, 5);
	assert_true(c.pre_dump);
	assert_int_equal(c.pre_dump_delay, 0);
	assert_true(c.load_aware);
	assert_true(c.load_cpu == 0.9 && c.load_io == 1 && c.load_memory == 0);
	assert_string_equal(c.dir, "/ckpt/with blank # and hash");
	assert_int_equal(c.min_interval, 5);
	assert_int_equal(c.max_writers, 2);
	assert_int_equal(c.writer_wait, 0);
	assert_int_equal(c.auto_max, 86400);
	assert_int_equal(c.mtbf, 100 * 86400);
	assert_true(c.max_bytes_user == 500ULL << 30 && c.max_bytes == 20ULL << 40 && c.quota_prune);
	assert_int_equal(c.max_skip, 0);
	assert_int_equal(c.timeout, 86400);
	assert_int_equal(c.freeze_timeout, 5);
	assert_true(c.job_limit == 3ULL << 30);
	assert_int_equal(c.file_limit, 512 << 20);
	assert_int_equal(c.tmp_limit, 1025);
	assert_int_equal(c.port_min, 60001);
	assert_int_equal(c.port_max, 60099);
	assert_string_equal(c.criu, "/opt/criu");
	assert_string_equal(c.munge_socket, "/run/munge/munge.socket.2");
	assert_string_equal(c.pod_dir, "/local/pod");
	assert_false(c.private_tmp);
	assert_int_equal(c.tmp, CONF_TMP_DIRECTORY);
	assert_true(c.tmp_size == 2ULL << 40);
	assert_int_equal(c.network, CONF_NETWORK_PRIVATE);
	assert_string_equal(c.net_range, "100.64.0.0/16");
	assert_string_equal(c.scratch, "/scratch:/local/job");
	assert_int_equal(c.prove, 7);
	assert_string_equal(c.srun, "/opt/slurm/bin/srun:/usr/bin/srun");
	assert_int_equal(c.on_restore_failure, CONF_REQUEUE_FRESH);
	assert_int_equal(c.on_requeue, CONF_REQUEUE_RESTART);
	assert_int_equal(c.restore_retry, 0);
	assert_int_equal(c.tcp, CONF_TCP_CLOSE);
	assert_int_equal(c.log, CONF_LOG_FILE);
	assert_string_equal(c.log_path, "/var/log/fsched.log");
}

static char *print(const struct conf *c)
{
	char *text = NULL;
	size_t len = 0;
	FILE *out = open_memstream(&text, &len);

	conf_print(c, out);
	fclose(out);
	return text;
}

static void what_is_printed_can_be_read(void **state)
{
	static const char *const texts[] = { "", everything };

	for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
		cleanup_free char *text = NULL;
		struct conf a, b;

		good(texts[i], &a);
		text = print(&a);
		good(text, &b);
		memset(a.line, 0, sizeof(a.line));
		memset(b.line, 0, sizeof(b.line));
		assert_memory_equal(&a, &b, sizeof(a));
	}
}

static void printing_tells_where_from(void **state)
{
	cleanup_free char *text = NULL, *want = NULL;
	struct conf c;

	good("\nCRIU_MaxEpochs = 7\nCRIU_FullEvery = 5\n", &c);
	text = print(&c);
	want = xasprintf("CRIU_MaxEpochs = 7                                   # %s:2\n", file);
	assert_non_null(strstr(text, want));
	assert_non_null(strstr(text, "CheckpointType = checkpoint/none                     # default\n"));
	assert_non_null(
		strstr(text, "#CriuPath =                                          # default: criu is looked for\n"));
	assert_non_null(strstr(text, ":3; no effect, see below\n"));
	assert_non_null(strstr(text, "CheckpointFileLimit = 0 "));
	assert_non_null(strstr(text, "CRIU_LoadThresholdCPU = 0.95 "));
}

static void count_notice(const char *text, void *arg)
{
	int *n = arg;

	assert_non_null(strstr(text, " has no effect: "));
	++*n;
}

static void notices(void **state)
{
	struct conf c;
	int n = 0;

	good(everything, &c);
	conf_notices(&c, count_notice, &n);
	assert_int_equal(n, 2); /* PodTmp and PodTmpSize without PodPrivateTmp */
	n = 0;
	good("CRIU_MaxEpochs = 2\nCRIU_PreDumpDelay = 5\nCRIU_FullEvery = 3\nCRIU_LoadThresholdIO = 0.3\n", &c);
	conf_notices(&c, count_notice, &n);
	assert_int_equal(n, 3);
	n = 0;
	good("MemoryEngine = criu\nCRIU_Incremental = YES\nCRIU_PreDump = YES\nCheckpointCompression = 3\n", &c);
	conf_notices(&c, count_notice, &n);
	assert_int_equal(n, 3);
	assert_int_equal(c.compression, 3);
	n = 0;
	good("CheckpointQuotaPrune = YES\nCheckpointWriterWait = 9\n", &c);
	conf_notices(&c, count_notice, &n);
	assert_int_equal(n, 2);
	good("CheckpointCompression = Auto\n", &c);
	assert_int_equal(c.compression, -1);
	n = 0;
	good("PodNetwork = Host\nPodNetworkRange = 100.64.0.0/16\n", &c);
	assert_int_equal(c.network, CONF_NETWORK_HOST);
	conf_notices(&c, count_notice, &n);
	assert_int_equal(n, 1);
}

static void bad_values(void **state)
{
	bad("CRIU_LoadThresholdCPU = 1.5", "1: CRIU_LoadThresholdCPU = 1.5: out of range, allowed: 0.0 to 1.0");
	bad("CRIU_LoadThresholdCPU = -0.5", "1: CRIU_LoadThresholdCPU = -0.5: out of range, allowed: 0.0 to 1.0");
	bad("\n\ncriu_loadthresholdio = nan", "3: CRIU_LoadThresholdIO = nan: not a number, allowed: 0.0 to 1.0");
	bad("CRIU_LoadThresholdIO = 0,5", "1: CRIU_LoadThresholdIO = 0,5: not a number, allowed: 0.0 to 1.0");
	bad("CRIU_LoadThresholdIO = .", "1: CRIU_LoadThresholdIO = .: not a number, allowed: 0.0 to 1.0");
	bad("CRIU_LoadThresholdIO = 95%", "1: CRIU_LoadThresholdIO = 95%: not a number, allowed: 0.0 to 1.0");
	bad("CheckpointType = checkpoint/blcr",
	    "1: CheckpointType = checkpoint/blcr: allowed: checkpoint/criu or checkpoint/none");
	bad("CRIU_MaxEpochs = 0", "1: CRIU_MaxEpochs = 0: out of range, allowed: 1 to 1000");
	bad("CRIU_MaxEpochs = 1001", "1: CRIU_MaxEpochs = 1001: out of range, allowed: 1 to 1000");
	bad("CRIU_MaxEpochs = 18446744073709551617",
	    "1: CRIU_MaxEpochs = 18446744073709551617: out of range, allowed: 1 to 1000");
	bad("CRIU_MaxEpochs = -1", "1: CRIU_MaxEpochs = -1: not a whole number, allowed: 1 to 1000");
	bad("CRIU_MaxEpochs = 3 # a\nCheckpointTimeout = 9",
	    "2: CheckpointTimeout = 9: out of range, allowed: 10 to 86400");
	bad("CRIU_PreDump = maybe", "1: CRIU_PreDump = maybe: allowed: YES or NO");
	bad("CRIU_PreDump = 2", "1: CRIU_PreDump = 2: allowed: YES or NO");
	bad("CheckpointFileLimit = 1GB", "1: CheckpointFileLimit = 1GB: not a size, allowed: a number of bytes, "
					 "or with K, M, G or T behind it, at most 1024T");
	bad("CheckpointFileLimit = \"1 \"", "1: CheckpointFileLimit = 1 : not a size, allowed: a number of bytes, "
					    "or with K, M, G or T behind it, at most 1024T");
	bad("CheckpointFileLimit = 1025T", "1: CheckpointFileLimit = 1025T: out of range, allowed: a number of bytes, "
					   "or with K, M, G or T behind it, at most 1024T");
	bad("PodTmp = loop", "1: PodTmp = loop: allowed: image or directory");
	bad("JobCheckpointDir = ckpt", "1: JobCheckpointDir = ckpt: allowed: an absolute path");
	bad("JobCheckpointDir = //", "1: JobCheckpointDir = //: allowed: a directory below /");
	bad("PodDir = /a/../b", "1: PodDir = /a/../b: allowed: an absolute path without \"..\"");
	bad("CheckpointLog = file", "1: CheckpointLog = file: allowed: syslog, stderr or the absolute path of a file");
	bad("CheckpointMinInterval = UNLIMITED",
	    "1: CheckpointMinInterval = UNLIMITED: not a time, allowed: minutes, minutes:seconds, hours:minutes:seconds, "
	    "days-hours, days-hours:minutes or days-hours:minutes:seconds");
	bad("CheckpointKeepDays = -1", "1: CheckpointKeepDays = -1: not a whole number, allowed: 0 to 36500");
	bad("CheckpointHookTime = 0", "1: CheckpointHookTime = 0: out of range, allowed: 1 to 3600");
	bad("CheckpointOnRequeue = x", "1: CheckpointOnRequeue = x: allowed: resume or restart");
	bad("CheckpointOnRestoreFailure = x", "1: CheckpointOnRestoreFailure = x: allowed: requeue_fresh or hold");
}

static void bad_ports(void **state)
{
	static const char *const cases[] = { "1023-2000", "2000-1999", "2000",       "0-2000", "60000-65536",
					     "a-b",       "2000-",     "2000-3000-", "-" };

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		cleanup_free char *line = xasprintf("CheckpointPorts = %s", cases[i]);
		cleanup_free char *want =
			xasprintf("1: %s: allowed: MIN-MAX within 1024 to 65535, or 0-0 for any free port", line);

		bad(line, want);
	}
}

static void bad_lines(void **state)
{
	bad("CRIU_MaxEpoch = 3", "1: CRIU_MaxEpoch: unknown key, did you mean CRIU_MaxEpochs?");
	bad("JobCheckpiontDir = /a", "1: JobCheckpiontDir: unknown key, did you mean JobCheckpointDir?");
	bad("SlurmctldHost = a", "1: SlurmctldHost: unknown key; `fsched config` lists all keys");
	bad("slurmdtimeout = 15", "1: slurmdtimeout: is a key of slurm.conf, set it there");
	bad("= 3", "1: there is no key in front of the =");
	bad("=3", "1: there is no key in front of the =");
	bad("CheckpointType", "1: \"CheckpointType\": not of the form Key = Value");
	bad("CheckpointType # = a", "1: \"CheckpointType # = a\": not of the form Key = Value");
	bad("Include other.conf", "1: \"Include other.conf\": not of the form Key = Value");
	bad("PodDir = /a\n\npoddir = /b", "3: PodDir: set twice, first in line 1");
	bad("CheckpointProve = every:0",
	    "1: CheckpointProve = every:0: allowed: none, first, or every:N with N from 1 to 1000");
	bad("CheckpointProve = always",
	    "1: CheckpointProve = always: allowed: none, first, or every:N with N from 1 to 1000");
	bad("CheckpointTcp = keep", "1: CheckpointTcp = keep: allowed: refuse or close");
	bad("PodDir =", "1: PodDir: the value is missing");
	bad("PodDir = # none", "1: PodDir: the value is missing");
	bad("PodDir = \"\"", "1: PodDir: the value is missing");
	bad("PodDir = \"/a", "1: PodDir: the closing quote is missing");
	bad("PodDir = /a b", "1: PodDir: text behind the value (one key on each line; a value with blanks needs quotes)");
	bad("PodDir = \"/a\" b",
	    "1: PodDir: text behind the value (one key on each line; a value with blanks needs quotes)");
	bad("CRIU_PreDump=YES CRIU_MaxEpochs=3",
	    "1: CRIU_PreDump: text behind the value (one key on each line; a value with blanks needs quotes)");
	bad("PodDir = /a\x1b[2J", "1: PodDir: control character in the value");
	bad("\x1b[2JPodDir = /a", "1: ?[2JPodDir: unknown key, did you mean PodDir?");
}

static void nul_bytes_and_long_lines(void **state)
{
	static const char nul[] = "PodDir = /a\nPodPrivateTmp = NO\0 # x\n";
	cleanup_free char *line = xmalloc(20000), *text = NULL;
	struct conf c;
	struct err err;

	write_file(file, nul, sizeof(nul) - 1, 0644);
	assert_int_equal(conf_load(&c, file, &err), -1);
	assert_non_null(strstr(err.text, ":2: NUL byte"));
	memset(line, '#', 20000);
	line[9000] = '\0';
	text = xasprintf("\n%s\n", line);
	bad(text, "2: longer than 8192 bytes");
	memset(line, 'a', 5000);
	memcpy(line, "PodDir = /", 10);
	line[5000] = '\0';
	assert_int_equal(load(line, &c, &err), -1);
	assert_non_null(strstr(err.text, "too long, allowed: an absolute path of at most 4095 bytes"));
}

static void a_missing_file_means_defaults(void **state)
{
	struct conf c;
	struct err err;

	assert_int_equal(conf_load(&c, "/nonexistent/fsched.conf", &err), 0);
	assert_string_equal(c.path, "");
	assert_false(c.criu_enabled);
}

static void only_root_may_have_written_it(void **state)
{
	struct conf c;
	struct err err;

	write_file(file, "PodDir = /a\n", 12, 0664);
	if (geteuid() != 0) {
		assert_int_equal(conf_load(&c, file, &err), 0);
		skip();
	}
	assert_int_equal(conf_load(&c, file, &err), -1);
	assert_non_null(strstr(err.text, "writable by others than root (mode 0664): refused; run: chmod go-w "));
	assert_int_equal(chmod(file, 0602), 0);
	assert_int_equal(conf_load(&c, file, &err), -1);
	assert_int_equal(chmod(file, 0644), 0);
	assert_int_equal(conf_load(&c, file, &err), 0);
	assert_int_equal(chown(file, 65534, 0), 0);
	assert_int_equal(conf_load(&c, file, &err), -1);
	assert_non_null(strstr(err.text, "owned by uid 65534, not by root: refused; run: chown root "));
	assert_int_equal(unlink(file), 0);
	assert_int_equal(mkfifo(file, 0600), 0);
	assert_int_equal(conf_load(&c, file, &err), -1);
	assert_non_null(strstr(err.text, "not a regular file"));
	assert_int_equal(unlink(file), 0);
}

static void searched(void **state)
{
	cleanup_free char *slurm_conf = xasprintf("%s/slurm.conf", dir);
	cleanup_free char *other = xasprintf("%s/other", dir);
	struct conf c;
	struct err err;

	good("CRIU_MaxEpochs = 2\n", &c);
	write_file(other, "CRIU_MaxEpochs = 4\n", 19, 0644);
	setenv("SLURM_CONF", slurm_conf, 1);
	assert_int_equal(conf_load(&c, NULL, &err), 0);
	assert_int_equal(c.max_epochs, 2);
	setenv("FSCHED_CONF", other, 1);
	assert_int_equal(conf_load(&c, NULL, &err), 0);
	assert_int_equal(c.max_epochs, 4);
	assert_string_equal(c.path, other);
	assert_int_equal(conf_load(&c, file, &err), 0);
	assert_int_equal(c.max_epochs, 2);
	unsetenv("FSCHED_CONF");
	unsetenv("SLURM_CONF");
}

static int setup(void **state)
{
	if (!mkdtemp(dir))
		return -1;
	snprintf(file, sizeof(file), "%s/fsched.conf", dir);
	return 0;
}

static int teardown(void **state)
{
	return remove_tree_at(AT_FDCWD, dir);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(defaults),
		cmocka_unit_test(every_key),
		cmocka_unit_test(what_is_printed_can_be_read),
		cmocka_unit_test(printing_tells_where_from),
		cmocka_unit_test(notices),
		cmocka_unit_test(bad_values),
		cmocka_unit_test(bad_ports),
		cmocka_unit_test(bad_lines),
		cmocka_unit_test(nul_bytes_and_long_lines),
		cmocka_unit_test(a_missing_file_means_defaults),
		cmocka_unit_test(only_root_may_have_written_it),
		cmocka_unit_test(searched),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
