/* The child process of one connection. It alone reads from the network and talks to munged, so that neither a hostile
 * client nor a munged that hangs can harm the agent. */
#ifndef FSCHED_AGENT_CONN_H
#define FSCHED_AGENT_CONN_H

#include <stdint.h>
#include <sys/types.h>

struct conn_setup {
	int client; /* the TCP connection */
	/* SOCK_SEQPACKET: "OP UID" or "refused TEXT" to the agent, JSON payloads back, end of file after the last */
	int agent;
	uint32_t job_id;
	const char *uuid;
	const char *munge_socket; /* "" = default */
	uid_t owner, slurm_user;
};

/* Serves the connection and ends the process. */
_Noreturn void conn_main(const struct conn_setup *s);

#endif
