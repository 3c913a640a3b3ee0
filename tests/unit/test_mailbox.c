/* The mailbox between two workers. Messages are taken in the order in which they were put. No descriptor is lost,
 * whatever messages it has. */
#include "unit.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/util.h"
#include "capture/kept_tracking.h"

static struct mailbox box;
static int number; /* the lowest free descriptor before a test */

static int free_number(void)
{
	int fd = dup(0);

	close(fd);
	return fd;
}

static int setup(void **state)
{
	(void)state;
	number = free_number();
	return mailbox_make(&box);
}

static int teardown(void **state)
{
	(void)state;
	mailbox_close(&box);
	return free_number() == number ? 0 : -1;
}

static void messages_come_in_turn(void **state)
{
	const int fds[] = { box.in, box.out };
	int got[MAILBOX_FDS];
	char text[8];
	size_t n;

	assert_int_equal(mailbox_take(&box, text, sizeof(text), got, &n), 0);
	assert_int_equal(mailbox_put(&box, "one", 3, fds, 2), 0);
	assert_int_equal(mailbox_put(&box, "two", 3, NULL, 0), 0);
	assert_int_equal(mailbox_put(&box, "three", 5, fds, MAILBOX_FDS + 1), -1);
	assert_int_equal(mailbox_take(&box, text, sizeof(text), got, &n), 3);
	assert_memory_equal(text, "one", 3);
	assert_int_equal(n, 2);
	assert_int_equal(fcntl(got[1], F_GETFD), FD_CLOEXEC);
	close(got[0]);
	close(got[1]);
	assert_int_equal(mailbox_take(&box, text, sizeof(text), got, &n), 3);
	assert_int_equal(n, 0);
	assert_int_equal(mailbox_take(&box, text, sizeof(text), got, &n), 0);
	/* too long */
	assert_int_equal(mailbox_put(&box, "much too long", 13, fds, 2), 0);
	assert_int_equal(mailbox_take(&box, text, sizeof(text), got, &n), -1);
	assert_int_equal(errno, EMSGSIZE);
	assert_int_equal(n, 0);
}

/* A message without data looks like none, and would hide the messages behind it. */
static void an_empty_message_is_none(void **state)
{
	const int fds[] = { box.in, box.out };
	int got[MAILBOX_FDS];
	char text[8];
	size_t n;

	assert_int_equal(mailbox_put(&box, "", 0, fds, 2), -1);
	assert_int_equal(errno, EINVAL);
	/* not by mailbox_put() */
	union {
		struct cmsghdr head;
		char room[CMSG_SPACE(sizeof(fds))];
	} control = { .head = { .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof(fds)) } };
	struct iovec none = { text, 0 };
	const struct msghdr h = {
		.msg_iov = &none, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control)
	};

	memcpy(CMSG_DATA(&control.head), fds, sizeof(fds));
	assert_int_equal(sendmsg(box.in, &h, 0), 0);
	assert_int_equal(mailbox_put(&box, "next", 4, NULL, 0), 0);
	assert_int_equal(mailbox_take(&box, text, sizeof(text), got, &n), -1);
	assert_int_equal(errno, EMSGSIZE);
	assert_int_equal(n, 0);
	assert_int_equal(mailbox_take(&box, text, sizeof(text), got, &n), 4);
}

static void put(unsigned epoch, size_t n)
{
	struct mem_tracked v[200];

	for (size_t i = 0; i < n; i++)
		v[i] = (struct mem_tracked){ .host = (pid_t)(100 + i), .id = i, .pidfd = box.in, .uffd = box.out };
	kept_tracking_put(&box, epoch, v, n);
}

static void the_last_epoch_counts(void **state)
{
	struct kept_tracking f;

	kept_tracking_take(&box, &f);
	assert_int_equal(f.n, 0);
	put(4, 3);
	assert_int_equal(mailbox_put(&box, "else", 4, (const int[]){ box.in }, 1), 0);
	put(5, 150);
	kept_tracking_take(&box, &f);
	assert_int_equal(f.epoch, 5);
	assert_int_equal(f.n, 150);
	for (size_t i = 0; i < f.n; i++) {
		assert_true(f.v[i].host == (pid_t)(100 + i) && f.v[i].id == i);
		assert_int_equal(fcntl(f.v[i].pidfd, F_GETFD), FD_CLOEXEC);
		assert_int_equal(fcntl(f.v[i].uffd, F_GETFD), FD_CLOEXEC);
	}
	kept_tracking_free(&f);
	kept_tracking_take(&box, &f);
	assert_int_equal(f.n, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(messages_come_in_turn, setup, teardown),
		cmocka_unit_test_setup_teardown(an_empty_message_is_none, setup, teardown),
		cmocka_unit_test_setup_teardown(the_last_epoch_counts, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
