/* The kernel: version, namespaces, kcmp, capabilities of root, tracking of memory writes. */
#include "cli/doctor/doctor.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/kcmp.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <sys/fanotify.h>
#include <unistd.h>
#include <linux/capability.h>

#include "base/io.h"
#include "base/util.h"
#include "cli/doctor/doctor_report.h"
#include "capture/track.h"

static void check_kernel_version(void)
{
	struct utsname u;
	int major = 0, minor = 0;

	if (uname(&u) < 0 || sscanf(u.release, "%d.%d", &major, &minor) != 2)
		doctor_report(FINDING_WARNING, "kernel", "its version cannot be read");
	else if (major < 5 || (major == 5 && minor < 11))
		doctor_report(FINDING_FAILED, "kernel", "%s is too old; Linux 5.11 or later is needed", u.release);
	else
		doctor_report(FINDING_OK, "kernel", "%s %s", u.release, u.machine);
}

/* The exit status of try_namespaces() in a child: the step that failed. */
enum { NS_OK, NS_UNSHARE, NS_FORK, NS_LAST_PID };

static int try_namespaces(void)
{
	pid_t pid;
	int st;

	if (unshare(CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWIPC) < 0)
		return NS_UNSHARE;
	pid = fork();
	if (pid < 0)
		return NS_FORK;
	if (pid == 0) {
		int fd = open("/proc/sys/kernel/ns_last_pid", O_WRONLY | O_CLOEXEC);

		_exit(fd >= 0 && write(fd, "60", 2) == 2 ? NS_OK : NS_LAST_PID);
	}
	if (waitpid(pid, &st, 0) < 0 || !WIFEXITED(st))
		return NS_FORK;
	return WEXITSTATUS(st);
}

static void check_namespaces(void)
{
	pid_t pid = fork();
	int st = 0;

	if (pid == 0)
		_exit(try_namespaces());
	if (pid < 0 || waitpid(pid, &st, 0) < 0 || !WIFEXITED(st)) {
		doctor_report(FINDING_FAILED, "namespaces", "the test process could not be run: %s", strerror(errno));
		return;
	}
	switch (WEXITSTATUS(st)) {
	case NS_OK: doctor_report(FINDING_OK, "namespaces", "PID, mount and IPC namespaces, ns_last_pid"); break;
	case NS_LAST_PID:
		doctor_report(
			FINDING_FAILED, "namespaces",
			"/proc/sys/kernel/ns_last_pid cannot be written; "
			"the kernel needs CONFIG_CHECKPOINT_RESTORE, and /proc/sys must not be read-only (container?)");
		break;
	default:
		doctor_report(FINDING_FAILED, "namespaces",
			      "PID, mount or IPC namespaces cannot be made; "
			      "the kernel lacks them, or slurmd runs in a container without CAP_SYS_ADMIN");
	}
}

static void check_kcmp(void)
{
	pid_t self = getpid();

	if (syscall(SYS_kcmp, self, self, KCMP_VM, 0, 0) == 0)
		doctor_report(FINDING_OK, "kcmp", "available");
	else
		doctor_report(FINDING_FAILED, "kcmp",
			      "%s; the kernel needs CONFIG_CHECKPOINT_RESTORE or CONFIG_KCMP, "
			      "and a seccomp filter must not forbid it",
			      strerror(errno));
}

static void check_capabilities(void)
{
	static const struct {
		int cap;
		const char *name;
	} needed[] = {
		{ CAP_SYS_ADMIN, "CAP_SYS_ADMIN" }, { CAP_SYS_PTRACE, "CAP_SYS_PTRACE" },
		{ CAP_CHOWN, "CAP_CHOWN" },         { CAP_DAC_OVERRIDE, "CAP_DAC_OVERRIDE" },
		{ CAP_SETUID, "CAP_SETUID" },       { CAP_SETGID, "CAP_SETGID" },
		{ CAP_KILL, "CAP_KILL" },           { CAP_NET_ADMIN, "CAP_NET_ADMIN" },
	};
	char missing[256] = "";

	for (size_t i = 0; i < ARRAY_SIZE(needed); i++)
		if (prctl(PR_CAPBSET_READ, needed[i].cap, 0, 0, 0) != 1) {
			size_t len = strlen(missing);

			snprintf(missing + len, sizeof(missing) - len, "%s%s", len ? ", " : "", needed[i].name);
		}
	if (*missing)
		doctor_report(FINDING_FAILED, "capabilities",
			      "root lacks %s; slurmd must run outside of such a container", missing);
	else if (prctl(PR_CAPBSET_READ, CAP_SYS_RESOURCE, 0, 0, 0) != 1)
		doctor_report(FINDING_WARNING, "capabilities",
			      "root lacks CAP_SYS_RESOURCE; fsched's preload library for criu makes up for it, "
			      "but limits above the hard limits of slurmd cannot be given back to a restored job");
	else
		doctor_report(FINDING_OK, "capabilities", "all that criu needs");
}

static void check_tracking(void)
{
	enum mem_tracking how = mem_tracking_probe();

	if (how == MEM_TRACK_NONE)
		doctor_report(FINDING_WARNING, "memory tracking",
			      "none: CRIU_PreDump would have no effect (needs Linux 6.7, or soft-dirty bits)");
	else
		doctor_report(FINDING_OK, "memory tracking", "%s (for CRIU_PreDump)", mem_tracking_name(how));
}

static void check_names(void)
{
	cleanup_close int fd = fanotify_init(FAN_CLASS_NOTIF | FAN_CLOEXEC | FAN_REPORT_DFID_NAME_TARGET, O_RDONLY);

	if (fd < 0)
		doctor_report(FINDING_WARNING, "events of names",
			      "none (%s): a restore from an older epoch does not undo what the job has done to directories, links and names "
			      "since (needs Linux 5.17)",
			      strerror(errno));
	else if (prctl(PR_CAPBSET_READ, CAP_DAC_READ_SEARCH, 0, 0, 0) != 1)
		doctor_report(FINDING_WARNING, "events of names",
			      "root lacks CAP_DAC_READ_SEARCH, without which the directories of events are not found: a restore from an older "
			      "epoch does not undo what the job has done to names since");
	else
		doctor_report(FINDING_OK, "events of names", "as a restore from an older epoch needs them");
}

/* The exit status of try_chroot() in a child. */
enum { ROOT_SAME, ROOT_OTHER, ROOT_UNKNOWN };

/* fsched enters mount namespaces by setns(2), which also changes the root to that of the namespace. */
static int try_chroot(void)
{
	cleanup_close int fd = open("/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC);
	const unsigned want = STATX_INO | STATX_MNT_ID;
	struct statx before, after;

	if (fd < 0 || statx(AT_FDCWD, "/", 0, want, &before) || setns(fd, CLONE_NEWNS) ||
	    statx(AT_FDCWD, "/", 0, want, &after))
		return ROOT_UNKNOWN;
	return before.stx_ino == after.stx_ino && before.stx_mnt_id == after.stx_mnt_id ? ROOT_SAME : ROOT_OTHER;
}

static void check_chroot(void)
{
	pid_t pid = fork();
	int st = 0;

	if (pid == 0)
		_exit(try_chroot());
	if (pid > 0 && waitpid(pid, &st, 0) == pid && WIFEXITED(st) && WEXITSTATUS(st) == ROOT_OTHER)
		doctor_report(FINDING_FAILED, "root directory",
			      "this is a plain chroot, which fsched leaves when it enters the namespaces of a job; run slurmd in a "
			      "mount namespace of its own instead (systemd-nspawn, unshare --mount and pivot_root)");
}

/* Each job with checkpoints takes up to two (docs/admin.md). */
static void check_fanotify_groups(void)
{
	cleanup_free char *text = NULL;
	const long cpus = sysconf(_SC_NPROCESSORS_ONLN);
	long max;

	if (read_file_at(AT_FDCWD, "/proc/sys/fs/fanotify/max_user_groups", 64, &text) < 0)
		return; /* Linux before 5.13, which has a fixed limit of 128 */
	max = strtol(text, NULL, 10);
	if (max < 2 * cpus)
		doctor_report(FINDING_WARNING, "fanotify groups",
			      "root may have %ld, enough for %ld jobs with checkpoints at a time, and the node has %ld processors; files "
			      "and names of further jobs are not rolled back: echo fs.fanotify.max_user_groups=%ld > "
			      "/etc/sysctl.d/90-fsched-fanotify.conf; sysctl --system",
			      max, max / 2, cpus, 8 * cpus);
	else
		doctor_report(FINDING_OK, "fanotify groups", "enough for %ld jobs with checkpoints at a time", max / 2);
}

void doctor_kernel(bool root)
{
	check_kernel_version();
	if (root) {
		check_chroot();
		check_namespaces();
		check_capabilities();
	} else {
		doctor_needs_root("namespaces");
		doctor_needs_root("capabilities");
	}
	check_kcmp();
	check_tracking();
	if (root) {
		check_names();
		check_fanotify_groups();
	}
}
