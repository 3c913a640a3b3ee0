/* Tells the agent which names the pod's processes change (agent/name_list.h).
 *
 * A mark for such events (FAN_CREATE and others) is on a whole file system, so the group gets the events of all
 * processes of the node. The kernel shows the reader of an event the pid in the reader's own PID namespace, and 0 for a
 * process that is not in it, even after that process has ended. So fsched-init, which is in the pod's namespace, reads
 * the events, drops those with pid 0, and passes the rest on. It reads them within 10 ms, so that the kernel's queue
 * stays short and the job is not interrupted for each of them, and keeps what the agent does not take yet. */
#ifndef FSCHED_POD_NAMES_RELAY_H
#define FSCHED_POD_NAMES_RELAY_H

#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct names_relay {
	int group;  /* fanotify; -1 = there is none */
	int agent;  /* stream socket */
	char *kept; /* events that the agent has not taken */
	size_t from, to, room;
	int64_t due; /* CLOCK_MONOTONIC ms before which events are left in the queue */
	bool lost;   /* events were dropped because there was no room */
	bool asked;  /* the agent waits for the mark below */
};

/* The agent gets struct fanotify_event_metadata with the pod's events, one after the other, and after each byte that it
 * sends one with mask 0 behind the events so far. One with FAN_Q_OVERFLOW stands for events that are missing. */

#define NAMES_RELAY_POLLS 2

/* Takes over both descriptors. Earlier ones are closed. */
void names_relay_begin(struct names_relay *r, int group, int agent);
void names_relay_poll(const struct names_relay *r, struct pollfd p[NAMES_RELAY_POLLS]);
/* Milliseconds for which poll() may wait; -1 = no limit. */
int names_relay_wait_ms(const struct names_relay *r);
void names_relay_run(struct names_relay *r, const struct pollfd p[NAMES_RELAY_POLLS]);
/* Before the pod ends: passes on what its processes did last. Waits for the agent for half a second at most. */
void names_relay_end(struct names_relay *r);

#endif
