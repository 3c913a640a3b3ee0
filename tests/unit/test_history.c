#include "unit.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "base/dir_tree.h"
#include "base/util.h"
#include "policy/reason.h"
#include "store/history.h"

static struct job_history h, back;

static struct history_event event(enum history_kind kind, const char *reason)
{
	struct history_event e = { .time = 1000, .kind = kind, .run = 1 };

	snprintf(e.node, sizeof(e.node), "n1");
	snprintf(e.reason, sizeof(e.reason), "%s", reason);
	return e;
}

static void a_repetition_is_counted(void **state)
{
	struct history_event e = event(HISTORY_REFUSED, "has a terminal open");

	memset(&h, 0, sizeof(h));
	for (int i = 0; i < 1000; i++, e.time++)
		history_add(&h, &e);
	assert_int_equal(h.n, 1);
	assert_int_equal(h.v[0].times, 1000);
	assert_int_equal(h.v[0].time, 1000);
	assert_int_equal(h.v[0].until, 1999);
	e = event(HISTORY_FAILED, "has a terminal open");
	history_add(&h, &e);
	assert_int_equal(h.n, 2);
}

static void the_oldest_event_goes(void **state)
{
	struct history_event e = event(HISTORY_EPOCH, "");

	memset(&h, 0, sizeof(h));
	for (e.epoch = 1; e.epoch <= HISTORY_EVENTS + 3; e.epoch++)
		history_add(&h, &e);
	assert_int_equal(h.n, HISTORY_EVENTS);
	assert_int_equal(h.v[0].epoch, 4);
	assert_int_equal(h.v[h.n - 1].epoch, HISTORY_EVENTS + 3);
}

static void counts_are_bounded(void **state)
{
	struct history_counts c = { 0 };
	char name[32];

	for (int i = 0; i < 100; i++) {
		snprintf(name, sizeof(name), "reason%d", i);
		history_count(&c, name, 2);
	}
	assert_int_equal(c.n, HISTORY_REASONS);
	assert_int_equal(history_counted(&c, "reason0"), 2);
	assert_int_equal(history_counted(&c, "other"), 2 * (100 - (HISTORY_REASONS - 1)));
	assert_int_equal(history_sum(&c), 200);
}

static void freezes_fall_into_buckets(void **state)
{
	struct history_tally t = { 0 };

	history_count_freeze(&t, 5000);
	history_count_freeze(&t, 5001);
	history_count_freeze(&t, 3600000000);
	assert_int_equal(t.frozen[0], 1);
	assert_int_equal(t.frozen[1], 1);
	assert_int_equal(t.frozen[HISTORY_BUCKETS], 1);
	assert_int_equal(t.frozen_us, 3600010001);
}

static void fill(void)
{
	struct history_event e = event(HISTORY_EPOCH, "");

	memset(&h, 0, sizeof(h));
	e.epoch = 7;
	e.bytes = UINT64_C(5) << 40;
	e.written = 12;
	e.frozen_us = 31000;
	e.total_us = 900000;
	e.used = 3600;
	snprintf(e.trigger, sizeof(e.trigger), "periodic");
	history_add(&h, &e);
	e = event(HISTORY_RESTORE_FAILED, "epoch 7: \"<b>\"\n\033[31m caf\xc3\xa9 \xff");
	history_add(&h, &e);
	history_count(&h.tally.made, "periodic", 3);
	history_count(&h.tally.failed, "space", 1);
	history_count(&h.tally.refused, "tcp", 9);
	history_count(&h.tally.restores, "ok", 2);
	history_count_freeze(&h.tally, 31000);
	h.tally.skipped = 4;
	h.tally.written = 12;
	h.tally.saved = 3600;
	h.tally.lost = 60;
	h.tally.lease_late = 2;
}

static void comes_back_as_written(void **state)
{
	char path[] = "/tmp/fsched-history.XXXXXX";
	struct store s = { .epochsfd = -1 };
	struct err err;

	assert_non_null(mkdtemp(path));
	assert_int_equal(chmod(path, 0711), 0);
	snprintf(s.path, sizeof(s.path), "%s", path);
	s.dirfd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_int_equal(history_load(path, false, &back, &err), -1);
	assert_int_equal(err.num, ENOENT);
	fill();
	assert_int_equal(history_save(&s, getuid() ? getuid() : 1, &h, &err), 0);
	for (int copy = 0; copy < 2; copy++) {
		assert_int_equal(history_load(path, copy, &back, &err), 0);
		assert_memory_equal(&back.tally, &h.tally, sizeof(h.tally));
		assert_int_equal(back.n, 2);
		assert_int_equal(back.v[0].bytes, UINT64_C(5) << 40);
		assert_int_equal(back.v[0].used, 3600);
		assert_string_equal(back.v[0].trigger, "periodic");
		assert_string_equal(back.v[1].reason, "epoch 7: \"<b>\"??[31m caf\xc3\xa9 ?");
		assert_string_equal(back.v[1].node, "n1");
	}
	close(s.dirfd);
	assert_int_equal(remove_tree_at(AT_FDCWD, path), 0);
}

static void add_at(enum history_kind kind, int64_t time, unsigned epoch, int64_t used)
{
	struct history_event e = event(kind, "");

	e.time = time;
	e.epoch = epoch;
	e.used = used;
	history_add(&h, &e);
}

/* Each hour of work is saved or lost once, however often it was restored. */
static void work_is_counted_once(void **state)
{
	struct history_work w;

	memset(&h, 0, sizeof(h));
	add_at(HISTORY_STARTED, 1000, 0, 0);
	history_work(&h, 1, 2000, &w); /* an epoch that is not known */
	assert_int_equal(w.saved + w.lost + w.used, 0);
	add_at(HISTORY_EPOCH, 4600, 1, 3600);
	add_at(HISTORY_EPOCH, 8200, 2, 7200);
	history_work(&h, 2, 8260, &w);
	assert_int_equal(w.saved, 7200);
	assert_int_equal(w.lost, 60);
	history_work(&h, 1, 8260, &w); /* epoch 2 is damaged */
	assert_int_equal(w.saved, 3600);
	assert_int_equal(w.lost, 3660);
	/* restored after a long time in the queue, and lost again before the next epoch */
	add_at(HISTORY_RESTORED, 100000, 2, 7200);
	history_work(&h, 2, 100030, &w);
	assert_int_equal(w.used, 7200);
	assert_int_equal(w.saved, 0);
	assert_int_equal(w.lost, 30);
	history_work(&h, 1, 100030, &w);
	assert_int_equal(w.saved, 0);
	assert_int_equal(w.lost, 3600 + 30);
	/* a vacate loses nothing, whatever the lease says */
	add_at(HISTORY_EPOCH, 100600, 3, 7800);
	add_at(HISTORY_LEFT, 100601, 3, 0);
	history_work(&h, 3, 100605, &w);
	assert_int_equal(w.saved, 600);
	assert_int_equal(w.lost, 0);
	history_work(&h, 3, 0, &w);
	assert_int_equal(w.lost, 0);
}

static void sums_over_jobs(void **state)
{
	struct history_tally t = { 0 };

	fill();
	history_tally_add(&t, &h.tally);
	history_tally_add(&t, &h.tally);
	assert_int_equal(history_counted(&t.refused, "tcp"), 18);
	assert_int_equal(t.frozen[3], 2);
	assert_int_equal(t.lease_late, 4);
}

static void reasons_are_words(void **state)
{
	static const struct {
		const char *text, *word;
	} cases[] = {
		{ "process 17 (python3) has a TCP connection to another host, 10.0.0.1 port 80, which cannot be checkpointed",
		  "tcp" },
		{ "process 17 (bash) has the terminal /dev/pts/3 open as descriptor 4 (x), which cannot be checkpointed",
		  "terminal" },
		{ "process 9 (gdb) is being traced by process 4 of the node (a debugger or strace), which cannot be checkpointed",
		  "traced" },
		{ "not enough space in /ckpt: the job needs about 3.0 GiB, 1.0 GiB are free: x", "space" },
		{ "it took longer than CheckpointTimeout (20 s) in phase \"dump\" and was stopped", "timeout" },
		{ "the job stood still for more than 6 s (CheckpointFreezeTimeout is 5 s) in phase \"x\" and was let go",
		  "freeze_timeout" },
		{ "the checkpoint worker was killed by signal 9 in phase \"dump\"", "worker_died" },
		{ "quite new", "other" },
	};
	const char *word;

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		assert_string_equal(reason_of(cases[i].text), cases[i].word);
	for (size_t i = 0; (word = reason_word(i)); i++) {
		assert_int_equal(strspn(word, "abcdefghijklmnopqrstuvwxyz_"), strlen(word));
		assert_true(i < HISTORY_REASONS - 1);
		for (size_t k = 0; k < i; k++)
			assert_string_not_equal(word, reason_word(k));
	}
	assert_string_equal(reason_word(0), "switched_off");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_repetition_is_counted), cmocka_unit_test(the_oldest_event_goes),
		cmocka_unit_test(counts_are_bounded),      cmocka_unit_test(freezes_fall_into_buckets),
		cmocka_unit_test(comes_back_as_written),   cmocka_unit_test(sums_over_jobs),
		cmocka_unit_test(reasons_are_words),       cmocka_unit_test(work_is_counted_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
