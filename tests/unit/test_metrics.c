/* The text for Prometheus, and the sum of removed jobs. */
#include "unit.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/dir_tree.h"
#include "base/util.h"
#include "cli/report/metrics_json.h"
#include "cli/report/metrics_text.h"
#include "store/removed.h"

#define UUID "48eb0728-818a-40ea-a3a1-30b9337aa5be"

static struct job_record rec;
static struct job_history hist;

static void fill(void)
{
	memset(&rec, 0, sizeof(rec));
	memset(&hist, 0, sizeof(hist));
	rec.job_id = 12;
	rec.run = 1;
	rec.intent = INTENT_RUNNING;
	snprintf(rec.uuid, sizeof(rec.uuid), "%s", UUID);
	snprintf(rec.user, sizeof(rec.user), "al\"ice\\\n");
	snprintf(rec.host, sizeof(rec.host), "n1");
	rec.n_epochs = 2;
	rec.epochs[0] = (struct epoch_summary){ .number = 3, .run = 1, .time = 900, .bytes = 1000, .shared = 400 };
	rec.epochs[1] = (struct epoch_summary){ .number = 4, .run = 1, .time = 1000, .bytes = 700, .shared = 500 };
	history_count(&hist.tally.made, "periodic", 3);
	history_count(&hist.tally.refused, "tcp", 2);
	history_count(&hist.tally.failed, "of_a_later_version", 1);
	history_count_freeze(&hist.tally, 30000);
	history_count_freeze(&hist.tally, 31000);
	history_count_freeze(&hist.tally, 120000000);
}

static char *text_of(const struct metrics *m)
{
	char *text = NULL;
	size_t len = 0;
	FILE *out = open_memstream(&text, &len);

	metrics_print(m, out);
	fclose(out);
	return text;
}

#define has(text, line) assert_non_null(strstr(text, "\n" line "\n"))

static void numbers_and_labels(void **state)
{
	struct metrics m = { .now = 1060 };
	cleanup_free char *text = NULL;

	fill();
	metrics_add(&m, &rec, &hist, true);
	text = text_of(&m);
	has(text, "# TYPE fsched_checkpoints_total counter");
	has(text, "fsched_checkpoints_total{trigger=\"periodic\"} 3");
	has(text, "fsched_checkpoints_total{trigger=\"vacate\"} 0");
	has(text, "fsched_checkpoints_refused_total{reason=\"tcp\"} 2");
	has(text, "fsched_checkpoints_failed_total{reason=\"of_a_later_version\"} 1");
	has(text, "fsched_checkpoints_failed_total{reason=\"space\"} 0");
	has(text, "fsched_freeze_seconds_bucket{le=\"0.025\"} 0");
	has(text, "fsched_freeze_seconds_bucket{le=\"0.05\"} 2");
	has(text, "fsched_freeze_seconds_bucket{le=\"60\"} 2");
	has(text, "fsched_freeze_seconds_bucket{le=\"+Inf\"} 3");
	has(text, "fsched_freeze_seconds_sum 120.061000");
	has(text, "fsched_freeze_seconds_count 3");
	has(text, "fsched_jobs{state=\"running\"} 1");
	has(text, "fsched_jobs_without_epoch 0");
	has(text, "fsched_job_last_epoch_age_seconds{job=\"12\",user=\"al\\\"ice\\\\?\",node=\"n1\"} 60");
	has(text, "fsched_kept_bytes{user=\"al\\\"ice\\\\?\"} 1300");
	metrics_free(&m);
}

/* The same numbers, and a decimal one. */
static void one_object(void **state)
{
	struct metrics m = { .now = 1060 };
	const json_t *family = NULL, *sample;
	json_t *root;
	size_t i;

	fill();
	metrics_add(&m, &rec, &hist, true);
	root = metrics_json(&m);
	json_array_foreach(json_object_get(root, "metrics"), i, family)
		if (!strcmp(json_string_value(json_object_get(family, "name")), "fsched_freeze_seconds"))
			break;
	assert_non_null(family);
	assert_string_equal(json_string_value(json_object_get(family, "type")), "histogram");
	family = json_object_get(family, "samples");
	sample = json_array_get(family, json_array_size(family) - 2);
	assert_string_equal(json_string_value(json_object_get(sample, "name")), "fsched_freeze_seconds_sum");
	assert_true(json_real_value(json_object_get(sample, "value")) == 120.061);
	sample = json_array_get(family, json_array_size(family) - 3);
	assert_string_equal(json_string_value(json_object_get(json_object_get(sample, "labels"), "le")), "+Inf");
	assert_true(json_real_value(json_object_get(sample, "value")) == 3);
	json_decref(root);
	metrics_free(&m);
}

/* Of the epochs that are there, not of those whose number was used before. */
static void proofs_are_counted(void **state)
{
	struct metrics m = { .now = 1060 };
	cleanup_free struct proofs *p = xcalloc(1, sizeof(*p));
	cleanup_free char *text = NULL;

	fill();
	p->n = 3;
	p->v[0] = (struct proof){ .epoch = 3, .epoch_time = 900, .ok = true };
	p->v[1] = (struct proof){ .epoch = 4, .epoch_time = 1000, .error = "why" };
	p->v[2] = (struct proof){ .epoch = 4, .epoch_time = 10, .ok = true };
	metrics_add(&m, &rec, &hist, true);
	metrics_add_proofs(&m, &rec, p);
	text = text_of(&m);
	has(text, "fsched_proved_epochs{outcome=\"ok\"} 1");
	has(text, "fsched_proved_epochs{outcome=\"failed\"} 1");
	metrics_free(&m);
}

/* An epoch of an earlier run protects nothing. */
static void a_job_without_epoch(void **state)
{
	struct metrics m = { .now = 1060 };
	cleanup_free char *text = NULL;

	fill();
	rec.run = 2;
	metrics_add(&m, &rec, &hist, true);
	rec.epochs[0].run = 2; /* restored from the older epoch */
	metrics_add(&m, &rec, &hist, true);
	assert_int_equal(m.jobs[1].epoch, 3);
	m.n_jobs = 1;
	rec.job_id = 13;
	metrics_add(&m, &rec, &hist, false);
	text = text_of(&m);
	has(text, "fsched_jobs_without_epoch 1");
	assert_null(strstr(text, "fsched_job_last_epoch_age_seconds{"));
	assert_int_equal(m.n_users, 1);
	assert_int_equal(m.users[0].jobs, 3);
	metrics_free(&m);
}

static void shared_files_count_once(void **state)
{
	fill();
	assert_int_equal(record_bytes(&rec), 600 + 200 + 500);
	assert_int_equal(record_prunable_bytes(&rec), 600);
	rec.n_epochs = 0;
	assert_int_equal(record_bytes(&rec), 0);
	assert_int_equal(record_prunable_bytes(&rec), 0);
}

/* Counters never fall when directories are removed, and no job counts twice. */
static void removed_jobs_are_remembered(void **state)
{
	char base[] = "/tmp/fsched-removed.XXXXXX", last[40];
	struct history_tally sum;
	struct store s;
	struct err err;

	if (getuid())
		skip();
	assert_non_null(mkdtemp(base));
	assert_int_equal(chmod(base, 0755), 0);
	fill();
	assert_int_equal(removed_load(base, &sum, last, &err), 0);
	assert_int_equal(history_sum(&sum.made), 0);
	assert_int_equal(store_open(&s, base, 12, true, &err), 0);
	assert_int_equal(store_save_record(&s, &rec, &err), 0);
	assert_int_equal(removed_add(base, "12", &err), 0); /* no history, nothing to remember */
	assert_int_equal(history_save(&s, 0, &hist, &err), 0);
	for (int i = 0; i < 2; i++)
		assert_int_equal(removed_add(base, "12", &err), 0);
	assert_int_equal(removed_load(base, &sum, last, &err), 0);
	assert_int_equal(history_counted(&sum.made, "periodic"), 3);
	assert_string_equal(last, UUID);
	/* Slurm has used the id again */
	rec.uuid[0] = '5';
	assert_int_equal(store_save_record(&s, &rec, &err), 0);
	assert_int_equal(removed_add(base, "12", &err), 0);
	assert_int_equal(removed_load(base, &sum, last, &err), 0);
	assert_int_equal(history_counted(&sum.made, "periodic"), 6);
	assert_int_equal(sum.frozen[HISTORY_BUCKETS], 2);
	store_close(&s);
	assert_int_equal(remove_tree_at(AT_FDCWD, base), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(numbers_and_labels),      cmocka_unit_test(one_object),
		cmocka_unit_test(proofs_are_counted),      cmocka_unit_test(a_job_without_epoch),
		cmocka_unit_test(shared_files_count_once), cmocka_unit_test(removed_jobs_are_remembered),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
