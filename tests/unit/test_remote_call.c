/* Requests and answers of trace/remote_call.h that neither the worker nor the tracer of the job makes. */
#include "unit.h"

#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/util.h"
#include "trace/tracer.h"

/* ---- the tracer's end ---- */

static pid_t stopped_child(void)
{
	int status;
	pid_t pid = fork();

	if (pid == 0)
		for (;;)
			pause();
	assert_true(pid > 0);
	assert_int_equal(ptrace(PTRACE_SEIZE, pid, 0, PTRACE_O_EXITKILL), 0);
	assert_int_equal(ptrace(PTRACE_INTERRUPT, pid, 0, 0), 0);
	assert_int_equal(waitpid(pid, &status, __WALL), pid);
	return pid;
}

static void end_child(pid_t pid)
{
	int status;

	kill(pid, SIGKILL);
	assert_int_equal(waitpid(pid, &status, __WALL), pid);
}

/* Requests with which the kernel would write to an address that the message gives are refused. */
static void requests_write_to_the_message_only(void **state)
{
	static const struct {
		int64_t request;
		uint32_t kind;
	} bad[] = {
		{ PTRACE_PEEKDATA, REMOTE_CALL_VALUE },
		{ PTRACE_PEEKUSER, REMOTE_CALL_VALUE },
		{ PTRACE_GETREGS, REMOTE_CALL_VALUE },
		{ PTRACE_GETSIGINFO, REMOTE_CALL_VALUE },
		{ PTRACE_GETEVENTMSG, REMOTE_CALL_VALUE },
		{ PTRACE_GETREGSET, REMOTE_CALL_VALUE },
		{ PTRACE_SETREGSET, REMOTE_CALL_VALUE },
		{ PTRACE_PEEKDATA, REMOTE_CALL_VECTOR },
		{ PTRACE_SETOPTIONS, REMOTE_CALL_VECTOR },
		{ PTRACE_DETACH, REMOTE_CALL_VECTOR },
		{ PTRACE_SETOPTIONS, 77 },
	};
	static uint64_t victim[1024];
	static const uint64_t zeros[1024];
	const pid_t pid = stopped_child();

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct remote_call m = {
			.op = REMOTE_CALL_PTRACE,
			.pid = pid,
			.request = bad[i].request,
			.addr = bad[i].request == PTRACE_PEEKDATA ? (uint64_t)(uintptr_t)bad : 1,
			.data = (uint64_t)(uintptr_t)victim,
			.data_kind = bad[i].kind,
			.len = 8,
		};

		remote_call_do(&m);
		assert_int_equal(m.result, -EINVAL);
		assert_memory_equal(victim, zeros, sizeof(victim));
	}
	end_child(pid);
}

static void requests_that_are_made_are_answered(void **state)
{
	const pid_t pid = stopped_child();
	struct tracer_regs r;
	int status;

	assert_int_equal(tracer_get_regs(TRACER_SELF, pid, &r), 0);
	assert_in_range(r.len, 100, sizeof(r.bytes));
	assert_int_equal(tracer_set_regs(TRACER_SELF, pid, &r), 0);
	assert_int_equal(tracer_set_options(TRACER_SELF, pid, PTRACE_O_EXITKILL), 0);
	assert_int_equal(tracer_detach(TRACER_SELF, pid), 0);
	assert_int_equal(kill(pid, SIGKILL), 0);
	assert_int_equal(waitpid(pid, &status, __WALL), pid);
}

/* ---- the worker's end ---- */

static int pair[2];

static int make_pair(void **state)
{
	(void)state;
	return socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair);
}

static int close_pair(void **state)
{
	(void)state;
	return close(pair[0]) | close(pair[1]);
}

static void answer(int64_t result, uint32_t len)
{
	const struct remote_call m = { .op = REMOTE_CALL_PTRACE, .result = result, .len = len };

	assert_int_equal(send(pair[1], &m, sizeof(m), 0), sizeof(m));
}

static void results_out_of_range_are_refused(void **state)
{
	static const int64_t bad[] = { INT64_MIN,        -4096,    -(INT64_C(1) << 32), INT64_C(1) << 31,
				       INT64_C(1) << 32, INT64_MAX };

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		answer(bad[i], 0);
		errno = 0;
		assert_int_equal(tracer_set_options(pair[0], 1, 0), -1);
		assert_int_equal(errno, EPROTO);
	}
	answer(-ESRCH, 0);
	assert_int_equal(tracer_set_options(pair[0], 1, 0), -1);
	assert_int_equal(errno, ESRCH);
	answer(7, 0);
	assert_int_equal(tracer_set_options(pair[0], 1, 0), 7);
}

static void a_list_that_has_no_end_is_refused(void **state)
{
	struct elided_object *v;
	size_t n;

	answer(INT32_MAX, 512);
	answer(INT32_MAX, 512);
	errno = 0;
	assert_int_equal(tracer_shared(pair[0], &v, &n), -1);
	assert_int_equal(errno, EPROTO);
	assert_null(v);
}

static void answers_of_another_length_are_refused(void **state)
{
	struct tracer_regs r = { .len = 8 };

	assert_int_equal(send(pair[1], "short", 5, 0), 5);
	assert_int_equal(tracer_get_regs(pair[0], 1, &r), -1);
	assert_int_equal(errno, EPROTO);
	answer(0, UINT32_MAX);
	assert_int_equal(tracer_get_regs(pair[0], 1, &r), 0);
	assert_int_equal(r.len, sizeof(r.bytes));
	assert_int_equal(shutdown(pair[1], SHUT_RDWR), 0);
	assert_int_equal(tracer_get_regs(pair[0], 1, &r), -1);
	assert_int_equal(errno, EPIPE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(requests_write_to_the_message_only),
		cmocka_unit_test(requests_that_are_made_are_answered),
		cmocka_unit_test_setup_teardown(results_out_of_range_are_refused, make_pair, close_pair),
		cmocka_unit_test_setup_teardown(a_list_that_has_no_end_is_refused, make_pair, close_pair),
		cmocka_unit_test_setup_teardown(answers_of_another_length_are_refused, make_pair, close_pair),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
