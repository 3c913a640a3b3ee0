#include "pod/kernel_files.h"

#include <ctype.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/util.h"

enum fs_class {
	PROC,     /* by the lists below */
	READABLE, /* may be open for reading */
	CLOSED,   /* may not be open at all */
};

struct kernel_fs {
	const char *type; /* in /proc/PID/mountinfo */
	unsigned long magic;
	enum fs_class class;
};

/* The kernel's UAPI headers have no names for the magic numbers that are written as numbers. */
/* clang-format off */
static const struct kernel_fs systems[] = {
	{ "proc",        PROC_SUPER_MAGIC,    PROC },
	{ "sysfs",       SYSFS_MAGIC,         READABLE },
	{ "cgroup",      CGROUP_SUPER_MAGIC,  READABLE },
	{ "cgroup2",     CGROUP2_SUPER_MAGIC, READABLE },
	{ "debugfs",     DEBUGFS_MAGIC,       CLOSED },
	{ "tracefs",     TRACEFS_MAGIC,       CLOSED },
	{ "bpf",         BPF_FS_MAGIC,        CLOSED },
	{ "securityfs",  SECURITYFS_MAGIC,    CLOSED },
	{ "apparmorfs",  0x5a3c69f0,          CLOSED },
	{ "selinuxfs",   SELINUX_MAGIC,       CLOSED },
	{ "smackfs",     SMACK_MAGIC,         CLOSED },
	{ "configfs",    0x62656570,          CLOSED },
	{ "pstore",      PSTOREFS_MAGIC,      CLOSED },
	{ "efivarfs",    EFIVARFS_MAGIC,      CLOSED },
	{ "binfmt_misc", BINFMTFS_MAGIC,      CLOSED },
	{ "resctrl",     RDTGROUP_SUPER_MAGIC, CLOSED },
	{ "fusectl",     0x65735543,          CLOSED },
	{ "nfsd",        0x6e667364,          CLOSED },
	{ "rpc_pipefs",  0x67596969,          CLOSED },
	{ "mqueue",      0x19800202,          CLOSED },
};
/* clang-format on */

const struct kernel_fs *kernel_fs_by_magic(unsigned long magic)
{
	for (size_t i = 0; i < ARRAY_SIZE(systems); i++)
		if (systems[i].magic == magic)
			return &systems[i];
	return NULL;
}

const struct kernel_fs *kernel_fs_by_type(const char *type)
{
	for (size_t i = 0; i < ARRAY_SIZE(systems); i++)
		if (!strcmp(systems[i].type, type))
			return &systems[i];
	return NULL;
}

bool kernel_fs_is_proc(const struct kernel_fs *fs)
{
	return fs && fs->class == PROC;
}

/* Files of /proc/PID that every process can open whom their mode permits it. */
static const char *const of_any[] = {
	"arch_status",
	"autogroup",
	"cgroup",
	"cmdline",
	"comm",
	"coredump_filter",
	"cpu_resctrl_groups",
	"cpuset",
	"latency",
	"limits",
	"loginuid",
	"mountinfo",
	"mounts",
	"mountstats",
	"net",
	"oom_adj",
	"oom_score",
	"oom_score_adj",
	"personality",
	"sched",
	"schedstat",
	"sessionid",
	"stat",
	"statm",
	"status",
	"task",
	"timers",
	"timerslack_ns",
	"wchan",
};

/* Files of /proc/PID for which the kernel checks, at open(), whether the caller may trace the process (ptrace(2),
 * PTRACE_MODE_READ), or which belong to root while the process is not dumpable. A process may always open its own. */
static const char *const of_itself[] = {
	"auxv", "environ", "fd", "fdinfo", "io", "maps", "numa_maps", "smaps", "smaps_rollup",
};

static bool kernel_files_list_has(const char *const *list, size_t n, const char *name, size_t len)
{
	for (size_t i = 0; i < n; i++)
		if (strlen(list[i]) == len && !strncmp(list[i], name, len))
			return true;
	return false;
}

static bool kernel_files_is_of_job(const struct kernel_file *f, long pid)
{
	for (size_t i = 0; i < f->n_pids; i++)
		if (f->pids[i] == pid)
			return true;
	return false;
}

/* Why a file of a process cannot be opened again; NULL: it can. rest: the path after /proc/PID/. */
static const char *kernel_files_process(const struct kernel_file *f, long pid, const char *rest)
{
	const char *slash = strchr(rest, '/');
	size_t len = strcspn(rest, "/");
	char *end;
	long tid;

	if (!kernel_files_is_of_job(f, pid))
		return "it describes a process that has ended or is not part of the job";
	/* criu 4.2 truncates the name of this one wrongly. */
	if (!*rest)
		return "criu cannot open the directory of a process again";
	if (!strncmp(rest, "task/", 5)) {
		tid = strtol(rest + 5, &end, 10);
		if (tid != pid || (*end && *end != '/'))
			return "it describes a thread, and at a restart files are opened before there are threads";
		return *end ? kernel_files_process(f, pid, end + 1) : NULL;
	}
	if (kernel_files_list_has(of_any, ARRAY_SIZE(of_any), rest, len))
		return !slash || !strncmp(rest, "net/", 4) ? NULL : "at a restart it cannot be opened again";
	if (slash || !kernel_files_list_has(of_itself, ARRAY_SIZE(of_itself), rest, len))
		return "at a restart the job's user could not open it again, or would get another one";
	return f->holder == pid ? NULL : "only that process itself can open it again at a restart";
}

static const char *kernel_files_proc(const struct kernel_file *f)
{
	const char *rest;
	char *end;
	long pid;

	if (f->other_proc || strncmp(f->path, "/proc", 5) || (f->path[5] && f->path[5] != '/'))
		return "a file of another mount of procfs than the job's /proc";
	if (f->writes)
		return "a file of procfs that is open for writing";
	rest = f->path[5] ? f->path + 6 : "";
	if (!isdigit((unsigned char)*rest))
		return NULL;
	pid = strtol(rest, &end, 10);
	return kernel_files_process(f, pid, *end ? end + 1 : end);
}

const char *kernel_file_obstacle(const struct kernel_file *f, char *buf, size_t len)
{
	const char *why = NULL;

	if (f->fs->class == PROC)
		why = kernel_files_proc(f);
	else if (f->fs->class == CLOSED || f->writes)
		why = buf;
	if (why != buf)
		return why;
	snprintf(buf, len, "a file of %s%s", f->fs->type, f->fs->class == CLOSED ? "" : " that is open for writing");
	return buf;
}
