#include "unit.h"
#include "base/io.h"
#include "base/util.h"

#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "agent/write_list.h"
#include "scratch.h"

static struct err err;
static struct store store;
static struct write_list *w;

/* A pod of one process: mounts of its own, and it does what it is told through a pipe, as a shell. */
static pid_t pod;
static FILE *to_pod;
static int from_pod;

static void pod_main(int in, int out)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
	    mount("shm", "/dev/shm", "tmpfs", 0, "mode=1777") < 0 || mount("t", at("mnt"), "tmpfs", 0, NULL) < 0 ||
	    chdir(scratch) < 0 || dup2(in, 0) < 0 || dup2(out, 1) < 0)
		_exit(2);
	execl("/bin/sh", "sh", (char *)NULL);
	_exit(3);
}

/* Runs one line of shell in the pod and waits for its end. */
static void run(const char *line)
{
	char c;

	fprintf(to_pod, "%s\necho\n", line);
	fflush(to_pod);
	assert_int_equal(read(from_pod, &c, 1), 1);
}

static int setup(void **state)
{
	int in[2], out[2];

	(void)state;
	if (scratch_make(0755) < 0 || mkdir(at("job"), 0700) < 0 || mkdir(at("mnt"), 0755) < 0 ||
	    pipe2(in, O_CLOEXEC) < 0 || pipe2(out, O_CLOEXEC) < 0)
		return -1;
	snprintf(store.path, sizeof(store.path), "%s", at("job"));
	store.dirfd = open(store.path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	store.epochsfd = -1;
	pod = fork();
	if (pod == 0)
		pod_main(in[0], out[1]);
	close(in[0]);
	close(out[1]);
	to_pod = fdopen(in[1], "w");
	from_pod = out[0];
	run(":");
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	if (pod > 0) {
		kill(pod, SIGKILL);
		waitpid(pod, NULL, 0);
	}
	fclose(to_pod);
	close(from_pod);
	close(store.dirfd);
	scratch_remove();
	return 0;
}

static void listen_to(bool fresh)
{
	w = write_list_open(&store, pod, false, fresh, scratch, &err);
	if (!w)
		fail_msg("%s", err.text);
}

static int done(void **state)
{
	(void)state;
	write_list_close(w);
	w = NULL;
	return 0;
}

/* How often the journal names the path. */
static int times(const char *path)
{
	char *text = NULL;
	ssize_t len = read_file_at(store.dirfd, WRITE_LIST_NAME, 64 << 20, &text);
	int n = 0;

	for (ssize_t i = 0; i < len; i += (ssize_t)strlen(text + i) + 1)
		n += strcmp(text + i, path) == 0;
	free(text);
	return n;
}

static bool readable(void)
{
	struct pollfd p = { write_list_fd(w), POLLIN, 0 };

	return poll(&p, 1, 0) > 0;
}

static void what_the_pod_writes_is_noted_once(void **state)
{
	listen_to(true);
	assert_false(write_list_drain(w, INT64_MAX));
	run("echo a > a; echo a >> a; cat a > /dev/null");
	assert_true(readable());
	assert_true(write_list_drain(w, INT64_MAX));
	assert_false(readable());
	run("echo a >> a; echo b > 'b\nb'; mkdir d; echo c > mnt/c; echo x > x; rm x; : < a; echo t > tmp; mv tmp renamed");
	write_list_drain(w, INT64_MAX);
	put_text(at("outside"), "not the pod's");
	write_list_drain(w, INT64_MAX);
	assert_int_equal(times(at("a")), 1);
	assert_int_equal(times(at("b\nb")), 1);
	assert_int_equal(times(at("mnt/c")), 1);
	assert_int_equal(times(at("renamed")), 1);
	assert_int_equal(times(at("tmp")), 0);
	assert_int_equal(times(at("x")), 1); /* the job may make it again, after the last epoch */
	assert_int_equal(times(at("outside")), 0);
	assert_string_equal(write_list_left_out(w), "");
	assert_string_equal(write_list_gap(w), "");
}

/* `ln part whole; rm part`: the kernel's name for what was written ends with a mark that is no part of it. */
static void a_name_that_is_gone_loses_its_mark(void **state)
{
	listen_to(true);
	run("echo p > part; ln part whole; rm part; echo s > 'so called (deleted)'");
	write_list_drain(w, INT64_MAX);
	assert_int_equal(times(at("part (deleted)")), 0);
	assert_int_equal(times(at("part")), 1);
	assert_int_equal(times(at("so called (deleted)")), 1);
}

static void names_of_deleted_files_do_not_fill_the_list(void **state)
{
	char command[200];

	listen_to(true);
	snprintf(command, sizeof(command),
		 "i=0; while [ $i -lt %u ]; do echo a > d$i; i=$((i+1)); done; rm d*; echo b > kept",
		 WRITE_LIST_DELETED_MAX + 10u);
	run(command);
	write_list_drain(w, INT64_MAX);
	assert_int_equal(times(at("d0")), 1);
	assert_int_equal(times(at("kept")), 1);
	snprintf(command, sizeof(command), "d%u", WRITE_LIST_DELETED_MAX + 9u);
	assert_int_equal(times(at(command)), 0);
}

static void private_places_are_left_out(void **state)
{
	w = write_list_open(&store, pod, true, true, "/", &err);
	assert_non_null(w);
	run("echo s > /dev/shm/s; echo 0 > /proc/self/oom_score_adj");
	assert_false(write_list_drain(w, INT64_MAX));
	assert_int_equal(times("/dev/shm/s"), 0);
}

static void a_restored_pod_takes_the_list_over(void **state)
{
	listen_to(true);
	run("echo a > a");
	write_list_drain(w, INT64_MAX);
	done(NULL);
	listen_to(false);
	run("echo a > a; echo b > b");
	write_list_drain(w, INT64_MAX);
	assert_int_equal(times(at("a")), 1);
	assert_int_equal(times(at("b")), 1);
	done(NULL);
	listen_to(true);
	assert_int_equal(times(at("a")), 0);
}

static void fill(unsigned n)
{
	FILE *f = fopen(at("job/" WRITE_LIST_NAME), "we");

	for (unsigned i = 0; i < n; i++) {
		fprintf(f, "%s/gone/%u", scratch, i);
		fputc('\0', f);
	}
	fclose(f);
}

static void a_full_list_drops_what_is_gone(void **state)
{
	fill(WRITE_LIST_MAX);
	listen_to(false);
	run("echo a > late");
	write_list_drain(w, INT64_MAX);
	assert_true(write_list_full(w));
	assert_int_equal(times(at("late")), 0);
	write_list_remark(w);
	assert_false(write_list_full(w));
	run("echo b > late; echo b > later");
	write_list_drain(w, INT64_MAX);
	assert_int_equal(times(at("late")), 1);
	assert_int_equal(times(at("later")), 1);
	assert_int_equal(times(at("gone/17")), 0);
}

/* What was being written when the node failed must not swallow the next path. */
static void a_torn_end_is_cut_off(void **state)
{
	put_text(at("job/" WRITE_LIST_NAME), "/some/pa");
	listen_to(false);
	run("echo a > after");
	write_list_drain(w, INT64_MAX);
	assert_int_equal(times(at("after")), 1);
}

static void fill_up(const char *path)
{
	cleanup_close int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	char page[4096] = { 0 };

	while (write(fd, page, sizeof(page)) > 0)
		;
}

/* The list lies on a disk that is full for a while. */
static void a_full_disk_loses_no_path(void **state)
{
	int real = store.dirfd;
	char name[64];

	assert_int_equal(mkdir(at("small"), 0700), 0);
	assert_int_equal(mount("small", at("small"), "tmpfs", 0, "size=32k"), 0);
	store.dirfd = open(at("small"), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	listen_to(true);
	run("echo a > first");
	write_list_drain(w, INT64_MAX);
	fill_up(at("small/filler"));
	run("for i in $(seq 100 250); do echo x > disk-full-$i; done");
	assert_true(write_list_drain(w, INT64_MAX));
	assert_false(write_list_saved(w));
	assert_true(write_list_drain(w, INT64_MAX)); /* nothing new, but it is tried again */
	assert_int_equal(times(at("disk-full-250")), 0);
	assert_int_equal(unlink(at("small/filler")), 0);
	run("echo a > last");
	assert_true(write_list_drain(w, INT64_MAX));
	assert_true(write_list_saved(w));
	assert_false(write_list_drain(w, INT64_MAX));
	for (int i = 100; i <= 250; i++) {
		snprintf(name, sizeof(name), "disk-full-%d", i);
		assert_int_equal(times(at(name)), 1);
	}
	assert_int_equal(times(at("first")), 1);
	assert_int_equal(times(at("last")), 1);
	done(NULL);
	close(store.dirfd);
	store.dirfd = real;
	assert_int_equal(umount2(at("small"), MNT_DETACH), 0);
}

/* A job that writes faster than it is looked at: whoever looks comes back, and takes the rest later. */
static void a_look_has_an_end(void **state)
{
	listen_to(true);
	run("echo a > slow");
	assert_true(write_list_drain(w, 0));
	assert_true(write_list_behind(w));
	assert_true(readable());
	assert_int_equal(times(at("slow")), 0);
	assert_true(write_list_drain(w, INT64_MAX));
	assert_false(write_list_behind(w));
	assert_int_equal(times(at("slow")), 1);
}

/* Last, since the pod is gone then. The name of a file on another file system than the root's needs the pod's mounts.
 */
static void what_the_pod_wrote_last(void **state)
{
	listen_to(true);
	run("echo a > end; echo c > mnt/end");
	kill(pod, SIGKILL);
	assert_int_equal(waitpid(pod, NULL, 0), pod);
	pod = 0;
	write_list_drain(w, INT64_MAX);
	assert_int_equal(times(at("end")), 1);
	assert_int_equal(times(at("mnt/end")), 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(what_the_pod_writes_is_noted_once, done),
		cmocka_unit_test_teardown(a_name_that_is_gone_loses_its_mark, done),
		cmocka_unit_test_teardown(names_of_deleted_files_do_not_fill_the_list, done),
		cmocka_unit_test_teardown(private_places_are_left_out, done),
		cmocka_unit_test_teardown(a_restored_pod_takes_the_list_over, done),
		cmocka_unit_test_teardown(a_full_list_drops_what_is_gone, done),
		cmocka_unit_test_teardown(a_torn_end_is_cut_off, done),
		cmocka_unit_test_teardown(a_full_disk_loses_no_path, done),
		cmocka_unit_test_teardown(a_look_has_an_end, done),
		cmocka_unit_test_teardown(what_the_pod_wrote_last, done),
	};

	scratch_needs_root();
	return cmocka_run_group_tests(tests, setup, teardown);
}
