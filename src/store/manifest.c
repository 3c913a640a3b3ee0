#include "store/manifest.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stddef.h>
#include <string.h>
#include <sys/utsname.h>

#include <gnu/libc-version.h>

#include "base/array.h"
#include "base/cpu_info.h"
#include "base/io.h"
#include "base/text.h"
#include "base/util.h"
#include "base/json.h"
#include "base/digest.h"
#include "base/credential.h"
#include "store/store_internal.h"

#ifndef FSCHED_VERSION
#define FSCHED_VERSION "unknown"
#endif

#define FORMAT         1
#define FORMAT_MEMORY  2 /* the same with memory/, without which criu's images are incomplete */
#define FORMAT_SHARED  3 /* the same with shared memory in memory/ */
#define FORMAT_GHOSTS  4 /* the same with deleted files in memory/ */
#define FORMAT_NETWORK 5 /* the member "network", and what the other members say */
#define FORMAT_CLOSED  6 /* the member "closed"; the rest as in FORMAT_NETWORK, with or without "network" */
#define FORMAT_TMP \
	7 /* large files of /tmp are beside its archive; the rest as in FORMAT_CLOSED, with or without "closed" */
#define FORMAT_SCRATCH 8       /* the member "scratch"; the rest as in FORMAT_TMP */
#define FILES_MAX      1000000 /* entries of a list; STORE_JSON_MAX is reached earlier */
#define CRED_MAX       65536

/* Memory chunks are most of an epoch, have checksums of their own, and may be shared with older epochs. A second digest
 * would double the work of a checkpoint, because all of them would have to be read. So the manifest has their sizes
 * only, and the SHA-256 of the image file that holds the checksums. */
#define CHUNKS         "memory/chunks-"
#define IMAGE          "memory/image"

/* Members that other modules make and read. */
static const struct {
	const char *name;
	size_t at; /* the json_t * in struct manifest */
	json_type type;
} parts[] = {
	{ "sockets", offsetof(struct manifest, sockets), JSON_ARRAY },
	{ "threads", offsetof(struct manifest, threads), JSON_OBJECT },
	{ "options", offsetof(struct manifest, options), JSON_ARRAY },
	{ "spaces", offsetof(struct manifest, spaces), JSON_ARRAY },
	{ "closed", offsetof(struct manifest, closed), JSON_ARRAY },
	{ "scratch", offsetof(struct manifest, scratch), JSON_ARRAY },
};

static json_t **manifest_part(struct manifest *m, size_t i)
{
	return (json_t **)(void *)((char *)m + parts[i].at);
}

void manifest_free(struct manifest *m)
{
	json_decref(m->files);
	for (size_t i = 0; i < ARRAY_SIZE(parts); i++)
		json_decref(*manifest_part(m, i));
	memset(m, 0, sizeof(*m));
}

/* ---- fingerprint ------------------------------------------------------- */

static bool has_flag(const char *list, const char *word, size_t n)
{
	const char *p;

	for (p = list; *p; p += strspn(p, " ")) {
		size_t m = strcspn(p, " ");

		if (m == n && strncmp(p, word, n) == 0)
			return true;
		p += m;
	}
	return false;
}

bool manifest_missing_flags(const struct manifest *m, const struct manifest *here, char *buf, size_t len)
{
	const char *p;
	size_t used = 0;

	buf[0] = '\0';
	for (p = m->node.cpu_flags; *p; p += strspn(p, " ")) {
		size_t n = strcspn(p, " ");

		if (!has_flag(here->node.cpu_flags, p, n) && used + n + 2 < len)
			used += (size_t)snprintf(buf + used, len - used, "%s%.*s", used ? " " : "", (int)n, p);
		p += n;
	}
	return used > 0;
}

void manifest_fingerprint(struct manifest *m, const char *criu)
{
	struct utsname u;

	uname(&u);
	snprintf(m->node.kernel, sizeof(m->node.kernel), "%s", u.release);
	snprintf(m->node.machine, sizeof(m->node.machine), "%.31s", u.machine);
	snprintf(m->node.hostname, sizeof(m->node.hostname), "%s", u.nodename);
	snprintf(m->node.glibc, sizeof(m->node.glibc), "%s", gnu_get_libc_version());
	snprintf(m->node.criu, sizeof(m->node.criu), "%s", criu);
	snprintf(m->node.fsched, sizeof(m->node.fsched), "%s", FSCHED_VERSION);
	cpu_info_model(m->node.cpu_model, sizeof(m->node.cpu_model));
	cpu_info_instruction_sets(m->node.cpu_flags, sizeof(m->node.cpu_flags));
	m->node.page_size = sysconf(_SC_PAGESIZE);
}

/* ---- list of the files of an epoch ------------------------------------- */

struct digest {
	char *name;
	uint64_t size;
	uint64_t data; /* of size, without holes; with_sums only */
	char hex[SHA256_HEX];
};

struct digests {
	struct digest *v;
	size_t n, room;
	bool with_sums;
	uint64_t linked; /* bytes of files with several names */
};

static void digests_free(struct digests *d)
{
	for (size_t i = 0; i < d->n; i++)
		free(d->v[i].name);
	free(d->v);
}

static struct digest *digests_add(struct digests *d, const char *name)
{
	struct digest *e;

	array_reserve(d->v, d->n, d->room);
	e = &d->v[d->n++];
	memset(e, 0, sizeof(*e));
	e->name = xstrdup(name);
	return e;
}

static int digest_by_name(const void *a, const void *b)
{
	return strcmp(((const struct digest *)a)->name, ((const struct digest *)b)->name);
}

static bool has_own_sums(const char *name)
{
	return strncmp(name, CHUNKS, sizeof(CHUNKS) - 1) == 0 && !strchr(name + sizeof(CHUNKS) - 1, '/');
}

/* Bytes of the file that lie in no hole. A job can make a hole of any size at no cost, so holes must not count as space
 * that an epoch takes from others. The blocks that a file has are no measure: some file systems count them later. */
static uint64_t digest_data(int fd, const struct stat *st)
{
	uint64_t sum = 0;
	off_t data, end = 0;

	if ((uint64_t)st->st_blocks * 512 >= (uint64_t)st->st_size)
		return (uint64_t)st->st_size;
	while ((data = lseek(fd, end, SEEK_DATA)) >= 0 && data < st->st_size) {
		end = lseek(fd, data, SEEK_HOLE);
		if (end <= data)
			return (uint64_t)st->st_size;
		sum += (uint64_t)((end < st->st_size ? end : st->st_size) - data);
	}
	return data >= 0 || errno == ENXIO ? sum : (uint64_t)st->st_size;
}

static int digest_file(int dirfd, const char *name, struct digest *e, struct err *err)
{
	cleanup_close int fd = openat(dirfd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0)
		return err_sys(err, errno, "cannot read %s", e->name);
	if (!S_ISREG(st.st_mode))
		return err_set(err, EBADMSG, "%s is no regular file", e->name);
	e->size = (uint64_t)st.st_size;
	e->data = digest_data(fd, &st);
	posix_fadvise(fd, 0, 0, POSIX_FADV_SEQUENTIAL);
	if (digest_range(fd, 0, e->size, e->hex) < 0)
		return err_sys(err, errno, "cannot read %s", e->name);
	return 0;
}

/* The manifest itself is not in the list. */
static int digests_collect_file(void *arg, int dirfd, const char *name, const char *path, const struct stat *st,
				struct err *err)
{
	struct digests *d = arg;
	struct digest *e;

	if (strcmp(path, "manifest.json") == 0 || strcmp(path, "manifest.cred") == 0)
		return 0;
	if (d->n >= FILES_MAX)
		return err_set(err, EFBIG, "the checkpoint has more than %d files", FILES_MAX);
	e = digests_add(d, path);
	e->size = e->data = (uint64_t)st->st_size;
	if (d->with_sums && !has_own_sums(path) && digest_file(dirfd, name, e, err) < 0)
		return -1;
	d->linked += st->st_nlink > 1 ? e->data : 0;
	return 0;
}

static int digests_collect(int epochfd, struct digests *d, struct err *err)
{
	const struct epoch_walk w = { .file = digests_collect_file, .arg = d };

	if (epoch_walk(epochfd, &w, err) < 0)
		return -1;
	if (d->n)
		qsort(d->v, d->n, sizeof(*d->v), digest_by_name);
	return 0;
}

/* ---- writing ----------------------------------------------------------- */

static json_t *manifest_render_digests(const struct digests *d)
{
	cleanup_json json_t *list = json_array();

	for (size_t i = 0; list && i < d->n; i++) {
		const struct digest *e = &d->v[i];
		cleanup_json json_t *o = has_own_sums(e->name)
						 ? json_pack("{s:I,s:s}", "size", (json_int_t)e->size, "sums_in", IMAGE)
						 : json_pack("{s:I,s:s}", "size", (json_int_t)e->size, "sha256", e->hex);

		if (!o || json_set_name(o, "name", e->name) < 0 || json_array_append(list, o) < 0)
			return NULL;
	}
	return steal_ptr(&list);
}

static json_t *manifest_render_node(const struct manifest *m)
{
	return json_pack("{s:s,s:s,s:s,s:s,s:s,s:s,s:s,s:s,s:I}", "kernel", m->node.kernel, "machine", m->node.machine,
			 "cpu_model", m->node.cpu_model, "cpu_flags", m->node.cpu_flags, "glibc", m->node.glibc, "criu",
			 m->node.criu, "fsched", m->node.fsched, "hostname", m->node.hostname, "page_size",
			 (json_int_t)m->node.page_size);
}

static int manifest_format(const struct manifest *m)
{
	return m->scratch          ? FORMAT_SCRATCH
	       : m->tmp.apart      ? FORMAT_TMP
	       : m->closed         ? FORMAT_CLOSED
	       : m->network.own    ? FORMAT_NETWORK
	       : !m->memory.ours   ? FORMAT
	       : m->memory.ghosts  ? FORMAT_GHOSTS
	       : m->memory.objects ? FORMAT_SHARED
				   : FORMAT_MEMORY;
}

static json_t *manifest_render_memory(const struct manifest *m)
{
	json_t *o = json_pack("{s:s,s:o,s:b,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:s,s:I}", "method", m->memory.method,
			      "why", json_text(m->memory.why), "increment", (int)m->memory.increment, "reused",
			      (json_int_t)m->memory.reused, "scanned", (json_int_t)m->memory.scanned, "pages",
			      (json_int_t)m->memory.pages, "zero", (json_int_t)m->memory.zero, "raw",
			      (json_int_t)m->memory.raw, "stored", (json_int_t)m->memory.stored, "criu",
			      (json_int_t)m->memory.criu, "shared", (json_int_t)m->memory.shared, "rounds",
			      (json_int_t)m->memory.rounds, "tracking", m->memory.tracking, "taken",
			      (json_int_t)m->memory.taken);

	if (o && m->memory.objects)
		json_object_set_new(o, "objects", json_integer((json_int_t)m->memory.objects));
	if (o && m->memory.ghosts)
		json_object_set_new(o, "ghosts", json_integer((json_int_t)m->memory.ghosts));
	return o;
}

/* A member of its own, since older versions take "memory" as a sign that there is a directory memory/. */
static json_t *manifest_render_criu_memory(const struct manifest *m)
{
	return json_pack("{s:s,s:o,s:I}", "method", m->memory.method, "why", json_text(m->memory.why), "bytes",
			 (json_int_t)m->memory.criu);
}

static json_t *manifest_render_network(const struct manifest *m)
{
	return json_pack("{s:s,s:s}", "hostname", m->network.hostname, "address", m->network.address);
}

static json_t *manifest_render_tmp(const struct manifest *m)
{
	return json_pack("{s:I,s:I}", "size", (json_int_t)m->tmp.size, "device", (json_int_t)m->tmp.device);
}

static int manifest_render_parts(const struct manifest *m, json_t *root)
{
	for (size_t i = 0; i < ARRAY_SIZE(parts); i++) {
		json_t *part = *(json_t *const *)(const void *)((const char *)m + parts[i].at);

		if (part && json_object_set(root, parts[i].name, part) < 0)
			return -1;
	}
	return 0;
}

static char *manifest_render(const struct manifest *m, const struct digests *d)
{
	cleanup_json json_t *root =
		json_pack("{s:i,s:I,s:I,s:I,s:s,s:s,s:I,s:I,s:I,s:I,s:I,s:b,s:I,s:I}", "format", manifest_format(m),
			  "epoch", (json_int_t)m->epoch, "run", (json_int_t)m->run, "time", (json_int_t)m->time,
			  "reason", m->reason, "uuid", m->uuid, "uid", (json_int_t)m->uid, "gid", (json_int_t)m->gid,
			  "frozen_us", (json_int_t)m->frozen_us, "written_at", (json_int_t)m->written_at, "bytes",
			  (json_int_t)m->bytes, "private_tmp", (int)m->private_tmp, "leader_pid",
			  (json_int_t)m->leader_pid, "max_pid", (json_int_t)m->max_pid);

	if (!root || json_set_name(root, "script", m->script) < 0 ||
	    (m->names_from && json_object_set_new(root, "names_from", json_integer((json_int_t)m->names_from)) < 0) ||
	    json_object_set_new(root, "node", manifest_render_node(m)) < 0 ||
	    (m->tmp.size && json_object_set_new(root, "tmp", manifest_render_tmp(m)) < 0) ||
	    (m->network.own && json_object_set_new(root, "network", manifest_render_network(m)) < 0) ||
	    (m->memory.ours && json_object_set_new(root, "memory", manifest_render_memory(m)) < 0) ||
	    (!m->memory.ours && m->memory.method[0] &&
	     json_object_set_new(root, "criu_memory", manifest_render_criu_memory(m)) < 0) ||
	    json_object_set_new(root, "files", m->files ? json_incref(m->files) : json_array()) < 0 ||
	    manifest_render_parts(m, root) || json_object_set_new(root, "digests", manifest_render_digests(d)) < 0)
		return NULL;
	return json_dumps(root, JSON_INDENT(1));
}

static int manifest_sign(int epochfd, const char *text, size_t len, const char *munge_socket, struct err *err)
{
	cleanup_free char *cred = NULL;
	char hex[SHA256_HEX];

	digest_bytes(text, len, hex);
	cred = credential_make(munge_socket, hex, CREDENTIAL_ANYBODY, err);
	if (!cred)
		return -1;
	if (write_file_atomic(epochfd, "manifest.cred", 0600, (gid_t)-1, cred, strlen(cred)) < 0)
		return err_sys(err, errno, "cannot write manifest.cred");
	return 0;
}

static int manifest_write_collected(int epochfd, struct manifest *m, struct digests *d, bool sign,
				    const char *munge_socket, struct err *err)
{
	cleanup_free char *text = NULL;
	size_t len;

	if (digests_collect(epochfd, d, err) < 0)
		return -1;
	m->bytes = 0;
	for (size_t i = 0; i < d->n; i++)
		m->bytes += d->v[i].data;
	m->linked = d->linked;
	text = manifest_render(m, d);
	if (!text)
		return err_set(err, EINVAL, "cannot write manifest.json: a text in it is not UTF-8");
	len = strlen(text);
	if (len > STORE_JSON_MAX)
		return err_set(err, EFBIG,
			       "cannot write manifest.json: it would be %zu bytes long, because the job has too many files",
			       len);
	if (write_file_atomic(epochfd, "manifest.json", 0600, (gid_t)-1, text, len) < 0)
		return err_sys(err, errno, "cannot write manifest.json");
	return sign ? manifest_sign(epochfd, text, len, munge_socket, err) : 0;
}

int manifest_write(int epochfd, struct manifest *m, bool sign, const char *munge_socket, struct err *err)
{
	struct digests d = { .with_sums = true };
	int rc = manifest_write_collected(epochfd, m, &d, sign, munge_socket, err);

	digests_free(&d);
	return rc;
}

/* ---- reading ----------------------------------------------------------- */

static int manifest_parse_node(const json_t *root, struct manifest *m, struct err *err)
{
	const json_t *o = json_object_get(root, "node");
	int64_t page_size;

	if (!json_is_object(o))
		return err_set(err, EBADMSG, "member \"node\" is missing or is not an object");
	if (json_get_text(o, "kernel", m->node.kernel, sizeof(m->node.kernel), err) < 0 ||
	    json_get_text(o, "machine", m->node.machine, sizeof(m->node.machine), err) < 0 ||
	    json_get_text(o, "cpu_model", m->node.cpu_model, sizeof(m->node.cpu_model), err) < 0 ||
	    (json_object_get(o, "cpu_flags") &&
	     json_get_text(o, "cpu_flags", m->node.cpu_flags, sizeof(m->node.cpu_flags), err) < 0) ||
	    json_get_text(o, "glibc", m->node.glibc, sizeof(m->node.glibc), err) < 0 ||
	    json_get_text(o, "criu", m->node.criu, sizeof(m->node.criu), err) < 0 ||
	    json_get_text(o, "fsched", m->node.fsched, sizeof(m->node.fsched), err) < 0 ||
	    json_get_text(o, "hostname", m->node.hostname, sizeof(m->node.hostname), err) < 0 ||
	    json_get_int(o, "page_size", 1, INT32_MAX, &page_size, err) < 0)
		return -1;
	m->node.page_size = (long)page_size;
	return 0;
}

/* *shared: the epoch has shared memory in memory/. */
static int manifest_parse_origin(const json_t *root, struct manifest *m, bool *shared, struct err *err)
{
	unsigned uid, gid;
	int64_t format;
	bool by_members;

	if (json_get_int(root, "format", 1, INT32_MAX, &format, err) < 0)
		return -1;
	by_members = format >= FORMAT_NETWORK;
	m->network.own = format == FORMAT_NETWORK || (by_members && json_object_get(root, "network"));
	m->memory.ours = by_members ? json_object_get(root, "memory") != NULL : format != FORMAT;
	*shared = by_members ? json_object_get(json_object_get(root, "memory"), "objects") != NULL
			     : format >= FORMAT_SHARED;
	m->tmp.apart = format >= FORMAT_TMP;
	if (format > FORMAT_SCRATCH)
		return err_set(err, EBADMSG, "format %d is not known to this version of fsched", (int)format);
	if (json_get_uint(root, "epoch", &m->epoch, err) < 0 || json_get_uint(root, "run", &m->run, err) < 0 ||
	    json_get_int(root, "time", 0, INT64_MAX, &m->time, err) < 0 ||
	    json_get_text(root, "reason", m->reason, sizeof(m->reason), err) < 0 ||
	    json_get_text(root, "uuid", m->uuid, sizeof(m->uuid), err) < 0 ||
	    json_get_uint(root, "uid", &uid, err) < 0 || json_get_uint(root, "gid", &gid, err) < 0)
		return -1;
	m->uid = uid;
	m->gid = gid;
	return 0;
}

static int manifest_parse_parts(struct manifest *m, const json_t *root, struct err *err)
{
	for (size_t i = 0; i < ARRAY_SIZE(parts); i++) {
		json_t *part = json_object_get(root, parts[i].name);

		if (part && json_typeof(part) != parts[i].type)
			return err_set(err, EBADMSG, "\"%s\" has another type than expected", parts[i].name);
		*manifest_part(m, i) = json_incref(part);
	}
	return 0;
}

static int manifest_parse_state(const json_t *root, struct manifest *m, struct err *err)
{
	int64_t bytes, leader, max_pid;

	if (json_get_int(root, "frozen_us", 0, INT64_MAX, &m->frozen_us, err) < 0 ||
	    json_get_int(root, "written_at", 0, INT64_MAX, &m->written_at, err) < 0 ||
	    (json_object_get(root, "names_from") &&
	     json_get_int(root, "names_from", 0, INT64_MAX, &m->names_from, err) < 0) ||
	    json_get_int(root, "bytes", 0, INT64_MAX, &bytes, err) < 0 ||
	    json_get_bool(root, "private_tmp", &m->private_tmp, err) < 0 ||
	    json_get_int(root, "leader_pid", 0, INT32_MAX, &leader, err) < 0 ||
	    json_get_int(root, "max_pid", 0, INT32_MAX, &max_pid, err) < 0 ||
	    json_get_name(root, "script", m->script, sizeof(m->script), err) < 0)
		return -1;
	m->bytes = (uint64_t)bytes;
	m->leader_pid = (int32_t)leader;
	m->max_pid = (int32_t)max_pid;
	m->files = json_get_list(root, "files", FILES_MAX, err);
	if (!m->files)
		return -1;
	json_incref(m->files);
	return manifest_parse_parts(m, root, err);
}

static int get_bytes(const json_t *o, const char *key, uint64_t *out, struct err *err)
{
	int64_t v;

	if (json_get_int(o, key, 0, INT64_MAX, &v, err) < 0)
		return -1;
	*out = (uint64_t)v;
	return 0;
}

/* format_size() without the blank: "2.0GiB". */
static const char *size_text(uint64_t bytes, char buf[16])
{
	char *blank;

	format_size(bytes, buf, 16);
	blank = strchr(buf, ' ');
	if (blank)
		memmove(blank, blank + 1, strlen(blank));
	return buf;
}

bool manifest_tracked(const struct manifest *m)
{
	return !m->memory.rounds && m->memory.tracking[0] && strcmp(m->memory.tracking, "none") != 0;
}

bool manifest_memory_small(const struct manifest *m)
{
	return !m->memory.ours && strcmp(m->memory.method, MANIFEST_SMALL) == 0;
}

char *manifest_memory_text(const struct manifest *m, char buf[MANIFEST_MEMORY_TEXT])
{
	char pages[16], scanned[16], dirty[16], stored[16], rounds[24] = "";

	if (m->memory.rounds)
		snprintf(rounds, sizeof(rounds), ",pre-dump:%u", m->memory.rounds);
	else if (manifest_tracked(m))
		snprintf(rounds, sizeof(rounds), ",tracked");
	if (manifest_memory_small(m))
		snprintf(buf, MANIFEST_MEMORY_TEXT, "small,%s", size_text(m->memory.criu, pages));
	else if (!m->memory.ours)
		snprintf(buf, MANIFEST_MEMORY_TEXT, "criu");
	else
		snprintf(buf, MANIFEST_MEMORY_TEXT, "%s,%s,scanned:%s,dirty:%s,stored:%s,ratio:%.2f%s%s",
			 m->memory.method, size_text(m->memory.pages, pages), size_text(m->memory.scanned, scanned),
			 size_text(m->memory.pages - m->memory.reused, dirty), size_text(m->memory.stored, stored),
			 m->memory.stored ? (double)m->memory.raw / (double)m->memory.stored : 1.0,
			 m->memory.increment ? ",increment" : "", rounds);
	return buf;
}

char *manifest_closed_text(const struct manifest *m, char *buf, size_t len)
{
	const size_t total = json_array_size(m->closed);
	size_t n = 0;

	buf[0] = '\0';
	for (size_t i = 0; i < total; i++) {
		const char *text = json_string_value(json_array_get(m->closed, i));
		const size_t more = text ? strlen(text) : 0;

		/* room for "; and 1000000 more" */
		if (n + more + 32 > len) {
			snprintf(buf + n, len - n, "%sand %zu more", n ? "; " : "", total - i);
			break;
		}
		n += (size_t)snprintf(buf + n, len - n, "%s%s", n ? "; " : "", text ? text : "");
	}
	return buf;
}

/* Epochs of versions without pre-dump lack these members. */
static int manifest_parse_pre_dump(const json_t *o, struct manifest *m, struct err *err)
{
	if (!json_object_get(o, "rounds"))
		return 0;
	return json_get_uint(o, "rounds", &m->memory.rounds, err) < 0 ||
			       json_get_text(o, "tracking", m->memory.tracking, sizeof(m->memory.tracking), err) < 0 ||
			       get_bytes(o, "taken", &m->memory.taken, err) < 0
		       ? -1
		       : 0;
}

static int manifest_parse_criu_memory(const json_t *o, struct manifest *m, struct err *err)
{
	if (!json_is_object(o))
		return err_set(err, EBADMSG, "member \"criu_memory\" is not an object");
	return json_get_text(o, "method", m->memory.method, sizeof(m->memory.method), err) < 0 ||
			       json_get_text(o, "why", m->memory.why, sizeof(m->memory.why), err) < 0 ||
			       get_bytes(o, "bytes", &m->memory.criu, err) < 0
		       ? -1
		       : 0;
}

static int manifest_parse_memory(const json_t *root, struct manifest *m, bool shared, struct err *err)
{
	const json_t *o = json_object_get(root, m->memory.ours ? "memory" : "criu_memory");

	if (!m->memory.ours)
		return o ? manifest_parse_criu_memory(o, m, err) : 0;
	if (!json_is_object(o))
		return err_set(err, EBADMSG, "member \"memory\" is missing or is not an object");
	if (json_object_get(o, "scanned") && get_bytes(o, "scanned", &m->memory.scanned, err) < 0)
		return -1;
	return json_get_text(o, "method", m->memory.method, sizeof(m->memory.method), err) < 0 ||
			       json_get_text(o, "why", m->memory.why, sizeof(m->memory.why), err) < 0 ||
			       json_get_bool(o, "increment", &m->memory.increment, err) < 0 ||
			       get_bytes(o, "reused", &m->memory.reused, err) < 0 ||
			       get_bytes(o, "pages", &m->memory.pages, err) < 0 ||
			       get_bytes(o, "zero", &m->memory.zero, err) < 0 ||
			       get_bytes(o, "raw", &m->memory.raw, err) < 0 ||
			       get_bytes(o, "stored", &m->memory.stored, err) < 0 ||
			       get_bytes(o, "criu", &m->memory.criu, err) < 0 ||
			       get_bytes(o, "shared", &m->memory.shared, err) < 0 ||
			       manifest_parse_pre_dump(o, m, err) < 0 ||
			       (shared && get_bytes(o, "objects", &m->memory.objects, err) < 0) ||
			       (json_object_get(o, "ghosts") && get_bytes(o, "ghosts", &m->memory.ghosts, err) < 0)
		       ? -1
		       : 0;
}

static int manifest_parse_network(const json_t *root, struct manifest *m, struct err *err)
{
	const json_t *o = json_object_get(root, "network");

	if (!m->network.own)
		return 0;
	if (!json_is_object(o))
		return err_set(err, EBADMSG, "member \"network\" is missing or is not an object");
	return json_get_text(o, "hostname", m->network.hostname, sizeof(m->network.hostname), err) < 0 ||
			       json_get_text(o, "address", m->network.address, sizeof(m->network.address), err) < 0
		       ? -1
		       : 0;
}

static int manifest_parse_tmp(const json_t *root, struct manifest *m, struct err *err)
{
	const json_t *o = json_object_get(root, "tmp");

	if (!o)
		return 0;
	if (!json_is_object(o))
		return err_set(err, EBADMSG, "member \"tmp\" is not an object");
	return get_bytes(o, "size", &m->tmp.size, err) < 0 || json_get_uint(o, "device", &m->tmp.device, err) < 0 ? -1
														  : 0;
}

static int manifest_parse_root(const json_t *root, struct manifest *m, struct err *err)
{
	bool shared;

	memset(m, 0, sizeof(*m));
	if (manifest_parse_origin(root, m, &shared, err) == 0 && manifest_parse_node(root, m, err) == 0 &&
	    manifest_parse_network(root, m, err) == 0 && manifest_parse_tmp(root, m, err) == 0 &&
	    manifest_parse_memory(root, m, shared, err) == 0 && manifest_parse_state(root, m, err) == 0)
		return 0;
	manifest_free(m);
	return err_wrap(err, "manifest.json is damaged");
}

static json_t *manifest_load_text(const char *text, size_t len, struct err *err)
{
	json_error_t jerr;
	json_t *root = json_loadb(text, len, JSON_REJECT_DUPLICATES, &jerr);

	if (root && json_is_object(root))
		return root;
	err_set(err, EBADMSG, "manifest.json is damaged: %s", root ? "no JSON object" : jerr.text);
	json_decref(root);
	return NULL;
}

int manifest_parse(const char *text, size_t len, struct manifest *m, struct err *err)
{
	cleanup_json json_t *root = manifest_load_text(text, len, err);

	memset(m, 0, sizeof(*m));
	return root ? manifest_parse_root(root, m, err) : -1;
}

int manifest_load(int epochfd, struct manifest *m, struct err *err)
{
	cleanup_free char *text = NULL;
	ssize_t len = read_file_at(epochfd, "manifest.json", STORE_JSON_MAX, &text);

	memset(m, 0, sizeof(*m));
	return len < 0 ? err_sys(err, errno, "cannot read manifest.json") : manifest_parse(text, (size_t)len, m, err);
}

/* ---- verifying --------------------------------------------------------- */

static int manifest_check_signature(int epochfd, const char *text, size_t len, const char *munge_socket, struct err *err)
{
	cleanup_free char *cred = NULL;
	char hex[SHA256_HEX];

	if (read_file_at(epochfd, "manifest.cred", CRED_MAX, &cred) < 0)
		return errno == ENOENT ? err_set(err, ENOENT, "the checkpoint is not signed: manifest.cred is missing")
				       : err_sys(err, errno, "cannot read manifest.cred");
	digest_bytes(text, len, hex);
	return credential_check(munge_socket, cred, hex, err);
}

/* Reads manifest.json only once, so that the text that was verified is the text that is parsed. */
static json_t *manifest_read_signed(int epochfd, bool sign, const char *munge_socket, struct err *err)
{
	cleanup_free char *text = NULL;
	ssize_t len = read_file_at(epochfd, "manifest.json", STORE_JSON_MAX, &text);

	if (len < 0) {
		err_sys(err, errno, "cannot read manifest.json");
		return NULL;
	}
	if (sign && manifest_check_signature(epochfd, text, (size_t)len, munge_socket, err) < 0)
		return NULL;
	return manifest_load_text(text, (size_t)len, err);
}

static int manifest_check_digest(int epochfd, const json_t *o, struct digest *have, struct err *err)
{
	char hex[SHA256_HEX], image[32];
	int64_t size;

	if (json_get_int(o, "size", 0, INT64_MAX, &size, err) < 0)
		return -1;
	if (have->size != (uint64_t)size)
		return err_set(err, EBADMSG, "%s is damaged: it has %llu bytes instead of %lld", have->name,
			       (unsigned long long)have->size, (long long)size);
	/* A chunk file with a digest (an older epoch) is checked by its digest. */
	if (has_own_sums(have->name) && !json_object_get(o, "sha256"))
		return json_get_text(o, "sums_in", image, sizeof(image), err) < 0 || strcmp(image, IMAGE) != 0
			       ? err_set(err, EBADMSG, "%s: the manifest does not say what holds its checksums",
					 have->name)
			       : 0;
	if (json_get_text(o, "sha256", hex, sizeof(hex), err) < 0 || digest_file(epochfd, have->name, have, err) < 0)
		return -1;
	if (strcmp(have->hex, hex) != 0)
		return err_set(err, EBADMSG, "%s is damaged: its content is not what was written (SHA-256 differs)",
			       have->name);
	return 0;
}

/* Both lists are sorted by name, so the first difference tells which file is missing or extra. */
static int manifest_check_names(const json_t *list, const struct digests *have, struct err *err)
{
	size_t n = json_array_size(list);

	for (size_t i = 0; i < n || i < have->n; i++) {
		char name[PATH_MAX], shown[256];
		int order = -1;

		if (i < n && json_get_name(json_array_get(list, i), "name", name, sizeof(name), err) < 0)
			return -1;
		if (i < n && i < have->n)
			order = strcmp(name, have->v[i].name);
		else if (i < have->n)
			order = 1;
		if (order < 0)
			return err_set(err, ENOENT, "%s is missing", printable(name, shown, sizeof(shown)));
		if (order > 0)
			return err_set(err, EBADMSG, "%s does not belong to the checkpoint",
				       printable(have->v[i].name, shown, sizeof(shown)));
	}
	return 0;
}

/* Without the image file, nothing would check the chunk files. */
static int manifest_check_image(const struct digests *have, struct err *err)
{
	bool image = false, chunks = false;

	for (size_t i = 0; i < have->n; i++) {
		image |= strcmp(have->v[i].name, IMAGE) == 0;
		chunks |= has_own_sums(have->v[i].name);
	}
	return chunks && !image ? err_set(err, ENOENT, IMAGE " is missing") : 0;
}

static int manifest_check_files(int epochfd, const json_t *root, struct err *err)
{
	const json_t *list = json_get_list(root, "digests", FILES_MAX, err);
	struct digests have = { 0 };
	int rc = -1;

	if (list && digests_collect(epochfd, &have, err) == 0 && manifest_check_names(list, &have, err) == 0 &&
	    manifest_check_image(&have, err) == 0)
		rc = 0;
	for (size_t i = 0; rc == 0 && i < have.n; i++)
		rc = manifest_check_digest(epochfd, json_array_get(list, i), &have.v[i], err);
	digests_free(&have);
	return rc;
}

int manifest_verify(int epochfd, struct manifest *m, bool sign, const char *munge_socket, struct err *err)
{
	cleanup_json json_t *root = NULL;

	memset(m, 0, sizeof(*m));
	root = manifest_read_signed(epochfd, sign, munge_socket, err);
	if (!root || manifest_check_files(epochfd, root, err) < 0)
		return -1;
	return manifest_parse_root(root, m, err);
}
