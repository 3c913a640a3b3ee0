/* The conversation between scontrol/fsched (client) and the agent of a job.
 *
 * TCP to the port published in AdminComment, on the job's batch host. First the client sends one line: a MUNGE
 * credential whose payload is the JSON request below. After authentication the agent sends lines, each a MUNGE
 * credential (restricted to the client's uid) with a JSON payload, and closes. Nothing is parsed that MUNGE has not
 * authenticated. Lines are at most PROTO_LINE_MAX bytes; the client has PROTO_HELLO_TIMEOUT seconds to send its
 * request. The agent sends a line at least every PROTO_HEARTBEAT seconds while it works.
 *
 * Request:  {"v":2, "op":"create"|"vacate"|"status"|"error"|"able"|"list", "job_id":N, "uuid":"…", "nonce":"16 hex",
 * "time":UNIX} The credential's own freshness (MUNGE's ttl and replay protection) guards against repetition.
 *
 * Every line of the agent contains the "nonce" of the request. The client refuses any other line, so that a recorded
 * answer to an earlier request cannot be sent again.
 *
 * Who may: the job's owner, root, SlurmUser. A create or vacate that the agent has goes on without its client, also
 * while it waits behind another operation. Progress: {"event":"phase","name":…}     name as in docs/internals.md;
 * "queued" while another operation runs; "requeue": a vacate's epoch is durable and Slurm is asked; "alive" = heartbeat
 * Last:
 * {"event":"result","ok":true,"op","epoch","bytes","frozen_us","total_us","warnings":[],…} able:
 * {…,"able":bool,"reason":"why not"}, or "busy":true and "began" while an operation is under way
 *           {"event":"result","ok":false,"error":"sentence","state":"what happens to the job now"}
 */
#ifndef FSCHED_AGENT_PROTOCOL_H
#define FSCHED_AGENT_PROTOCOL_H

#define PROTO_VERSION        2
#define PROTO_NONCE          16 /* hexadecimal digits */
#define PROTO_LINE_MAX       65536
#define PROTO_HELLO_TIMEOUT  10
#define PROTO_HEARTBEAT      2
#define PROTO_CLIENT_TIMEOUT 30 /* s without a line: the client gives up, the operation goes on */

#endif
