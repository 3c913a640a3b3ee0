/* The agent's ground: task file, child processes, and which way a signal went. */
#include "unit.h"

#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent/lines.h"
#include "agent/loop.h"
#include "agent/proc.h"
#include "agent/request_parse.h"
#include "agent/rpc.h"
#include "agent/signals.h"
#include "agent/task.h"
#include "agent/worker_event.h"
#include "base/io.h"
#include "base/clock.h"
#include "base/util.h"

static struct loop loop;

static void stop(void *arg)
{
	loop.quit = true;
}

static void run_for(int64_t us)
{
	static struct loop_timer t;

	loop.quit = false;
	loop_timer_set(&loop, &t, now_us() + us, stop, NULL);
	loop_run(&loop);
	loop_timer_clear(&loop, &t);
}

/* ---- task file ---- */

#define GOOD                                                                                                                                                 \
	"{\"job_id\":7,\"array_job_id\":0,\"array_task_id\":-1,\"step\":4294967291,\"uid\":1000,\"gid\":1000,"                                               \
	"\"groups\":[1000,5],\"user\":\"u\",\"restart_count\":0,\"node\":\"n\",\"cluster\":\"c\","                                                           \
	"\"uuid\":\"48eb0728-818a-40ea-a3a1-30b9337aa5be\",\"interval\":60,\"truncate\":true,\"at_limit\":\"\",\"total\":0,\"script\":\"/s\",\"cwd\":\"/\"," \
	"\"stdout\":\"/o\",\"stderr\":\"/o\",\"cpus\":1,\"private_tmp\":false,\"init_pid\":10,\"leader_pid\":11,\"script_pid\":12,"                          \
	"\"pod_dir\":\"/p/7\",\"ctl_fd\":5,\"gate_fd\":6,\"network_warning\":\"\",\"tmp_warning\":\"\",\"tcp\":\"close\",\"on_requeue\":\"\",\"hook_signal\":10,\"hook_script\":true,\"hook_seconds\":5,\"hook_before\":\"sync\",\"hook_after\":\"\",\"config\":\"/c\"}"

static int parse(const char *text, struct task *t, struct err *err)
{
	int fd = memfd_create("task", MFD_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(write_all(fd, text, strlen(text)), 0);
	return task_read(t, fd, err);
}

static void task_good(void **state)
{
	struct task t;
	struct err err;

	assert_int_equal(parse(GOOD, &t, &err), 0);
	assert_int_equal(t.job_id, 7);
	assert_int_equal(t.array_task_id, -1);
	assert_int_equal(t.n_groups, 2);
	assert_int_equal(t.groups[1], 5);
	assert_true(t.truncate);
	assert_string_equal(t.pod_dir, "/p/7");
	task_free(&t);
}

/* A name of a file is bytes. */
static void task_with_foreign_names(void **state)
{
	static const char cwd[] = "\"cwd\":\"/\"";
	const char *at = strstr(GOOD, cwd);
	cleanup_free char *text = xasprintf("%.*s\"cwd\":\"/a%%FFb\",\"cwd_encoding\":\"percent\"%s", (int)(at - GOOD),
					    GOOD, at + strlen(cwd));
	struct task t;
	struct err err;

	assert_int_equal(parse(text, &t, &err), 0);
	assert_string_equal(t.cwd, "/a\xff"
				   "b");
	task_free(&t);
}

static void task_bad(void **state)
{
	static const struct {
		const char *from, *to, *named;
	} cases[] = {
		{ "\"job_id\":7", "\"job_id\":0", "job_id" },
		{ "\"job_id\":7", "\"job_id\":\"7\"", "job_id" },
		{ "\"truncate\":true", "\"truncate\":1", "truncate" },
		{ "[1000,5]", "[1000,-1]", "groups" },
		{ "[1000,5]", "{}", "groups" },
		{ "\"uuid\":\"48eb0728", "\"uuid\":\"0048eb0728", "uuid" },
		{ "\"init_pid\":10", "\"init_pid\":1", "init_pid" },
		{ "\"gate_fd\":6,", "", "gate_fd" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		const char *at = strstr(GOOD, cases[i].from);
		cleanup_free char *text = xasprintf("%.*s%s%s", (int)(at - GOOD), GOOD, cases[i].to,
						    at + strlen(cases[i].from));
		struct task t;
		struct err err;

		assert_int_equal(parse(text, &t, &err), -1);
		assert_non_null(strstr(err.text, cases[i].named));
	}
	struct task t;
	struct err err;

	assert_int_equal(parse("", &t, &err), -1);
	assert_int_equal(parse("[]", &t, &err), -1);
	assert_int_equal(parse("{", &t, &err), -1);
}

/* ---- child processes ---- */

static struct {
	char text[256];
	int lines, ends, status;
} got;

static void on_line(void *arg, char *line)
{
	got.lines++;
	snprintf(got.text + strlen(got.text), sizeof(got.text) - strlen(got.text), "%.60s|", line);
}

static void on_end(void *arg, int status)
{
	got.ends++;
	got.status = status;
	loop.quit = true;
}

static void run_shell(struct proc *p, const char *script, const char *request, int timeout_s)
{
	cleanup_free char *text = xstrdup(script);
	char *argv[] = { (char[]){ "/bin/sh" }, (char[]){ "-c" }, text, NULL };
	const struct proc_spec s = {
		.argv = argv, .request = request, .keep_fd = -1, .timeout_s = timeout_s, .on_line = on_line, .on_end = on_end
	};
	struct err err;

	memset(&got, 0, sizeof(got));
	assert_int_equal(proc_start(&loop, p, &s, &err), 0);
	run_for(5000000);
}

static void proc_lines(void **state)
{
	struct proc p;

	run_shell(&p, "echo one; printf 'two\\nthr'; sleep 0.1; printf 'ee\\nrest'; exit 3", NULL, 5);
	assert_string_equal(got.text, "one|two|three|");
	assert_int_equal(got.ends, 1);
	assert_int_equal(WEXITSTATUS(got.status), 3);
	assert_false(proc_running(&p));
}

static void proc_request(void **state)
{
	struct proc p;

	run_shell(&p, "read -r line; echo \"got $line\"", "a request", 5);
	assert_string_equal(got.text, "got a request|");
}

static void proc_deadline(void **state)
{
	struct proc p;
	int64_t began = now_us();

	run_shell(&p, "sleep 30", NULL, 1);
	assert_true(now_us() - began < 3000000);
	assert_true(p.timed_out);
	assert_int_equal(WTERMSIG(got.status), SIGKILL);
}

/* A grandchild that keeps the pipe open must not keep the end from being seen. */
static void proc_grandchild(void **state)
{
	struct proc p;
	int64_t began = now_us();

	run_shell(&p, "sleep 3 & echo done", NULL, 10);
	assert_true(now_us() - began < 2000000);
	assert_string_equal(got.text, "done|");
}

static void proc_endless_line(void **state)
{
	struct proc p;

	run_shell(&p, "while :; do printf xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx; done",
		  NULL, 20);
	assert_int_equal(got.lines, 0);
	assert_int_equal(WTERMSIG(got.status), SIGKILL);
}

static void proc_survives_job_signals(void **state)
{
	struct proc p;

	run_shell(&p, "kill -TERM $$; kill -USR1 $$; kill -INT $$; echo alive", NULL, 5);
	assert_string_equal(got.text, "alive|");
}

static void start_shell(struct proc *p, const char *script, void (*said)(void *arg, char *line))
{
	cleanup_free char *text = xstrdup(script);
	char *argv[] = { (char[]){ "/bin/sh" }, (char[]){ "-c" }, text, NULL };
	const struct proc_spec s = { .argv = argv, .keep_fd = -1, .on_line = said, .on_end = on_end, .arg = p };

	assert_int_equal(proc_start(&loop, p, &s, NULL), 0);
}

static void on_first_line(void *arg, char *line)
{
	struct proc *p = arg;

	assert_string_equal(line, "first");
	proc_forget(p);
	start_shell(p, "echo second; sleep 0.2; echo end; exit 4", on_line);
}

/* on_line forgets the process and starts another one in the same struct. The status of the first one, which has ended
 * by then, must not be taken for that of the second one. The end of another child makes the loop see ends before
 * output. */
static void proc_replaced_by_its_line(void **state)
{
	struct proc p;
	siginfo_t ended;
	pid_t other = fork();

	if (other == 0)
		_exit(0);
	assert_int_equal(waitid(P_PID, (id_t)other, &ended, WEXITED | WNOWAIT), 0);
	memset(&got, 0, sizeof(got));
	start_shell(&p, "echo first; echo more", on_first_line);
	assert_int_equal(waitid(P_PID, (id_t)p.pid, &ended, WEXITED | WNOWAIT), 0);
	run_for(5000000);
	assert_string_equal(got.text, "second|end|");
	assert_int_equal(got.ends, 1);
	assert_int_equal(WEXITSTATUS(got.status), 4);
}

/* ---- lines ---- */

static struct {
	char text[256];
	unsigned left;
} taken;

static bool take_line(void *arg, char *line)
{
	snprintf(taken.text + strlen(taken.text), sizeof(taken.text) - strlen(taken.text), "%.60s|", line);
	return --taken.left > 0;
}

static enum lines_result take(struct lines *l, const char *piece, size_t n)
{
	memcpy(l->buf + l->len, piece, n);
	taken.text[0] = '\0';
	return lines_add(l, n, take_line, NULL);
}

static void lines_come_in_pieces(void **state)
{
	cleanup_free char *buf = xmalloc(LINES_MAX), *much = xcalloc(1, LINES_MAX);
	struct lines l = { .buf = buf };

	taken.left = 1000;
	assert_int_equal(take(&l, "one\n\ntw", 7), LINES_MORE);
	assert_string_equal(taken.text, "one||");
	assert_int_equal(take(&l, "o\n", 2), LINES_MORE);
	assert_string_equal(taken.text, "two|");
	assert_int_equal(l.len, 0);
	assert_int_equal(take(&l, "a\0b\nc", 5), LINES_MORE);
	assert_string_equal(taken.text, "a|");
	assert_int_equal(l.len, 1);
	memset(much, 'x', LINES_MAX);
	assert_int_equal(take(&l, much, LINES_MAX - 2), LINES_MORE);
	assert_int_equal(take(&l, "\n", 1), LINES_MORE);
	assert_int_equal(l.len, 0);
	assert_int_equal(take(&l, much, LINES_MAX), LINES_TOO_LONG);
	assert_int_equal(l.len, 0);
	taken.left = 2;
	assert_int_equal(take(&l, "1\n2\n3\n", 6), LINES_STOPPED);
	assert_string_equal(taken.text, "1|2|");
}

/* ---- events of the worker ---- */

static void check_event(const char *line, enum worker_event_kind kind, const char *name, pid_t init)
{
	struct worker_event e;

	worker_event_parse(line, &e);
	assert_int_equal(e.kind, kind);
	if (name)
		assert_string_equal(e.name, name);
	assert_int_equal(e.init, init);
	worker_event_free(&e);
}

static void events_are_told_apart(void **state)
{
	check_event("{\"event\":\"phase\",\"name\":\"frozen\"}", WORKER_EVENT_PHASE, "frozen", 0);
	check_event("{\"event\":\"phase\"}", WORKER_EVENT_UNKNOWN, NULL, 0);
	check_event("{\"event\":\"phase\",\"name\":1}", WORKER_EVENT_UNKNOWN, NULL, 0);
	check_event("{\"event\":\"held\",\"time\":1}", WORKER_EVENT_HELD, NULL, 0);
	check_event("{\"event\":\"result\",\"ok\":true}", WORKER_EVENT_RESULT, NULL, 0);
	check_event("{\"event\":\"pod\",\"init_pid\":7}", WORKER_EVENT_POD, NULL, 7);
	/* cut to 32 bits, this is pid 1; kill(-1) is for all processes */
	check_event("{\"event\":\"pod\",\"init_pid\":4294967297}", WORKER_EVENT_UNKNOWN, NULL, 0);
	check_event("{\"event\":\"pod\",\"init_pid\":-1}", WORKER_EVENT_UNKNOWN, NULL, 0);
	for (size_t i = 0; i < 7; i++)
		check_event(((const char *[]){ "", "null", "[]", "{}", "{\"event\":[]}", "{\"event\":\"other\"}",
					       "{\"event\"" })[i],
			    WORKER_EVENT_UNKNOWN, NULL, 0);
}

/* ---- requests of clients ---- */

#define NONCE "0123456789abcdef"
#define REQUEST(op, id)                                                     \
	"{\"v\":2,\"nonce\":\"" NONCE "\",\"op\":\"" op "\",\"job_id\":" id \
	",\"uuid\":\"48eb0728-818a-40ea-a3a1-30b9337aa5be\"}"

static void check_request(const char *payload, uid_t uid, const char *op, const char *nonce, const char *error)
{
	const struct request_rules rules = { 7, "48eb0728-818a-40ea-a3a1-30b9337aa5be", 1000, 64030 };
	struct parsed_request req = { .op = "?" };
	struct err err = { 0 };
	int rc = request_parse(payload, payload ? strlen(payload) : 0, uid, &rules, &req, &err);

	assert_string_equal(req.op, op);
	assert_string_equal(req.nonce, nonce);
	assert_int_equal(rc, error ? -1 : 0);
	if (error && !strstr(err.text, error))
		fail_msg("\"%s\" lacks \"%s\"", err.text, error);
}

static void requests_are_checked(void **state)
{
	check_request(REQUEST("create", "7"), 0, "create", NONCE, NULL);
	check_request(REQUEST("vacate", "7"), 1000, "vacate", NONCE, NULL);
	check_request(REQUEST("able", "7"), 64030, "able", NONCE, NULL);
	check_request(REQUEST("able", "7"), 1001, "able", NONCE, "permission denied");
	check_request(REQUEST("able", "8"), 1000, "able", NONCE, "another job");
	check_request(REQUEST("able", "\"7\""), 1000, "able", NONCE, "another job");
	check_request("{\"v\":2,\"nonce\":\"" NONCE "\",\"op\":\"list\",\"job_id\":7,\"uuid\":\"48eb0728\"}", 0, "list",
		      NONCE, "another job");
	check_request("{\"v\":2,\"nonce\":\"" NONCE "\",\"op\":\"list\",\"job_id\":7}", 0, "list", NONCE, "another job");
	check_request(REQUEST("creat", "7"), 0, "?", NONCE, "not known");
	check_request(REQUEST("a very long name of an operation", "7"), 0, "?", NONCE, "not known");
	check_request("{\"v\":1,\"nonce\":\"" NONCE "\",\"op\":\"list\"}", 0, "?", NONCE, "another version");
	check_request("{\"v\":2,\"nonce\":\"" NONCE "\"}", 0, "?", NONCE, "not known");
	for (size_t i = 0; i < 5; i++)
		check_request(((const char *[]){ "{}", "{\"v\":2,\"op\":\"list\"}", "{\"nonce\":1}",
						 "{\"nonce\":\"0123456789abcdef0\"}",
						 "{\"nonce\":\"0123456789abcde\\\"\"}" })[i],
			      0, "?", "", "nonce");
	for (size_t i = 0; i < 5; i++)
		check_request(((const char *[]){ NULL, "", "[]", "null", "{\"v\":2" })[i], 0, "?", "", "no JSON object");
}

/* ---- calls to Slurm ---- */

static struct {
	int calls;
	bool ok;
} told;

static void on_told(void *arg, bool ok, const json_t *answer, const char *error)
{
	told.calls++;
	told.ok = ok;
}

/* No descriptor is left for the pipe: the call cannot be started. */
static void start_that_fails(struct rpc *r)
{
	struct rlimit before, none;

	assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
	none = (struct rlimit){ .rlim_cur = 0, .rlim_max = before.rlim_max };
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
	rpc_start(&loop, r, "/nowhere", 5, "publish", 7, NULL, on_told, NULL);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
}

static void on_other(void *arg)
{
	*(bool *)arg = true;
}

/* Until the caller is told of the failure the call is under way: a second one in the same struct would drop the timers
 * behind it. */
static void rpc_failed_start(void **state)
{
	static struct rpc r;
	static struct loop_timer other;
	bool fired = false;

	memset(&told, 0, sizeof(told));
	loop_timer_set(&loop, &other, now_us() + 100000, on_other, &fired);
	start_that_fails(&r);
	if (!rpc_running(&r)) /* as publish_now() does */
		start_that_fails(&r);
	assert_int_equal(told.calls, 0);
	run_for(300000);
	assert_int_equal(told.calls, 1);
	assert_false(told.ok);
	assert_false(rpc_running(&r));
	assert_true(fired);
}

static void rpc_forgotten_start(void **state)
{
	static struct rpc r;

	memset(&told, 0, sizeof(told));
	start_that_fails(&r);
	rpc_forget(&r);
	assert_false(rpc_running(&r));
	run_for(100000);
	assert_int_equal(told.calls, 0);
}

/* ---- after each event ---- */

static char order[32];

static void note(char c)
{
	size_t n = strlen(order);

	assert_true(n + 1 < sizeof(order));
	order[n] = c;
}

static void note_timer(void *arg)
{
	note('t');
}

static void note_child(void *arg, int status)
{
	note('c');
}

static void note_after(void *owner)
{
	assert_ptr_equal(owner, &order);
	note('.');
}

/* Also between two timers that are due at the same time. */
static void after_each_event(void **state)
{
	struct loop_timer one = { 0 }, two = { 0 };
	struct loop_child child = { 0 };
	pid_t pid;

	memset(order, 0, sizeof(order));
	loop.after = note_after;
	loop.owner = &order;
	loop_timer_set(&loop, &one, 1, note_timer, NULL);
	loop_timer_set(&loop, &two, 1, note_timer, NULL);
	run_for(50000);
	assert_string_equal(order, "t.t.."); /* the last one is the timer that ends the loop */
	memset(order, 0, sizeof(order));
	pid = fork();
	if (pid == 0)
		_exit(0);
	loop_watch(&loop, &child, pid, note_child, NULL);
	run_for(200000);
	assert_string_equal(order, "c..");
	loop.after = NULL;
	loop.owner = NULL;
}

/* ---- signals ---- */

static int delivered[3];

static void on_deliver(void *arg, int sig, enum sig_scope scope)
{
	assert_int_equal(sig, SIGUSR1);
	delivered[scope]++;
}

static void on_signal(void *arg, int sig)
{
	signals_own(arg, sig);
}

static void signal_scopes(void **state)
{
	struct signals s = { 0 };
	struct err err;

	memset(delivered, 0, sizeof(delivered));
	loop.on_signal = on_signal;
	loop.owner = &s;
	assert_int_equal(signals_start(&s, &loop, on_deliver, NULL, &err), 0);
	run_for(100000);
	/* loop.c drops what the agent sends itself, so a child sends it, as slurmstepd would */
	pid_t me = getpid();

	for (int what = 0; what < 3; what++) {
		pid_t child = fork();

		if (child == 0) {
			kill(me, SIGUSR1);
			if (what == 2)
				kill(s.canary, SIGUSR1);
			_exit(0);
		}
		if (what >= 1) /* init's report, which comes by its control socket */
			signals_init(&s, SIGUSR1);
		run_for(400000);
	}
	assert_int_equal(delivered[SIG_SCOPE_SCRIPT], 1);
	assert_int_equal(delivered[SIG_SCOPE_GROUP], 1);
	assert_int_equal(delivered[SIG_SCOPE_ALL], 1);
	signals_stop(&s);
}

static int set_up(void **state)
{
	struct err err;

	return loop_init(&loop, &err);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(task_good),
		cmocka_unit_test(task_with_foreign_names),
		cmocka_unit_test(task_bad),
		cmocka_unit_test(proc_lines),
		cmocka_unit_test(proc_request),
		cmocka_unit_test(proc_deadline),
		cmocka_unit_test(proc_grandchild),
		cmocka_unit_test(proc_endless_line),
		cmocka_unit_test(proc_survives_job_signals),
		cmocka_unit_test(proc_replaced_by_its_line),
		cmocka_unit_test(lines_come_in_pieces),
		cmocka_unit_test(events_are_told_apart),
		cmocka_unit_test(requests_are_checked),
		cmocka_unit_test(rpc_failed_start),
		cmocka_unit_test(rpc_forgotten_start),
		cmocka_unit_test(after_each_event),
		cmocka_unit_test(signal_scopes),
	};

	return cmocka_run_group_tests(tests, set_up, NULL);
}
