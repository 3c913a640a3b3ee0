/* fsched verify: reads epochs back and compares every byte with its digest, or proves one by a real restore. */
#include <ctype.h>
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <jansson.h>

#include "base/dir_tree.h"
#include "base/json.h"
#include "base/clock.h"
#include "base/text.h"
#include "base/util.h"
#include "cli/cli.h"
#include "cli/json_out.h"
#include "cli/user/epoch_access.h"
#include "cli/user/verify_restore.h"

#define COMMAND "verify"
#define RUN_MAX 86400

struct verify {
	const struct conf *conf;
	const char *name; /* as it was given */
	struct store store;
	bool signed_;     /* a manifest without MUNGE's signature is damage: the epoch is a job's */
	json_t *list;     /* for --json, borrowed; NULL: text */
	bool restore;     /* --restore */
	unsigned seconds; /* --run, 0 = not given */
	int damaged;
};

/* Splits NAME:EPOCH. Returns the epoch, 0 = none was given. */
static unsigned verify_split(char *name)
{
	char *colon = strrchr(name, ':');
	long epoch;

	if (!colon || cli_number(colon + 1, 1, 999999, &epoch))
		return 0;
	*colon = '\0';
	return (unsigned)epoch;
}

/* 0: every byte is as it was written. m is filled also after some failures. */
static int verify_read_epoch(const struct verify *v, unsigned epoch, struct manifest *m, struct err *err)
{
	cleanup_close int fd = store_open_epoch(&v->store, epoch, err);
	cleanup_mem_image struct mem_image *image = NULL;

	if (fd < 0)
		return -1;
	forget_pages_below(fd);
	if (manifest_verify(fd, m, v->signed_, v->conf->munge_socket, err) || epoch_open_memory(fd, m, &image, err))
		return -1;
	return image ? mem_image_verify(image, MEM_VERIFY_DEEP, (int)v->conf->threads, err) : 0;
}

/* bytes: NULL if they are not known. proof: of --restore; the reference is taken. */
static void verify_tell_json(const struct verify *v, unsigned epoch, const uint64_t *bytes, json_t *proof,
			     const char *error)
{
	json_array_append_new(v->list,
			      json_pack("{s:o, s:i, s:b, s:o, s:o, s:o}", "job", json_text(v->name), "epoch",
					(int)epoch, "intact", error == NULL, "bytes",
					bytes ? json_integer((json_int_t)*bytes) : json_null(), "error",
					error ? json_text(error) : json_null(), "proof", proof ? proof : json_null()));
}

/* Whether a job that runs, or somebody, has removed the epoch meanwhile. */
static bool verify_is_gone(const struct verify *v, unsigned epoch)
{
	struct err err = { 0 };
	cleanup_close int fd = store_open_epoch(&v->store, epoch, &err);

	return fd < 0 && err.num == ENOENT;
}

/* listed: the epoch was there a moment ago. */
static void verify_one(struct verify *v, unsigned epoch, bool listed)
{
	struct manifest m = { 0 };
	struct err err;
	char size[16];
	const bool intact = verify_read_epoch(v, epoch, &m, &err) == 0;

	if (!intact && listed && verify_is_gone(v, epoch)) {
		manifest_free(&m);
		return;
	}
	v->damaged += !intact;
	if (v->list)
		verify_tell_json(v, epoch, intact ? &m.bytes : NULL, NULL, intact ? NULL : err.text);
	else if (intact)
		printf("%s%s, epoch %u: %s, every byte is as it was written\n", v->signed_ ? "job " : "", v->name,
		       epoch, format_size(m.bytes, size, sizeof(size)));
	else
		printf("%s%s, epoch %u: %s. A restart would take an older epoch\n", v->signed_ ? "job " : "", v->name,
		       epoch, err.text);
	fflush(stdout);
	manifest_free(&m);
}

/* ---- --restore --------------------------------------------------------------- */

static json_t *verify_proof_json(const json_t *result, bool ok, bool recorded)
{
	static const char *const members[] = { "node", "time", "total_us", "ran_us", "processes" };
	json_t *o = json_pack("{s:s}", "outcome", ok ? "proved" : recorded ? "failed" : "not possible");

	for (size_t i = 0; i < sizeof(members) / sizeof(members[0]); i++) {
		json_t *value = ok ? json_object_get(result, members[i]) : NULL;

		json_object_set(o, members[i], value ? value : json_null());
	}
	return o;
}

static long long verify_number(const json_t *result, const char *key)
{
	return (long long)json_integer_value(json_object_get(result, key));
}

static void verify_print_proof(const struct verify *v, unsigned epoch, const json_t *result)
{
	const long long processes = verify_number(result, "processes");
	char took[24], ran[24];

	printf("%s%s, epoch %u: proved by restore: %lld process%s in %s%s%s\n", v->signed_ ? "job " : "", v->name,
	       epoch, processes, processes == 1 ? "" : "es",
	       format_duration(verify_number(result, "total_us"), took, sizeof(took)),
	       v->seconds ? ", which then ran for " : "",
	       v->seconds ? format_duration(verify_number(result, "ran_us"), ran, sizeof(ran)) : "");
}

static void verify_by_restore(struct verify *v, unsigned epoch)
{
	struct verify_restore r = {
		.conf = v->conf, .store = &v->store, .epoch = epoch, .seconds = v->seconds, .signed_ = v->signed_
	};
	cleanup_json json_t *result = NULL;
	struct err err;
	bool recorded;
	const bool ok = verify_restore(&r, &result, &recorded, &err) == 0;

	v->damaged += !ok;
	if (v->list)
		verify_tell_json(v, r.epoch, NULL, verify_proof_json(result, ok, recorded), ok ? NULL : err.text);
	else if (ok)
		verify_print_proof(v, r.epoch, result);
	else if (recorded)
		printf("%s%s, epoch %u: restore failed: %s\n", v->signed_ ? "job " : "", v->name, r.epoch, err.text);
	if (!ok && !recorded)
		cli_error(COMMAND, "%s", err.text);
}

static int verify_all(struct verify *v, struct err *err)
{
	unsigned epochs[STORE_KEPT_MAX];
	int n = store_list_epochs(&v->store, epochs, STORE_KEPT_MAX);

	if (n < 0)
		return err_sys(err, errno, "cannot list the epochs in %s", v->store.path);
	if (n == 0)
		return err_set(err, ENOENT, "there is no epoch in %s", v->store.path);
	for (int i = 0; i < n; i++)
		verify_one(v, epochs[i], true);
	return 0;
}

/* Returns the exit status. */
static int verify_store(struct verify *v, char *name)
{
	const unsigned epoch = verify_split(name);
	struct err err;
	int rc;

	v->name = name;
	v->signed_ = name[0] != '/';
	if (epoch_open_store(&v->store, v->conf, name, &err)) {
		cli_error(COMMAND, "%s", err.text);
		return CLI_FAILED;
	}
	rc = 0;
	if (v->restore)
		verify_by_restore(v, epoch);
	else if (epoch)
		verify_one(v, epoch, false);
	else
		rc = verify_all(v, &err);
	if (rc)
		cli_error(COMMAND, "%s", err.text);
	store_close(&v->store);
	return rc || v->damaged ? CLI_FAILED : CLI_OK;
}

/* Returns CLI_OK or the exit status. */
static int verify_options(int argc, char **argv, struct verify *v, const char **path, bool *json)
{
	static const struct option options[] = { { "conf", required_argument, NULL, 'c' },
						 { "json", no_argument, NULL, 'j' },
						 { "restore", no_argument, NULL, 'r' },
						 { "run", required_argument, NULL, 's' },
						 { 0 } };
	long seconds;
	int opt;

	while ((opt = getopt_long(argc, argv, "", options, NULL)) != -1)
		switch (opt) {
		case 'c': *path = optarg; break;
		case 'j': *json = true; break;
		case 'r': v->restore = true; break;
		case 's':
			if (cli_number(optarg, 1, RUN_MAX, &seconds))
				return cli_usage(COMMAND, "--run: \"%s\" is no number of seconds from 1 to %d", optarg,
						 RUN_MAX);
			v->seconds = (unsigned)seconds;
			break;
		default: return cli_bad_option(COMMAND);
		}
	if (v->seconds && !v->restore)
		return cli_usage(COMMAND, "--run needs --restore");
	if (argc - optind != 1)
		return cli_usage(COMMAND,
				 "one argument is needed: a job id (or a pod's directory), with :EPOCH for one epoch");
	return CLI_OK;
}

int verify_cmd(int argc, char **argv)
{
	struct verify v = { .store = { .dirfd = -1, .epochsfd = -1 } };
	const char *path = NULL;
	cleanup_json json_t *out = NULL;
	bool json = false;
	struct conf conf;
	int rc = verify_options(argc, argv, &v, &path, &json);

	if (rc)
		return rc;
	if (cli_conf(COMMAND, path, &conf))
		return CLI_FAILED;
	if (geteuid() != 0) {
		cli_error(COMMAND, "epochs can be read by root only");
		return CLI_FAILED;
	}
	v.conf = &conf;
	if (json) {
		out = json_out_new(COMMAND, 1);
		v.list = json_array();
		json_object_set_new(out, "epochs", v.list);
	}
	rc = verify_store(&v, argv[optind]);
	if (json)
		json_out_print(out);
	return rc;
}
