/* base/turn.h, with real processes. */
#include "unit.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "base/turn.h"
#include "base/util.h"
#include "scratch.h"

static struct err err;

static struct turn took(void)
{
	struct turn t;

	if (turn_take(at("turns"), &t, &err) < 0)
		fail_msg("%s", err.text);
	return t;
}

static unsigned ahead(const struct turn *t)
{
	unsigned n = 0;

	if (turn_ahead(t, &n, &err) < 0)
		fail_msg("%s", err.text);
	return n;
}

static int fresh(void **state)
{
	remove_tree_at(scratch_fd, "turns");
	return 0;
}

static void in_the_order_of_arrival(void **state)
{
	struct turn a = took(), b = took(), c = took();

	assert_int_equal(ahead(&a), 0);
	assert_int_equal(ahead(&b), 1);
	assert_int_equal(ahead(&c), 2);
	/* who is finished early does not let the others overtake each other */
	turn_end(&b);
	turn_end(&b);
	assert_int_equal(ahead(&c), 1);
	struct turn d = took();
	assert_true(d.number > c.number);
	assert_int_equal(ahead(&d), 2);
	turn_end(&a);
	assert_int_equal(ahead(&c), 0);
	assert_int_equal(ahead(&d), 1);
	turn_end(&c);
	turn_end(&d);
	/* nothing is left but the lock */
	assert_int_equal(unlink(at("turns/lock")), 0);
	assert_int_equal(rmdir(at("turns")), 0);
}

/* A process that takes a ticket and lives until it is killed. */
static pid_t holder(void)
{
	int fds[2];
	char c;
	pid_t pid;

	assert_int_equal(pipe(fds), 0);
	pid = fork();
	if (pid == 0) {
		struct turn t;

		if (turn_take(at("turns"), &t, NULL) < 0 || write(fds[1], "x", 1) != 1)
			_exit(1);
		for (;;)
			pause();
	}
	close(fds[1]);
	assert_int_equal(read(fds[0], &c, 1), 1);
	close(fds[0]);
	return pid;
}

static void end_holder(pid_t pid)
{
	kill(pid, SIGKILL);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
}

static void a_dead_holder_is_passed_over(void **state)
{
	const pid_t first = holder(), second = holder();
	struct turn t = took();

	assert_int_equal(t.number, 3);
	assert_int_equal(ahead(&t), 2);
	end_holder(first);
	assert_int_equal(ahead(&t), 1);
	assert_int_equal(access(at("turns/1"), F_OK), -1);
	assert_int_equal(access(at("turns/2"), F_OK), 0);
	end_holder(second);
	assert_int_equal(ahead(&t), 0);
	turn_end(&t);
	/* a stopped one is alive */
	const pid_t stopped = holder();
	kill(stopped, SIGSTOP);
	t = took();
	assert_int_equal(ahead(&t), 1);
	turn_end(&t);
	end_holder(stopped);
}

/* Eight processes, two at a time: each counts how many are inside. */
#define PROCESSES 8
#define AT_ONCE   2

static void inside(int counter, int order, char me)
{
	struct turn t;
	unsigned n;
	char c = me;

	if (turn_take(at("turns"), &t, NULL) < 0 || write(order, &c, 1) != 1)
		_exit(1);
	do {
		if (turn_ahead(&t, &n, NULL) < 0)
			_exit(2);
		usleep(1000);
	} while (n >= AT_ONCE);
	c = '+';
	if (write(counter, &c, 1) != 1)
		_exit(3);
	usleep(5000);
	c = '-';
	if (write(counter, &c, 1) != 1)
		_exit(4);
	turn_end(&t);
	_exit(0);
}

static void never_more_at_once(void **state)
{
	int counter[2], order[2], now = 0, most = 0, status;
	char text[2 * PROCESSES], c;

	assert_int_equal(pipe(counter) | pipe(order), 0);
	for (int i = 0; i < PROCESSES; i++) {
		if (fork() == 0)
			inside(counter[1], order[1], (char)('a' + i));
		assert_int_equal(read(order[0], &c, 1), 1); /* one after the other */
	}
	for (int i = 0; i < PROCESSES; i++) {
		assert_true(wait(&status) > 0);
		assert_int_equal(status, 0);
	}
	assert_int_equal(read(counter[0], text, sizeof(text)), sizeof(text));
	for (size_t i = 0; i < sizeof(text); i++) {
		now += text[i] == '+' ? 1 : -1;
		most = now > most ? now : most;
	}
	assert_true(most <= AT_ONCE);
	for (int i = 0; i < 2; i++) {
		close(counter[i]);
		close(order[i]);
	}
}

static void what_others_have_made_is_refused(void **state)
{
	struct turn t;

	assert_int_equal(mkdir(at("turns"), 0777), 0);
	assert_int_equal(chmod(at("turns"), 0777), 0);
	assert_int_equal(turn_take(at("turns"), &t, &err), -1);
	assert_non_null(strstr(err.text, "others than root can write"));
	assert_int_equal(t.fd, -1);
	turn_end(&t);
	remove_tree_at(scratch_fd, "turns");
	assert_int_equal(symlink(scratch, at("turns")), 0);
	assert_int_equal(turn_take(at("turns"), &t, &err), -1);
	unlink(at("turns"));
	/* what is no ticket is left alone */
	t = took();
	put_text(at("turns/note"), "");
	put_text(at("turns/0"), "");
	put_text(at("turns/7x"), "");
	assert_int_equal(ahead(&t), 0);
	assert_int_equal(access(at("turns/7x"), F_OK), 0);
	turn_end(&t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(in_the_order_of_arrival, fresh),
		cmocka_unit_test_setup(a_dead_holder_is_passed_over, fresh),
		cmocka_unit_test_setup(never_more_at_once, fresh),
		cmocka_unit_test_setup(what_others_have_made_is_refused, fresh),
	};
	int rc;

	scratch_needs_root();
	if (scratch_make(0755) < 0)
		return 1;
	rc = cmocka_run_group_tests(tests, NULL, NULL);
	scratch_remove();
	return rc;
}
