/* Records of names: the agent's journal and the list of an epoch. names_random.c tests what is done with them. */
#include "unit.h"

#include <errno.h>

#include "base/util.h"
#include "files/names.h"
#include "scratch.h"

#define DIR_ID  "0000000100000002.1.aa"
#define FILE_ID "0000000100000002.1.bb"
#define NEW_ID  "0000000100000002.1.cc"

static struct names x;
static struct names_source table, journal;

static int begin(void **state)
{
	(void)state;
	table = (struct names_source){ .table = true };
	journal = (struct names_source){ .from = 2 };
	return 0;
}

static int done(void **state)
{
	(void)state;
	names_free(&x);
	names_source_free(&table);
	names_source_free(&journal);
	return 0;
}

static void add(struct names_source *s, const char *text, size_t len)
{
	char *copy = xmalloc(len + 1);

	memcpy(copy, text, len);
	copy[len] = '\0';
	names_add_text(&x, s, copy, len);
}
#define ADD(source, text) add(source, text, sizeof(text) - 1)

static const struct name_entry *entry(const char *name)
{
	long dir = names_find_dir(&x, DIR_ID), i = dir < 0 ? -1 : names_find(&x, (unsigned)dir, name);

	return i < 0 ? NULL : &x.v[i];
}

static void the_first_change_of_an_interval_tells_what_was_there(void **state)
{
	(void)state;
	ADD(&journal, "B1\0D1\t" DIR_ID "\t/home/u\0N1\t-\tf\t" NEW_ID "\told\0B2\0"
		      "N1\t-\tf\t" NEW_ID "\tmade\0N1\t" FILE_ID "\tf\t-\tgone\0N1\t" FILE_ID "\td\t-\tdir\0"
		      "N1\t?\tf\t" NEW_ID "\tover\0B3\0N1\t" NEW_ID "\tf\t" FILE_ID "\tmade\0");
	assert_null(entry("old"));
	assert_true(entry("made")->known && !entry("made")->was);
	assert_string_equal(entry("made")->put, FILE_ID);
	assert_string_equal(entry("gone")->was, FILE_ID);
	assert_null(entry("gone")->put);
	assert_int_equal(entry("gone")->kind, KIND_FILE);
	assert_int_equal(entry("dir")->kind, KIND_DIR);
	assert_false(entry("over")->known);
	assert_int_equal(journal.interval, 3);
	assert_null(x.lost);
}

static void the_list_of_the_epoch_is_right_where_it_has_the_directory(void **state)
{
	(void)state;
	ADD(&table,
	    "D7\t" DIR_ID "\t/home/u\0E7\t" FILE_ID "\tl\t777\tlatest\0Tresult.1\0E7\t" NEW_ID "\td\t750\tout\tput\0");
	ADD(&journal, "D1\t" DIR_ID "\t/elsewhere\0B2\0N1\t?\tf\t" NEW_ID "\tlatest\0N1\t?\tf\t" NEW_ID "\tmade\0");
	assert_string_equal(entry("latest")->was, FILE_ID);
	assert_string_equal(entry("latest")->target, "result.1");
	assert_true(entry("latest")->changed);
	assert_true(entry("made")->known && !entry("made")->was);
	assert_int_equal(entry("out\tput")->mode, 0750);
	assert_false(entry("out\tput")->changed);
	assert_string_equal(x.dirs[0].path, "/home/u");
}

static void a_record_is_read_when_it_is_complete(void **state)
{
	static const char text[] = "B2\0D1\t" DIR_ID "\t/home/u\0N1\t-\tf\t" NEW_ID "\tname";

	(void)state;
	ADD(&journal, text);
	assert_int_equal(x.n, 0);
	add(&journal, text + journal.read, sizeof(text) - (size_t)journal.read);
	assert_non_null(entry("name"));
	assert_int_equal(journal.read, sizeof(text));
}

static void what_is_lost_is_told_of_the_intervals_that_count(void **state)
{
	(void)state;
	ADD(&journal, "B1\0Lbefore\0");
	assert_null(x.lost);
	ADD(&journal, "B2\0Lafter\0");
	assert_string_equal(x.lost, "after");
}

static void damaged_records_are_skipped(void **state)
{
	(void)state;
	ADD(&journal,
	    "B2\0D1\t" DIR_ID "\trelative\0D1\tbad id\t/x\0N1\t-\tf\t-\tnowhere\0D1\t" DIR_ID "\t/x\0"
	    "N1\t-\tf\t-\ta/b\0N1\t-\tf\t-\t..\0N1\t-\tf\t-\t\0N2\t-\tf\t-\tname\0N1\t-\tf\0N\0X\0\0B\0Bx\0D4294967296\t-\t/\0");
	assert_int_equal(x.n, 0);
	assert_int_equal(x.n_dirs, 1);
	assert_int_equal(journal.interval, 2);
}

static void a_number_of_a_directory_is_the_next_one(void **state)
{
	(void)state;
	ADD(&journal, "B2\0D1\t" DIR_ID "\t/home/u\0D5\t" DIR_ID "\t/home/u\0");
	assert_int_equal(journal.n_local, 6);
	ADD(&journal, "D6\t" DIR_ID "\t/home/u\0N6\t-\tf\t-\tname\0");
	assert_int_equal(journal.n_local, 7);
	assert_non_null(entry("name"));
}

static void only_a_needless_name_is_dropped(void **state)
{
	static const char text[] = "B1\0D1\t" DIR_ID "\t/home/u\0N1\t-\tf\t" NEW_ID "\tmade\0Llost\0B2\0D2\t" DIR_ID
				   "\t/home/v\0N2\t" FILE_ID "\tf\t-\tmade\0N1\t-\tf\t" NEW_ID
				   "\tgone\0N2\t-\tf\t-\tgone",
			  kept[] = "B1\0D1\t" DIR_ID "\t/home/u\0N1\t-\tf\t" NEW_ID "\tmade\0Llost\0B2\0D2\t" DIR_ID
				   "\t/home/v\0N2\t" FILE_ID "\tf\t-\tmade";
	char copy[sizeof(text)];
	bool needless[2];

	(void)state;
	journal.from = 0;
	add(&journal, text, sizeof(text));
	assert_int_equal(x.n, 2);
	assert_true(entry("made")->ever);
	assert_false(entry("gone")->ever);
	needless[entry("made") - x.v] = false;
	needless[entry("gone") - x.v] = true;
	memcpy(copy, text, sizeof(text));
	assert_int_equal(names_drop(&x, &journal, needless, copy, sizeof(copy)), sizeof(kept));
	assert_memory_equal(copy, kept, sizeof(kept));
}

static void an_id_leads_to_its_file_and_to_no_later_one(void **state)
{
	char id[NAME_ID], again[NAME_ID];
	struct name_fs fs;
	int fd;

	(void)state;
	assert_int_equal(scratch_make(0700), 0);
	assert_int_equal(mkdirat(scratch_fd, "d", 0700), 0);
	assert_int_equal(name_fs_of(scratch_fd, &fs), 0);
	assert_int_equal(name_id_of(&fs, scratch_fd, "d", id), 0);
	fd = name_id_open(scratch_fd, id, O_PATH | O_DIRECTORY);
	assert_true(fd >= 0);
	assert_int_equal(name_id_of(&fs, fd, "", again), 0);
	assert_string_equal(id, again);
	close(fd);
	unlinkat(scratch_fd, "d", AT_REMOVEDIR);
	assert_int_equal(mkdirat(scratch_fd, "d", 0700), 0);
	assert_int_equal(name_id_of(&fs, scratch_fd, "d", again), 0);
	assert_string_not_equal(id, again);
	assert_int_equal(name_id_open(scratch_fd, id, O_PATH), -1);
	assert_int_equal(errno, ESTALE);
	scratch_remove();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(the_first_change_of_an_interval_tells_what_was_there, begin, done),
		cmocka_unit_test_setup_teardown(the_list_of_the_epoch_is_right_where_it_has_the_directory, begin, done),
		cmocka_unit_test_setup_teardown(a_record_is_read_when_it_is_complete, begin, done),
		cmocka_unit_test_setup_teardown(what_is_lost_is_told_of_the_intervals_that_count, begin, done),
		cmocka_unit_test_setup_teardown(damaged_records_are_skipped, begin, done),
		cmocka_unit_test_setup_teardown(a_number_of_a_directory_is_the_next_one, begin, done),
		cmocka_unit_test_setup_teardown(only_a_needless_name_is_dropped, begin, done),
		cmocka_unit_test(an_id_leads_to_its_file_and_to_no_later_one),
	};

	scratch_needs_root();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
