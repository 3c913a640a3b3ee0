/* fuzz_seeds DIR - writes DIR/TARGET/seed* for each target, valid input for the fuzzers to start from. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "agent/protocol.h"
#include "base/dir_tree.h"
#include "base/io.h"
#include "base/util.h"
#include "capture/kept_tracking.h"
#include "criu/criu_pagemap.h"
#include "image/writer.h"
#include "store/lease.h"
#include "store/steps.h"
#include "store/manifest.h"
#include "store/store.h"
#include "trace/tracer.h"

#define HISTORY_SEED                                                                                                         \
	"{\"tally\":{\"made\":{\"periodic\":3},\"failed\":{\"space\":1},\"refused\":{},\"restores\":{\"ok\":1},"             \
	"\"frozen\":[0,1,0],\"skipped\":2,\"written\":12},\"events\":[{\"kind\":\"epoch\",\"time\":1000,\"epoch\":7,"        \
	"\"trigger\":\"periodic\",\"node\":\"n1\",\"bytes\":12,\"used\":60},{\"kind\":\"failed\",\"time\":1001,\"times\":2," \
	"\"until\":1005,\"reason\":\"x\"}]}"

static struct err err;

static void check(int rc, const char *what)
{
	if (rc >= 0)
		return;
	fprintf(stderr, "fuzz_seeds: %s: %s\n", what, err.text[0] ? err.text : strerror(errno));
	exit(1);
}

static int subdir(int dirfd, const char *name)
{
	int fd;

	if (mkdirat(dirfd, name, 0700) < 0 && errno != EEXIST)
		check(-1, name);
	fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	check(fd, name);
	return fd;
}

static void put(int dirfd, const char *name, const void *buf, size_t len)
{
	check(write_file_atomic(dirfd, name, 0600, (gid_t)-1, buf, len), name);
}

static void copy(int from, const char *name, int to, const char *as)
{
	cleanup_free char *text = NULL;
	ssize_t len = read_file_at(from, name, 1u << 20, &text);

	check((int)len, name);
	put(to, as, text, (size_t)len);
}

/* Zeros, numbers and letters in turn. */
static int read_pages(void *arg, uint64_t id, uint64_t addr, void *buf, size_t len)
{
	uint8_t *p = buf;

	(void)arg;
	for (size_t i = 0; i < len; i++) {
		uint64_t at = addr + i, page = at / MEM_PAGE;
		double d = 1.0 + (double)(at / 8) / 1e6;

		p[i] = page % 3 == 0   ? 0
		       : page % 3 == 1 ? ((uint8_t *)&d)[at % 8]
				       : (uint8_t)('a' + (at * 7 + id) % 23);
	}
	return 0;
}

static void memory_seeds(int base)
{
	const struct mem_source source = { .read = read_pages };
	const struct mem_range work[] = { { 1, 0x10000, 9 }, { 2, 0x20000, 70 }, { UINT64_C(1) << 40, 0x7f0000000000, 3 } };
	const struct mem_range clean[] = { { 2, 0x20000, 33 } };
	cleanup_close int scratch = subdir(base, "scratch"), one = subdir(scratch, "1"), two = subdir(scratch, "2"),
			  to = subdir(base, "image");
	struct mem_write_opts o;
	struct mem_image *m;

	mem_write_opts_init(&o);
	o.threads = 2;
	o.hashes = true;
	o.compact = 0;
	check(mem_image_write(one, 1, &source, work, ARRAY_SIZE(work), &o, NULL, &err), "image");
	m = mem_image_open(one, &err);
	check(m ? 0 : -1, "image");
	o.previous = m;
	o.clean = clean;
	o.n_clean = ARRAY_SIZE(clean);
	check(mem_image_write(two, 2, &source, work, ARRAY_SIZE(work), &o, NULL, &err), "increment");
	mem_image_close(m);
	copy(one, MEM_IMAGE_FILE, to, "seed1");
	copy(two, MEM_IMAGE_FILE, to, "seed2");
	copy(two, MEM_HASH_FILE, to, "seed3");
	remove_tree_at(base, "scratch");
}

static void chunk_seeds(int base)
{
	cleanup_close int to = subdir(base, "chunk");
	static uint8_t raw[3 * MEM_PAGE], seed[4 + 16 * MEM_PAGE];
	uint16_t len = sizeof(raw);

	for (int level = 0; level <= 2; level++)
		for (uint64_t page = 0; page < 3; page++) {
			struct mem_codec *c = mem_codec_new(level, sizeof(raw));
			struct mem_format f;
			char name[16];
			size_t n;

			for (int i = 0; i < 3; i++)
				read_pages(NULL, 1, page * MEM_PAGE, raw + i * MEM_PAGE, MEM_PAGE);
			n = mem_encode(c, raw, sizeof(raw), seed + 4, &f);
			seed[0] = f.transform;
			seed[1] = f.compression;
			memcpy(seed + 2, &len, 2);
			snprintf(name, sizeof(name), "seed%d%d", level, (int)page);
			put(to, name, seed, n + 4);
			mem_codec_free(c);
		}
}

static void ghost_seeds(int base)
{
	cleanup_close int to = subdir(base, "ghost");
	/* Two magic numbers, the length, then dev = 30, ino = 5, chunks, size = 16384. */
	static const uint8_t seed[] = { 0x19, 0x43, 0x56, 0x54, 0x05, 0x36, 0x58, 0x52, 10,   0,    0,
					0,    0x20, 30,   0x28, 5,    0x48, 1,    0x50, 0x80, 0x80, 0x01 };

	put(to, "seed1", seed, sizeof(seed));
}

static void pagemap_seeds(int base)
{
	cleanup_close int to = subdir(base, "pagemap");
	struct criu_pagemap_entry v[] = { { 0x400000, 3, CRIU_PE_PRESENT },
					  { 0x600000, 1, CRIU_PE_PARENT },
					  { 0x7f0000000000, 1 << 20, CRIU_PE_PRESENT | CRIU_PE_LAZY } };
	const struct criu_pagemap p = { .pages_id = 1, .v = v, .n = ARRAY_SIZE(v) };

	check(criu_pagemap_store(to, "seed1", &p, &err), "pagemap");
}

static void manifest_seeds(int base)
{
	cleanup_close int scratch = subdir(base, "scratch"), to = subdir(base, "manifest");
	struct manifest m = {
		.epoch = 3, .run = 1, .time = 1750000000, .reason = "periodic", .uuid = "01234567-89ab-cdef-0123-456789abcdef"
	};

	snprintf(m.script, sizeof(m.script), "/var/spool/slurmd/job00001/slurm_script");
	manifest_fingerprint(&m, "4.2.1");
	m.files = json_pack("[{s:s,s:I}]", "path", "/home/user/log", "size", (json_int_t)100);
	put(scratch, "some file", "text", 4);
	check(manifest_write(scratch, &m, false, "", &err), "manifest");
	copy(scratch, "manifest.json", to, "seed1");
	manifest_free(&m);
	remove_tree_at(base, "scratch");
}

static void text_seed(int base, const char *target, const char *name, const char *text, size_t len)
{
	cleanup_close int to = subdir(base, target);

	put(to, name, text, len);
}

static void small_seeds(int base)
{
	static const char names[] =
		"D1\t0001000200030004.1.aabb\t/home/user\0E1\t0001000200030004.1.aacc\tl\t777\tlatest\0Tresult.1\0"
		"B2\0D1\t0001000200030004.1.aabb\t/home/user\0N1\t-\tf\t0001000200030004.1.aadd\tname\0";
	static const char journal[] = "/home/user/log\0/home/user/dir/state";
	static const char status[] =
		"note Checkpoint={state=running interval=00:30:00 epoch=3 time=2026-11-22T23:01:02 size=12.3MiB frozen=31ms "
		"total=1min5s memory=fork,x kept=2,3 skipped=0 restored=2 tried=n1 error=\"a b\" uuid=01234567-89ab-cdef-0123-456789abcdef agent=4711} more";
	static const char option[] = "1-2:30:00/01234567-89ab-cdef-0123-456789abcdef/tl";
	static const char option_env[] = "SLURM_SPANK__SLURM_SPANK_OPTION_fsched_checkpoint=30";

	text_seed(base, "journal", "seed1", journal, sizeof(journal));
	text_seed(base, "names", "seed1", names, sizeof(names));
	text_seed(base, "status", "seed1", status, sizeof(status) - 1);
	text_seed(base, "option", "seed1", option, sizeof(option) - 1);
	text_seed(base, "option", "seed2", option_env, sizeof(option_env) - 1);
}

static void jobdir_seeds(int base)
{
	cleanup_close int scratch = subdir(base, "scratch"), record = subdir(base, "record"),
			  lease = subdir(base, "lease"), steps_dir = subdir(base, "steps");
	cleanup_free struct step_file *file = xcalloc(1, sizeof(*file));
	cleanup_free struct job_steps *steps = xcalloc(1, sizeof(*steps));
	cleanup_free struct job_record *r = xcalloc(1, sizeof(*r));
	const struct store s = { .dirfd = scratch, .epochsfd = -1, .path = "scratch" };
	struct lease l = { .restart_count = 1, .duration = 30 };

	*r = (struct job_record){
		.job_id = 7,
		.uuid = "01234567-89ab-cdef-0123-456789abcdef",
		.cluster = "c",
		.user = "u",
		.uid = 1000,
		.run = 1,
		.host = "n1",
		.n_epochs = 1,
		.epochs = { { .number = 3, .time = 1750000000, .bytes = 4096, .run = 1, .reason = "create" } }
	};
	check(store_save_record(&s, r, &err), "record");
	copy(scratch, "job.json", record, "seed1");
	check(lease_describe_self(&l, "n1", &err), "lease");
	check(lease_write(scratch, &l, &err), "lease");
	copy(scratch, "lease", lease, "seed1");
	file->head = (struct step_file_header){ STEP_FILE_MAGIC, 1, 1, 1 };
	file->v[0] = (struct step_file_entry){ 10, 20, 0, 2, 9, 0, 4096, "a.out" };
	text_seed(base, "steps", "seed1", (const char *)file, sizeof(file->head) + sizeof(file->v[0]));
	steps_take(steps, file, sizeof(*file));
	check(steps_save(&s, 0, steps, &err), "steps");
	copy(scratch, "steps.json", steps_dir, "seed2");
	text_seed(base, "history", "seed1", HISTORY_SEED, sizeof(HISTORY_SEED) - 1);
	remove_tree_at(base, "scratch");
}

/* Requests of cli/user/client.c, behind a byte that chooses the uid (fuzz_request.c). */
static void request_seeds(int base)
{
	static const char *const ops[] = { "create", "vacate", "status", "error", "able", "list" };

	for (size_t i = 0; i < ARRAY_SIZE(ops); i++) {
		json_t *o = json_pack("{s:i, s:s, s:I, s:s, s:s, s:I}", "v", PROTO_VERSION, "op", ops[i], "job_id",
				      (json_int_t)7, "uuid", "01234567-89ab-cdef-0123-456789abcdef", "nonce",
				      "0123456789abcdef", "time", (json_int_t)1750000000);
		cleanup_free char *json = o ? json_dumps(o, JSON_COMPACT) : NULL, *text = NULL;
		char name[16];

		json_decref(o);
		check(json ? 0 : -1, "request");
		text = xasprintf("%c%s", (char)('0' + i % 4), json);
		snprintf(name, sizeof(name), "seed%zu", i);
		text_seed(base, "request", name, text, strlen(text));
	}
}

/* Output of workers, behind two bytes (fuzz_event.c): a periodic checkpoint, a vacate, a restore, a refusal. */
static void event_seeds(int base)
{
	static const char *const outputs[] = {
		"{\"name\":\"preflight\",\"event\":\"phase\"}\n{\"name\":\"frozen\",\"event\":\"phase\"}\n"
		"{\"epoch\":1,\"bytes\":194465,\"time\":1795996694,\"frozen_us\":455502,\"total_us\":1757223,\"files\":1,\"memory\":\"criu\","
		"\"memory_why\":\"there is shared memory only\",\"warnings\":[],\"ok\":true,\"event\":\"result\"}\n",
		"{\"name\":\"commit\",\"event\":\"phase\"}\n{\"epoch\":2,\"bytes\":194465,\"time\":1795996696,\"frozen_us\":176537,\"total_us\":1139545,"
		"\"files\":1,\"memory\":\"fork\",\"memory_why\":\"\",\"warnings\":[\"w\"],\"event\":\"held\"}\n",
		"{\"init_pid\":19835,\"event\":\"pod\"}\n{\"ok\":true,\"differs\":false,\"init_pid\":19835,\"epoch\":2,\"total_us\":539289,\"files\":1,"
		"\"warnings\":[],\"event\":\"result\"}\n",
		"{\"ok\":false,\"error\":\"no usable criu on this node\",\"refused\":true,\"node\":false,\"asker\":false,\"event\":\"result\"}\n",
	};

	for (size_t i = 0; i < ARRAY_SIZE(outputs); i++) {
		cleanup_free char *text = xasprintf("%c%c%s", (char)('0' + i), i ? '@' : '\xff', outputs[i]);
		char name[16];

		snprintf(name, sizeof(name), "seed%zu", i);
		text_seed(base, "event", name, text, strlen(text));
	}
}

/* Messages of a mailbox, each behind its length (fuzz_mailbox.c). */
static void mailbox_seeds(int base)
{
	const struct mem_tracked v[] = { { .host = 4711, .id = 3 }, { .host = 4712, .id = 4 } };
	uint8_t seed[8192];
	struct mailbox m;
	size_t len = 0;
	ssize_t n;

	check(mailbox_make(&m), "mailbox");
	for (unsigned epoch = 5; epoch < 8; epoch++)
		kept_tracking_put(&m, epoch / 2, v, ARRAY_SIZE(v));
	/* recv() drops the descriptors of a message. */
	while ((n = recv(m.out, seed + len + 3, sizeof(seed) - len - 3, MSG_DONTWAIT)) > 0) {
		seed[len] = 2 * ARRAY_SIZE(v);
		seed[len + 1] = (uint8_t)n;
		seed[len + 2] = (uint8_t)(n >> 8);
		len += 3 + (size_t)n;
	}
	text_seed(base, "mailbox", "seed1", (const char *)seed, len);
	mailbox_close(&m);
}

static size_t take_request(int fd, uint8_t *to)
{
	ssize_t n = recv(fd, to, sizeof(struct remote_call), MSG_DONTWAIT);

	check(n == sizeof(struct remote_call) ? 0 : -1, "remote_call");
	return (size_t)n;
}

/* Requests of trace/tracer.c, and the answers to them (fuzz_remote_call.c). */
static void remote_call_seeds(int base)
{
	uint8_t requests[8192] = { 0 }, answers[8192] = { 1, 0, 1, 3, 6 };
	size_t n = 1, m = 5;
	const struct tracer_options o = { 0x100001, 0x100000, 0x100000 };
	struct tracer_regs r = { .len = 216 };
	struct return_path w = { .restore = 0x401000, .call = 0x401010, .low = 0x7ffc00000000 };
	pid_t child;
	int fd[2];

	check(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fd), "remote_call");
	for (int i = 0; i < 6; i++) {
		const struct remote_call nothing = { .result = 0 };
		struct remote_call made;

		check(send(fd[1], &nothing, sizeof(nothing), 0) < 0 ? -1 : 0, "remote_call");
		check(i == 0   ? tracer_get_regs(fd[0], 7, &r)
		      : i == 1 ? tracer_enter(fd[0], 7, &w)
		      : i == 2 ? tracer_set_regs(fd[0], 7, &r)
		      : i == 3 ? tracer_inject(fd[0], 7, &r, &o, &child)
		      : i == 4 ? tracer_set_options(fd[0], 7, 1)
			       : tracer_leave(fd[0], 7),
		      "remote_call");
		n += 1; /* the byte that chooses the tracee */
		n += take_request(fd[1], requests + n);
		memcpy(&made, requests + n - sizeof(made), sizeof(made));
		made.pid = 0x7ffffff0;
		remote_call_do(&made);
		answers[m] = 1; /* a complete message */
		memcpy(answers + m + 2, &made, sizeof(made));
		m += 2 + sizeof(made);
	}
	close(fd[0]);
	close(fd[1]);
	text_seed(base, "remote_call", "seed1", (const char *)requests, n);
	text_seed(base, "remote_call", "seed2", (const char *)answers, m);
}

int main(int argc, char **argv)
{
	cleanup_close int base = -1;

	if (argc != 2 || mkdir_parents(argv[1], 0700) < 0 ||
	    (base = open(argv[1], O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0) {
		fputs("usage: fuzz_seeds DIR\n", stderr);
		return 2;
	}
	memory_seeds(base);
	chunk_seeds(base);
	pagemap_seeds(base);
	ghost_seeds(base);
	manifest_seeds(base);
	small_seeds(base);
	jobdir_seeds(base);
	request_seeds(base);
	event_seeds(base);
	mailbox_seeds(base);
	remote_call_seeds(base);
	return 0;
}
