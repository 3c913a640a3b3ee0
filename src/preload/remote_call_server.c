/* Part of libfsched-criu.so, which is loaded into criu, and only into criu: requests of the worker's, see hand.h. */
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
static bool in_dump;     /* else in a restore, where a worker that is gone must not be overlooked */
static struct statx rpc; /* criu's RPC socket ("criu swrk FD"), which criu moves to another descriptor */

static bool look_at(int fd, struct statx *st)
{
	return raw_syscall(SYS_statx, fd, (long)"", AT_EMPTY_PATH, STATX_BASIC_STATS, (long)st, 0) == 0;
}

static int number(const char *p)
{
	int n = -1;

	if (*p >= '0' && *p <= '9')
		for (n = 0; *p >= '0' && *p <= '9' && n < 1 << 20; p++)
			n = n * 10 + (*p - '0');
	return n;
}

__attribute__((constructor)) static void server_begin(int argc, char **argv, char **envp)
{
	const char *p;

	for (; *envp; envp++) {
		in_dump |= preload_equal(*envp, "FSCHED_ELIDE=1");
		p = preload_after(*envp, "FSCHED_REMOTE_CALL=");
		if (p)
			server_fd = number(p);
	}
	/* "@12" or "012": see as_user.c. */
	for (int i = 1; i + 1 < argc; i++)
		if (preload_equal(argv[i], "swrk"))
			look_at(number(argv[i + 1] + (argv[i + 1][0] == '@')), &rpc);
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

/* One request: true unless it was the last one. */
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

/* Serves until fd has something. */
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
			/* The worker closes it when it has what it wants. */
			server_fd = -1;
			return;
		}
		if (p[0].revents)
			return;
	}
}

/* The pod is criu's PID namespace: all but its pid 1 and criu itself. */
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

	return rpc.stx_ino && look_at(fd, &st) && st.stx_ino == rpc.stx_ino && st.stx_dev_major == rpc.stx_dev_major &&
	       st.stx_dev_minor == rpc.stx_dev_minor;
}

/* Dump: the answer to a notification comes this way. criu reads other sockets too: those of the job, where there need
 * never be anything to read (the send queue of a connection, with MSG_DONTWAIT), and those of its own parasites. */
long recv(int fd, void *buf, size_t n, int flags)
{
	if (server_fd >= 0 && in_dump && !(flags & DONT_WAIT) && server_is_rpc(fd))
		server_run_until(fd);
	return errno_result(raw_syscall(SYS_recvfrom, fd, (long)buf, (long)n, flags, 0, 0));
}

static int script_status; /* of the script that does not run */

/* Restore: criu sets variables for action scripts only, of which fsched has none that runs. "post-restore" comes when
 * all sockets are there, "pre-resume" when nothing is left to be done but letting the processes go. */
int setenv(const char *name, const char *value, int overwrite)
{
	(void)overwrite;
	if (in_dump || !preload_equal(name, "CRTOOLS_SCRIPT_ACTION"))
		return 0;
	script_status = preload_equal(value, "post-restore") && !tcp_restored();
	if (server_fd >= 0 && preload_equal(value, "pre-resume"))
		server_wait_for_memory();
	return 0;
}

/* The C library's, which criu does not call itself. */
extern char **environ;
extern int execvpe(const char *file, char *const argv[], char *const envp[]);

/* In a child of criu's. */
int execvp(const char *file, char *const argv[])
{
	if (preload_equal(file, RESTORE_SCRIPT))
		for (;;)
			raw_syscall(SYS_exit_group, script_status, 0, 0, 0, 0, 0);
	return execvpe(file, argv, environ);
}
