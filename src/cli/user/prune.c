/* fsched prune: epochs stay after the end of a job until somebody removes them. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/user/job_view.h"
#include "base/dir.h"
#include "base/dir_tree.h"
#include "base/text.h"
#include "base/util.h"

#define COMMAND "prune"
#define SHOWN   11 /* epochs in an entry */

struct options {
	long keep; /* -1 = --all */
	bool all, force, dry_run;
	const char *conf;
};

/* A job that can still use its epochs. */
static bool alive(const struct view *v)
{
	return v->in_slurm && !v->foreign && (!v->job.finished || v->job.completing);
}

/* May it be pruned? Not knowing counts as no. */
static int check(const struct view *v, const struct options *o, struct err *err)
{
	if (o->force || o->dry_run)
		return 0;
	if (alive(v))
		return err_set(err, 0, "is %s%s and may still need its epochs; --force removes them all the same",
			       v->job.state, v->job.held ? " (held)" : "");
	if (!v->in_slurm && v->slurm_err.num != VIEW_UNKNOWN_JOB)
		return err_set(err, 0, "whether it has ended is not known (%s); --force goes on without asking Slurm",
			       v->slurm_err.text);
	return 0;
}

static void say(const struct options *o, const struct view *v, const char *what)
{
	printf("job %s: %s %s\n", v->label, o->dry_run ? "would remove" : "removed", what);
}

static void forget_epoch(struct job_record *r, unsigned epoch)
{
	for (unsigned i = 0; i < r->n_epochs; i++) {
		if (r->epochs[i].number != epoch)
			continue;
		memmove(&r->epochs[i], &r->epochs[i + 1], (r->n_epochs - i - 1) * sizeof(r->epochs[0]));
		r->n_epochs--;
		return;
	}
}

/* The record first: an epoch that it names must be there. */
static int remove_epoch(struct view *v, unsigned epoch, const struct options *o, struct err *err)
{
	uint64_t shared = store_epoch_shared(&v->store, epoch);
	char what[96], size[16];

	snprintf(what, sizeof(what), "epoch %u", epoch);
	if (shared)
		snprintf(what, sizeof(what), "epoch %u; %s of it stay as long as other epochs refer to them", epoch,
			 format_size(shared, size, sizeof(size)));
	if (!o->dry_run) {
		if (v->on_disk) {
			forget_epoch(&v->rec, epoch);
			if (store_save_record(&v->store, &v->rec, err) < 0)
				return -1;
		}
		if (store_remove_epoch(&v->store, epoch, err) < 0)
			return -1;
	}
	say(o, v, what);
	return 0;
}

static int keep_some(struct view *v, const struct options *o, struct err *err)
{
	unsigned epochs[STORE_KEPT_MAX];
	int n = store_list_epochs(&v->store, epochs, STORE_KEPT_MAX);

	if (n < 0)
		return err_sys(err, errno, "cannot list the epochs in %s", v->store.path);
	for (int i = 0; i < n - o->keep; i++)
		if (remove_epoch(v, epochs[i], o, err) < 0)
			return -1;
	if (!o->dry_run && !alive(v))
		store_remove_partials(&v->store);
	return 0;
}

/* "12" and what was set aside of older jobs with this id: "12.<uuid>". */
static bool belongs(const char *name, uint32_t id)
{
	char number[16];
	size_t len = (size_t)snprintf(number, sizeof(number), "%u", id);

	return strncmp(name, number, len) == 0 && (name[len] == '\0' || name[len] == '.');
}

static int remove_all(struct view *v, const struct conf *c, const struct options *o, struct err *err)
{
	cleanup_dir DIR *dir = opendir(c->dir);
	const struct dirent *d;
	unsigned n = 0;
	int more;

	if (!dir)
		return err_sys(err, errno, "cannot open %s", c->dir);
	while ((more = dir_next(dir, &d)) > 0) {
		if (!belongs(d->d_name, v->id))
			continue;
		if (!o->dry_run && remove_tree_at(dirfd(dir), d->d_name) < 0)
			return err_sys(err, errno, "cannot remove %s/%s", c->dir, d->d_name);
		cleanup_free char *path = xasprintf("%s/%s", c->dir, d->d_name);
		say(o, v, path);
		n++;
	}
	if (more < 0)
		return err_sys(err, errno, "cannot read %s", c->dir);
	return n ? 0 : err_set(err, ENOENT, "nothing is kept of it in %s", c->dir);
}

/* Slurm takes no update of a job that has ended; of others it must not tell of what is no more, for restart goes by it.
 */
static void tell_slurm(struct view *v)
{
	unsigned epochs[STORE_KEPT_MAX];
	int n = v->store.epochsfd < 0 ? 0 : store_list_epochs(&v->store, epochs, STORE_KEPT_MAX);
	struct status *s = &v->status;
	size_t len = 0;
	struct err err;

	if (!alive(v) || !v->enabled || n < 0)
		return;
	*s->kept = '\0';
	for (int i = n > SHOWN ? n - SHOWN : 0; i < n; i++)
		len += (size_t)snprintf(s->kept + len, sizeof(s->kept) - len, "%s%u", len ? "," : "", epochs[i]);
	if (n <= 0) {
		s->epoch = 0;
		snprintf(s->error, sizeof(s->error), "its epochs were removed by fsched prune");
	}
	if (rpc_publish(v->id, s, &err) < 0)
		cli_error(COMMAND, "job %s: warning: its Checkpoint entry still names what was removed: %s", v->label,
			  err.text);
}

static int prune(const struct conf *c, uint32_t id, const struct options *o)
{
	struct view *v = view_load(c, id);
	struct err err;
	int rc = check(v, o, &err);

	if (rc == 0 && o->all && alive(v) && v->job.running)
		rc = err_set(&err, 0, "runs; its agent needs the directory: remove epochs with --keep 0 --force");
	else if (rc == 0 && o->all)
		rc = remove_all(v, c, o, &err);
	else if (rc == 0 && v->store.epochsfd < 0)
		rc = err_set(&err, 0, "%s", v->disk_err.text);
	else if (rc == 0)
		rc = keep_some(v, o, &err);
	if (rc == 0 && !o->dry_run)
		tell_slurm(v);
	if (rc < 0)
		cli_error(COMMAND, "job %s: %s", v->label, err.text);
	view_free(v);
	return rc < 0 ? CLI_FAILED : CLI_OK;
}

static int read_options(int argc, char **argv, struct options *o)
{
	/* clang-format off */
	static const struct option options[] = {
		{ "keep",    required_argument, NULL, 'k' },
		{ "all",     no_argument,       NULL, 'a' },
		{ "force",   no_argument,       NULL, 'f' },
		{ "dry-run", no_argument,       NULL, 'n' },
		{ "conf",    required_argument, NULL, 'c' },
		{ "help",    no_argument,       NULL, 'h' },
		{ NULL, 0, NULL, 0 }
	};
	/* clang-format on */
	int c;

	while ((c = getopt_long(argc, argv, "fnh", options, NULL)) != -1) {
		switch (c) {
		case 'k':
			if (cli_number(optarg, 0, STORE_KEPT_MAX, &o->keep) < 0)
				return cli_usage(COMMAND, "--keep wants a number from 0 to %d, not \"%s\"",
						 STORE_KEPT_MAX, optarg) +
				       1;
			break;
		case 'a': o->all = true; break;
		case 'f': o->force = true; break;
		case 'n': o->dry_run = true; break;
		case 'c': o->conf = optarg; break;
		case 'h': return cli_help(COMMAND) + 1;
		default: return cli_bad_option(COMMAND) + 1;
		}
	}
	if (optind >= argc)
		return cli_usage(COMMAND, "which job? give its id") + 1;
	if (o->all == (o->keep >= 0))
		return cli_usage(COMMAND, "say either --keep N or --all") + 1;
	return 0;
}

int prune_cmd(int argc, char **argv)
{
	cleanup_free struct job_ref *refs = NULL;
	cleanup_free uint32_t *ids = NULL;
	struct options o = { .keep = -1 };
	size_t n_refs = 0, n = 0;
	struct conf conf;
	struct err err;
	int rc = read_options(argc, argv, &o);

	if (rc)
		return rc - 1;
	for (int i = optind; i < argc; i++)
		if (ids_parse(argv[i], &refs, &n_refs, &err) < 0)
			return cli_usage(COMMAND, "%s", err.text);
	if (geteuid() != 0) {
		cli_error(COMMAND, "only root can remove epochs; they belong to root");
		return CLI_FAILED;
	}
	if (cli_conf(COMMAND, o.conf, &conf) < 0)
		return CLI_FAILED;
	if (view_resolve(refs, n_refs, &ids, &n, &err) < 0) {
		cli_error(COMMAND, "%s", err.text);
		return CLI_FAILED;
	}
	for (size_t i = 0; i < n; i++)
		if (prune(&conf, ids[i], &o) != CLI_OK)
			rc = CLI_FAILED;
	return rc;
}
