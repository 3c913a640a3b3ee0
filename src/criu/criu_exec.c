/* Finds criu, probes it, and builds its command lines. */
#include "criu/criu_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/io.h"
#include "base/clock.h"
#include "base/util.h"
#include "trace/remote_call.h"

#define VERSION_TIMEOUT_MS 10000

void criu_ignore_signals(void)
{
	static const int kept[] = { SIGKILL, SIGSTOP, SIGCHLD, SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGSYS, SIGTRAP };

	for (int sig = 1; sig <= SIGRTMAX; sig++) {
		bool keep = false;

		for (size_t i = 0; i < ARRAY_SIZE(kept); i++)
			keep |= kept[i] == sig;
		if (!keep)
			signal(sig, SIG_IGN); /* fails for the two signals that glibc reserves */
	}
	signal(SIGCHLD, SIG_DFL);
}

void criu_die_with_parent(void)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
}

bool criu_version_at_least(const char *version, int major, int minor)
{
	int a = 0, b = 0;

	if (sscanf(version, "%d.%d", &a, &b) < 1)
		return false;
	return a > major || (a == major && b >= minor);
}

/* Root is going to run the file, so only root may be able to change it. */
static int criu_check_trusted(const char *path, struct err *err)
{
	struct stat st;

	if (stat(path, &st))
		return err_sys(err, errno, "%s", path);
	if (geteuid() == 0 && (st.st_uid != 0 || (st.st_mode & 022 && !(S_ISDIR(st.st_mode) && st.st_mode & S_ISVTX))))
		return err_set(err, EPERM, "%s must belong to root and be writable by root alone", path);
	return 0;
}

static void criu_kill_and_reap(pid_t pid)
{
	kill(pid, SIGKILL);
	while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		;
}

/* Reads the output of the child until it closes the pipe. Returns false after timeout_ms. */
static bool criu_read_output(int fd, char *out, size_t len, int timeout_ms)
{
	int64_t end = now_us() + (int64_t)timeout_ms * 1000;
	char spill[512] = { 0 };
	size_t n = 0;

	for (;;) {
		int64_t left = (end - now_us()) / 1000;
		struct pollfd p = { fd, POLLIN, 0 };
		bool room = n + 1 < len;
		ssize_t got;

		if (left < 0)
			return false;
		if (poll(&p, 1, (int)left) <= 0)
			continue;
		got = read(fd, room ? out + n : spill, room ? len - 1 - n : sizeof(spill));
		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			return true;
		n += room ? (size_t)got : 0;
		out[n] = '\0';
	}
}

static char **criu_command(const struct criu_bin *b, const char *const *more)
{
	int n = 0, m = 0;
	char **v;

	while (b->argv[n])
		n++;
	while (more[m])
		m++;
	v = xcalloc((size_t)(n + m) + 1, sizeof(*v));
	for (int i = 0; i < n; i++)
		v[i] = xstrdup(b->argv[i]);
	for (int i = 0; i < m; i++)
		v[n + i] = xstrdup(more[i]);
	return v;
}

static void criu_exec_child(char **argv, char **envp, int out)
{
	int null = open("/dev/null", O_RDONLY);

	criu_die_with_parent();
	criu_ignore_signals();
	if (null < 0 || dup2(null, 0) < 0 || dup2(out, 1) < 0 || dup2(out, 2) < 0 || chdir("/"))
		_exit(126);
	close_range(3, ~0U, 0);
	execve(argv[0], argv, envp);
	dprintf(2, "Error (exec:0): cannot run %s: %s\n", argv[0], strerror(errno));
	_exit(127);
}

/* Runs criu with the arguments more, and puts its standard output and error into out. elide: as for criu_envp().
 * Returns the exit status (128 + N for signal N), or -1 with err. */
static int criu_run_elided(const struct criu_bin *b, bool elide, const char *const *more, int timeout_ms, char *out,
			   size_t len, struct err *err)
{
	char **argv = criu_command(b, more), **envp = criu_envp(b, elide, false, -1, -1);
	int pipefd[2], status = -1;
	bool finished;
	pid_t pid;

	out[0] = '\0';
	if (pipe2(pipefd, O_CLOEXEC)) {
		err_sys(err, errno, "cannot make a pipe for criu");
		goto out;
	}
	pid = fork();
	if (pid == 0)
		criu_exec_child(argv, envp, pipefd[1]);
	close(pipefd[1]);
	if (pid < 0) {
		err_sys(err, errno, "cannot start criu");
		close(pipefd[0]);
		goto out;
	}
	finished = criu_read_output(pipefd[0], out, len, timeout_ms);
	close(pipefd[0]);
	if (!finished) {
		criu_kill_and_reap(pid);
		err_set(err, ETIMEDOUT, "%s %s did not end within %d s", b->argv[0], more[0], timeout_ms / 1000);
		goto out;
	}
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
out:
	criu_argv_free(argv);
	criu_argv_free(envp);
	return status;
}

static int criu_run(const struct criu_bin *b, const char *const *more, int timeout_ms, char *out, size_t len,
		    struct err *err)
{
	return criu_run_elided(b, false, more, timeout_ms, out, len, err);
}

static int criu_ask_version(struct criu_bin *b, struct err *err)
{
	const char *const args[] = { "--version", NULL };
	char out[1024];
	char *p;
	int rc = criu_run(b, args, VERSION_TIMEOUT_MS, out, sizeof(out), err);

	if (rc < 0)
		return -1;
	p = strstr(out, "Version:");
	if (rc != 0 || !p || sscanf(p, "Version: %31[0-9.]", b->version) != 1) {
		out[strcspn(out, "\n")] = '\0';
		return err_set(err, 0, "%s --version does not print the version of a criu, but: %s", b->argv[0], out);
	}
	return 0;
}

/* Uses a directory made by get-criu. criu need not be started to know its version if the file VERSION is there. */
static int criu_use_prefix(const char *dir, struct criu_bin *b, struct err *err)
{
	cleanup_free char *loader = xasprintf("%s/ld.so", dir);
	cleanup_free char *libs = xasprintf("%s/lib", dir);
	cleanup_free char *prog = xasprintf("%s/criu", dir);
	cleanup_close int fd = -1;
	cleanup_free char *text = NULL;
	int n = 0;

	if (criu_check_trusted(dir, err) || criu_check_trusted(loader, err) || criu_check_trusted(libs, err) ||
	    criu_check_trusted(prog, err))
		return -1;
	b->argv[n++] = steal_ptr(&loader);
	b->argv[n++] = xstrdup("--library-path");
	b->argv[n++] = steal_ptr(&libs);
	if (b->preload[0]) {
		b->argv[n++] = xstrdup("--preload");
		b->argv[n++] = xstrdup(b->preload);
	}
	b->argv[n++] = steal_ptr(&prog);
	fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd >= 0 && read_file_at(fd, "VERSION", sizeof(b->version), &text) > 0 &&
	    sscanf(text, "%31[0-9.]", b->version) == 1)
		return 0;
	return criu_ask_version(b, err);
}

/* Uses a directory made by get-criu, or a program. err.num is ENOENT if path does not exist. */
static int criu_use_path(const char *path, struct criu_bin *b, struct err *err)
{
	struct stat st;

	if (stat(path, &st))
		return err_sys(err, errno, "%s", path);
	if (S_ISDIR(st.st_mode))
		return criu_use_prefix(path, b, err);
	if (!S_ISREG(st.st_mode) || access(path, X_OK))
		return err_set(err, EACCES, "%s is neither a program nor a directory made by get-criu", path);
	if (criu_check_trusted(path, err))
		return -1;
	b->argv[0] = xstrdup(path);
	return criu_ask_version(b, err);
}

static int criu_check_version(const struct criu_bin *b, struct err *err)
{
	if (criu_version_at_least(b->version, 4, 1))
		return 0;
	return err_set(err, 0, "criu %s is too old, 4.1 is needed (4.2 or newer is better)", b->version);
}

static int criu_try_path(const char *path, struct criu_bin *b, struct err *err)
{
	if (criu_use_path(path, b, err) == 0 && criu_check_version(b, err) == 0)
		return 0;
	for (int i = 0; b->argv[i]; i++) {
		free(b->argv[i]);
		b->argv[i] = NULL;
	}
	return -1;
}

int criu_locate(const char *conf, const char *libexec, struct criu_bin *b, struct err *err)
{
	cleanup_free char *own = xasprintf("%s/criu", libexec);
	const char *const places[] = { own, "/usr/lib/fsched/criu", "/usr/sbin/criu", "/usr/local/sbin/criu" };
	cleanup_free char *tried = xstrdup("");
	struct err why = { 0 };
	char *more;

	*b = (struct criu_bin){ 0 };
	snprintf(b->preload, sizeof(b->preload), "%s/%s", libexec, CRIU_PRELOAD);
	if (access(b->preload, R_OK))
		b->preload[0] = '\0';
	else if (criu_check_trusted(b->preload, err))
		return -1;
	if (conf && conf[0]) {
		if (criu_try_path(conf, b, err) == 0)
			return 0;
		return err_wrap(err, "CriuPath = %s cannot be used; run `%s/get-criu %s` or correct fsched.conf", conf,
				libexec, conf);
	}
	for (size_t i = 0; i < ARRAY_SIZE(places); i++) {
		if (criu_try_path(places[i], b, &why) == 0)
			return 0;
		more = xasprintf("%s%s%s", tried, tried[0] ? "; " : "", why.num == ENOENT ? places[i] : why.text);
		free(tried);
		tried = more;
	}
	return err_set(err, ENOENT,
		       "no usable criu on this node (tried %s); run `%s/get-criu %s` or set CriuPath in fsched.conf",
		       tried, libexec, own);
}

int criu_act_for(struct criu_bin *b, uid_t uid, gid_t gid, const gid_t *groups, int n_groups, struct err *err)
{
	const size_t room = 64 + (size_t)n_groups * 11;
	char *text;
	size_t n;

	if (uid == 0)
		return 0;
	if (!b->preload[0])
		return err_set(err, ENOENT,
			       "%s is missing beside the programs of fsched: without it criu would open the job's files with "
			       "root's rights; install fsched anew",
			       CRIU_PRELOAD);
	text = xmalloc(room);
	n = (size_t)snprintf(text, room, "FSCHED_JOB=%u:%u:", (unsigned)uid, (unsigned)gid);
	for (int i = 0; i < n_groups; i++)
		n += (size_t)snprintf(text + n, room - n, "%s%u", i ? "," : "", (unsigned)groups[i]);
	free(b->job);
	b->job = text;
	return 0;
}

void criu_bin_free(struct criu_bin *b)
{
	free(b->job);
	for (size_t i = 0; i < ARRAY_SIZE(b->argv); i++)
		free(b->argv[i]);
	*b = (struct criu_bin){ 0 };
}

int criu_check(const struct criu_bin *b, int timeout_s, struct err *err)
{
	const char *const args[] = { "--no-default-config", "check", NULL };
	char out[8192], *line, *save = NULL;
	const char *last = NULL;
	int rc = criu_run(b, args, timeout_s * 1000, out, sizeof(out), err);

	if (rc <= 0)
		return rc;
	for (line = strtok_r(out, "\n", &save); line; line = strtok_r(NULL, "\n", &save))
		if (strstr(line, "Error ("))
			last = line;
	return err_set(err, 0, "criu check fails: %s", last ? last : "no message");
}

int criu_check_elide(const struct criu_bin *b, int timeout_s, struct err *err)
{
	const char *const args[] = { "--no-default-config", "check", "--feature", "mem_dirty_track", NULL };
	char out[8192];
	int rc;

	if (!b->preload[0])
		return err_set(err, ENOENT, "%s is missing beside the programs of fsched", CRIU_PRELOAD);
	rc = criu_run_elided(b, true, args, timeout_s * 1000, out, sizeof(out), err);
	if (rc < 0)
		return -1;
	/* criu prints this, and its exit status is 0. */
	if (rc == 0 && strstr(out, "is supported"))
		return 0;
	return err_set(
		err, 0,
		"criu does not see pages as clean although fsched's library tells it so: the library is not loaded (is criu linked statically, or does it have file capabilities?)");
}

/* "@": only the preload library turns such an argument into a path, so criu cannot start without the library. */
char **criu_restore_argv(const struct criu_bin *b, bool stops, bool leave_stopped)
{
	const char *const args[] = {
		"--no-default-config",
		"restore",
		"--images-dir",
		b->job ? "@/proc/self/fd/10" : "/proc/self/fd/10",
		"--work-dir",
		"/proc/self/fd/11",
		"--log-file",
		CRIU_RESTORE_LOG,
		"-v2",
		"--restore-detached",
		"--restore-sibling",
		"--manage-cgroups=ignore",
		"--file-locks",
		"--link-remap",
		"--tcp-established",
		leave_stopped ? "--leave-stopped" : "--tcp-established",
		stops ? "--action-script" : NULL,
		RESTORE_SCRIPT,
		NULL,
	};

	return criu_command(b, args);
}

char **criu_envp(const struct criu_bin *b, bool elide, bool shared, int remote_call, int names)
{
	char **v = xcalloc(10, sizeof(*v));
	int n = 0;

	v[n++] = xstrdup("PATH=/usr/sbin:/usr/bin:/sbin:/bin");
	v[n++] = xstrdup("LC_ALL=C");
	/* Before 4.2 criu hangs with the job frozen where hardware breakpoints do not work (virtual machines). Fault
	 * 130 makes it work without them. */
	if (b->version[0] && !criu_version_at_least(b->version, 4, 2))
		v[n++] = xstrdup("CRIU_FAULT=130");
	if (b->preload[0] && !b->argv[1])
		v[n++] = xasprintf("LD_PRELOAD=%s", b->preload);
	if (b->job)
		v[n++] = xstrdup(b->job);
	if (elide)
		v[n++] = xstrdup("FSCHED_ELIDE=1");
	if (elide && shared)
		v[n++] = xstrdup("FSCHED_ELIDE_SHARED=1");
	if (remote_call >= 0)
		v[n++] = xasprintf("FSCHED_REMOTE_CALL=%d", remote_call);
	if (names >= 0)
		v[n++] = xasprintf("FSCHED_NAMES=%d", names);
	return v;
}

void criu_envp_add(char ***envp, char *variable)
{
	size_t n = 0;

	while ((*envp)[n])
		n++;
	*envp = xrealloc(*envp, (n + 2) * sizeof(**envp));
	(*envp)[n] = variable;
	(*envp)[n + 1] = NULL;
}

void criu_argv_free(char **v)
{
	for (int i = 0; v && v[i]; i++)
		free(v[i]);
	free(v);
}
