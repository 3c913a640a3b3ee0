/* Requests that the worker sends to criu during a dump or a restore.
 *
 * Only criu, which has stopped the processes of the job, may read and set their registers. libfsched-criu.so answers
 * the requests on a SOCK_SEQPACKET socket (FSCHED_REMOTE_CALL=FD in criu's environment) during two waits:
 *
 * - in a dump, while criu waits for the answer to a notification;
 *
 * - in a restore, when all processes are complete and still stopped.
 *
 * Each request gets one answer before the next request is sent.
 *
 * End of file in a restore means that the worker has ended and the memory is incomplete. Then every process of the pod
 * is killed. */
#ifndef FSCHED_TRACE_REMOTE_CALL_H
#define FSCHED_TRACE_REMOTE_CALL_H

#include <stdint.h>

enum remote_call_op {
	REMOTE_CALL_READY = 1, /* from criu, in a restore: all processes are stopped, their memory may be filled */
	/* ptrace(request, pid, addr, data). Only the requests that the worker makes are allowed (remote_call.c), with
	 * their kind of data; else the result is -EINVAL. */
	REMOTE_CALL_PTRACE,
	REMOTE_CALL_WAIT,   /* wait4(pid, __WALL): result is the pid, data the status */
	REMOTE_CALL_KILL,   /* kill(pid, request) */
	REMOTE_CALL_ENTER,  /* inject_enter(pid): buffer has its struct return_path, also in the answer */
	REMOTE_CALL_INJECT, /* inject_call(pid), see below */
	REMOTE_CALL_LEAVE,  /* inject_leave(pid) */
	REMOTE_CALL_DIE_AT, /* for tests: SIGKILL at the data-th step of an injection from now */
	REMOTE_CALL_GO,     /* in a restore: continue; it has no answer */
	/* In a dump: the shared memory that was left out of it. In the answer, buffer has struct elided_object from
	 * index addr on, and result is the number of all objects. */
	REMOTE_CALL_SHARED,
};

/* dev is 0 for an object on the kernel's own tmpfs. Otherwise the object is a deleted file, and dev is its device,
 * major << 32 | minor. */
struct elided_object {
	uint64_t ino, dev;
};

/* What the last argument of ptrace() is. */
enum remote_call_data {
	REMOTE_CALL_VALUE, /* data */
	REMOTE_CALL_VECTOR /* the address of a struct iovec of buffer */
};

struct remote_call {
	uint32_t op;
	int32_t pid; /* as criu sees it: in the pod */
	int64_t request;
	uint64_t addr, data;
	uint32_t data_kind; /* enum remote_call_data */
	uint32_t len;       /* bytes used of buffer; REMOTE_CALL_VECTOR: also in the answer */
	int64_t result;     /* in the answer: what the system call returned, -errno after a failure */
	/* Registers (x86_64: 216 bytes, aarch64: 272), or what op says. */
	_Alignas(8) uint8_t buffer[512];
};

/* REMOTE_CALL_INJECT: buffer has the registers for the call. request has the ptrace options for the time of the call,
 * data those for the time after it, addr those for a child that the call makes.
 * In the answer, buffer has the registers after the call, data the pid of the child or 0, and result is 0. See
 * inject.h. */

/* Serves the request m in the process that is the tracer, and makes m the answer. Serves all requests but
 * REMOTE_CALL_READY, REMOTE_CALL_GO and REMOTE_CALL_SHARED. */
void remote_call_do(struct remote_call *m);

/* Most objects of shared memory that can be left out of a dump. */
#define ELIDE_SHARED_MAX 16384
/* Bytes. Shared memory that holds less is not left out of a dump: criu saves it. */
#define ELIDE_SHARED_MIN (1u << 20)

/* The argument of `criu restore --action-script`. It is never run. Without an action script criu does not reach the
 * places where REMOTE_CALL_READY is sent and where the TCP connections are released. */
#define RESTORE_SCRIPT   "fsched-fills-memory"

#endif
