/* A scontrol that also has "checkpoint". It runs `fsched checkpoint …` for `scontrol checkpoint …`, and executes
 * Slurm's own scontrol for everything else, so that arguments, standard input and exit status are those of the real
 * program. A job that requeues itself is noted before (shim_requeue.h).
 */
#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/shim_requeue.h"
#include "cli/shim_scan.h"
#include "base/util.h"

/* The shims that have been executed before this one, as ",dev:ino,": two copies in PATH must not execute each other for
 * ever. */
#define SEEN_ENV "FSCHED_SHIM_SEEN"

static int shim_fail(const char *text)
{
	fprintf(stderr, "scontrol: %s\n", text);
	return 1;
}

static char *seen_key(const struct stat *st)
{
	return xasprintf(",%llu:%llu,", (unsigned long long)st->st_dev, (unsigned long long)st->st_ino);
}

static bool mark_self(void)
{
	cleanup_free char *key = NULL, *all = NULL;
	const char *old = getenv(SEEN_ENV);
	struct stat st;

	if (stat("/proc/self/exe", &st) < 0)
		return false;
	key = seen_key(&st);
	all = xasprintf("%s%s", old ? old : "", key);
	setenv(SEEN_ENV, all, 1);
	return true;
}

/* Whether path is an executable other than this shim and those executed before. */
static bool is_real(const char *path)
{
	cleanup_free char *key = NULL;
	const char *seen = getenv(SEEN_ENV);
	struct stat st;

	if (stat(path, &st) < 0 || !S_ISREG(st.st_mode) || access(path, X_OK) < 0)
		return false;
	key = seen_key(&st);
	return !seen || !strstr(seen, key);
}

/* Calls fn with "<dir>/<name>" for each directory of PATH until it returns true. Returns that path, which the caller
 * frees, or NULL. */
static char *search_path(const char *name, bool (*fn)(const char *path))
{
	const char *path = getenv("PATH");
	const char *dir, *end;

	for (dir = path ? path : "/usr/bin:/bin";; dir = end + 1) {
		char *full;

		end = strchrnul(dir, ':');
		full = xasprintf("%.*s/%s", end == dir ? 1 : (int)(end - dir), end == dir ? "." : dir, name);
		if (fn(full))
			return full;
		free(full);
		if (*end == '\0')
			return NULL;
	}
}

static bool is_program(const char *path)
{
	struct stat st;

	return stat(path, &st) == 0 && S_ISREG(st.st_mode) && access(path, X_OK) == 0;
}

/* With dpkg-divert, the real scontrol is scontrol.slurm in the directory of the link by which the shim was called. The
 * caller frees; NULL: there is none. */
static char *find_diverted(const char *argv0)
{
	cleanup_free char *link = strchr(argv0, '/') ? xstrdup(argv0) : search_path(argv0, is_program);
	char *slash = link ? strrchr(link, '/') : NULL;
	char *path;

	if (!slash)
		return NULL;
	path = xasprintf("%.*s/scontrol.slurm", (int)(slash - link), link);
	if (is_real(path))
		return path;
	free(path);
	return NULL;
}

static int run_real(char **argv)
{
	const char *wanted = getenv("FSCHED_SCONTROL");
	cleanup_free char *path = NULL;

	mark_self();
	if (wanted && *wanted) {
		path = xstrdup(wanted);
		if (!is_real(path)) {
			fprintf(stderr,
				"scontrol: FSCHED_SCONTROL=%s is no executable file other than fsched's scontrol; "
				"unset it or name Slurm's own scontrol\n",
				wanted);
			return 1;
		}
	}
	if (!path)
		path = find_diverted(argv[0]);
	if (!path)
		path = search_path("scontrol", is_real);
	if (!path && is_real("/usr/bin/scontrol"))
		path = xstrdup("/usr/bin/scontrol");
	if (!path)
		return shim_fail("Slurm's own scontrol is neither beside this program as scontrol.slurm nor in PATH; "
				 "this one only knows `scontrol checkpoint'. Set FSCHED_SCONTROL to its path");
	execv(path, argv);
	fprintf(stderr, "scontrol: cannot run %s: %s\n", path, strerror(errno));
	return 1;
}

/* The shim is installed as <prefix>/<libexec>/fsched/bin/scontrol. In a build tree fsched is in the same directory. */
static char *find_fsched(void)
{
	static const char *const places[] = { "/../../../bin/fsched", "/fsched" };
	char self[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
	char *slash;

	if (n > 0) {
		self[n] = '\0';
		slash = strrchr(self, '/');
		if (slash)
			*slash = '\0';
		for (size_t i = 0; i < ARRAY_SIZE(places); i++) {
			char *path = xasprintf("%s%s", self, places[i]);

			if (is_program(path))
				return path;
			free(path);
		}
	}
	if (is_program(FSCHED_BINDIR "/fsched"))
		return xstrdup(FSCHED_BINDIR "/fsched");
	return search_path("fsched", is_program);
}

static int run_fsched(const struct shim_scan *s, int argc, char **argv)
{
	cleanup_free char *path = find_fsched();
	cleanup_free const char **args = xcalloc((size_t)argc + 8, sizeof(*args));
	int n = 0;

	if (!path)
		return shim_fail("`fsched' was not found, neither in " FSCHED_BINDIR
				 " nor in PATH; is fsched installed completely?");
	args[n++] = "fsched";
	args[n++] = "checkpoint";
	if (s->quiet)
		args[n++] = "--quiet";
	if (s->cluster) {
		args[n++] = "--cluster";
		args[n++] = s->cluster;
	}
	if (s->uid) {
		args[n++] = "--uid";
		args[n++] = s->uid;
	}
	for (int i = s->next; i < argc; i++)
		args[n++] = argv[i];
	execv(path, (char **)(uintptr_t)args);
	fprintf(stderr, "scontrol: cannot run %s: %s\n", path, strerror(errno));
	return 1;
}

int main(int argc, char **argv)
{
	struct shim_scan s;

	if (argc < 1)
		return 1;
	s = shim_scan(argc, argv);
	if (s.requeue && !s.cluster && shim_requeues_itself(argc - s.next, argv + s.next))
		return shim_requeue_itself(run_real, argv);
	return s.checkpoint ? run_fsched(&s, argc, argv) : run_real(argv);
}
