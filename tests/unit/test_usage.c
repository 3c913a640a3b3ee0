/* store/usage.h and store/superfluous.h, on real directories. */
#include "unit.h"

#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>
#include <time.h>
#include <utime.h>

#include "base/util.h"
#include "scratch.h"
#include "store/superfluous.h"
#include "store/usage.h"

#include "store/store.h"

#define UUID "01234567-89ab-cdef-0123-456789abcdef"
#define MIB  (UINT64_C(1) << 20)

static struct err err;

#define assert_ok(call)                                      \
	do {                                                 \
		if ((call) < 0)                              \
			fail_msg("%s: %s", #call, err.text); \
	} while (0)

/* A job of a user with epochs of that many MiB. */
static void job(uint32_t id, uid_t uid, enum intent intent, unsigned n, const uint64_t *mib)
{
	cleanup_free struct job_record *r = xcalloc(1, sizeof(*r));
	struct store s;

	r->job_id = id;
	r->uid = uid;
	r->intent = intent;
	r->status = -1;
	strcpy(r->uuid, UUID);
	for (unsigned i = 0; i < n; i++)
		r->epochs[i] = (struct epoch_summary){ .number = i + 1, .bytes = mib[i] * MIB, .run = 1 };
	r->n_epochs = n;
	assert_ok(store_open(&s, at("base"), id, true, &err));
	assert_ok(store_save_record(&s, r, &err));
	store_close(&s);
}

static void assert_sums(uid_t uid, uint64_t user, uint64_t all)
{
	struct usage u;

	assert_ok(usage_sum(at("base"), uid, &u, &err));
	assert_int_equal(u.user, user * MIB);
	assert_int_equal(u.all, all * MIB);
}

static int fresh(void **state)
{
	remove_tree_at(scratch_fd, "base");
	return mkdir(at("base"), 0755);
}

static void it_is_made_from_records_and_kept(void **state)
{
	const uint64_t some[] = { 3, 4 }, more[] = { 3, 4, 5 };
	struct usage u;

	job(1, 1000, INTENT_RUNNING, 2, some);
	assert_int_equal(usage_sum(at("base"), 1000, &u, &err), -1);
	assert_int_equal(err.num, ENOENT);
	assert_int_equal(access(at("base/usage"), F_OK), -1); /* without a quota nothing is written */
	assert_ok(usage_prepare(at("base"), &err));
	assert_sums(1000, 7, 7);
	job(2, 1001, INTENT_RUNNING, 1, some);
	job(1, 1000, INTENT_RUNNING, 3, more);
	assert_sums(1000, 12, 15);
	assert_sums(1001, 3, 15);
	assert_sums(7, 0, 15);
	assert_ok(usage_prepare(at("base"), &err));
	assert_sums(1000, 12, 15);
	job(1, 1000, INTENT_RUNNING, 0, NULL);
	assert_sums(1000, 0, 3);
}

static void only_root_can_change_it(void **state)
{
	const uint64_t some[] = { 3 };
	struct usage u;
	struct stat st;

	assert_ok(usage_prepare(at("base"), &err));
	job(1, 1000, INTENT_RUNNING, 1, some);
	assert_int_equal(stat(at("base/usage"), &st), 0);
	assert_int_equal(st.st_mode & 07777, 0711);
	assert_int_equal(stat(at("base/usage/1000"), &st), 0);
	assert_int_equal(st.st_mode & 07777, 0700);
	assert_int_equal(st.st_uid, 0);
	/* what a user could have made is not used */
	assert_int_equal(chown(at("base/usage/1000"), 1000, 0), 0);
	assert_int_equal(usage_sum(at("base"), 1000, &u, &err), -1);
	assert_non_null(strstr(err.text, "belongs to uid 1000"));
	assert_int_equal(usage_begin(at("base"), 1000, "1", MIB, &err), -1);
}

static void what_is_being_written_counts(void **state)
{
	const uint64_t some[] = { 3 }, both[] = { 3, 5 };

	assert_ok(usage_prepare(at("base"), &err));
	job(1, 1000, INTENT_RUNNING, 1, some);
	assert_ok(usage_begin(at("base"), 1000, "1", 10 * MIB, &err));
	assert_sums(1000, 13, 13);
	assert_ok(usage_begin(at("base"), 1000, "1", 9 * MIB, &err)); /* set, not added */
	assert_sums(1000, 12, 12);
	job(1, 1000, INTENT_RUNNING, 2, both);
	usage_end(at("base"), 1000, "1");
	usage_end(at("base"), 1000, "1");
	assert_sums(1000, 8, 8);
}

static void jobs_that_are_gone_are_forgotten(void **state)
{
	const uint64_t some[] = { 3 };
	struct err ignored;
	bool moved;

	assert_ok(usage_prepare(at("base"), &err));
	for (uint32_t id = 1; id <= 3; id++)
		job(id, id == 3 ? 1001 : 1000, INTENT_RUNNING, 1, some);
	assert_ok(usage_begin(at("base"), 1000, "2", MIB, &err));
	remove_tree_at(scratch_fd, "base/2");
	remove_tree_at(scratch_fd, "base/3");
	usage_forget_gone(at("base"), 1000, false);
	assert_sums(1000, 3, 6);
	usage_pruned(at("base"));
	assert_sums(1000, 3, 3);
	/* another job gets the id: the old directory counts under its new name */
	assert_ok(store_set_aside(at("base"), 1, "11111111-2222-3333-4444-555555555555", &moved, &ignored));
	assert_true(moved);
	job(1, 1000, INTENT_RUNNING, 1, some);
	usage_forget_gone(at("base"), 1000, true);
	assert_sums(1000, 6, 6);
}

static void the_user_is_told(void **state)
{
	const struct usage u = { 5 * MIB, 7 * MIB };
	struct stat st;
	char *text;

	assert_ok(usage_prepare(at("base"), &err));
	usage_tell(at("base"), 1000, &u, 2 * MIB);
	assert_int_equal(stat(at("base/usage/told.1000"), &st), 0);
	assert_int_equal(st.st_uid, 1000);
	assert_int_equal(st.st_mode & 07777, 0400);
	text = get_text(at("base/usage/told.1000"));
	assert_non_null(strstr(text, "\"user\":5242880,\"all\":7340032,\"need\":2097152,\"time\":"));
	free(text);
	assert_sums(1000, 0, 0); /* it is no user's directory */
}

/* ---- old epochs ---- */

static void the_oldest_go_and_the_newest_stays(void **state)
{
	struct job_record *r = xcalloc(1, sizeof(*r));

	for (unsigned i = 0; i < 4; i++)
		r->epochs[i] = (struct epoch_summary){ .number = i + 1, .bytes = 10 * MIB };
	r->n_epochs = 4;
	assert_int_equal(record_prunable_bytes(r), 30 * MIB);
	assert_int_equal(record_forget_oldest(r, 11 * MIB), 2);
	assert_int_equal(r->n_epochs, 2);
	assert_int_equal(r->epochs[0].number, 3);
	assert_int_equal(record_forget_oldest(r, 100 * MIB), 3);
	assert_int_equal(r->n_epochs, 1);
	assert_int_equal(record_forget_oldest(r, MIB), 0);
	free(r);
}

static char removed_names[64];

static void note_removed(void *arg, const char *name, uint64_t bytes)
{
	strcat(strcat(removed_names, name), " ");
	assert_int_equal(bytes, 3 * MIB);
}

static const char *removed(struct superfluous s)
{
	*removed_names = '\0';
	s.base = at("base");
	s.bytes = s.bytes ? s.bytes : 100 * MIB;
	s.removed = note_removed;
	superfluous_remove(&s);
	return removed_names;
}

static void age(const char *name, int64_t days)
{
	const struct utimbuf t = { time(NULL) - days * 86400, time(NULL) - days * 86400 };

	assert_int_equal(utime(at(name), &t), 0);
}

static void only_what_nobody_wants_goes(void **state)
{
	const uint64_t some[] = { 3 };

	/* 1 runs, 2 to 4 have ended, 3 and 4 long ago, 4 and 5 are another user's, 6's owner has asked */
	for (uint32_t id = 1; id <= 6; id++) {
		job(id, id == 4 || id == 5 ? 1001 : 1000, id == 1 ? INTENT_RUNNING : INTENT_DONE, 1, some);
	}
	assert_int_equal(chmod(at("base/6/owner/job.json"), 0500), 0);
	age("base/1/job.json", 9);
	age("base/3/job.json", 9);
	age("base/4/job.json", 9);
	put_text(at("base/3/lease"), "damaged"); /* somebody may hold it */
	assert_string_equal(removed((struct superfluous){ .uid = 1000, .keep_days = 7 }), "6 ");
	unlink(at("base/3/lease"));
	assert_string_equal(removed((struct superfluous){ .uid = 1000 }), "");
	assert_string_equal(removed((struct superfluous){ .all = true, .keep_days = 7, .bytes = MIB }), "3 ");
	assert_string_equal(removed((struct superfluous){ .all = true, .keep_days = 7 }), "4 ");
	assert_int_equal(access(at("base/3"), F_OK), -1);
	assert_int_equal(access(at("base/1"), F_OK) | access(at("base/2"), F_OK) | access(at("base/5"), F_OK), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(it_is_made_from_records_and_kept, fresh),
		cmocka_unit_test_setup(only_root_can_change_it, fresh),
		cmocka_unit_test_setup(what_is_being_written_counts, fresh),
		cmocka_unit_test_setup(jobs_that_are_gone_are_forgotten, fresh),
		cmocka_unit_test_setup(the_user_is_told, fresh),
		cmocka_unit_test(the_oldest_go_and_the_newest_stays),
		cmocka_unit_test_setup(only_what_nobody_wants_goes, fresh),
	};
	int rc;

	scratch_needs_root();
	if (scratch_make(0755) < 0)
		return 1;
	rc = cmocka_run_group_tests(tests, NULL, NULL);
	scratch_remove();
	return rc;
}
