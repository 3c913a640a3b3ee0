#include "base/conf.h"
#include "base/conf_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

#include "base/io.h"
#include "base/text.h"
#include "base/util.h"

#define CONF_NAME      "fsched.conf"
#define CONF_MAX_BYTES (1 << 20)
#define LINE_MAX_BYTES 8192

/* ---- the keys ---------------------------------------------------------- */

static const char *conf_without_incremental(const struct conf *c)
{
	return c->incremental ? NULL : "CRIU_Incremental is NO, so every checkpoint is a full one";
}

static const char *conf_without_pre_dump(const struct conf *c)
{
	return c->pre_dump ? NULL : "CRIU_PreDump is NO";
}

static const char *conf_without_load_aware(const struct conf *c)
{
	return c->load_aware ? NULL : "CRIU_LoadAware is NO, so no checkpoint is skipped for load";
}

static const char *conf_without_quota(const struct conf *c)
{
	return c->max_bytes_user || c->max_bytes ? NULL : "neither CheckpointMaxBytesUser nor CheckpointMaxBytes is set";
}

static const char *conf_without_writers(const struct conf *c)
{
	return c->max_writers ? NULL : "CheckpointMaxWriters is 0: no checkpoint waits for others";
}

static const char *conf_without_engine(const struct conf *c)
{
	return c->engine == CONF_ENGINE_CRIU
		       ? "MemoryEngine is criu, which writes all memory in the freeze, each time, and as it is"
		       : NULL;
}

static const char *conf_without_network(const struct conf *c)
{
	return c->network == CONF_NETWORK_PRIVATE ? NULL
						  : "PodNetwork is host: only jobs that were saved with a network of "
						    "their own use it, when they are restored";
}

static const char *conf_without_tmp(const struct conf *c)
{
	return c->private_tmp ? NULL : "PodPrivateTmp is NO";
}

static const char *conf_without_image(const struct conf *c)
{
	return !c->private_tmp                ? "PodPrivateTmp is NO"
	       : c->tmp == CONF_TMP_DIRECTORY ? "PodTmp is directory, whose size is that of PodDir"
					      : NULL;
}

#define FIELD(f) offsetof(struct conf, f), sizeof(((struct conf *)0)->f)

/* clang-format off */
static const struct conf_key keys[] = {
	{ "CheckpointType",           TYPE_PLUGIN, FIELD(criu_enabled), 0, 0, NULL, NULL },
	{ "JobCheckpointDir",         TYPE_DIR,    FIELD(dir), 0, 0, NULL, NULL },
	{ "CRIU_MaxEpochs",           TYPE_UINT,   FIELD(max_epochs), 1, 1000, NULL, NULL },
	{ "CRIU_Incremental",         TYPE_BOOL,   FIELD(incremental), 0, 0, conf_without_engine, NULL },
	{ "CRIU_FullEvery",           TYPE_UINT,   FIELD(full_every), 1, 1000, conf_without_incremental, NULL },
	{ "CRIU_PreDump",             TYPE_BOOL,   FIELD(pre_dump), 0, 0, conf_without_engine, NULL },
	{ "CRIU_PreDumpDelay",        TYPE_UINT,   FIELD(pre_dump_delay), 0, 3600, conf_without_pre_dump, NULL },
	{ "CRIU_LoadAware",           TYPE_BOOL,   FIELD(load_aware), 0, 0, NULL, NULL },
	{ "CRIU_LoadThresholdCPU",    TYPE_RATIO,  FIELD(load_cpu), 0, 0, conf_without_load_aware, NULL },
	{ "CRIU_LoadThresholdIO",     TYPE_RATIO,  FIELD(load_io), 0, 0, conf_without_load_aware, NULL },
	{ "CRIU_LoadThresholdMemory", TYPE_RATIO,  FIELD(load_memory), 0, 0, conf_without_load_aware, NULL },
	{ "CheckpointMinInterval",    TYPE_TIME,   FIELD(min_interval), 0, 0, NULL, NULL },
	{ "CheckpointAutoMax",        TYPE_TIME,   FIELD(auto_max), 0, 0, NULL, NULL },
	{ "CheckpointMTBF",           TYPE_TIME,   FIELD(mtbf), 0, 0, NULL, NULL },
	{ "CheckpointMaxSkip",        TYPE_UINT,   FIELD(max_skip), 0, 1000, conf_without_load_aware, NULL },
	{ "CheckpointTimeout",        TYPE_UINT,   FIELD(timeout), 10, 86400, NULL, NULL },
	{ "CheckpointFreezeTimeout",  TYPE_UINT,   FIELD(freeze_timeout), 5, 3600, NULL, NULL },
	{ "CheckpointJobLimit",       TYPE_BYTES,  FIELD(job_limit), 0, 0, NULL, NULL },
	{ "CheckpointMaxBytesUser",   TYPE_BYTES,  FIELD(max_bytes_user), 0, 0, NULL, NULL },
	{ "CheckpointMaxBytes",       TYPE_BYTES,  FIELD(max_bytes), 0, 0, NULL, NULL },
	{ "CheckpointQuotaPrune",     TYPE_BOOL,   FIELD(quota_prune), 0, 0, conf_without_quota, NULL },
	{ "CheckpointMaxWriters",     TYPE_UINT,   FIELD(max_writers), 0, 1000, NULL, NULL },
	{ "CheckpointWriterWait",     TYPE_UINT,   FIELD(writer_wait), 0, 86400, conf_without_writers, NULL },
	{ "CheckpointFileLimit",      TYPE_BYTES,  FIELD(file_limit), 0, 0, NULL, NULL },
	{ "CheckpointTmpLimit",       TYPE_BYTES,  FIELD(tmp_limit), 0, 0, NULL, NULL },
	{ "CheckpointLeaseTime",      TYPE_UINT,   FIELD(lease_time), 4, 3600, NULL, NULL },
	{ "CheckpointHookTime",       TYPE_UINT,   FIELD(hook_time), 1, 3600, NULL, NULL },
	{ "CheckpointKeepDays",       TYPE_UINT,   FIELD(keep_days), 0, 36500, NULL, NULL },
	{ "CheckpointProve",          TYPE_PROVE,  FIELD(prove), 1, 1000, NULL, NULL },
	{ "CheckpointTcp",            TYPE_TCP,    FIELD(tcp), 0, 0, NULL, NULL },
	{ "CheckpointRestoreRetry",   TYPE_UINT,   FIELD(restore_retry), 0, 86400, NULL, NULL },
	{ "CheckpointMaxMoves",       TYPE_UINT,   FIELD(max_moves), 0, 100, NULL, NULL },
	{ "MemoryEngine",             TYPE_ENGINE, FIELD(engine), 0, 0, NULL, NULL },
	{ "CheckpointThreads",        TYPE_UINT,   FIELD(threads), 0, 64, NULL, NULL },
	{ "CheckpointCompression",    TYPE_LEVEL,  FIELD(compression), 0, 20, conf_without_engine, NULL },
	{ "CheckpointPorts",          TYPE_PORTS,  FIELD(port_min), 0, 0, NULL, NULL },
	{ "CheckpointOnRestoreFailure", TYPE_FAILURE, FIELD(on_restore_failure), 0, 0, NULL, NULL },
	{ "CheckpointOnRequeue",      TYPE_REQUEUE, FIELD(on_requeue), 0, 0, NULL, NULL },
	{ "CheckpointLog",            TYPE_LOG,    FIELD(log), 0, 0, NULL, NULL },
	{ "CriuPath",                 TYPE_PATH,   FIELD(criu), 0, 0, NULL, "criu is looked for" },
	{ "MungeSocket",              TYPE_PATH,   FIELD(munge_socket), 0, 0, NULL, "MUNGE's own default" },
	{ "PodDir",                   TYPE_DIR,    FIELD(pod_dir), 0, 0, NULL, NULL },
	{ "PodPrivateTmp",            TYPE_BOOL,   FIELD(private_tmp), 0, 0, NULL, NULL },
	{ "PodTmp",                   TYPE_TMP,    FIELD(tmp), 0, 0, conf_without_tmp, NULL },
	{ "PodTmpSize",               TYPE_BYTES,  FIELD(tmp_size), 0, 0, conf_without_image, NULL },
	{ "PodScratch",               TYPE_PATHS,  FIELD(scratch), 0, 0, NULL, NULL },
	{ "PodNetwork",               TYPE_NETWORK, FIELD(network), 0, 0, NULL, NULL },
	{ "PodNetworkRange",          TYPE_RANGE,  FIELD(net_range), 0, 0, conf_without_network, NULL },
	{ "SrunPath",                 TYPE_PATHS,  FIELD(srun), 0, 0, NULL, NULL },
};
/* clang-format on */
_Static_assert(ARRAY_SIZE(keys) <= CONF_KEYS_MAX, "CONF_KEYS_MAX is too small");

void conf_defaults(struct conf *c)
{
	memset(c, 0, sizeof(*c));
	c->max_epochs = 1;
	c->full_every = 10;
	c->pre_dump_delay = 5;
	c->load_cpu = 0.95;
	c->load_io = 0.50;
	c->load_memory = 0.85;
	strcpy(c->dir, "/var/lib/fsched/checkpoint");
	c->min_interval = 60;
	c->auto_max = 4 * 3600;
	c->mtbf = 365 * 86400;
	c->writer_wait = 600;
	c->max_skip = 3;
	c->timeout = 1800;
	c->freeze_timeout = 60;
	c->lease_time = 20;
	c->hook_time = 60;
	c->restore_retry = 180;
	c->max_moves = 3;
	c->compression = -1;
	strcpy(c->pod_dir, "/var/lib/fsched/pod");
	c->private_tmp = true;
	c->network = CONF_NETWORK_PRIVATE;
	strcpy(c->net_range, "198.18.224.0/20");
	strcpy(c->srun, CONF_SRUN);
	c->on_restore_failure = CONF_HOLD;
	c->log = CONF_LOG_SYSLOG;
}

/* ---- lines ------------------------------------------------------------- */

static char lower(char ch)
{
	return ch >= 'A' && ch <= 'Z' ? (char)(ch + 32) : ch;
}

/* Number of single-character changes between two names, without case. */
static size_t conf_edit_distance(const char *a, const char *b)
{
	size_t row[64], n = strlen(b);

	if (n >= ARRAY_SIZE(row))
		return n;
	for (size_t j = 0; j <= n; j++)
		row[j] = j;
	for (size_t i = 1; a[i - 1]; i++) {
		size_t diagonal = row[0];

		row[0] = i;
		for (size_t j = 1; j <= n; j++) {
			size_t best = diagonal + (lower(a[i - 1]) != lower(b[j - 1]));

			diagonal = row[j];
			if (row[j] + 1 < best)
				best = row[j] + 1;
			if (row[j - 1] + 1 < best)
				best = row[j - 1] + 1;
			row[j] = best;
		}
	}
	return row[n];
}

static const struct conf_key *conf_nearest_key(const char *name)
{
	const struct conf_key *best = NULL;
	size_t best_distance = strlen(name) / 3 + 1;

	for (size_t i = 0; i < ARRAY_SIZE(keys); i++) {
		size_t d = conf_edit_distance(name, keys[i].name);

		if (d <= best_distance && (!best || d < best_distance)) {
			best = &keys[i];
			best_distance = d;
		}
	}
	return best;
}

static char *conf_trim(char *s)
{
	char *end;

	s += strspn(s, " \t\r\f\v");
	for (end = s + strlen(s); end > s && strchr(" \t\r\f\v", end[-1]); end--)
		end[-1] = '\0';
	return s;
}

/* Extracts the value from the text after the '='. As in slurm.conf, blanks around it and a comment after it are
 * dropped, and "quotes" keep blanks and '#'. */
static int conf_take_value(char *text, char **value, const char **why)
{
	char *rest;

	text += strspn(text, " \t");
	if (*text == '"') {
		*value = text + 1;
		rest = strchr(text + 1, '"');
		if (!rest) {
			*why = "the closing quote is missing";
			return -1;
		}
		*rest++ = '\0';
		rest[strcspn(rest, "#")] = '\0';
		rest = conf_trim(rest);
	} else {
		text[strcspn(text, "#")] = '\0';
		*value = conf_trim(text);
		rest = *value + strcspn(*value, " \t\"");
	}
	if (*rest) {
		*why = "text behind the value (one key on each line; a value with blanks needs quotes)";
		return -1;
	}
	for (const char *p = *value; *p; p++) {
		if ((unsigned char)*p < 0x20 || *p == 0x7f) {
			*why = "control character in the value";
			return -1;
		}
	}
	if (!**value) {
		*why = "the value is missing";
		return -1;
	}
	return 0;
}

struct reader {
	struct conf *c;
	unsigned line;
	struct err *err;
};

/* True for keys that an administrator sets for checkpoints, but in slurm.conf. */
static bool conf_is_slurm_key(const char *name)
{
	static const char *const slurms[] = { "AuthInfo", "BatchStartTimeout", "JobSubmitPlugins", "PlugStackConfig",
					      "SlurmdTimeout" };

	for (size_t i = 0; i < ARRAY_SIZE(slurms); i++)
		if (strcasecmp(name, slurms[i]) == 0)
			return true;
	return false;
}

static int conf_unknown_key(const struct reader *r, const char *name)
{
	const struct conf_key *near = conf_nearest_key(name);
	char shown[80];

	if (!*name)
		return err_set(r->err, EINVAL, "%s:%u: there is no key in front of the =", r->c->path, r->line);
	printable(name, shown, sizeof(shown));
	if (conf_is_slurm_key(name))
		return err_set(r->err, EINVAL, "%s:%u: %s: is a key of slurm.conf, set it there", r->c->path, r->line,
			       shown);
	if (near)
		return err_set(r->err, EINVAL, "%s:%u: %s: unknown key, did you mean %s?", r->c->path, r->line, shown,
			       near->name);
	return err_set(r->err, EINVAL, "%s:%u: %s: unknown key; `fsched config` lists all keys", r->c->path, r->line,
		       shown);
}

static int conf_read_line(const struct reader *r, char *text)
{
	cleanup_free char *why = NULL;
	const char *reason = NULL;
	char *name, *value, *equals, shown[80];
	size_t i;

	name = conf_trim(text);
	if (!*name || *name == '#')
		return 0;
	equals = name + strcspn(name, "=#");
	if (*equals != '=')
		return err_set(r->err, EINVAL, "%s:%u: \"%s\": not of the form Key = Value", r->c->path, r->line,
			       printable(name, shown, sizeof(shown)));
	*equals = '\0';
	name = conf_trim(name);
	for (i = 0; i < ARRAY_SIZE(keys) && strcasecmp(name, keys[i].name) != 0; i++)
		;
	if (i == ARRAY_SIZE(keys))
		return conf_unknown_key(r, name);
	if (r->c->line[i])
		return err_set(r->err, EINVAL, "%s:%u: %s: set twice, first in line %u", r->c->path, r->line,
			       keys[i].name, r->c->line[i]);
	if (conf_take_value(equals + 1, &value, &reason) < 0)
		return err_set(r->err, EINVAL, "%s:%u: %s: %s", r->c->path, r->line, keys[i].name, reason);
	if (conf_value_parse(&keys[i], value, r->c, &why) < 0)
		return err_set(r->err, EINVAL, "%s:%u: %s = %s: %s", r->c->path, r->line, keys[i].name,
			       printable(value, shown, sizeof(shown)), why);
	r->c->line[i] = r->line;
	return 0;
}

static int conf_read_lines(struct reader *r, char *text, size_t len)
{
	char *end = text + len;

	for (char *line = text, *next; line < end; line = next) {
		char *newline = memchr(line, '\n', (size_t)(end - line));

		r->line++;
		next = newline ? newline + 1 : end;
		if (newline)
			*newline = '\0';
		else
			newline = end;
		if (memchr(line, '\0', (size_t)(newline - line)))
			return err_set(r->err, EINVAL, "%s:%u: NUL byte; this is no text file", r->c->path, r->line);
		if (newline - line > LINE_MAX_BYTES)
			return err_set(r->err, EINVAL, "%s:%u: longer than %d bytes", r->c->path, r->line,
				       LINE_MAX_BYTES);
		if (conf_read_line(r, line) < 0)
			return -1;
	}
	return 0;
}

/* ---- the file ---------------------------------------------------------- */

/* Only root may be able to write the configuration of root. */
static int conf_check_file(int fd, const char *path, struct err *err)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return err_sys(err, errno, "%s", path);
	if (!S_ISREG(st.st_mode))
		return err_set(err, EINVAL, "%s: not a regular file", path);
	if (geteuid() != 0)
		return 0;
	if (st.st_uid != 0)
		return err_set(err, EPERM, "%s: owned by uid %u, not by root: refused; run: chown root %s", path,
			       (unsigned)st.st_uid, path);
	if (st.st_mode & 022)
		return err_set(err, EPERM, "%s: writable by others than root (mode %04o): refused; run: chmod go-w %s",
			       path, (unsigned)(st.st_mode & 07777), path);
	return 0;
}

static int load_file(struct conf *c, const char *path, struct err *err)
{
	struct reader r = { .c = c, .err = err };
	cleanup_free char *text = NULL;
	cleanup_close int fd = -1;
	ssize_t len;

	/* A fifo must not stop us in open(). */
	fd = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	if (fd < 0)
		return err_sys(err, errno, "cannot read %s", path);
	if (conf_check_file(fd, path, err) < 0)
		return -1;
	len = read_all(fd, CONF_MAX_BYTES, &text);
	if (len < 0)
		return err_sys(err, errno, "cannot read %s", path);
	if (snprintf(c->path, sizeof(c->path), "%s", path) >= (int)sizeof(c->path))
		return err_sys(err, ENAMETOOLONG, "%s", path);
	return conf_read_lines(&r, text, (size_t)len);
}

/* 1: the file is there (or cannot be looked at, which load_file() will say). */
static int file_exists(const char *path)
{
	struct stat st;

	return stat(path, &st) == 0 || (errno != ENOENT && errno != ENOTDIR);
}

/* The file to read, or NULL if there is none. The caller's. */
static char *conf_find_file(const char *path)
{
	static const char *const dirs[] = { "/etc/slurm", "/run/slurm/conf" };
	const char *slurm_conf = secure_getenv("SLURM_CONF");
	const char *slash = slurm_conf ? strrchr(slurm_conf, '/') : NULL;

	if (!path)
		path = secure_getenv("FSCHED_CONF");
	if (path && *path)
		return file_exists(path) ? xstrdup(path) : NULL;
	if (slash) {
		cleanup_free char *found = xasprintf("%.*s/" CONF_NAME, (int)(slash - slurm_conf), slurm_conf);

		if (file_exists(found))
			return steal_ptr(&found);
	}
	for (size_t i = 0; i < ARRAY_SIZE(dirs); i++) {
		cleanup_free char *found = xasprintf("%s/" CONF_NAME, dirs[i]);

		if (file_exists(found))
			return steal_ptr(&found);
	}
	return NULL;
}

int conf_load(struct conf *c, const char *path, struct err *err)
{
	cleanup_free char *found = conf_find_file(path);

	conf_defaults(c);
	return found ? load_file(c, found, err) : 0;
}

/* ---- printing ---------------------------------------------------------- */

/* Says why a key that is set has no effect; NULL = it is not set or has an effect. */
static const char *conf_key_idle(const struct conf *c, size_t i)
{
	return c->line[i] && keys[i].idle ? keys[i].idle(c) : NULL;
}

void conf_print(const struct conf *c, FILE *out)
{
	for (size_t i = 0; i < ARRAY_SIZE(keys); i++) {
		cleanup_free char *value = conf_value_format(&keys[i], c);
		cleanup_free char *assignment = NULL;

		/* An empty value cannot be written, so the line becomes a comment: the output stays a valid file. */
		assignment = xasprintf("%s%s = %s", *value ? "" : "#", keys[i].name, value);
		fprintf(out, "%-52s # ", assignment);
		if (c->line[i])
			fprintf(out, "%s:%u", c->path, c->line[i]);
		else
			fprintf(out, "default%s%s", *value ? "" : ": ", *value ? "" : keys[i].unset);
		fprintf(out, "%s\n", conf_key_idle(c, i) ? "; no effect, see below" : "");
	}
}

void conf_each(const struct conf *c,
	       void (*fn)(const char *name, const char *value, unsigned line, const char *idle, void *arg), void *arg)
{
	for (size_t i = 0; i < ARRAY_SIZE(keys); i++) {
		cleanup_free char *value = conf_value_format(&keys[i], c);

		fn(keys[i].name, value, c->line[i], conf_key_idle(c, i), arg);
	}
}

unsigned conf_checkpoint_seconds(const struct conf *c)
{
	return c->timeout + (c->pre_dump ? c->pre_dump_delay : 0);
}

void conf_notices(const struct conf *c, void (*fn)(const char *text, void *arg), void *arg)
{
	for (size_t i = 0; i < ARRAY_SIZE(keys); i++) {
		const char *why = conf_key_idle(c, i);
		cleanup_free char *text = NULL;

		if (!why)
			continue;
		text = xasprintf("%s:%u: %s has no effect: %s", c->path, c->line[i], keys[i].name, why);
		fn(text, arg);
	}
}
