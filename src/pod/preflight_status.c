/* Preflight: credentials, tracers and namespaces of processes. */
#include "pod/preflight_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/kcmp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/array.h"
#include "base/dir.h"
#include "base/io.h"
#include "base/proc.h"
#include "base/util.h"

static bool job_has_group(const struct preflight_job *job, unsigned gid)
{
	if (gid == job->gid)
		return true;
	for (int i = 0; i < job->n_groups; i++)
		if (job->groups[i] == gid)
			return true;
	return false;
}

/* Parses the number at *p and moves *p after it; -1 at the end of the line. */
static long status_next_number(const char **p)
{
	long v;
	char *end;

	*p += strspn(*p, " \t");
	if (**p < '0' || **p > '9')
		return -1;
	v = strtol(*p, &end, 10);
	*p = end;
	return v;
}

static bool status_ids_are(const char *line, uid_t uid)
{
	for (long v; (v = status_next_number(&line)) >= 0;)
		if ((uid_t)v != uid)
			return false;
	return true;
}

static bool status_groups_are_known(const struct preflight_job *job, const char *line)
{
	for (long v; (v = status_next_number(&line)) >= 0;)
		if (!job_has_group(job, (unsigned)v))
			return false;
	return true;
}

static const char *status_line(const char *status, const char *key)
{
	const char *p = strstr(status, key);

	return p ? p + strlen(key) : "";
}

static bool status_has_capabilities(const char *status)
{
	static const char *const sets[] = { "\nCapInh:", "\nCapPrm:", "\nCapEff:", "\nCapAmb:" };

	for (size_t i = 0; i < ARRAY_SIZE(sets); i++)
		if (strtoull(status_line(status, sets[i]), NULL, 16))
			return true;
	return false;
}

/* Refuses a process with other credentials than the job's, such as a set-user-ID program: root restores credentials, so
 * the job's user could gain rights. criu_check_creds() checks criu's images likewise. */
static int status_check_credentials(const struct preflight_scan *s, pid_t pid, const char *status, struct err *err)
{
	if (!status_ids_are(status_line(status, "\nUid:"), s->job->uid))
		return preflight_refuse(pid, err, "runs under another user than the job", "wait until it has ended");
	if (s->job->uid == 0)
		return 0;
	if (!status_groups_are_known(s->job, status_line(status, "\nGid:")) ||
	    !status_groups_are_known(s->job, status_line(status, "\nGroups:")))
		return preflight_refuse(
			pid, err, "runs with another group than the job (a set-group-ID program, such as ssh-agent)",
			"wait until it has ended, or start it outside of the job");
	if (status_has_capabilities(status))
		return preflight_refuse(pid, err, "has capabilities (a program with file capabilities, such as ping)",
					"wait until it has ended");
	return 0;
}

static bool status_has_ended(const char *status)
{
	return strstr(status, "\nState:\tZ") || strstr(status, "\nState:\tX");
}

/* Notes a thread that may have confined itself: Landlock requires no_new_privs of a thread without capabilities. Jobs
 * of root are not checked, because root can confine itself without it. */
static void status_remember_suspect(struct preflight_scan *s, pid_t pid, pid_t tid, const char *status)
{
	const char *gids = status_line(status, "\nGid:");
	bool comparable = true;

	if (s->job->uid == 0 || proc_status_number(status, "NoNewPrivs", 0) != 1)
		return;
	for (long v; (v = status_next_number(&gids)) >= 0;)
		comparable &= (gid_t)v == s->job->gid;
	array_reserve(s->suspects, s->n_suspects, s->suspects_room);
	s->suspects[s->n_suspects++] = (struct suspect){ pid, tid, comparable };
}

/* True if the thread does not share this with the first one. A thread that is ending has nothing to share any more, so
 * one that differs is asked again; -1 of kcmp(2): it has ended, or this kernel cannot tell. */
static bool status_differs(pid_t pid, pid_t tid, int kind)
{
	for (int i = 0; i < 5; i++) {
		if (syscall(SYS_kcmp, pid, tid, kind, 0, 0) <= 0)
			return false;
		usleep(10000);
	}
	return true;
}

/* Refuses a thread that shares less with its process than threads do: criu saves the descriptors, the working directory
 * and the umask of the first thread only, and gives them to all. */
static int status_check_shared(pid_t pid, pid_t tid, struct err *err)
{
	static const struct {
		int kind;
		const char *what;
	} shared[] = {
		{ KCMP_FILES, "descriptors of its own (unshare(CLONE_FILES))" },
		{ KCMP_FS, "a working directory and umask of its own (unshare(CLONE_FS))" },
	};
	char what[128];

	for (size_t i = 0; tid != pid && i < ARRAY_SIZE(shared); i++) {
		if (!status_differs(pid, tid, shared[i].kind))
			continue;
		snprintf(what, sizeof(what), "has a thread, %d, with %s", tid, shared[i].what);
		return preflight_refuse(pid, err, what, "wait until that thread has ended");
	}
	return 0;
}

/* sharing: whether the thread must share what the first thread has. *alive: incremented if the thread has not ended. */
static int status_check_thread(struct preflight_scan *s, pid_t pid, int task, const char *tid, bool sharing, int *alive,
			       struct err *err)
{
	cleanup_free char *status = NULL;
	char name[280];

	snprintf(name, sizeof(name), "%s/status", tid);
	if (read_file_at(task, name, 65536, &status) <= 0 || status_has_ended(status))
		return 0;
	(*alive)++;
	status_remember_suspect(s, pid, (pid_t)atoi(tid), status);
	return (sharing && status_check_shared(pid, (pid_t)atoi(tid), err)) ||
			       status_check_credentials(s, pid, status, err)
		       ? -1
		       : 0;
}

static int status_check_threads(struct preflight_scan *s, pid_t pid, bool sharing, int *alive, struct err *err)
{
	cleanup_dir DIR *d = NULL;
	const struct dirent *e;
	char path[32];
	int more = 0;

	*alive = 0;
	snprintf(path, sizeof(path), "%d/task", pid);
	d = dir_open_at(s->proc, path);
	while (d && (more = dir_next(d, &e)) > 0)
		if (status_check_thread(s, pid, dirfd(d), e->d_name, sharing, alive, err))
			return -1;
	return more < 0 ? err_sys(err, errno, "cannot read /proc/%s", path) : 0;
}

int preflight_suspects(struct preflight_scan *s, pid_t pid, struct err *err)
{
	int alive;

	return status_check_threads(s, pid, false, &alive, err);
}

/* fsched-srun, which has the name of the program whose place it takes, and whose tasks are processes of the pod. It is
 * installed beside the program that asks. */
static bool status_is_launcher(const struct preflight_scan *s, pid_t pid)
{
	char own[4096], path[32];
	ssize_t n = readlink("/proc/self/exe", own, sizeof(own) - 16);
	struct stat a, b;

	if (n <= 0)
		return false;
	own[n] = '\0';
	strcpy(strrchr(own, '/') + 1, "fsched-srun");
	snprintf(path, sizeof(path), "%d/exe", pid);
	return fstatat(s->proc, path, &a, 0) == 0 && stat(own, &b) == 0 && a.st_ino == b.st_ino && a.st_dev == b.st_dev;
}

/* Refuses a child that tells its end by another signal than SIGCHLD, or by none (clone()). criu restores it as one that
 * sends SIGCHLD, for which a plain wait() of the parent returns. */
static int status_check_exit_signal(const struct preflight_scan *s, pid_t pid, struct err *err)
{
	cleanup_free char *stat = NULL;
	char path[32], what[96];
	const char *p;
	int signal = SIGCHLD;

	snprintf(path, sizeof(path), "%d/stat", pid);
	if (pid == s->leader || read_file_at(s->proc, path, 4096, &stat) <= 0 || !(p = strrchr(stat, ')')))
		return 0;
	for (int field = 2; p && field < 38; field++) /* exit_signal: proc(5) */
		p = strchr(p + 1, ' ');
	if (!p || sscanf(p, "%d", &signal) != 1 || signal == SIGCHLD)
		return 0;
	snprintf(what, sizeof(what), "tells its end to its parent by signal %d instead of SIGCHLD (clone())", signal);
	return preflight_refuse(pid, err, what, "wait until it has ended");
}

int preflight_status(struct preflight_scan *s, pid_t pid, struct err *err)
{
	cleanup_free char *status = NULL;
	char name[64], what[96];
	int tracer, alive;

	snprintf(name, sizeof(name), "%d/status", pid);
	if (read_file_at(s->proc, name, 65536, &status) <= 0)
		return 0;
	if (status_check_threads(s, pid, !status_has_ended(status), &alive, err) || status_check_exit_signal(s, pid, err))
		return -1;
	if (status_has_ended(status))
		return alive ? preflight_refuse(pid, err,
						"has ended its first thread while others run on (pthread_exit() in main())",
						"let main() wait for its threads")
			     : 0;
	tracer = (int)proc_status_number(status, "TracerPid", 0);
	if (tracer > 0 && !s->job->hands_off) {
		snprintf(what, sizeof(what), "is being traced by process %d of the node (a debugger or strace)", tracer);
		return preflight_refuse(pid, err, what, "detach it and try again");
	}
	if (!strncmp(status, "Name:\tsrun\n", 11) && !status_is_launcher(s, pid))
		return preflight_refuse(
			pid, err, "is a job step of Slurm's own srun",
			"its tasks run outside of the batch script; wait until the step has ended, or let the job use "
			"fsched's srun (FSCHED_SRUN=real turns it off, and it takes the place only of the programs in "
			"SrunPath in fsched.conf)");
	return 0;
}

/* The process whose namespace of this kind pid must share: the leader, and for the leader itself the pod's pid 1.
 *
 * The job cannot reach pid 1, but it can reach the leader: another process of the job can trace the leader and move it,
 * and itself, into a user namespace and there into a mount namespace with mounts of its choice. criu would enter these
 * as root. IPC and time namespaces are not compared with pid 1's, because criu restores the tree into new ones. */
static pid_t namespaces_reference(const struct preflight_scan *s, pid_t pid, const char *ns)
{
	if (pid != s->leader)
		return s->leader;
	return strcmp(ns, "ipc") && strcmp(ns, "time") ? s->job->init : s->leader;
}

int preflight_namespaces(const struct preflight_scan *s, pid_t pid, struct err *err)
{
	static const struct {
		const char *file, *name;
	} ns[] = {
		{ "pid", "PID" },     { "mnt", "mount" }, { "user", "user" },     { "ipc", "IPC" },
		{ "net", "network" }, { "uts", "UTS" },   { "cgroup", "cgroup" }, { "time", "time" },
	};
	struct stat a, b;
	char path[64], what[96];

	for (size_t i = 0; i < ARRAY_SIZE(ns); i++) {
		snprintf(path, sizeof(path), "%d/ns/%s", namespaces_reference(s, pid, ns[i].file), ns[i].file);
		if (fstatat(s->proc, path, &a, 0))
			continue;
		snprintf(path, sizeof(path), "%d/ns/%s", pid, ns[i].file);
		if (fstatat(s->proc, path, &b, 0) || (a.st_dev == b.st_dev && a.st_ino == b.st_ino))
			continue;
		snprintf(what, sizeof(what), "is in another %s namespace than the %s (a container or unshare)",
			 ns[i].name, pid == s->leader ? "pod" : "job");
		return preflight_refuse(pid, err, what, "");
	}
	return 0;
}
