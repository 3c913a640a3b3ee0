/* The worker's hand inside criu: what the process that traces the job does for fsched while it waits for fsched anyway.
 *
 * Only criu, which has stopped the job's processes, may read and set their registers. So libfsched-criu.so answers
 * small requests on a SOCK_SEQPACKET socket (FSCHED_REMOTE_CALL=FD in criu's environment) during two waits: in a dump
 * while criu waits for the answer to a notification, and in a restore when all processes are complete and still
 * stopped. One request, one answer, in turn.
 *
 * End of file in a restore means that the worker is gone and the memory incomplete: every process of the pod is killed.
 */
#ifndef FSCHED_TRACE_REMOTE_CALL_H
#define FSCHED_TRACE_REMOTE_CALL_H

#include <stdint.h>

enum remote_call_op {
	REMOTE_CALL_READY = 1, /* from criu, in a restore: all processes are stopped, their memory may be filled */
	REMOTE_CALL_PTRACE,    /* ptrace(request, pid, addr, data) */
	REMOTE_CALL_WAIT,      /* wait4(pid, __WALL): result pid, data the status */
	REMOTE_CALL_KILL,      /* kill(pid, request) */
	REMOTE_CALL_ENTER,     /* inject_enter(pid): buffer has its struct return_path, also in the answer */
	REMOTE_CALL_INJECT,    /* lets pid make one system call, see below */
	REMOTE_CALL_LEAVE,     /* inject_leave(pid) */
	REMOTE_CALL_DIE_AT,    /* for tests: SIGKILL at the data-th step of an injection from now */
	REMOTE_CALL_GO,        /* in a restore: go on; not answered */
	REMOTE_CALL_SHARED, /* which shared memory was left out of the dump: buffer has struct elided_object from index
			addr on, result how many there are */
};

/* dev 0: on the kernel's own tmpfs; else a deleted file, on the device major << 32 | minor. */
struct elided_object {
	uint64_t ino, dev;
};

/* What the last argument of ptrace() is. */
enum remote_call_data { REMOTE_CALL_VALUE, REMOTE_CALL_BUFFER, REMOTE_CALL_VECTOR /* struct iovec of the buffer */ };

struct remote_call {
	uint32_t op;
	int32_t pid; /* as criu sees it: in the pod */
	int64_t request;
	uint64_t addr, data;
	uint32_t data_kind;              /* enum remote_call_data */
	uint32_t len;                    /* of what is used of buffer; REMOTE_CALL_VECTOR: also in the answer */
	int64_t result;                  /* in the answer: as the system call gave it, -errno after a failure */
	_Alignas(8) uint8_t buffer[512]; /* registers (x86_64: 216 bytes, aarch64: 272), a signal mask, an event's
					    message */
};

/* REMOTE_CALL_INJECT: buffer has the registers with which the call is to be made, request the ptrace options for its
 * time, data those after it, addr those for a child that it makes. Answer: buffer has the registers when it had
 * returned, data the child's pid or 0, result 0. See inject.h. */

/* Does what m asks for and makes it the answer, in the process that is the tracer: all but REMOTE_CALL_READY,
 * REMOTE_CALL_GO and REMOTE_CALL_SHARED. */
void remote_call_do(struct remote_call *m);

/* Shared memory that holds fewer bytes is criu's. */
#define ELIDE_SHARED_MIN (1u << 20)

/* argv of `criu restore --action-script`: never run, but without one criu does not come by the places where READY is
 * told and TCP connections are let go. */
#define RESTORE_SCRIPT   "fsched-fills-memory"

#endif
