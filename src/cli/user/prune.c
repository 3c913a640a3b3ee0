/* fsched prune: removes epochs, or asks root to (prune_request.h). They are kept after the end of a job until somebody
 * removes them. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/user/job_view.h"
#include "cli/user/prune_request.h"
#include "cli/user/prune_select.h"
#include "base/dir.h"
#include "base/dir_tree.h"
#include "base/text.h"
#include "base/util.h"
#include "store/removed.h"
#include "store/usage.h"

#define COMMAND      "prune"
#define ENTRY_EPOCHS 11 /* most epochs in a Checkpoint entry */

struct options {
	long keep; /* -1 = --all */
	bool all, force, dry_run;
	const char *conf;
	/* without job ids: */
	bool ended;   /* jobs that have ended, as far as they fit: */
	bool expired; /* older than CheckpointKeepDays */
	bool yes;
	struct prune_select select;
	bool asks; /* by the owner of jobs, not root: nothing is removed yet */
	unsigned asked;
};

/* Whether the job has not ended and can still use its epochs. */
static bool needs_epochs(const struct view *v)
{
	return v->in_slurm && !v->foreign && (!v->job.finished || v->job.completing);
}

/* 0: the job may be pruned. -1: it may not, or that is not known. */
static int prune_check(const struct view *v, const struct options *o, struct err *err)
{
	if (o->force || (o->dry_run && !o->ended))
		return 0;
	if (needs_epochs(v))
		return err_set(err, 0, "is %s%s and may still need its epochs; --force removes them all the same",
			       v->job.state, v->job.held ? " (held)" : "");
	if (!v->in_slurm && v->slurm_err.num != VIEW_UNKNOWN_JOB)
		return err_set(err, 0, "whether it has ended is not known (%s); --force goes on without asking Slurm",
			       v->slurm_err.text);
	return 0;
}

static void prune_say(const struct options *o, const struct view *v, const char *what)
{
	printf("job %s: %s %s\n", v->label, o->dry_run ? "would remove" : "removed", what);
}

/* Updates the record before it removes the epoch: every epoch in the record must exist. */
static int prune_epoch(struct view *v, unsigned epoch, const struct options *o, struct err *err)
{
	uint64_t shared = store_epoch_shared(&v->store, epoch);
	char what[96], size[16];

	snprintf(what, sizeof(what), "epoch %u", epoch);
	if (shared)
		snprintf(what, sizeof(what), "epoch %u; %s of it stay as long as other epochs refer to them", epoch,
			 format_size(shared, size, sizeof(size)));
	if (!o->dry_run) {
		if (v->on_disk) {
			record_forget_epoch(&v->rec, epoch);
			if (store_save_record(&v->store, &v->rec, err) < 0)
				return -1;
		}
		if (store_remove_epoch(&v->store, epoch, err) < 0)
			return -1;
	}
	prune_say(o, v, what);
	return 0;
}

static int prune_keep_newest(struct view *v, const struct conf *c, const struct options *o, struct err *err)
{
	unsigned epochs[STORE_KEPT_MAX];
	int n = store_list_epochs(&v->store, epochs, STORE_KEPT_MAX);

	if (n < 0)
		return err_sys(err, errno, "cannot list the epochs in %s", v->store.path);
	for (int i = 0; i < n - o->keep; i++)
		if (prune_epoch(v, epochs[i], o, err) < 0)
			return -1;
	if (!o->dry_run && !needs_epochs(v)) {
		store_remove_partials(&v->store);
		if (v->on_disk)
			usage_end(c->dir, v->rec.uid, strrchr(v->store.path, '/') + 1);
	}
	return 0;
}

/* Whether name is the directory of the job, "12", or one that was set aside for an older job with this id, "12.<uuid>".
 */
static bool is_job_dir_name(const char *name, uint32_t id)
{
	char number[16];
	size_t len = (size_t)snprintf(number, sizeof(number), "%u", id);

	return strncmp(name, number, len) == 0 && (name[len] == '\0' || name[len] == '.');
}

/* Whether a directory that was set aside is of the same user as the job, who may ask for his own only. */
static bool prune_same_owner(const struct conf *c, const char *name, const struct view *v)
{
	cleanup_free struct job_record *r = xcalloc(1, sizeof(*r));
	cleanup_free char *path = xasprintf("%s/%s", c->dir, name);
	struct store s = { .dirfd = -1, .epochsfd = -1 };
	const bool same = store_open_path(&s, path, false, NULL) == 0 && store_load_record(&s, r, NULL) == 0 &&
			  r->uid == v->rec.uid;

	store_close(&s);
	return same;
}

static int prune_all(struct view *v, const struct conf *c, const struct options *o, struct err *err)
{
	cleanup_dir DIR *dir = opendir(c->dir);
	const struct dirent *d;
	unsigned n = 0;
	int more;

	if (!dir)
		return err_sys(err, errno, "cannot open %s", c->dir);
	while ((more = dir_next(dir, &d)) > 0) {
		if (!is_job_dir_name(d->d_name, v->id) ||
		    (o->select.asked && strchr(d->d_name, '.') && !prune_same_owner(c, d->d_name, v)))
			continue;
		if (!o->dry_run && removed_add(c->dir, d->d_name, err) < 0)
			return err_wrap(err, "its numbers cannot be kept");
		if (!o->dry_run && remove_tree_at(dirfd(dir), d->d_name) < 0)
			return err_sys(err, errno, "cannot remove %s/%s", c->dir, d->d_name);
		cleanup_free char *path = xasprintf("%s/%s", c->dir, d->d_name);
		prune_say(o, v, path);
		n++;
	}
	if (more < 0)
		return err_sys(err, errno, "cannot read %s", c->dir);
	return n ? 0 : err_set(err, ENOENT, "nothing is kept of it in %s", c->dir);
}

/* Removes pruned epochs from the Checkpoint entry, which restart reads. Slurm refuses updates of a job that has ended.
 */
static void prune_publish(struct view *v)
{
	unsigned epochs[STORE_KEPT_MAX];
	int n = v->store.epochsfd < 0 ? 0 : store_list_epochs(&v->store, epochs, STORE_KEPT_MAX);
	struct status *s = &v->status;
	size_t len = 0;
	struct err err;

	if (!needs_epochs(v) || !v->enabled || n < 0)
		return;
	*s->kept = '\0';
	for (int i = n > ENTRY_EPOCHS ? n - ENTRY_EPOCHS : 0; i < n; i++)
		len += (size_t)snprintf(s->kept + len, sizeof(s->kept) - len, "%s%u", len ? "," : "", epochs[i]);
	if (n <= 0) {
		s->epoch = 0;
		snprintf(s->error, sizeof(s->error), "its epochs were removed by fsched prune");
	}
	if (rpc_publish(v->id, s, &err) < 0)
		cli_error(COMMAND, "job %s: warning: its Checkpoint entry still names what was removed: %s", v->label,
			  err.text);
}

static int prune_job(const struct conf *c, uint32_t id, struct options *o)
{
	struct view *v = view_load(c, id);
	struct err err;
	int rc = prune_check(v, o, &err);

	if (rc == 0 && o->asks)
		rc = prune_request(v, c, o->dry_run, &err);
	else if (rc == 0 && o->all && needs_epochs(v) && v->job.running)
		rc = err_set(&err, 0, "runs; its agent needs the directory: remove epochs with --keep 0 --force");
	else if (rc == 0 && o->all)
		rc = prune_all(v, c, o, &err);
	else if (rc == 0 && v->store.epochsfd < 0)
		rc = err_set(&err, 0, "%s", v->disk_err.text);
	else if (rc == 0)
		rc = prune_keep_newest(v, c, o, &err);
	if (rc == 0 && !o->dry_run && o->asks)
		o->asked++;
	else if (rc == 0 && !o->dry_run)
		prune_publish(v);
	if (rc < 0)
		cli_error(COMMAND, "job %s: %s", v->label, err.text);
	view_free(v);
	return rc < 0 ? CLI_FAILED : CLI_OK;
}

/* Jobs that need their epochs, or of which that is not known, are left out. */
static int prune_ended(const struct conf *c, struct options *o)
{
	cleanup_free uint32_t *ids = NULL;
	size_t n = 0, pruned = 0;
	struct err err;
	int rc = CLI_OK;

	if (o->expired && !c->keep_days && !o->select.asked) {
		cli_error(COMMAND, "CheckpointKeepDays is 0: epochs are kept for ever");
		return CLI_FAILED;
	}
	if (o->expired && c->keep_days)
		o->select.days = c->keep_days;
	if (prune_select(c, &o->select, &ids, &n, &err) < 0) {
		cli_error(COMMAND, "%s", err.text);
		return CLI_FAILED;
	}
	o->dry_run = !o->yes;
	for (size_t i = 0; i < n; i++) {
		struct view *v = view_load(c, ids[i]);
		const bool ok = prune_check(v, o, &err) == 0;

		if (!ok && !needs_epochs(v)) {
			cli_error(COMMAND, "job %s: %s", v->label, err.text);
			rc = CLI_FAILED;
		}
		view_free(v);
		if (!ok)
			continue;
		pruned++;
		if (prune_job(c, ids[i], o) != CLI_OK)
			rc = CLI_FAILED;
	}
	if (pruned && o->dry_run)
		printf("%zu job%s; nothing was %s: that takes --yes\n", pruned, pruned == 1 ? "" : "s",
		       o->asks ? "asked for" : "removed");
	return rc;
}

static int check_selection(int operands, const struct options *o)
{
	const bool selects = o->select.user || o->select.days >= 0 || o->select.bytes || o->select.asked || o->expired;

	if (o->ended && operands)
		return cli_usage(COMMAND, "give either job ids or --ended") + 1;
	if (!o->ended && (selects || o->yes))
		return cli_usage(COMMAND, "--user, --days, --size, --expired, --requested and --yes belong to --ended") +
		       1;
	if (o->ended && o->force)
		return cli_usage(COMMAND, "--force needs job ids") + 1;
	if (!o->ended && !operands)
		return cli_usage(COMMAND, "which job? give its id, or --ended") + 1;
	return 0;
}

static int read_options(int argc, char **argv, struct options *o)
{
	/* clang-format off */
	static const struct option options[] = {
		{ "keep",    required_argument, NULL, 'k' },
		{ "all",     no_argument,       NULL, 'a' },
		{ "force",   no_argument,       NULL, 'f' },
		{ "dry-run", no_argument,       NULL, 'n' },
		{ "ended",   no_argument,       NULL, 'e' },
		{ "user",    required_argument, NULL, 'u' },
		{ "days",    required_argument, NULL, 'd' },
		{ "size",    required_argument, NULL, 's' },
		{ "expired", no_argument,       NULL, 'x' },
		{ "requested", no_argument,     NULL, 'r' },
		{ "yes",     no_argument,       NULL, 'y' },
		{ "conf",    required_argument, NULL, 'c' },
		{ "help",    no_argument,       NULL, 'h' },
		{ NULL, 0, NULL, 0 }
	};
	/* clang-format on */
	long days;
	int c;

	while ((c = getopt_long(argc, argv, "fnh", options, NULL)) != -1) {
		switch (c) {
		case 'k':
			if (cli_number(optarg, 0, STORE_KEPT_MAX, &o->keep) < 0)
				return cli_usage(COMMAND, "--keep needs a number from 0 to %d, not \"%s\"",
						 STORE_KEPT_MAX, optarg) +
				       1;
			break;
		case 'a': o->all = true; break;
		case 'f': o->force = true; break;
		case 'n': o->dry_run = true; break;
		case 'e': o->ended = true; break;
		case 'u': o->select.user = optarg; break;
		case 'x': o->expired = true; break;
		case 'r': o->select.asked = true; break;
		case 'y': o->yes = true; break;
		case 'd':
			if (cli_number(optarg, 0, 36500, &days) < 0)
				return cli_usage(COMMAND, "--days needs a number of days, not \"%s\"", optarg) + 1;
			o->select.days = days;
			break;
		case 's':
			if (prune_parse_size(optarg, &o->select.bytes) < 0)
				return cli_usage(COMMAND, "--size needs a size such as 500M or 10G, not \"%s\"", optarg) +
				       1;
			break;
		case 'c': o->conf = optarg; break;
		case 'h': return cli_help(COMMAND) + 1;
		default: return cli_bad_option(COMMAND) + 1;
		}
	}
	if (o->all == (o->keep >= 0))
		return cli_usage(COMMAND, "give either --keep N or --all") + 1;
	return check_selection(argc - optind, o);
}

static int prune_given(const struct conf *c, const struct job_ref *refs, size_t n_refs, struct options *o)
{
	cleanup_free uint32_t *ids = NULL;
	struct err err;
	int rc = CLI_OK;
	size_t n = 0;

	if (view_resolve(refs, n_refs, &ids, &n, &err) < 0) {
		cli_error(COMMAND, "%s", err.text);
		return CLI_FAILED;
	}
	for (size_t i = 0; i < n; i++)
		if (prune_job(c, ids[i], o) != CLI_OK)
			rc = CLI_FAILED;
	return rc;
}

/* What the owner of a job can do. */
static int check_owner(const struct options *o)
{
	if (!o->all || o->force || o->select.user || o->select.asked || o->expired)
		return cli_usage(COMMAND,
				 "epochs belong to root; the owner of jobs that have ended can ask for the removal of all that "
				 "is kept of them: --all ID, or --all --ended [--days N] [--size BYTES] [--yes]") +
		       1;
	return 0;
}

int prune_cmd(int argc, char **argv)
{
	cleanup_free struct job_ref *refs = NULL;
	struct options o = { .keep = -1, .select = { .days = -1 } };
	size_t n_refs = 0;
	struct conf conf;
	struct err err;
	int rc = read_options(argc, argv, &o);

	if (rc)
		return rc - 1;
	for (int i = optind; i < argc; i++)
		if (ids_parse(argv[i], &refs, &n_refs, &err) < 0)
			return cli_usage(COMMAND, "%s", err.text);
	o.asks = geteuid() != 0;
	if (o.asks && check_owner(&o))
		return CLI_USAGE;
	if (cli_conf(COMMAND, o.conf, &conf) < 0)
		return CLI_FAILED;
	if (!o.ended)
		rc = prune_given(&conf, refs, n_refs, &o);
	else
		rc = prune_ended(&conf, &o);
	if (o.asked)
		prune_request_explain();
	else if (!o.asks && !o.dry_run)
		usage_pruned(conf.dir);
	return rc;
}
