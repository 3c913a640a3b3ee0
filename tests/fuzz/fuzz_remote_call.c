/* The two ends of trace/remote_call.h. The first byte of the input chooses the end:
 *
 * - the worker: answers of any length to the requests of trace/tracer.h;
 *
 * - the tracer: any request. The byte before each request chooses its process: a tracee that is stopped all the time,
 *   or no process. Requests that resume the tracee or wait for it are sent for no process. */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#include <linux/seccomp.h>

#include "base/util.h"
#include "fuzz.h"
#include "trace/tracer.h"
#include "trace/inject.h"

#define ANSWERS_MAX 6
/* Together with ANSWERS_MAX no more than a socket queues (net.unix.max_dgram_qlen). */
#define REQUESTS    4

/* ---- the worker's end ------------------------------------------------------ */

static size_t queue(int peer, const uint8_t *data, size_t size)
{
	size_t sum = 0;

	for (int i = 0; i < ANSWERS_MAX && size >= 2; i++) {
		size_t len = data[0] ? sizeof(struct remote_call) : data[1];

		data += 2;
		size -= 2;
		len = len < size ? len : size;
		if (send(peer, data, len, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
			break;
		sum += len;
		data += len;
		size -= len;
	}
	/* An empty message is read as the end of the connection, and needs no new connection for each input. */
	for (int i = 0; i < REQUESTS; i++)
		send(peer, "", 0, MSG_DONTWAIT | MSG_NOSIGNAL);
	return sum;
}

static void ask(int tracer, unsigned what, size_t answered)
{
	struct tracer_regs r = { .len = 216 };
	const struct tracer_options o = { 1, 2, 3 };
	struct return_path w = { .restore = 1 };
	struct elided_object *v = NULL;
	int status = 0, rc;
	pid_t child = 0;
	size_t n = 0;

	switch (what % 9) {
	case 0: rc = tracer_get_regs(tracer, 7, &r); break;
	case 1: rc = tracer_set_regs(tracer, 7, &r); break;
	case 2: rc = tracer_set_options(tracer, 7, 1); break;
	case 3: rc = tracer_wait(tracer, 7, &status); break;
	case 4: rc = tracer_enter(tracer, 7, &w); break;
	case 5: rc = tracer_inject(tracer, 7, &r, &o, &child); break;
	case 6:
		rc = tracer_shared(tracer, &v, &n);
		if (n * sizeof(*v) > answered || (rc < 0 && v))
			abort();
		free(v);
		break;
	case 7: rc = tracer_await_ready(tracer, 0); break;
	default: rc = tracer_leave(tracer, 7);
	}
	if (r.len > sizeof(r.bytes) || (rc < 0 && (errno <= 0 || errno > 4095)))
		abort();
}

static void worker_end(const uint8_t *data, size_t size)
{
	static int fd[2];
	struct remote_call seen;
	size_t answered;

	if (!fd[0] && socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fd))
		abort();
	if (size < REQUESTS)
		return;
	answered = queue(fd[1], data + REQUESTS, size - REQUESTS);
	for (size_t i = 0; i < REQUESTS; i++) {
		errno = 0;
		ask(fd[0], data[i], answered);
		while (recv(fd[1], &seen, sizeof(seen), MSG_DONTWAIT) >= 0)
			;
	}
	while (recv(fd[0], &seen, sizeof(seen), MSG_DONTWAIT) >= 0)
		;
}

/* ---- the tracer's end ------------------------------------------------------ */

#define NOBODY 0x7ffffff0 /* larger than any pid */

/* A tracee that is never resumed. If it runs because of an error, seccomp allows it only read(), write() and exit(),
 * and there is nothing to read. */
static pid_t start_tracee(void)
{
	int fd[2], status;
	pid_t pid;
	char c;

	if (pipe(fd))
		abort();
	pid = fork();
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT, 0, 0, 0);
		for (;;)
			if (read(fd[0], &c, 1) <= 0)
				_exit(0);
	}
	if (pid < 0 || ptrace(PTRACE_SEIZE, pid, 0, PTRACE_O_EXITKILL) || ptrace(PTRACE_INTERRUPT, pid, 0, 0) ||
	    waitpid(pid, &status, __WALL) != pid || !WIFSTOPPED(status))
		abort();
	return pid;
}

static bool may_resume(const struct remote_call *m)
{
	switch (m->op) {
	case REMOTE_CALL_PTRACE:
		return m->request != PTRACE_GETREGSET && m->request != PTRACE_SETREGSET &&
		       m->request != PTRACE_SETOPTIONS;
	case REMOTE_CALL_ENTER:
	case REMOTE_CALL_LEAVE: return false;
	default: return true;
	}
}

static void tracer_end(const uint8_t *data, size_t size)
{
	static struct {
		uint8_t before[512];
		struct remote_call m;
		uint8_t after[4096];
	} room;
	static const uint8_t nothing[4096];
	static pid_t tracee;

	if (!tracee)
		tracee = start_tracee();
	while (size > 0) {
		const uint8_t who = data[0];
		size_t len = size - 1 < sizeof(room.m) ? size - 1 : sizeof(room.m);

		memset(&room.m, 0, sizeof(room.m));
		memcpy(&room.m, data + 1, len);
		room.m.pid = who % 2 || may_resume(&room.m) ? NOBODY : tracee;
		if (room.m.op == REMOTE_CALL_DIE_AT)
			room.m.data = 0;
		remote_call_do(&room.m);
		if (memcmp(room.before, nothing, sizeof(room.before)) || memcmp(room.after, nothing, sizeof(room.after)))
			abort();
		if (room.m.result >= 0 && room.m.op == REMOTE_CALL_PTRACE && room.m.data_kind == REMOTE_CALL_VECTOR &&
		    room.m.len > sizeof(room.m.buffer))
			abort();
		data += 1 + len;
		size -= 1 + len;
	}
	inject_leave(tracee);
	inject_leave(NOBODY);
	if (kill(tracee, 0))
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size < 2)
		return 0;
	if (data[0] % 2)
		worker_end(data + 1, size - 1);
	else
		tracer_end(data + 1, size - 1);
	return 0;
}
