/* The conversation between scontrol/fsched (the client) and the agent of a job.
 *
 * The client connects by TCP to the port published in AdminComment, on the job's batch host. It sends one line: a MUNGE
 * credential whose payload is the JSON request below. After authentication the agent sends lines, each a MUNGE
 * credential (restricted to the client's uid) with a JSON payload, and closes. Nothing is parsed that MUNGE has not
 * authenticated. A line has at most PROTO_LINE_MAX bytes. The client has PROTO_HELLO_TIMEOUT seconds to send its
 * request. While it works, the agent sends a line at least every PROTO_HEARTBEAT seconds.
 *
 * Request:
 *   {"v":2, "op":OP, "job_id":N, "uuid":"...", "nonce":"16 hex", "time":UNIX}
 *   OP is "create", "vacate", "status", "error", "able" or "list".
 *   MUNGE's ttl and replay protection guard against a repetition. The job's owner, root and SlurmUser may ask.
 *   The agent carries out a create or vacate that it has got even if its client goes, also while the request waits
 *   behind another operation.
 *
 * Every line of the agent contains the "nonce" of the request. The client refuses any other line, so that a recorded
 * answer to an earlier request cannot be sent again.
 *
 * Progress:
 *   {"event":"phase","name":...}
 *   The names are in docs/internals.md, and these:
 *   "queued"   another operation runs
 *   "requeue"  a vacate's epoch is durable, and Slurm is asked to requeue the job
 *   "alive"    a heartbeat
 *
 * The last line:
 *   {"event":"result","ok":true,"op","epoch","bytes","frozen_us","total_us","warnings":[],...}
 *   of able: {...,"able":bool,"reason":"why not"}, or "busy":true and "began" while an operation is under way
 *   {"event":"result","ok":false,"error":"sentence","state":"what happens to the job now"}
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
