#include "unit.h"
#include "base/dir_tree.h"
#include "base/io.h"
#include "base/util.h"
#include "base/clock.h"

#include <errno.h>
#include <grp.h>
#include <jansson.h>
#include <signal.h>
#include <sys/types.h>
#include <sys/wait.h>

#include "scratch.h"
#include "store/store.h"

#define UUID1 "01234567-89ab-cdef-0123-456789abcdef"
#define UUID2 "11111111-2222-3333-4444-555555555555"

static struct err err;

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

static mode_t mode_of(const char *path)
{
	struct stat st;

	return lstat(path, &st) < 0 ? 0 : st.st_mode;
}

static int fresh(void **state)
{
	(void)state;
	remove_tree_at(scratch_fd, "base");
	return mkdir(at("base"), 0755);
}

static void a_store_is_made(void **state)
{
	struct store s;
	struct stat st;

	assert_ok(store_open(&s, at("base/deeper"), 7, true, &err));
	assert_string_equal(s.path, at("base/deeper/7"));
	assert_int_equal(fstat(s.dirfd, &st), 0);
	assert_int_equal(st.st_mode, S_IFDIR | 0711);
	assert_int_equal(st.st_gid, 0);
	assert_int_equal(mode_of(at("base/deeper")), S_IFDIR | 0755);
	assert_int_equal(mode_of(at("base/deeper/7/epochs")), S_IFDIR | 0700);
	assert_int_equal(fcntl(s.dirfd, F_GETFD), FD_CLOEXEC);
	assert_int_equal(fcntl(s.epochsfd, F_GETFD), FD_CLOEXEC);
	store_close(&s);
	assert_ok(store_open(&s, at("base/deeper"), 7, true, &err));
	store_close(&s);
	assert_ok(store_open(&s, at("base/deeper"), 7, false, &err));
	store_close(&s);
	assert_int_equal(store_open(&s, at("base/deeper"), 8, false, &err), -1);
	assert_int_equal(err.num, ENOENT);
	assert_ok(store_open_path(&s, at("base/pods/one/"), true, &err));
	store_close(&s);
	assert_refused(store_open_path(&s, "pods/one", true, &err), "not an absolute path");
	assert_refused(store_open_path(&s, at("base/.."), true, &err), "not an absolute path");
	assert_refused(store_open(&s, "base", 7, true, &err), "not an absolute path");
}

static void a_forgeable_directory_is_refused(void **state)
{
	struct store s;

	assert_ok(store_open(&s, at("base"), 7, true, &err));
	store_close(&s);
	assert_int_equal(chmod(at("base/7"), 0770), 0);
	assert_refused(store_open(&s, at("base"), 7, false, &err), "writable by its group");
	assert_int_equal(chmod(at("base/7"), 0752), 0);
	assert_refused(store_open(&s, at("base"), 7, false, &err), "writable by everybody");
	assert_int_equal(chmod(at("base/7"), 0750), 0);
	assert_int_equal(chown(at("base/7"), 65534, 0), 0);
	assert_refused(store_open(&s, at("base"), 7, true, &err), "belongs to uid 65534");
	assert_int_equal(chown(at("base/7"), 0, 0), 0);
	assert_int_equal(chmod(at("base"), 01777), 0);
	assert_refused(store_open(&s, at("base"), 7, false, &err), "writable by everybody");
	assert_int_equal(chmod(at("base"), 0755), 0);
	assert_int_equal(chown(at("base/7/epochs"), 65534, 0), 0);
	assert_refused(store_open(&s, at("base"), 7, false, &err), "epochs belongs to uid 65534");
	assert_int_equal(rename(at("base/7"), at("base/8")), 0);
	assert_int_equal(symlink("8", at("base/7")), 0);
	assert_refused(store_open(&s, at("base"), 7, false, &err), "symbolic link");
	assert_refused(store_open(&s, at("base"), 7, true, &err), "symbolic link");
	put_text(at("base/9"), "no directory");
	assert_refused(store_open(&s, at("base"), 9, true, &err), "base/9");
}

/* ---- record ------------------------------------------------------------ */

static void fill(struct job_record *r, unsigned epochs)
{
	memset(r, 0, sizeof(*r));
	r->job_id = 4294967295u;
	strcpy(r->uuid, UUID1);
	strcpy(r->cluster, "c\"1\\");
	strcpy(r->user, "j\303\274rgen");
	r->uid = 1000;
	r->gid = 4294967290u;
	r->interval = 1800;
	r->intent = INTENT_VACATED;
	r->status = -1;
	r->run = 2;
	r->restart_count = 3;
	strcpy(r->host, "node1.example");
	memset(r->script_sha256, 'a', 64);
	r->skipped = 9;
	r->n_epochs = epochs;
	for (unsigned i = 0; i < epochs; i++) {
		r->epochs[i] = (struct epoch_summary){ i + 5, 1700000000 + i, 1ull << 62, 31000, 240000, 2, "" };
		strcpy(r->epochs[i].reason, i ? "periodic" : "");
	}
}

static void a_record_comes_back(void **state)
{
	struct job_record *a = xcalloc(1, sizeof(*a)), *b = xcalloc(1, sizeof(*b));
	struct store s;
	struct stat st;

	assert_ok(store_open(&s, at("base"), 7, true, &err));
	assert_int_equal(store_load_record(&s, b, &err), -1);
	assert_int_equal(err.num, ENOENT);
	for (unsigned n = 0; n <= STORE_KEPT_MAX; n += 500) {
		fill(a, n);
		assert_ok(store_save_record(&s, a, &err));
		assert_ok(store_load_record(&s, b, &err));
		assert_memory_equal(a, b, sizeof(*a));
	}
	for (int status = -1; status <= 0x8b00; status += 0x8b) {
		a->intent = INTENT_DONE;
		a->status = status;
		assert_ok(store_save_record(&s, a, &err));
		assert_ok(store_load_record(&s, b, &err));
		assert_int_equal(b->status, status);
	}
	assert_int_equal(stat(at("base/7/job.json"), &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	assert_int_equal(st.st_uid, 0);
	strcpy(a->user, "\xff");
	assert_refused(store_save_record(&s, a, &err), "UTF-8");
	fill(a, 1);
	strcpy(a->uuid, "../../../../etc/passwd");
	assert_refused(store_save_record(&s, a, &err), "uuid");
	assert_ok(store_load_record(&s, b, &err));
	assert_string_equal(b->uuid, UUID1);
	store_close(&s);
	free(a);
	free(b);
}

/* A worker may be damaged when it writes its result. A record that cannot be read would cost the job all its epochs. */
static void a_result_can_be_recorded(void **state)
{
	static const char *const results[] = {
		"{}",
		"{\"time\":-1,\"bytes\":-4096,\"frozen_us\":-1,\"total_us\":-9223372036854775808}",
		"{\"time\":\"x\",\"memory\":7}",
		/* byte 160 of the text is in the middle of a character */
		("{\"memory\":\"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
		 "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\303\274\"}"),
		"{\"memory\":\"a\\u001bb\"}",
	};
	struct job_record *a = xcalloc(1, sizeof(*a)), *b = xcalloc(1, sizeof(*b));
	struct store s;

	assert_ok(store_open(&s, at("base"), 7, true, &err));
	for (size_t i = 0; i < ARRAY_SIZE(results); i++) {
		json_t *o = json_loads(results[i], 0, NULL);

		assert_non_null(o);
		fill(a, 2);
		epoch_summary_from_result(&a->epochs[1], o);
		json_decref(o);
		assert_ok(store_save_record(&s, a, &err));
		assert_ok(store_load_record(&s, b, &err));
		assert_memory_equal(&a->epochs[1], &b->epochs[1], sizeof(a->epochs[1]));
	}
	json_t *o = json_pack("{s:i,s:I,s:i,s:i,s:s}", "time", 5, "bytes", (json_int_t)1 << 62, "frozen_us", 6,
			      "total_us", 7, "memory", "fork");
	epoch_summary_from_result(&a->epochs[1], o);
	json_decref(o);
	assert_true(a->epochs[1].time == 5 && a->epochs[1].bytes == 1ull << 62 && a->epochs[1].frozen_us == 6 &&
		    a->epochs[1].total_us == 7);
	assert_string_equal(a->epochs[1].memory, "fork");
	assert_string_equal(a->epochs[1].reason, "periodic");
	store_close(&s);
	free(a);
	free(b);
}

/* A record that was accepted can be written again: a text that is too long is cut between two characters. */
static void a_text_that_is_too_long_is_cut(void **state)
{
	struct job_record *r = xcalloc(1, sizeof(*r));
	cleanup_free char *text = NULL, *longer = NULL;
	struct store s;
	char *at_reason;

	assert_ok(store_open(&s, at("base"), 7, true, &err));
	fill(r, 2);
	assert_ok(store_save_record(&s, r, &err));
	text = get_text(at("base/7/job.json"));
	at_reason = strstr(text, "\"periodic\"");
	assert_non_null(at_reason);
	longer = xasprintf("%.*s\"xxxxxxxxxxxxxx\303\274\"%s", (int)(at_reason - text), text,
			   at_reason + strlen("\"periodic\""));
	put_text(at("base/7/job.json"), longer);
	assert_ok(store_load_record(&s, r, &err));
	assert_string_equal(r->epochs[1].reason, "xxxxxxxxxxxxxx");
	assert_ok(store_save_record(&s, r, &err));
	store_close(&s);
	free(r);
}

/* Root reads this file: whatever is in it, an answer and no crash. */
static void a_damaged_record_is_an_error(void **state)
{
	static const char *const hostile[] = {
		"",
		"null",
		"[]",
		"{}",
		"{\"job_id\":1}",
		"\xff\xfe",
		"[[[[[[[[",
		"{\"job_id\":1,\"job_id\":2}",
		"{\"job_id\":99999999999999999999999999}",
	};
	struct job_record *r = xcalloc(1, sizeof(*r));
	char *text, *copy;
	struct store s;
	size_t len;

	assert_ok(store_open(&s, at("base"), 7, true, &err));
	for (size_t i = 0; i < ARRAY_SIZE(hostile); i++) {
		put_text(at("base/7/job.json"), hostile[i]);
		assert_int_equal(store_load_record(&s, r, &err), -1);
		assert_int_equal(err.num, EBADMSG);
	}
	fill(r, 3);
	assert_ok(store_save_record(&s, r, &err));
	text = get_text(at("base/7/job.json"));
	len = strlen(text);
	copy = xstrdup(text);
	for (size_t i = 0; i < len; i++) {
		memcpy(copy, text, i);
		copy[i] = '\0';
		put_text(at("base/7/job.json"), copy);
		assert_int_equal(store_load_record(&s, r, &err), -1);
	}
	srandom(1);
	for (int i = 0; i < 3000; i++) {
		strcpy(copy, text);
		for (int k = 0; k < 1 + i % 3; k++)
			copy[(size_t)random() % len] = (char)(1 + random() % 255);
		put_text(at("base/7/job.json"), copy);
		store_load_record(&s, r, &err);
	}
	memset(copy, '[', len);
	put_text(at("base/7/job.json"), copy);
	assert_int_equal(store_load_record(&s, r, &err), -1);
	assert_int_equal(unlink(at("base/7/job.json")), 0);
	assert_int_equal(mkfifo(at("base/7/job.json"), 0600), 0);
	assert_int_equal(store_load_record(&s, r, &err), -1);
	assert_int_equal(unlink(at("base/7/job.json")), 0);
	assert_int_equal(symlink("/dev/zero", at("base/7/job.json")), 0);
	assert_int_equal(store_load_record(&s, r, &err), -1);
	store_close(&s);
	free(text);
	free(copy);
	free(r);
}

static void a_foreign_directory_is_set_aside(void **state)
{
	struct job_record *r = xcalloc(1, sizeof(*r));
	struct store s;
	bool moved;

	assert_ok(store_set_aside(at("base"), 7, UUID1, &moved, &err));
	assert_false(moved);
	assert_ok(store_set_aside(at("nowhere"), 7, UUID1, &moved, &err));
	assert_false(moved);
	fill(r, 1);
	for (int i = 0; i < 2; i++) {
		assert_ok(store_open(&s, at("base"), 7, true, &err));
		assert_ok(store_save_record(&s, r, &err));
		store_close(&s);
		assert_ok(store_set_aside(at("base"), 7, UUID1, &moved, &err));
		assert_false(moved);
		assert_ok(store_set_aside(at("base"), 7, UUID2, &moved, &err));
		assert_true(moved);
		assert_int_equal(mode_of(at("base/7")), 0);
	}
	assert_true(S_ISDIR(mode_of(at("base/7." UUID1))));
	assert_true(S_ISDIR(mode_of(at("base/7." UUID1 ".1"))));
	assert_ok(store_open(&s, at("base"), 7, true, &err));
	put_text(at("base/7/job.json"), "{ half a rec");
	store_close(&s);
	assert_ok(store_set_aside(at("base"), 7, UUID2, &moved, &err));
	assert_true(moved);
	assert_int_equal(mode_of(at("base/7")), 0);
	assert_int_equal(symlink("7." UUID1, at("base/7")), 0);
	assert_refused(store_set_aside(at("base"), 7, UUID1, &moved, &err), "symbolic link");
	assert_false(moved);
	free(r);
}

static void intents_have_names(void **state)
{
	enum intent i;

	for (int k = INTENT_RUNNING; k <= INTENT_DONE; k++) {
		assert_int_equal(intent_parse(intent_name((enum intent)k), &i), 0);
		assert_int_equal(i, k);
	}
	assert_int_equal(intent_parse("Running", &i), -1);
	assert_string_equal(intent_name((enum intent)99), "unknown");
}

/* ---- epochs ------------------------------------------------------------ */

static void make_epoch(const struct store *s, unsigned n)
{
	cleanup_close int fd = store_begin_epoch(s, n, &err);
	cleanup_close int f = -1;

	if (fd < 0)
		fail_msg("%s", err.text);
	f = openat(fd, "criu/inventory.img", O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	assert_true(f >= 0);
	assert_int_equal(write_all(f, "x", 1), 0);
	assert_ok(store_sync_epoch(s, n, &err));
}

static void epochs_live_and_go(void **state)
{
	unsigned list[8];
	struct store s;
	int fd;

	assert_ok(store_open(&s, at("base"), 7, true, &err));
	assert_int_equal(store_list_epochs(&s, list, 8), 0);
	make_epoch(&s, 1);
	assert_int_equal(mode_of(at("base/7/epochs/000001.partial/files")), S_IFDIR | 0700);
	assert_int_equal(store_list_epochs(&s, list, 8), 0);
	assert_int_equal(store_open_epoch(&s, 1, &err), -1);
	assert_int_equal(err.num, ENOENT);
	make_epoch(&s, 1); /* over a stale one */
	assert_ok(store_commit_epoch(&s, 1, &err));
	make_epoch(&s, 1);
	assert_int_equal(store_commit_epoch(&s, 1, &err), -1); /* never over a complete one */
	store_abort_epoch(&s, 1);
	store_abort_epoch(&s, 1);
	fd = store_open_epoch(&s, 1, &err);
	assert_true(fd >= 0);
	close(fd);
	for (unsigned n = 1000000; n > 1; n /= 10) {
		make_epoch(&s, n);
		assert_ok(store_commit_epoch(&s, n, &err));
	}
	assert_int_equal(store_list_epochs(&s, list, 8), 7);
	assert_int_equal(list[0], 1);
	assert_int_equal(list[1], 10);
	assert_int_equal(list[6], 1000000);
	assert_int_equal(store_list_epochs(&s, list, 2), 2);
	assert_int_equal(list[0], 100000);
	assert_ok(store_remove_epoch(&s, 10, &err));
	assert_refused(store_remove_epoch(&s, 10, &err), "epoch 10");
	assert_int_equal(store_begin_epoch(&s, 0, &err), -1);
	store_close(&s);
}

/* Its worker was killed between the rename and the report: the record does not have it. */
static void an_unrecorded_epoch_keeps_its_number(void **state)
{
	struct job_record r = { .n_epochs = 1, .epochs[0].number = 3 };
	struct store s;

	assert_ok(store_open(&s, at("base"), 7, true, &err));
	assert_int_equal(store_next_epoch(&s, &r, &err), 4);
	make_epoch(&s, 4);
	assert_int_equal(store_next_epoch(&s, &r, &err), 4); /* only a complete one counts */
	assert_ok(store_commit_epoch(&s, 4, &err));
	assert_int_equal(store_next_epoch(&s, &r, &err), 5);
	make_epoch(&s, 5);
	assert_ok(store_commit_epoch(&s, 5, &err));
	r = (struct job_record){ 0 };
	assert_int_equal(store_next_epoch(&s, &r, &err), 6);
	store_close(&s);
}

static void only_complete_epochs_are_listed(void **state)
{
	static const char *const names[] = { "000003.partial", "3",   "0000003",     "00000a",
					     "000000",         "abc", "99999999999", "-00001" };
	unsigned list[8];
	struct store s;

	assert_ok(store_open(&s, at("base"), 7, true, &err));
	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		assert_int_equal(mkdirat(s.epochsfd, names[i], 0700), 0);
	assert_int_equal(symlinkat("abc", s.epochsfd, "000004"), 0);
	put_text(at("base/7/epochs/000005"), "a file");
	assert_int_equal(store_list_epochs(&s, list, 8), 0);
	assert_refused(store_open_epoch(&s, 4, &err), "symbolic link");
	store_remove_partials(&s);
	assert_int_equal(mode_of(at("base/7/epochs/000003.partial")), 0);
	assert_true(S_ISDIR(mode_of(at("base/7/epochs/abc"))));
	assert_int_equal(symlinkat("abc", s.epochsfd, "000006.partial"), 0);
	store_remove_partials(&s);
	assert_true(S_ISDIR(mode_of(at("base/7/epochs/abc"))));
	make_epoch(&s, 8);
	assert_int_equal(symlink("/", at("base/7/epochs/000008.partial/criu/link")), 0);
	assert_refused(store_sync_epoch(&s, 8, &err), "criu/link");
	store_close(&s);
}

static void log_lines_cannot_be_forged(void **state)
{
	char *text;
	struct store s;

	assert_ok(store_open(&s, at("base"), 7, true, &err));
	store_log(&s, 1234, "epoch %d\nforged \033[2J", 3);
	store_log(&s, 1234, "second");
	text = get_text(at("base/7/checkpoint.log"));
	assert_non_null(text);
	assert_null(strstr(text, "\nforged"));
	assert_null(strchr(text, '\033'));
	assert_non_null(strstr(text, " second\n"));
	assert_int_equal(text[4], '-');
	assert_int_equal(text[10], 'T');
	assert_int_equal(mode_of(at("base/7/checkpoint.log")), S_IFREG | 0600);
	free(text);
	assert_int_equal(unlink(at("base/7/checkpoint.log")), 0);
	put_text(at("base/victim"), "");
	assert_int_equal(symlink("../victim", at("base/7/checkpoint.log")), 0);
	store_log(&s, 1234, "third");
	text = get_text(at("base/victim"));
	assert_string_equal(text, "");
	free(text);
	store_close(&s);
}

/* ---- what the job's owner may see --------------------------------------- */

/* What a user reads: the record's job id, or -1 with the error in *err (as that of another process, in a file). */
static long load_as(uid_t uid, gid_t gid, char log[4096])
{
	int p[2], status;
	pid_t pid;

	struct answer {
		long id;
		struct err err;
		char log[4096];
	} a = { 0 };
	assert_int_equal(pipe(p), 0);
	pid = fork();
	if (pid == 0) {
		struct job_record *r = xcalloc(1, sizeof(*r));

		if (setgroups(0, NULL) || setgid(gid) || setuid(uid))
			_exit(1);
		a.id = store_load_copy(at("base"), 7, r, a.log, &a.err) < 0 ? -1 : (long)r->job_id;
		_exit(write_all(p[1], &a, sizeof(a)) < 0);
	}
	close(p[1]);
	assert_int_equal(read(p[0], &a, sizeof(a)), sizeof(a));
	close(p[0]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	err = a.err;
	if (log)
		memcpy(log, a.log, sizeof(a.log));
	return a.id;
}

#define OWNER 1000 /* of fill() */
#define GROUP 100

static void the_owner_reads_copies(void **state)
{
	struct job_record *r = xcalloc(1, sizeof(*r));
	cleanup_free char *record = NULL, *copy = NULL;
	char log[4096];
	struct store s;
	struct stat st;

	fill(r, 3);
	assert_int_equal(load_as(OWNER, GROUP, NULL), -1);
	assert_int_equal(err.num, ENOENT);
	assert_ok(store_open(&s, at("base"), 7, true, &err));
	assert_int_equal(load_as(OWNER, GROUP, NULL), -1);
	assert_int_equal(err.num, ENOENT);
	assert_ok(store_save_record(&s, r, &err));
	assert_int_equal(load_as(OWNER, GROUP, log), r->job_id);
	assert_string_equal(log, at("base/7/owner/checkpoint.log"));
	assert_int_equal(load_as(OWNER + 1, GROUP, NULL), -1);
	assert_int_equal(err.num, EACCES);
	assert_non_null(strstr(err.text, "only root and the job's owner may read"));
	record = get_text(at("base/7/job.json"));
	copy = get_text(at("base/7/owner/job.json"));
	assert_string_equal(record, copy);
	assert_int_equal(stat(at("base/7/owner/job.json"), &st), 0);
	assert_int_equal(st.st_uid, OWNER);
	assert_int_equal(st.st_mode & 07777, 0400);
	assert_int_equal(mode_of(at("base/7/owner")), S_IFDIR | 0711);
	/* root's own job needs none */
	assert_int_equal(remove_tree_at(s.dirfd, "owner"), 0);
	r->uid = 0;
	assert_ok(store_save_record(&s, r, &err));
	store_log(&s, 0, "line");
	assert_int_equal(mode_of(at("base/7/owner")), 0);
	/* a directory that root keeps to itself */
	assert_int_equal(chmod(at("base/7"), 0700), 0);
	assert_int_equal(load_as(OWNER, GROUP, NULL), -1);
	assert_non_null(strstr(err.text, "only root may read"));
	store_close(&s);
	free(r);
}

static void an_older_directory_is_closed(void **state)
{
	static const char *const files[] = { "base/7/job.json", "base/7/checkpoint.log" };
	struct job_record *r = xcalloc(1, sizeof(*r));
	char log[4096];
	struct store s;

	fill(r, 1);
	assert_ok(store_open(&s, at("base"), 7, true, &err));
	assert_ok(store_save_record(&s, r, &err));
	store_log(&s, OWNER, "line");
	assert_int_equal(remove_tree_at(s.dirfd, "owner"), 0);
	store_close(&s);
	for (size_t i = 0; i < ARRAY_SIZE(files); i++)
		assert_int_equal(chmod(at(files[i]), 0640) | chown(at(files[i]), 0, GROUP), 0);
	assert_int_equal(chmod(at("base/7"), 0750) | chown(at("base/7"), 0, GROUP), 0);
	assert_int_equal(load_as(OWNER, GROUP, log), r->job_id);
	assert_string_equal(log, at("base/7/checkpoint.log"));
	assert_int_equal(load_as(OWNER, GROUP + 1, NULL), -1);
	assert_int_equal(err.num, EACCES);

	assert_ok(store_open(&s, at("base"), 7, true, &err));
	assert_int_equal(mode_of(at("base/7")), S_IFDIR | 0711);
	for (size_t i = 0; i < ARRAY_SIZE(files); i++)
		assert_int_equal(mode_of(at(files[i])), S_IFREG | 0600);
	assert_int_equal(load_as(OWNER, GROUP, NULL), -1);
	assert_int_equal(err.num, EACCES);
	assert_ok(store_save_record(&s, r, &err));
	assert_int_equal(load_as(OWNER, GROUP + 1, NULL), r->job_id);
	store_close(&s);
	free(r);
}

static void the_owners_log_is_the_end_of_it(void **state)
{
	cleanup_free char *all = NULL, *copy = NULL;
	char line[1000];
	struct store s;
	struct stat st;

	memset(line, 'x', sizeof(line));
	line[sizeof(line) - 1] = '\0';
	assert_ok(store_open(&s, at("base"), 7, true, &err));
	for (int i = 0; i < 100; i++) {
		store_log(&s, OWNER, "%d %s", i, line);
		if (i == 3) {
			all = get_text(at("base/7/checkpoint.log"));
			copy = get_text(at("base/7/owner/checkpoint.log"));
			assert_string_equal(all, copy);
			free(steal_ptr(&all));
			free(steal_ptr(&copy));
		}
	}
	all = get_text(at("base/7/checkpoint.log"));
	copy = get_text(at("base/7/owner/checkpoint.log"));
	assert_in_range(strlen(copy), 60000, 65536);
	assert_string_equal(all + strlen(all) - strlen(copy), copy);
	assert_int_equal(all[strlen(all) - strlen(copy) - 1], '\n');
	assert_int_equal(stat(at("base/7/owner/checkpoint.log"), &st), 0);
	assert_int_equal(st.st_uid, OWNER);
	assert_int_equal(st.st_mode & 07777, 0400);
	store_close(&s);
}

/* A lease of his on a file of his keeps who opens it waiting for 45 s. */
static void an_owner_keeps_nobody_waiting(void **state)
{
	struct job_record *r = xcalloc(1, sizeof(*r));
	cleanup_free char *copy = NULL;
	struct store s;
	int p[2], status;
	char c;

	fill(r, 1);
	assert_ok(store_open(&s, at("base"), 7, true, &err));
	assert_ok(store_save_record(&s, r, &err));
	store_log(&s, OWNER, "first");
	assert_int_equal(pipe(p), 0);
	pid_t pid = fork();
	if (pid == 0) {
		const char *const names[] = { at("base/7/owner/job.json"), at("base/7/owner/checkpoint.log") };

		if (setgroups(0, NULL) || setgid(GROUP) || setuid(OWNER))
			_exit(1);
		for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
			int fd = chmod(names[i], 0600) ? -1 : open(names[i], O_RDWR);

			if (fd < 0 || ftruncate(fd, 0) || fcntl(fd, F_SETLEASE, F_WRLCK))
				_exit(1);
		}
		if (write(p[1], "", 1) != 1)
			_exit(1);
		close(p[1]);
		pause();
	}
	close(p[1]);
	assert_int_equal(read(p[0], &c, 1), 1);
	close(p[0]);
	int64_t began = now_us();
	assert_ok(store_save_record(&s, r, &err));
	store_log(&s, OWNER, "second");
	assert_true(now_us() - began < 20000000);
	kill(pid, SIGKILL);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	copy = get_text(at("base/7/owner/checkpoint.log"));
	assert_non_null(strstr(copy, " first\n"));
	assert_non_null(strstr(copy, " second\n"));
	assert_int_equal(load_as(OWNER, GROUP, NULL), r->job_id);
	store_close(&s);
	free(r);
}

/* No copy is no reason to fail. */
static void a_copy_that_cannot_be_made_is_logged(void **state)
{
	struct job_record *r = xcalloc(1, sizeof(*r));
	cleanup_free char *text = NULL;
	struct store s;

	fill(r, 1);
	assert_ok(store_open(&s, at("base"), 7, true, &err));
	put_text(at("base/7/owner"), "in the way");
	assert_ok(store_save_record(&s, r, &err));
	text = get_text(at("base/7/checkpoint.log"));
	assert_non_null(strstr(text, "base/7/owner"));
	assert_non_null(strstr(text, "fsched list"));
	store_close(&s);
	free(r);
}

static void what_epochs_share_counts_once(void **state)
{
	struct job_record *r = xcalloc(1, sizeof(*r));

	assert_int_equal(record_bytes(r), 0);
	r->n_epochs = 3;
	for (unsigned i = 0; i < 3; i++)
		r->epochs[i].bytes = 100;
	assert_int_equal(record_bytes(r), 300);
	for (unsigned i = 0; i < 3; i++)
		r->epochs[i].shared = 60;
	assert_int_equal(record_bytes(r), 3 * 40 + 60);
	r->epochs[1].shared = 1000; /* nonsense */
	assert_int_equal(record_bytes(r), 2 * 40 + 100);
	free(r);
}

static void the_owner_asks_for_the_removal(void **state)
{
	struct job_record *r = xcalloc(1, sizeof(*r));
	struct store s;

	fill(r, 1);
	assert_false(store_removal_asked(at("base"), "7", r->uid));
	assert_ok(store_open(&s, at("base"), 7, true, &err));
	assert_ok(store_save_record(&s, r, &err));
	assert_false(store_removal_asked(at("base"), "7", r->uid));
	assert_ok(store_ask_removal(at("base"), 7, &err));
	assert_true(store_removal_asked(at("base"), "7", r->uid));
	assert_false(store_removal_asked(at("base"), "7", r->uid + 1));
	assert_int_equal(chmod(at("base/7/owner"), 0777), 0);
	assert_false(store_removal_asked(at("base"), "7", r->uid)); /* others could have put the file there */
	assert_int_equal(chmod(at("base/7/owner"), 0711), 0);
	assert_ok(store_save_record(&s, r, &err));
	assert_false(store_removal_asked(at("base"), "7", r->uid));
	assert_int_equal(store_ask_removal(at("base"), 8, &err), -1);
	store_close(&s);
	free(r);
}

static int setup(void **state)
{
	(void)state;
	return scratch_make(0755);
}

static int teardown(void **state)
{
	(void)state;
	scratch_remove();
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(a_store_is_made, fresh),
		cmocka_unit_test_setup(a_forgeable_directory_is_refused, fresh),
		cmocka_unit_test_setup(a_record_comes_back, fresh),
		cmocka_unit_test_setup(a_result_can_be_recorded, fresh),
		cmocka_unit_test_setup(a_text_that_is_too_long_is_cut, fresh),
		cmocka_unit_test_setup(a_damaged_record_is_an_error, fresh),
		cmocka_unit_test_setup(a_foreign_directory_is_set_aside, fresh),
		cmocka_unit_test(intents_have_names),
		cmocka_unit_test_setup(epochs_live_and_go, fresh),
		cmocka_unit_test_setup(an_unrecorded_epoch_keeps_its_number, fresh),
		cmocka_unit_test_setup(only_complete_epochs_are_listed, fresh),
		cmocka_unit_test_setup(log_lines_cannot_be_forged, fresh),
		cmocka_unit_test_setup(the_owner_reads_copies, fresh),
		cmocka_unit_test_setup(an_older_directory_is_closed, fresh),
		cmocka_unit_test_setup(the_owners_log_is_the_end_of_it, fresh),
		cmocka_unit_test_setup(an_owner_keeps_nobody_waiting, fresh),
		cmocka_unit_test_setup(a_copy_that_cannot_be_made_is_logged, fresh),
		cmocka_unit_test(what_epochs_share_counts_once),
		cmocka_unit_test_setup(the_owner_asks_for_the_removal, fresh),
	};

	scratch_needs_root();
	return cmocka_run_group_tests(tests, setup, teardown);
}
