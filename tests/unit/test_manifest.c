#include "unit.h"

#include <errno.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include <munge.h>

#include "scratch.h"
#include "store/manifest.h"
#include "base/digest.h"
#include "base/credential.h"
#include "base/dir_tree.h"
#include "base/util.h"
#include "store/store_internal.h"

static struct err err;
static pid_t munged = -1;
static char sock[128];

#define assert_ok(call)                                      \
	do {                                                 \
		if ((call) < 0)                              \
			fail_msg("%s: %s", #call, err.text); \
	} while (0)
#define assert_refused(call, part)                                                  \
	do {                                                                        \
		err.text[0] = '\0';                                                 \
		assert_int_equal((call), -1);                                       \
		if (!strstr(err.text, part))                                        \
			fail_msg("%s: \"%s\" lacks \"%s\"", #call, err.text, part); \
	} while (0)

/* ---- a munged of our own ----------------------------------------------- */

static char *option(const char *name, const char *file)
{
	return xasprintf("--%s=%s/%s", name, scratch, file);
}

static void run_munged(void)
{
	char *argv[] = { (char *)"munged",
			 (char *)"--foreground",
			 option("socket", "munge/socket"),
			 option("key-file", "munge/key"),
			 option("pid-file", "munge/pid"),
			 option("seed-file", "munge/seed"),
			 option("log-file", "munge/log"),
			 NULL };
	int null = open("/dev/null", O_RDWR);

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	dup2(null, 0);
	dup2(null, 2);
	setenv("PATH", "/usr/sbin:/usr/bin:/sbin:/bin", 1);
	execvp(argv[0], argv);
	_exit(127);
}

static bool munged_answers(void)
{
	struct err why;
	char *cred = credential_make(sock, "hello", CREDENTIAL_ANYBODY, &why);

	free(cred);
	return cred != NULL;
}

static int start_munged(void)
{
	mode_t old = umask(022);

	snprintf(sock, sizeof(sock), "%s/munge/socket", scratch);
	if (mkdir(at("munge"), 0755) < 0)
		return -1;
	put_text(at("munge/key"), "0123456789abcdef0123456789abcdef0123456789abcdef");
	chmod(at("munge/key"), 0600);
	umask(old);
	munged = fork();
	if (munged == 0)
		run_munged();
	for (int i = 0; i < 200; i++) {
		if (munged_answers())
			return 0;
		if (waitpid(munged, NULL, WNOHANG) != 0)
			break;
		usleep(50000);
	}
	printf("munged did not start: %s\n", get_text(at("munge/log")));
	return -1;
}

static void stop_munged(void)
{
	if (munged <= 0)
		return;
	kill(munged, SIGTERM);
	waitpid(munged, NULL, 0);
	munged = -1;
}

/* ---- an epoch ---------------------------------------------------------- */

static void fill(struct manifest *m)
{
	memset(m, 0, sizeof(*m));
	m->epoch = 3;
	m->run = 1;
	m->time = 1700000000;
	strcpy(m->reason, "periodic");
	strcpy(m->uuid, "01234567-89ab-cdef-0123-456789abcdef");
	m->uid = 1000;
	m->gid = 1001;
	m->frozen_us = 31000;
	m->private_tmp = true;
	m->leader_pid = 2;
	m->max_pid = 4711;
	strcpy(m->script, "/spool/\xff\xfe 100%\n/slurm_script");
	manifest_fingerprint(m, "4.2.1");
	m->files = json_pack("[{s:s}]", "path", "/x");
}

#define BLOCK 4096

static void put_block(const char *path, off_t where)
{
	cleanup_close int fd = open(path, O_WRONLY | O_CLOEXEC);
	char block[BLOCK];

	memset(block, 'x', sizeof(block));
	assert_int_equal(pwrite(fd, block, sizeof(block), where), sizeof(block));
}

static int make_epoch(bool sign)
{
	struct manifest m;
	int fd;

	remove_tree_at(scratch_fd, "epoch");
	assert_int_equal(mkdir(at("epoch"), 0700), 0);
	assert_int_equal(mkdir(at("epoch/criu"), 0700), 0);
	assert_int_equal(mkdir(at("epoch/files"), 0700), 0);
	put_text(at("epoch/criu/inventory.img"), "inventory");
	put_text(at("epoch/criu/pages-1.img"), "pages");
	put_text(at("epoch/files/empty"), "");
	put_text(at("epoch/leader"), "a program");
	assert_int_equal(truncate(at("epoch/files/empty"), 3 << 20), 0);
	put_text(at("epoch/files/holes"), "");
	put_block(at("epoch/files/holes"), 1 << 20);
	assert_int_equal(truncate(at("epoch/files/holes"), 3 << 20), 0);
	fd = open(at("epoch"), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(fd >= 0);
	fill(&m);
	assert_ok(manifest_write(fd, &m, sign, sock, &err));
	assert_int_equal(m.bytes, 9 + 5 + 9 + BLOCK); /* holes take no space */
	manifest_free(&m);
	return fd;
}

static int verify(int fd, bool sign)
{
	struct manifest m;
	int rc = manifest_verify(fd, &m, sign, sock, &err);

	manifest_free(&m);
	return rc;
}

static void a_manifest_comes_back(void **state)
{
	cleanup_close int fd = make_epoch(true);
	struct manifest want, m;

	fill(&want);
	for (int i = 0; i < 3; i++) { /* the second is a replay for MUNGE */
		assert_ok(manifest_verify(fd, &m, true, sock, &err));
		assert_int_equal(m.epoch, 3);
		assert_int_equal(m.uid, 1000);
		assert_int_equal(m.gid, 1001);
		assert_int_equal(m.time, want.time);
		assert_int_equal(m.frozen_us, 31000);
		assert_int_equal(m.max_pid, 4711);
		assert_int_equal(m.leader_pid, 2);
		assert_true(m.private_tmp);
		assert_string_equal(m.script, want.script);
		assert_string_equal(m.uuid, want.uuid);
		assert_string_equal(m.reason, "periodic");
		assert_memory_equal(&m.node, &want.node, sizeof(m.node));
		assert_true(json_equal(m.files, want.files));
		manifest_free(&m);
	}
	assert_true(strlen(want.node.cpu_model) > 0);
	assert_ok(manifest_load(fd, &m, &err));
	assert_int_equal(m.bytes, 9 + 5 + 9 + BLOCK); /* holes take no space */
	manifest_free(&m);
	manifest_free(&want);
}

/* What an older version, which knows formats up to 4, must not restore. */
static void a_network_of_its_own_is_recorded(void **state)
{
	cleanup_close int fd = make_epoch(false);
	cleanup_free char *text = NULL;
	struct manifest m;

	for (int engine = 0; engine < 3; engine++) {
		fill(&m);
		m.network.own = true;
		strcpy(m.network.hostname, "n1.cluster");
		strcpy(m.network.address, "198.18.224.1");
		m.memory.ours = engine > 0;
		m.memory.objects = engine == 2 ? 4096 : 0;
		assert_ok(manifest_write(fd, &m, false, "", &err));
		manifest_free(&m);
		assert_ok(manifest_load(fd, &m, &err));
		assert_true(m.network.own);
		assert_string_equal(m.network.hostname, "n1.cluster");
		assert_string_equal(m.network.address, "198.18.224.1");
		assert_int_equal(m.memory.ours, engine > 0);
		assert_int_equal(m.memory.objects, engine == 2 ? 4096 : 0);
		manifest_free(&m);
		free(text);
		assert_true(read_file_at(fd, "manifest.json", 1 << 20, &text) > 0);
		assert_non_null(strstr(text, "\"format\": 5"));
	}
	fill(&m);
	assert_ok(manifest_write(fd, &m, false, "", &err));
	manifest_free(&m);
	assert_ok(manifest_load(fd, &m, &err));
	assert_false(m.network.own);
	manifest_free(&m);
}

/* Older versions ignore the member, and restore such an epoch. */
static void who_wrote_criu_s_images_is_recorded(void **state)
{
	cleanup_close int fd = make_epoch(false);
	char memory[MANIFEST_MEMORY_TEXT];
	cleanup_free char *text = NULL;
	struct manifest m;

	for (int small = 0; small < 2; small++) {
		fill(&m);
		strcpy(m.memory.method, small ? MANIFEST_SMALL : MANIFEST_CRIU);
		strcpy(m.memory.why, "MemoryEngine = criu");
		m.memory.criu = small ? 1536 : 0;
		assert_ok(manifest_write(fd, &m, false, "", &err));
		manifest_free(&m);
		assert_ok(manifest_load(fd, &m, &err));
		assert_false(m.memory.ours);
		assert_int_equal(manifest_memory_small(&m), small);
		assert_string_equal(m.memory.why, "MemoryEngine = criu");
		assert_true(m.memory.criu == (small ? 1536 : 0));
		assert_string_equal(manifest_memory_text(&m, memory), small ? "small,1.5KiB" : "criu");
		manifest_free(&m);
		free(text);
		assert_true(read_file_at(fd, "manifest.json", 1 << 20, &text) > 0);
		assert_non_null(strstr(text, "\"format\": 1"));
	}
	fill(&m);
	assert_string_equal(manifest_memory_text(&m, memory), "criu");
	manifest_free(&m);
}

/* Nor one that knows formats up to 5. */
static void closed_connections_are_recorded(void **state)
{
	cleanup_close int fd = make_epoch(false);
	cleanup_free char *text = NULL;
	struct manifest m;
	char list[64];

	for (int own = 0; own < 2; own++) {
		fill(&m);
		m.network.own = own;
		m.closed = json_pack("[s, s, s]", "descriptor 5 of process 17", "b", "c");
		assert_ok(manifest_write(fd, &m, false, "", &err));
		manifest_free(&m);
		assert_ok(manifest_load(fd, &m, &err));
		assert_int_equal(m.network.own, own);
		assert_false(m.memory.ours);
		assert_string_equal(manifest_closed_text(&m, list, sizeof(list)), "descriptor 5 of process 17; b; c");
		json_array_append_new(m.closed, json_string("descriptor 6 of process 17"));
		assert_string_equal(manifest_closed_text(&m, list, sizeof(list)),
				    "descriptor 5 of process 17; b; c; and 1 more");
		manifest_free(&m);
		free(text);
		assert_true(read_file_at(fd, "manifest.json", 1 << 20, &text) > 0);
		assert_non_null(strstr(text, "\"format\": 6"));
	}
	fill(&m);
	assert_string_equal(manifest_closed_text(&m, list, sizeof(list)), "");
	manifest_free(&m);
}

/* Nor one that knows formats up to 7. */
static void scratch_directories_are_recorded(void **state)
{
	cleanup_close int fd = make_epoch(false);
	cleanup_free char *text = NULL;
	struct manifest m;

	fill(&m);
	m.tmp.apart = true;
	m.scratch = json_pack("[{s:s, s:i}]", "path", "/scratch/job.7", "mode", 0750);
	assert_ok(manifest_write(fd, &m, false, "", &err));
	manifest_free(&m);
	assert_ok(manifest_load(fd, &m, &err));
	assert_true(m.tmp.apart);
	assert_string_equal(json_string_value(json_object_get(json_array_get(m.scratch, 0), "path")), "/scratch/job.7");
	manifest_free(&m);
	assert_true(read_file_at(fd, "manifest.json", 1 << 20, &text) > 0);
	assert_non_null(strstr(text, "\"format\": 8"));
}

static void a_tmp_of_its_own_is_recorded(void **state)
{
	cleanup_close int fd = make_epoch(false);
	struct manifest m;

	for (int image = 0; image < 2; image++) {
		fill(&m);
		m.tmp.size = image ? 1ULL << 40 : 0;
		m.tmp.device = image ? 54321 : 0;
		m.tmp.apart = image;
		m.memory.ours = image;
		assert_ok(manifest_write(fd, &m, false, "", &err));
		manifest_free(&m);
		assert_ok(manifest_load(fd, &m, &err));
		assert_true(m.tmp.size == (image ? 1ULL << 40 : 0));
		assert_int_equal(m.tmp.device, image ? 54321 : 0);
		assert_int_equal(m.tmp.apart, image);
		assert_int_equal(m.memory.ours, image);
		assert_false(m.network.own);
		manifest_free(&m);
	}
}

static void the_first_difference_is_named(void **state)
{
	cleanup_close int fd = make_epoch(true);

	put_text(at("epoch/criu/pages-1.img"), "pagex");
	assert_refused(verify(fd, true), "criu/pages-1.img is damaged");
	put_text(at("epoch/criu/pages-1.img"), "page");
	assert_refused(verify(fd, true), "4 bytes instead of 5");
	put_text(at("epoch/criu/pages-1.img"), "pages");
	assert_ok(verify(fd, true));
	put_text(at("epoch/criu/extra"), "");
	assert_refused(verify(fd, true), "criu/extra does not belong");
	assert_int_equal(unlink(at("epoch/criu/extra")), 0);
	assert_int_equal(symlink("pages-1.img", at("epoch/criu/link")), 0);
	assert_refused(verify(fd, true), "criu/link");
	assert_int_equal(unlink(at("epoch/criu/link")), 0);
	assert_int_equal(rename(at("epoch/files/empty"), at("saved")), 0);
	assert_refused(verify(fd, true), "files/empty is missing");
	assert_int_equal(symlink(at("saved"), at("epoch/files/empty")), 0);
	assert_refused(verify(fd, true), "files/empty");
	assert_int_equal(unlink(at("epoch/files/empty")), 0);
	assert_int_equal(rename(at("saved"), at("epoch/files/empty")), 0);
	assert_ok(verify(fd, true));
	assert_int_equal(unlink(at("epoch/leader")), 0);
	assert_int_equal(mkfifo(at("epoch/leader"), 0600), 0);
	assert_refused(verify(fd, true), "leader");
}

/* ---- memory ------------------------------------------------------------ */

static void put_memory(void)
{
	assert_int_equal(mkdir(at("epoch/memory"), 0700), 0);
	put_text(at("epoch/memory/image"), "image");
	put_text(at("epoch/memory/chunks-000003-0"), "chunks");
}

static int rewrite_manifest(int fd)
{
	struct manifest m;
	int rc;

	fill(&m);
	rc = manifest_write(fd, &m, true, sock, &err);
	manifest_free(&m);
	return rc;
}

/* The bytes of chunk files are the business of the image; their presence, their size and the image itself are not. */
static void chunk_files_have_their_own_sums(void **state)
{
	cleanup_close int fd = make_epoch(true);
	cleanup_free char *text = NULL;

	put_memory();
	assert_refused(verify(fd, true), "does not belong");
	assert_ok(rewrite_manifest(fd));
	assert_ok(verify(fd, true));
	text = get_text(at("epoch/manifest.json"));
	assert_non_null(strstr(text, "\"sums_in\": \"memory/image\""));
	put_text(at("epoch/memory/chunks-000003-0"), "CHUNKS");
	assert_ok(verify(fd, true));
	put_text(at("epoch/memory/chunks-000003-0"), "chunk");
	assert_refused(verify(fd, true), "5 bytes instead of 6");
	put_text(at("epoch/memory/chunks-000003-0"), "chunks");
	put_text(at("epoch/memory/image"), "imagE");
	assert_refused(verify(fd, true), "memory/image is damaged");
	put_text(at("epoch/memory/image"), "image");
	assert_int_equal(rename(at("epoch/memory/chunks-000003-0"), at("epoch/memory/chunks-000004-0")), 0);
	assert_refused(verify(fd, true), "chunks-000003-0 is missing");
	assert_int_equal(unlink(at("epoch/memory/image")), 0);
	assert_ok(rewrite_manifest(fd));
	assert_refused(verify(fd, true), "memory/image is missing");
}

/* Shared memory in memory/ is a format of its own, so that no older version takes its empty lists for all there is. */
static void shared_memory_is_a_format(void **state)
{
	cleanup_close int fd = make_epoch(false);
	cleanup_free char *text = NULL;
	struct manifest m, got;
	char *p;

	put_memory();
	fill(&m);
	m.memory.ours = true;
	strcpy(m.memory.method, "staged");
	for (int i = 0; i < 3; i++) {
		static const char *const formats[] = { "\"format\": 2", "\"format\": 4", "\"format\": 3" };

		m.memory.objects = i ? 5 << 20 : 0;
		m.memory.ghosts = i == 1 ? 4 << 20 : 0;
		assert_ok(manifest_write(fd, &m, false, NULL, &err));
		free(text);
		text = get_text(at("epoch/manifest.json"));
		assert_non_null(strstr(text, formats[i]));
		assert_ok(manifest_load(fd, &got, &err));
		assert_true(got.memory.ours);
		assert_int_equal(got.memory.objects, m.memory.objects);
		assert_int_equal(got.memory.ghosts, m.memory.ghosts);
		manifest_free(&got);
	}
	manifest_free(&m);
	p = strstr(text, "\"objects\"");
	assert_non_null(p);
	p[1] = 'O';
	put_text(at("epoch/manifest.json"), text);
	assert_refused(manifest_load(fd, &m, &err), "objects");
	p[1] = 'o';
	p = strstr(text, "\"format\": 3");
	p[strlen("\"format\": ")] = '9';
	put_text(at("epoch/manifest.json"), text);
	assert_refused(manifest_load(fd, &m, &err), "format 9");
}

/* Only there: a file of that name elsewhere gets a digest as all others. */
static void only_chunk_files_have_their_own_sums(void **state)
{
	cleanup_close int fd = make_epoch(true);

	put_text(at("epoch/criu/chunks-000003-0"), "chunks");
	assert_ok(rewrite_manifest(fd));
	put_text(at("epoch/criu/chunks-000003-0"), "CHUNKS");
	assert_refused(verify(fd, true), "criu/chunks-000003-0 is damaged");
}

/* ---- signature --------------------------------------------------------- */

static void digest_of_manifest(char hex[SHA256_HEX])
{
	char *text = get_text(at("epoch/manifest.json"));

	digest_bytes(text, strlen(text), hex);
	free(text);
}

/* A credential over the right digest, made by uid, that lives for ttl seconds. */
static void sign_as(uid_t uid, int ttl)
{
	char hex[SHA256_HEX];
	int status;
	pid_t pid;

	digest_of_manifest(hex);
	unlink(at("epoch/manifest.cred"));
	put_text(at("cred"), "");
	assert_int_equal(chown(at("cred"), uid, 0), 0);
	pid = fork();
	if (pid == 0) {
		munge_ctx_t ctx = munge_ctx_create();
		char *cred = NULL;

		if (setresuid(uid, uid, uid) < 0)
			_exit(2);
		munge_ctx_set(ctx, MUNGE_OPT_SOCKET, sock);
		munge_ctx_set(ctx, MUNGE_OPT_TTL, ttl);
		if (munge_encode(&cred, ctx, hex, (int)strlen(hex)) != EMUNGE_SUCCESS)
			_exit(3);
		put_text(at("cred"), cred);
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	assert_int_equal(rename(at("cred"), at("epoch/manifest.cred")), 0);
}

static void only_root_signs(void **state)
{
	cleanup_close int fd = make_epoch(true);
	char *text;

	sign_as(65534, 300);
	assert_refused(verify(fd, true), "signed by uid 65534");
	sign_as(0, 300);
	assert_ok(verify(fd, true));
	text = get_text(at("epoch/manifest.json"));
	strchr(text, '3')[0] = '4';
	put_text(at("epoch/manifest.json"), text);
	free(text);
	assert_refused(verify(fd, true), "belongs to another manifest.json");
	put_text(at("epoch/manifest.cred"), "MUNGE:nonsense:");
	assert_refused(verify(fd, true), "cannot be verified");
	put_text(at("epoch/manifest.cred"), "");
	assert_refused(verify(fd, true), "cannot be verified");
	assert_int_equal(unlink(at("epoch/manifest.cred")), 0);
	assert_refused(verify(fd, true), "not signed");
}

static void an_old_signature_is_good(void **state)
{
	cleanup_close int fd = make_epoch(true);

	sign_as(0, 1);
	sleep(3);
	assert_ok(verify(fd, true));
	assert_ok(verify(fd, true));
	sign_as(65534, 1);
	sleep(3);
	assert_refused(verify(fd, true), "signed by uid 65534");
}

static void without_munge_only_the_digests_count(void **state)
{
	cleanup_close int fd = make_epoch(false);
	struct manifest m;

	assert_int_equal(access(at("epoch/manifest.cred"), F_OK), -1);
	assert_ok(verify(fd, false));
	assert_refused(verify(fd, true), "not signed");
	put_text(at("epoch/leader"), "b program");
	assert_refused(verify(fd, false), "leader is damaged");
	fill(&m);
	assert_refused(manifest_write(fd, &m, true, at("no-such-socket"), &err), "is munged running");
	manifest_free(&m);
}

static void a_damaged_manifest_is_an_error(void **state)
{
	cleanup_close int fd = make_epoch(false);
	char *text = get_text(at("epoch/manifest.json")), *copy = xstrdup(text);
	size_t len = strlen(text);
	struct manifest m;

	for (size_t i = 0; i < len; i++) {
		memcpy(copy, text, i);
		copy[i] = '\0';
		put_text(at("epoch/manifest.json"), copy);
		assert_int_equal(verify(fd, false), -1);
		assert_int_equal(manifest_load(fd, &m, &err), -1);
		manifest_free(&m);
	}
	srandom(1);
	for (int i = 0; i < 1000; i++) {
		strcpy(copy, text);
		for (int k = 0; k < 1 + i % 3; k++)
			copy[(size_t)random() % len] = (char)(1 + random() % 255);
		put_text(at("epoch/manifest.json"), copy);
		if (manifest_load(fd, &m, &err) == 0)
			manifest_free(&m);
		verify(fd, false);
	}
	free(text);
	free(copy);
}

static int setup(void **state)
{
	(void)state;
	if (scratch_make(0755) < 0)
		return -1;
	if (start_munged() == 0)
		return 0;
	stop_munged();
	scratch_remove();
	return -1;
}

static int teardown(void **state)
{
	(void)state;
	stop_munged();
	scratch_remove();
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_manifest_comes_back),
		cmocka_unit_test(a_network_of_its_own_is_recorded),
		cmocka_unit_test(who_wrote_criu_s_images_is_recorded),
		cmocka_unit_test(closed_connections_are_recorded),
		cmocka_unit_test(scratch_directories_are_recorded),
		cmocka_unit_test(a_tmp_of_its_own_is_recorded),
		cmocka_unit_test(the_first_difference_is_named),
		cmocka_unit_test(shared_memory_is_a_format),
		cmocka_unit_test(chunk_files_have_their_own_sums),
		cmocka_unit_test(only_chunk_files_have_their_own_sums),
		cmocka_unit_test(only_root_signs),
		cmocka_unit_test(an_old_signature_is_good),
		cmocka_unit_test(without_munge_only_the_digests_count),
		cmocka_unit_test(a_damaged_manifest_is_an_error),
	};

	scratch_needs_root();
	return cmocka_run_group_tests(tests, setup, teardown);
}
