/* The system calls that a process of a proof (worker/prove.c) must not make, since they reach what no namespace
 * separates: keys of the kernel, and sockets to the host of a virtual machine. A program for seccomp(2), which has no
 * effect on other calls. */
#ifndef FSCHED_TRACE_ALONE_FILTER_H
#define FSCHED_TRACE_ALONE_FILTER_H

#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/syscall.h>

#define ALONE_VSOCK 40 /* AF_VSOCK */

#if defined(__x86_64__)
#define ALONE_NATIVE  AUDIT_ARCH_X86_64
#define ALONE_OTHER   AUDIT_ARCH_I386
#define ALONE_X32     0x40000000u
/* Of 32-bit programs. */
#define ALONE_ADD_KEY 286
#define ALONE_REQUEST 287
#define ALONE_KEYCTL  288
#define ALONE_SOCKET  359
#define ALONE_CALL    102 /* socketcall(2), whose arguments a filter cannot see */
#elif defined(__aarch64__)
#define ALONE_NATIVE  AUDIT_ARCH_AARCH64
#define ALONE_OTHER   AUDIT_ARCH_ARM
#define ALONE_X32     0x40000000u /* no call has such a number */
#define ALONE_ADD_KEY 309
#define ALONE_REQUEST 310
#define ALONE_KEYCTL  311
#define ALONE_SOCKET  281
#define ALONE_CALL    102
#endif

#define ALONE_LOAD(member)       BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, member))
#define ALONE_IS(value, yes, no) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (value), (yes), (no))
#define ALONE_RETURN(value)      BPF_STMT(BPF_RET | BPF_K, (value))

/* Jumps are relative to the next instruction. io_uring makes sockets too, where no filter sees it. */
static const struct sock_filter alone_program[] = {
	/*  0 */ ALONE_LOAD(arch),
	/*  1 */ ALONE_IS(ALONE_NATIVE, 0, 8),
	/*  2 */ ALONE_LOAD(nr),
	/*  3 */ BPF_STMT(BPF_ALU | BPF_AND | BPF_K, ~ALONE_X32),
	/*  4 */ ALONE_IS(SYS_add_key, 17, 0),
	/*  5 */ ALONE_IS(SYS_request_key, 16, 0),
	/*  6 */ ALONE_IS(SYS_keyctl, 15, 0),
	/*  7 */ ALONE_IS(SYS_io_uring_setup, 14, 0),
	/*  8 */ ALONE_IS(SYS_socket, 9, 0),
	/*  9 */ ALONE_RETURN(SECCOMP_RET_ALLOW),
	/* 10 */ ALONE_IS(ALONE_OTHER, 0, 11),
	/* 11 */ ALONE_LOAD(nr),
	/* 12 */ ALONE_IS(ALONE_ADD_KEY, 9, 0),
	/* 13 */ ALONE_IS(ALONE_REQUEST, 8, 0),
	/* 14 */ ALONE_IS(ALONE_KEYCTL, 7, 0),
	/* 15 */ ALONE_IS(ALONE_CALL, 6, 0),
	/* 16 */ ALONE_IS(SYS_io_uring_setup, 5, 0), /* the same number everywhere */
	/* 17 */ ALONE_IS(ALONE_SOCKET, 0, 3),
	/* 18 */ ALONE_LOAD(args[0]), /* its lower half: little endian */
	/* 19 */ ALONE_IS(ALONE_VSOCK, 0, 1),
	/* 20 */ ALONE_RETURN(SECCOMP_RET_ERRNO | EAFNOSUPPORT),
	/* 21 */ ALONE_RETURN(SECCOMP_RET_ALLOW),
	/* 22 */ ALONE_RETURN(SECCOMP_RET_ERRNO | EPERM),
};

#endif
