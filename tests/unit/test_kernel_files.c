/* Which files of procfs, sysfs and the like may be open in a job that is to be checkpointed. */
#include "unit.h"

#include <linux/magic.h>
#include <string.h>

#include "base/util.h"
#include "pod/kernel_files.h"

static const int pids[] = { 2, 17, 18 };

/* holder 17 unless it says otherwise. */
static const char *obstacle(const char *type, const char *path, bool writes, int holder)
{
	static char buf[96];
	const struct kernel_file f = {
		.fs = kernel_fs_by_type(type),
		.path = path,
		.writes = writes,
		.holder = holder ? holder : 17,
		.pids = pids,
		.n_pids = ARRAY_SIZE(pids),
	};

	assert_non_null(f.fs);
	return kernel_file_obstacle(&f, buf, sizeof(buf));
}

static void may_be_open(void **state)
{
	static const char *const paths[] = {
		"/proc",
		"/proc/meminfo",
		"/proc/sys/kernel/osrelease",
		"/proc/17/stat",
		"/proc/18/status",
		"/proc/2/net/dev",
		"/proc/17/task",
		"/proc/17/task/17/stat",
		"/proc/17/task/17",
		"/proc/17/maps",
		"/proc/17/environ",
		"/proc/17/fd",
		"/proc/17/mountinfo",
	};

	for (size_t i = 0; i < ARRAY_SIZE(paths); i++)
		if (obstacle("proc", paths[i], false, 0))
			fail_msg("%s: %s", paths[i], obstacle("proc", paths[i], false, 0));
	assert_null(obstacle("sysfs", "/sys/devices/system/cpu/online", false, 0));
	assert_null(obstacle("cgroup2", "/sys/fs/cgroup/cgroup.procs", false, 0));
}

static void may_not(void **state)
{
	static const char *const paths[] = {
		"/proc/17/mem",
		"/proc/17/pagemap",
		"/proc/17/map_files",
		"/proc/17/map_files/1000-2000",
		"/proc/17/clear_refs",
		"/proc/17/uid_map",
		"/proc/17/attr/current",
		"/proc/17/attr",
		"/proc/17/syscall",
		"/proc/17/stack",
		"/proc/17/fdinfo/3",
		"/proc/17",
		"/proc/18/maps",
		"/proc/18/environ",
		"/proc/1/stat",
		"/proc/170/stat",
		"/proc/19/stat",
		"/proc/17/task/18/comm",
		"/proc/17/task/18",
		"/proc/17/task/17/mem",
		"/proc/17/task/17/task/18/comm",
		"/proc/17/statx",
		"/proc/17/stat/x",
		"/procfs/meminfo",
		"/mnt/proc/meminfo",
		"/proc/17/new_in_linux_7",
	};

	for (size_t i = 0; i < ARRAY_SIZE(paths); i++)
		if (!obstacle("proc", paths[i], false, 0))
			fail_msg("%s passes", paths[i]);
	assert_non_null(obstacle("proc", "/proc/17/comm", true, 0));
	assert_non_null(obstacle("proc", "/proc/17/maps", false, 18));
	assert_non_null(obstacle("proc", "/proc/sys/kernel/ns_last_pid", true, 0));
	assert_string_equal(obstacle("sysfs", "/sys/power/state", true, 0), "a file of sysfs that is open for writing");
	assert_string_equal(obstacle("debugfs", "/sys/kernel/debug/x", false, 0), "a file of debugfs");
	assert_non_null(obstacle("bpf", "/sys/fs/bpf/x", false, 0));
}

static void another_mount_of_procfs(void **state)
{
	const struct kernel_file f = { .fs = kernel_fs_by_type("proc"), .path = "/proc/meminfo", .other_proc = true };
	char buf[96];

	assert_non_null(kernel_file_obstacle(&f, buf, sizeof(buf)));
}

static void file_systems(void **state)
{
	assert_true(kernel_fs_is_proc(kernel_fs_by_magic(PROC_SUPER_MAGIC)));
	assert_ptr_equal(kernel_fs_by_magic(CGROUP2_SUPER_MAGIC), kernel_fs_by_type("cgroup2"));
	assert_null(kernel_fs_by_magic(TMPFS_MAGIC));
	assert_null(kernel_fs_by_type("ext4"));
	assert_false(kernel_fs_is_proc(NULL));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(may_be_open),
		cmocka_unit_test(may_not),
		cmocka_unit_test(another_mount_of_procfs),
		cmocka_unit_test(file_systems),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
