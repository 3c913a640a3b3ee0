/* Part of libfsched-criu.so: serves the worker's requests (trace/remote_call.h). */
#include <linux/fcntl.h>
#include <linux/stat.h>
#include <sys/syscall.h>

#include "trace/remote_call.h"
#include "preload/preload.h"
#include "trace/raw_syscall.h"

#define POLL_IN   1
#define SIG_KILL  9
#define DONT_WAIT 0x40   /* MSG_DONTWAIT */
#define NO_SIGNAL 0x4000 /* MSG_NOSIGNAL */

struct poll_fd {
	int fd;
	short events, revents;
};

static int server_fd = -1;
static bool in_dump;     /* else in a restore, in which the end of the worker must not be missed */
static struct statx rpc; /* criu's RPC socket ("criu swrk FD"), which criu moves to another descriptor */

__attribute__((constructor)) static void server_begin(int argc, char **argv, char **envp)
{
	const char *p;

	for (; *envp; envp++) {
		in_dump |= preload_equal(*envp, "FSCHED_ELIDE=1");
		p = preload_after(*envp, "FSCHED_REMOTE_CALL=");
		if (p)
			server_fd = (int)preload_number(&p, 1 << 30);
	}
	/* "@12" or "012": see by_name.c. */
	for (int i = 1; i + 1 < argc; i++)
		if (preload_equal(argv[i], "swrk")) {
			p = argv[i + 1] + (argv[i + 1][0] == '@');
			preload_stat((int)preload_number(&p, 1 << 30), "", &rpc);
		}
}

static void server_answer(struct remote_call *m)
{
	unsigned total;

	if (m->op == REMOTE_CALL_SHARED) {
		m->len = sizeof(struct elided_object) *
			 elide_shared_list(m->addr, (struct elided_object *)m->buffer,
					   sizeof(m->buffer) / sizeof(struct elided_object), &total);
		m->result = total;
	} else {
		remote_call_do(m);
	}
	raw_syscall(SYS_sendto, server_fd, (long)m, sizeof(*m), NO_SIGNAL | DONT_WAIT, 0, 0);
}

/* Serves one request. Returns false if there are no more; *gone: because the worker has closed its end. */
static bool server_handle_one(bool *gone)
{
	struct remote_call m;
	long n;

	do
		n = raw_syscall(SYS_recvfrom, server_fd, (long)&m, sizeof(m), 0, 0, 0);
	while (n == -EINTR);
	*gone = n != sizeof(m);
	if (*gone || m.op == REMOTE_CALL_GO)
		return false;
	server_answer(&m);
	return true;
}

/* Serves requests until fd is readable. */
static void server_run_until(int fd)
{
	struct poll_fd p[2] = { { fd, POLL_IN, 0 }, { server_fd, POLL_IN, 0 } };
	bool gone;
	long n;

	for (;;) {
		p[0].revents = p[1].revents = 0;
		n = raw_syscall(SYS_ppoll, (long)p, 2, 0, 0, 0, 0);
		if (n < 0 && n != -EINTR)
			return;
		if (n > 0 && p[1].revents && !server_handle_one(&gone) && gone) {
			/* The worker closes its end when it needs no more requests. */
			server_fd = -1;
			return;
		}
		if (p[0].revents)
			return;
	}
}

/* Kills all processes of the pod, which is criu's PID namespace, but its pid 1 and criu itself. */
static _Noreturn void server_kill_pod(void)
{
	raw_syscall(SYS_kill, -1, SIG_KILL, 0, 0, 0, 0);
	for (;;)
		raw_syscall(SYS_exit_group, 1, 0, 0, 0, 0, 0);
}

static void server_wait_for_memory(void)
{
	struct remote_call ready = { .op = REMOTE_CALL_READY };
	bool gone = false;

	if (raw_syscall(SYS_sendto, server_fd, (long)&ready, sizeof(ready), NO_SIGNAL, 0, 0) != sizeof(ready))
		server_kill_pod();
	while (server_handle_one(&gone))
		;
	if (gone)
		server_kill_pod();
	raw_syscall(SYS_close, server_fd, 0, 0, 0, 0, 0);
	server_fd = -1;
}

/* ---- what criu calls --------------------------------------------------- */

EXPORT long recv(int fd, void *buf, size_t n, int flags);
EXPORT int setenv(const char *name, const char *value, int overwrite);
EXPORT int execvp(const char *file, char *const argv[]);

static bool server_is_rpc(int fd)
{
	struct statx st;

	return rpc.stx_ino && preload_stat(fd, "", &st) && preload_same_file(&rpc, &st);
}

/* In a dump criu reads the answer to a notification by this call. It reads other sockets as well: those of the job, on
 * which data may never come (the send queue of a connection, with MSG_DONTWAIT), and those of its own parasites. */
long recv(int fd, void *buf, size_t n, int flags)
{
	if (server_fd >= 0 && in_dump && !(flags & DONT_WAIT) && server_is_rpc(fd))
		server_run_until(fd);
	return errno_result(raw_syscall(SYS_recvfrom, fd, (long)buf, (long)n, flags, 0, 0));
}

static int script_status; /* exit status of the action script, which is not run */

/* In a restore criu sets variables only for action scripts, and fsched has none that is run. "post-restore" comes when
 * all sockets exist, "pre-resume" when criu has only to resume the processes. */
int setenv(const char *name, const char *value, int overwrite)
{
	(void)overwrite;
	if (in_dump || !preload_equal(name, "CRTOOLS_SCRIPT_ACTION"))
		return 0;
	script_status = preload_equal(value, "post-restore") && (!moved_sockets_restore() || !tcp_restored());
	if (server_fd >= 0 && preload_equal(value, "pre-resume"))
		server_wait_for_memory();
	return 0;
}

/* Of the C library; criu itself does not call execvpe(). */
extern char **environ;
extern int execvpe(const char *file, char *const argv[], char *const envp[]);

/* Called in a child of criu. */
int execvp(const char *file, char *const argv[])
{
	if (preload_equal(file, RESTORE_SCRIPT))
		for (;;)
			raw_syscall(SYS_exit_group, script_status, 0, 0, 0, 0, 0);
	return execvpe(file, argv, environ);
}
