#include "cli/qualify/compare_runs.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/text.h"
#include "base/util.h"

/* What was named by --compare must be there: a name that is in neither run is a mistake of the caller. */
static int compare_named_results(const struct session *s, int reference, int run, struct compare_result *r,
				 struct err *err)
{
	const struct qualify_options *o = s->o;

	for (size_t i = 0; i < o->n_compare; i++) {
		if (faccessat(reference, o->compare[i], F_OK, AT_SYMLINK_NOFOLLOW) < 0)
			return err_set(err, errno,
				       "--compare %s: the undisturbed run has made no such file in its working directory",
				       o->compare[i]);
		if (compare_named(reference, run, o->compare[i], &o->ignore, r, err) < 0)
			return -1;
	}
	return 0;
}

static int compare_bytes(const struct session *s, const char *reference, const char *run, struct compare_result *r,
			 struct err *err)
{
	cleanup_free char *a_work = xasprintf("%s/work", reference), *b_work = xasprintf("%s/work", run);
	cleanup_close int a = openat(s->dirfd, reference, O_RDONLY | O_DIRECTORY | O_CLOEXEC),
			  b = openat(s->dirfd, run, O_RDONLY | O_DIRECTORY | O_CLOEXEC),
			  x = openat(s->dirfd, a_work, O_RDONLY | O_DIRECTORY | O_CLOEXEC),
			  y = openat(s->dirfd, b_work, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (a < 0 || b < 0 || x < 0 || y < 0)
		return err_sys(err, errno, "cannot open the directories of the runs in %s", s->dir);
	if (compare_output(a, b, "stdout", &s->o->ignore, r, err) < 0 ||
	    compare_output(a, b, "stderr", &s->o->ignore, r, err) < 0)
		return -1;
	return s->o->n_compare ? compare_named_results(s, x, y, r, err) : compare_trees(x, y, "", &s->o->ignore, r, err);
}

static int compare_by_command(struct session *s, const char *reference, struct qualify_run *run, struct err *err)
{
	cleanup_free char *a = xasprintf("%s/%s", s->dir, reference),
			  *b = xasprintf("%s/%s", s->dir, qualify_kind_name(run->kind));
	char *argv[] = { (char *)(uintptr_t)s->o->command, a, b, NULL };
	struct command_result result;
	char said[280];
	int rc = session_run(s, argv, s->o->request_wait, &result, err);

	if (rc == 0 && (result.late || result.stopped || result.status >= 126))
		rc = err_set(err, 0, "--compare-command: %s", command_said(&result, NULL, said, sizeof(said)));
	if (rc == 0) {
		run->compared = result.status ? QUALIFY_DIFFERENT : QUALIFY_SAME;
		if (result.status && !*result.err) { /* diff and the like speak on standard output */
			free(result.err);
			result.err = xstrdup(result.out);
		}
		if (result.status) {
			memset(&run->differences, 0, sizeof(run->differences));
			run->differences.n = 1;
			snprintf(run->differences.text[0], sizeof(run->differences.text[0]), "--compare-command: %s",
				 command_said(&result, NULL, said, sizeof(said)));
		}
	}
	command_free(&result);
	return rc;
}

int compare_runs(struct session *s, struct qualify_run *run, struct err *err)
{
	const char *reference = qualify_kind_name(QUALIFY_PLAIN);
	struct compare_result *r = &run->differences;

	if (compare_bytes(s, reference, qualify_kind_name(run->kind), r, err) < 0)
		return -1;
	run->compared = r->n ? QUALIFY_DIFFERENT : QUALIFY_SAME;
	if (!s->o->command)
		return 0;
	if (run->kind == QUALIFY_POD)
		s->r->bytes_differ = r->n > 0;
	return compare_by_command(s, reference, run, err);
}
