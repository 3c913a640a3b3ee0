/* Where the machine does not allow such BPF programs the tests are skipped, unless FSCHED_NEEDS_BPF is set. The guests
 * of tests/kernels run this on NFS, too. */
#include "unit.h"
#include "base/io.h"
#include "base/util.h"

#include <linux/magic.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "agent/open_watch.h"
#include "agent/write_list.h"
#include "scratch.h"

static struct err err;
static char seen[1 << 16];

static void on_open(void *arg, const char *path)
{
	strcat(strcat(seen, path), "\n");
}

static int times(const char *name)
{
	const char *path = at(name);
	int n = 0;

	for (const char *p = seen; (p = strstr(p, path)); p++)
		n += p[strlen(path)] == '\n';
	return n;
}

/* A pod: pid 1 of a PID namespace, which runs the commands that it is sent and ends at the end of its input. */
struct pod {
	pid_t init;
	int to, from;
};

static void pod_main(int in, int out)
{
	if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 || dup2(in, 0) < 0 ||
	    dup2(out, 1) < 0 || chdir(scratch) < 0)
		_exit(2);
	execl("/bin/sh", "sh", (char *)NULL);
	_exit(3);
}

static void pod_start(struct pod *p)
{
	int in[2], out[2];

	assert_int_equal(pipe2(in, O_CLOEXEC), 0);
	assert_int_equal(pipe2(out, O_CLOEXEC), 0);
	p->init = (pid_t)syscall(SYS_clone, CLONE_NEWPID | SIGCHLD, 0, 0, 0, 0);
	if (p->init == 0)
		pod_main(in[0], out[1]);
	close(in[0]);
	close(out[1]);
	p->to = in[1];
	p->from = out[0];
}

static void run(const struct pod *p, const char *line)
{
	char c;

	assert_int_equal(dprintf(p->to, "%s\necho\n", line) > 0, 1);
	assert_int_equal(read(p->from, &c, 1), 1);
}

static void pod_end(struct pod *p)
{
	close(p->to);
	close(p->from);
	waitpid(p->init, NULL, 0);
}

static struct open_watch *watch(pid_t init, bool other_type)
{
	struct statfs fs;

	assert_int_equal(statfs(scratch, &fs), 0);
	const uint64_t type = (uint64_t)fs.f_type + other_type;
	struct open_watch *w = open_watch_open(init, &type, 1, on_open, NULL, &err);

	if (!w && !getenv("FSCHED_NEEDS_BPF") && (strstr(err.text, "not permitted") || strstr(err.text, "without"))) {
		print_message("skipped: %s\n", err.text);
		skip();
	}
	if (!w)
		fail_msg("%s", err.text);
	seen[0] = '\0';
	return w;
}

static void files_opened_for_writing_in_the_pod_are_noted(void **state)
{
	struct pod pod, other;

	pod_start(&pod);
	pod_start(&other);
	struct open_watch *w = watch(pod.init, false);
	run(&pod, "echo a >one; echo b >>one; cat one >two; : <two; mkfifo fifo; mkdir d; (cd d; echo x >deep)");
	run(&pod, "unshare -p -f sh -c 'echo c >nested'");
	run(&other, "echo >not-mine");
	put_text(at("nor-this"), "x");
	open_watch_drain(w);
	assert_int_equal(times("one"), 2);
	assert_int_equal(times("two"), 1);
	assert_int_equal(times("d/deep"), 1);
	assert_int_equal(times("nested"), 1);
	assert_int_equal(times("not-mine") + times("nor-this") + times("fifo"), 0);
	assert_false(open_watch_lost(w));
	open_watch_close(w);
	pod_end(&pod);
	pod_end(&other);
}

static void other_file_systems_are_not_looked_at(void **state)
{
	struct pod pod;

	pod_start(&pod);
	struct open_watch *w = watch(pod.init, true);
	run(&pod, "echo a >one");
	open_watch_drain(w);
	assert_string_equal(seen, "");
	open_watch_close(w);
	pod_end(&pod);
}

static void a_full_buffer_is_told(void **state)
{
	struct pod pod;

	pod_start(&pod);
	struct open_watch *w = watch(pod.init, false);
	/* a path of some 3700 bytes, 400 times */
	run(&pod, "n=0; while [ $n -lt 15 ]; do n=$((n + 1)); d=$(printf %0240d $n); mkdir $d; cd $d; done");
	run(&pod, "while [ $n -lt 400 ]; do n=$((n + 1)); : >>f; done");
	assert_true(open_watch_lost(w));
	open_watch_close(w);
	pod_end(&pod);
}

/* On NFS only: the list as the agent has it, and no file is kept in use for it. */
static void the_list_has_closed_files_of_nfs(void **state)
{
	struct store store = { .epochsfd = -1 };
	struct statfs fs;
	struct pod pod;
	char *text = NULL;

	if (statfs(scratch, &fs) || fs.f_type != NFS_SUPER_MAGIC)
		skip();
	assert_int_equal(mkdir("/run/job", 0700), 0);
	store.dirfd = open("/run/job", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	snprintf(store.path, sizeof(store.path), "/run/job");
	pod_start(&pod);
	run(&pod, ":");
	struct write_list *w = write_list_open(&store, pod.init, false, true, scratch, &err);
	if (!w)
		fail_msg("%s", err.text);
	assert_non_null(strstr(write_list_left_out(w), "nfs"));
	assert_string_equal(write_list_gap(w), "");
	run(&pod, "echo a >>log; mkdir d; echo b >d/f; rm d/f; rmdir d || echo x >failed");
	assert_false(access(at("failed"), F_OK) == 0);
	write_list_drain(w, INT64_MAX);
	assert_true(write_list_saved(w));
	const ssize_t len = read_file_at(store.dirfd, WRITE_LIST_NAME, 1 << 20, &text);
	assert_true(len > 0 && memmem(text, (size_t)len, at("log"), strlen(at("log")) + 1));
	free(text);
	write_list_close(w);
	pod_end(&pod);
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
		cmocka_unit_test_setup_teardown(files_opened_for_writing_in_the_pod_are_noted, setup, teardown),
		cmocka_unit_test_setup_teardown(other_file_systems_are_not_looked_at, setup, teardown),
		cmocka_unit_test_setup_teardown(a_full_buffer_is_told, setup, teardown),
		cmocka_unit_test_setup_teardown(the_list_has_closed_files_of_nfs, setup, teardown),
	};

	scratch_needs_root();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
