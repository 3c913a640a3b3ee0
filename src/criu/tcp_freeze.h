/* The TCP connections of a job that is frozen for a dump.
 *
 * criu puts every connected socket into repair mode (TCP_REPAIR) and saves its queues one after the other, while the
 * kernel goes on delivering what is under way. Two things follow, which are done here, in criu's driver, which sees the
 * pod's /proc:
 *
 * - What is under way between two sockets is in no image, or in one that was written before it arrived. So all of it
 * has to have arrived before the first socket is saved (tcp_drain()), and then nothing may arrive until the thaw
 * (tcp_block(), tcp_unchanged()).
 * - A socket that is left in repair mode refuses its process every read. When criu is killed the kernel lets the
 * processes go, so before that all sockets have to leave that mode: the guard traces criu, is told when criu is about
 * to end, whatever the reason, and lets it end when that is done. */
#ifndef FSCHED_CRIU_TCP_FREEZE_H
#define FSCHED_CRIU_TCP_FREEZE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include "base/err.h"

struct tcp_queues {
	int state, in, out, unsent;
}; /* bytes: unread; not acknowledged, also not yet sent; not yet sent */

struct tcp_socket {
	uint64_t ino;
	pid_t pid; /* a process that has it, as descriptor fd */
	int fd;
	int reuse; /* SO_REUSEADDR, which repair mode changes */
	struct tcp_queues queues;
};

struct tcp_sockets {
	struct tcp_socket *v; /* owned; ascending by inode */
	size_t n, room;
};

/* The sockets of all processes in the calling process's /proc but pid 1, itself and criu: connected ones only. One that
 * a dump left in repair mode or shut, because it and its guard died, is let go. To be freed with tcp_free(), also after
 * a failure. */
int tcp_collect(struct tcp_sockets *s, pid_t criu, struct err *err);
void tcp_free(struct tcp_sockets *s);
/* Waits until everything that was sent has arrived, or max_ms have passed. */
void tcp_drain(struct tcp_sockets *s, int max_ms);
/* From now on nothing arrives any more (preload/tcp_filter.h). Notes the queues. criu or the guard undoes it. */
void tcp_block(struct tcp_sockets *s);
/* False if a queue has changed since: err says of which process. */
bool tcp_unchanged(const struct tcp_sockets *s, struct err *err);

/* The guard of criu, a child of the caller's that nothing but the end of criu or of the pod ends. Returns its pid, or
 * -1. */
pid_t tcp_guard(pid_t criu, const struct tcp_sockets *s, struct err *err);

#endif
