/* The TCP connections of a job that is frozen for a dump.
 *
 * criu puts every connected socket into repair mode (TCP_REPAIR) and saves its queues, one socket after the other. The
 * kernel goes on delivering segments meanwhile. Two problems follow. Both are solved here, in the driver of criu, which
 * sees the pod's /proc:
 *
 * - Data that is in flight between two sockets is in no image, or is in the image of a socket that was written before
 *   the data arrived. So all data must have arrived before criu saves the first socket (tcp_drain()), and no data may
 *   arrive from then until the thaw (tcp_block(), tcp_unchanged()).
 *
 * - A socket that is left in repair mode refuses every read of its process. When criu is killed, the kernel resumes the
 *   processes, so all sockets must have left repair mode before. The guard traces criu, is notified when criu is about
 *   to exit for any reason, resets the sockets, and then lets criu exit. */
#ifndef FSCHED_CRIU_TCP_FREEZE_H
#define FSCHED_CRIU_TCP_FREEZE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include "base/err.h"

struct tcp_queues {
	int state;  /* TCP_ESTABLISHED and so on */
	int in;     /* bytes that the process has not read */
	int out;    /* bytes that are not acknowledged, including those that are not sent */
	int unsent; /* bytes that are not sent */
};

struct tcp_end {
	uint8_t ip[16]; /* IPv4 as ::ffff:a.b.c.d */
	uint16_t port;  /* 0: it has no other end, or none yet */
};

struct tcp_socket {
	uint64_t ino;
	pid_t pid; /* a process that has it, as descriptor fd */
	int fd;
	int reuse; /* SO_REUSEADDR, which repair mode changes */
	struct tcp_end local, remote;
	bool failed; /* it is closed, and the job has not seen the error yet */
	struct tcp_queues queues;
};

struct tcp_sockets {
	struct tcp_socket *v; /* owned; ascending by inode */
	size_t n, room;
};

/* Lists the connected TCP sockets of all processes in the caller's /proc but pid 1, the caller and criu. A socket that
 * an earlier dump has left in repair mode or blocked, because criu and its guard were killed, is reset. The caller must
 * call tcp_free(), also after a failure. */
int tcp_collect(struct tcp_sockets *s, pid_t criu, struct err *err);
void tcp_free(struct tcp_sockets *s);
/* Moves connections whose other end is in no process of the job from s to *foreign, which the caller frees: those to
 * other hosts, and with close those to other processes of this machine too, and those that have failed, whose error
 * criu loses. A connection within this machine whose other end has sent its last byte stays in s: that byte is in the
 * image of this end. */
void tcp_split_foreign(struct tcp_sockets *s, struct tcp_sockets *foreign, bool close);
/* Appends an entry for each to the file of names (preload/unlinked_names.h): criu saves them as sockets that were never
 * connected (preload/tcp_closed.c), and nothing is done to them, so the job keeps them when it goes on. */
int tcp_close_foreign(const struct tcp_sockets *foreign, int names_fd, struct err *err);
/* -1 if there is one; then err names it. */
int tcp_refuse_foreign(const struct tcp_sockets *foreign, struct err *err);
/* Waits until all data that was sent has arrived, or until max_ms have passed. */
void tcp_drain(struct tcp_sockets *s, int max_ms);
/* From now on no segment arrives (preload/tcp_filter.h). Records the queues. criu or the guard undoes it. */
void tcp_block(struct tcp_sockets *s);
/* Returns false if a queue has changed since tcp_block(); then err names the process and the descriptor (EAGAIN). */
bool tcp_unchanged(const struct tcp_sockets *s, struct err *err);

/* Starts the guard of criu as a child of the caller. Only the end of criu or of the pod ends it. Returns its pid, or
 * -1.
 */
pid_t tcp_guard(pid_t criu, const struct tcp_sockets *s, struct err *err);

#endif
