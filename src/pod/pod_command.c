#include "pod/pod_command.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/io.h"
#include "base/proc.h"
#include "base/user.h"
#include "base/util.h"

#define COMMAND_ENV_MAX  (4 << 20) /* bytes of the script's environment */
#define COMMAND_POLL_MS  20
#define COMMAND_KILL_US  5000000 /* for the end of what the command leaves */
#define COMMAND_EXIT_ENV 127

/* ---- the command, with the user's rights ---- */

static bool command_has(const char *const *variables, const char *element)
{
	for (; *variables; variables++) {
		const size_t n = strcspn(*variables, "=") + 1;

		if (strncmp(*variables, element, n) == 0)
			return true;
	}
	return false;
}

/* The environment of the script and the variables in addition. The kernel lets the user read it: the script is his. */
static char **command_environment(const struct pod_command *c)
{
	char path[64], *text = NULL;
	ssize_t len;
	size_t n = 0, count = 1;
	char **env;

	snprintf(path, sizeof(path), "/proc/%d/environ", (int)c->script);
	len = c->script > 0 ? read_file_at(AT_FDCWD, path, COMMAND_ENV_MAX, &text) : 0;
	for (ssize_t i = 0; i < len; i++)
		count += text[i] == '\0';
	for (const char *const *v = c->variables; *v; v++)
		count++;
	env = xcalloc(count + 1, sizeof(*env));
	for (const char *const *v = c->variables; *v; v++)
		env[n++] = xstrdup(*v);
	for (ssize_t i = 0; i < len; i += (ssize_t)strlen(text + i) + 1)
		if (text[i] && !command_has(c->variables, text + i))
			env[n++] = text + i;
	return env;
}

/* The caller has no descriptor below fd + 1, so the file gets this number, also if the script's limit is not higher. */
static void command_open_output(const struct pod_command *c, int fd)
{
	char path[64];
	struct stat st;
	int out;

	snprintf(path, sizeof(path), "/proc/%d/fd/%d", (int)c->script, fd);
	out = c->script > 0 ? open(path, O_WRONLY | O_APPEND | O_NONBLOCK | O_NOCTTY) : -1;
	if (out >= 0 && (fstat(out, &st) || fcntl(out, F_SETFL, S_ISREG(st.st_mode) ? O_APPEND : 0))) {
		close(out);
		out = -1;
	}
	if (out < 0)
		open("/dev/null", O_WRONLY);
}

static void command_copy_umask(const char *status)
{
	static const char key[] = "\nUmask:\t";
	const char *p = strstr(status, key);

	if (p)
		umask((mode_t)strtoul(p + strlen(key), NULL, 8));
}

/* What neither the script nor its children can get any more. As root: without CAP_SETPCAP the bounding set stays. */
static int command_copy_bounds(const char *status)
{
	static const char key[] = "\nCapBnd:\t";
	const char *p = strstr(status, key);
	const unsigned long long bounds = p ? strtoull(p + strlen(key), NULL, 16) : ~0ULL;

	for (int cap = 0; prctl(PR_CAPBSET_READ, cap, 0, 0, 0) >= 0; cap++)
		if (cap < 64 && !(bounds >> cap & 1) && prctl(PR_CAPBSET_DROP, cap, 0, 0, 0))
			return -1;
	return strstr(status, "\nNoNewPrivs:\t1") ? prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) : 0;
}

static void command_copy_oom_score(const struct pod_command *c)
{
	cleanup_close int from = open_proc(c->script, "oom_score_adj", O_RDONLY);
	cleanup_close int to = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
	char text[16];
	ssize_t n = from < 0 ? 0 : read(from, text, sizeof(text));

	if (n > 0)
		(void)!write(to, text, (size_t)n); /* where root may not lower it, the agent's own holds */
}

/* Resource limits of the script, as far as this process, which is the user's, may have them: its own are those of the
 * agent, which is root. */
static void command_copy_limits(const struct pod_command *c)
{
	struct rlimit limit, own;

	for (unsigned r = 0; r < RLIM_NLIMITS; r++) {
		if (prlimit(c->script, r, NULL, &limit) || getrlimit(r, &own))
			continue;
		own.rlim_max = limit.rlim_max < own.rlim_max ? limit.rlim_max : own.rlim_max;
		own.rlim_cur = limit.rlim_cur < own.rlim_max ? limit.rlim_cur : own.rlim_max;
		setrlimit(r, &own);
	}
}

/* What holds for the script holds for the command too. */
static int command_become_user(const struct pod_command *c)
{
	cleanup_free char *status = NULL;
	char path[64];
	cpu_set_t cpus;

	snprintf(path, sizeof(path), "/proc/%d/status", (int)c->script);
	if (c->script > 0) {
		if (read_file_at(AT_FDCWD, path, 65536, &status) <= 0 || command_copy_bounds(status))
			return -1;
		command_copy_umask(status);
		command_copy_oom_score(c);
		if (sched_getaffinity(c->script, sizeof(cpus), &cpus) == 0)
			sched_setaffinity(0, sizeof(cpus), &cpus);
	}
	if (user_set_ids(c->cred.uid, c->cred.gid, c->cred.groups, c->cred.n_groups) || prctl(PR_SET_DUMPABLE, 0))
		return -1;
	if (c->script > 0)
		command_copy_limits(c);
	return 0;
}

static _Noreturn void command_exec(const struct pod_command *c)
{
	char sh[] = "/bin/sh", option[] = "-c", *text = xstrdup(c->text);
	char *argv[] = { sh, option, text, NULL };
	sigset_t none;
	char **env;

	setsid();
	for (int sig = 1; sig < NSIG; sig++)
		signal(sig, SIG_DFL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	/* Where one of those that follow cannot be opened the command must not have the agent's. */
	close_range(0, ~0U, 0);
	if (command_become_user(c))
		_exit(COMMAND_EXIT_ENV);
	env = command_environment(c);
	open("/dev/null", O_RDONLY);
	command_open_output(c, STDOUT_FILENO);
	command_open_output(c, STDERR_FILENO);
	if (chdir(c->dir) && chdir("/"))
		_exit(COMMAND_EXIT_ENV);
	execve(sh, argv, env);
	_exit(COMMAND_EXIT_ENV);
}

/* ---- its supervisor, root in the pod's PID namespace ---- */

static void command_kill_children(void)
{
	cleanup_free char *text = NULL;
	char path[64], *p, *end;

	snprintf(path, sizeof(path), "/proc/self/task/%d/children", (int)getpid());
	if (read_file_at(AT_FDCWD, path, 1 << 20, &text) <= 0)
		return;
	for (p = text; *p; p = end + strspn(end, " ")) {
		const long pid = strtol(p, &end, 10);

		if (end == p)
			return;
		if (pid > 1)
			kill((pid_t)pid, SIGKILL);
	}
}

/* The supervisor is the sub-reaper, so what the command has started and left becomes its child. */
static void command_kill_rest(void)
{
	const int64_t until = now_us() + COMMAND_KILL_US;

	while (now_us() < until) {
		command_kill_children();
		while (waitpid(-1, NULL, WNOHANG) > 0)
			;
		if (waitpid(-1, NULL, WNOHANG) < 0 && errno == ECHILD)
			return;
		poll(NULL, 0, COMMAND_POLL_MS);
	}
}

static void command_wait(pid_t pid, unsigned limit_s, struct pod_command_outcome *o)
{
	const int64_t until = now_us() + limit_s * INT64_C(1000000);

	for (;;) {
		struct pollfd in = { .fd = STDIN_FILENO, .events = POLLIN };
		int status;
		pid_t ended = waitpid(-1, &status, WNOHANG);

		if (ended == pid) {
			*o = (struct pod_command_outcome){ POD_COMMAND_ENDED, status };
			return;
		}
		if (ended > 0)
			continue;
		if (now_us() >= until || poll(&in, 1, COMMAND_POLL_MS) > 0) {
			o->how = now_us() >= until ? POD_COMMAND_LATE : POD_COMMAND_CUT;
			return;
		}
	}
}

static _Noreturn void command_supervise(const struct pod_command *c, int out)
{
	struct pod_command_outcome o = { .status = -1 };
	pid_t pid;

	prctl(PR_SET_NAME, "fsched-hook");
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	prctl(PR_SET_PDEATHSIG, 0); /* it has to end what it has started */
	pid = fork();
	if (pid == 0)
		command_exec(c);
	if (pid > 0)
		command_wait(pid, c->limit_s, &o);
	command_kill_rest();
	_exit(pid > 0 && write_all(out, &o, sizeof(o)) == 0 ? 0 : 1);
}

/* ---- the caller ---- */

static int command_enter(const struct pod_command *c, struct err *err)
{
	static const struct {
		const char *name;
		int type;
	} spaces[] = { { "ns/pid", CLONE_NEWPID },
		       { "ns/net", CLONE_NEWNET },
		       { "ns/uts", CLONE_NEWUTS },
		       { "ns/ipc", CLONE_NEWIPC },
		       { "ns/mnt", CLONE_NEWNS } };
	int fds[ARRAY_SIZE(spaces)];

	for (size_t i = 0; i < ARRAY_SIZE(spaces); i++) {
		fds[i] = open_proc(c->init, spaces[i].name, O_RDONLY);
		if (fds[i] < 0)
			return err_sys(err, errno, "cannot open %s of the pod", spaces[i].name);
	}
	for (size_t i = 0; i < ARRAY_SIZE(spaces); i++) {
		if (setns(fds[i], spaces[i].type))
			return err_sys(err, errno, "cannot enter %s of the pod", spaces[i].name);
		close(fds[i]);
	}
	return chdir("/") ? err_sys(err, errno, "cannot enter the pod's root directory") : 0;
}

int pod_command_run(const struct pod_command *c, struct pod_command_outcome *o, struct err *err)
{
	int fds[2];
	ssize_t n;
	pid_t pid;

	if (command_enter(c, err))
		return -1;
	if (pipe2(fds, O_CLOEXEC))
		return err_sys(err, errno, "cannot make a pipe");
	pid = fork();
	if (pid == 0) {
		close(fds[0]);
		command_supervise(c, fds[1]);
	}
	close(fds[1]);
	cleanup_close int in = fds[0];
	if (pid < 0)
		return err_sys(err, errno, "cannot fork in the pod");
	do
		n = read(in, o, sizeof(*o));
	while (n < 0 && errno == EINTR);
	if (n != (ssize_t)sizeof(*o))
		return err_set(err, EPIPE, "the command's supervisor in the pod was killed");
	return 0;
}
