#include "policy/obstacle.h"

#include <stddef.h>
#include <string.h>

#include "base/util.h"

/* The first row that matches and has an answer decides, so particular rows stand before general ones. Texts of criu 4.1
 * to 4.2. */
static const struct obstacle table[] = {
	/* A connection to a process outside the job fails at every attempt, also where the text has words of rows
	   below. */
	{ .needle = "External socket", .retry = RETRY_NO },

	/* used by something else on this node */
	{ "Address already in use", "unix", OBSTACLE_PASSES,
	  "the name of a Unix socket of the job is in use on this node", "end the program that has it" },
	{ "Address already in use", NULL, OBSTACLE_PASSES, "a port that the job had open is in use on this node",
	  "it is free a minute after the job's own connections ended, or when the program that has it ends (ss -tnap)" },
	{ "with specified index", NULL, OBSTACLE_PASSES,
	  "criu did not get the number that a terminal (pty) of the job had", NULL },
	{ "Can't fork for", "File exists", OBSTACLE_PASSES, "a process id of the job is in use", NULL },
	{ "Setting PID failed", NULL, OBSTACLE_PASSES, "a process id of the job is in use", NULL },
	{ "do not match expected", NULL, OBSTACLE_PASSES, "a process id of the job is in use", NULL },
	{ "pid mismatch", NULL, OBSTACLE_PASSES, "a process id of the job is in use", NULL },
	{ "Unable to create a thread: -17", NULL, OBSTACLE_PASSES, "a thread id of the job is in use", NULL },

	/* used up on this node */
	{ "Unable to create a thread: -11", NULL, OBSTACLE_PASSES, "the limit of processes is reached",
	  "look at ulimit -u and pids.max" },
	{ "fork", "Resource temporarily unavailable", OBSTACLE_PASSES, "the limit of processes is reached",
	  "look at ulimit -u and pids.max" },
	{ "Cannot allocate memory", NULL, OBSTACLE_PASSES, "memory is short, on the node or within the job's limit",
	  "ask for more memory (scontrol update JobId=ID MinMemoryNode=MB) if it stays so", RETRY_YES },
	{ "Not enough memory", NULL, OBSTACLE_PASSES, "memory is short, on the node or within the job's limit",
	  "ask for more memory (scontrol update JobId=ID MinMemoryNode=MB) if it stays so" },
	{ "killed by signal 9", NULL, OBSTACLE_PASSES,
	  "a process was killed, as for lack of memory on the node or within the job's limit",
	  "ask for more memory (scontrol update JobId=ID MinMemoryNode=MB) if it stays so" },
	{ "Too many open files", NULL, OBSTACLE_PASSES, "a limit of open files or of inotify instances is reached",
	  "look at fs.file-max and fs.inotify.max_user_instances" },
	{ "Ring setup failed", NULL, OBSTACLE_PASSES, "the limit of asynchronous I/O is reached", "raise fs.aio-max-nr" },
	{ "ptmx", "No space left on device", OBSTACLE_PASSES, "all terminals (ptys) that this node allows are in use",
	  "close some, or raise kernel.pty.max" },
	{ "No space left on device", NULL, OBSTACLE_PASSES,
	  "a disk is full: that of JobCheckpointDir, of PodDir on the node, or of the job's files",
	  "make room (fsched prune removes epochs)" },
	{ "Disk quota exceeded", NULL, OBSTACLE_PASSES, "a quota is used up: of JobCheckpointDir or of the job's files",
	  "make room (fsched prune removes epochs)" },

	/* missing, but may appear */
	{ "is gone together with directory", NULL, OBSTACLE_PASSES, NULL, NULL },
	{ "Stale file handle", NULL, OBSTACLE_PASSES, "a file system does not answer on this node", "mount it again" },
	{ "Transport endpoint is not connected", NULL, OBSTACLE_PASSES, "a file system does not answer on this node",
	  "mount it again" },
	{ "Can't open file", "No such file or directory", OBSTACLE_PASSES,
	  "a file that the job had open is not there on this node", "mount its file system, or put it back" },

	/* differences between this node and the one of the checkpoint */
	{ "Cannot assign requested address", NULL, OBSTACLE_NODE,
	  "this node does not have a network address that the job had bound", NULL },
	{ "find ifindex", NULL, OBSTACLE_NODE, "this node does not have a network interface that the job had bound",
	  NULL },
	{ "has bad build-ID", NULL, OBSTACLE_NODE, "a program or library of the job is another version on this node",
	  NULL },
	{ "has bad size", NULL, OBSTACLE_NODE,
	  "a file that the job has open, a library perhaps, has another size than at the checkpoint",
	  "put it back as it was" },
	{ "Core march mismatch", NULL, OBSTACLE_NODE, "the processor of this node is of another architecture", NULL },
	{ "vdso", NULL, OBSTACLE_NODE, "the kernel of this node does not fit (vDSO)", NULL },
	{ "rseq: can't restore", NULL, OBSTACLE_NODE, "the kernel of this node lacks a feature that criu needs", NULL },
	{ "kernel doesn't support", NULL, OBSTACLE_NODE, "the kernel of this node lacks a feature that criu needs", NULL },
	{ "mount is not found", NULL, OBSTACLE_NODE, "a file system that the job uses is not mounted on this node",
	  "mount it" },
	{ "Can't get rlimit", NULL, OBSTACLE_NODE,
	  "root lacks CAP_SYS_RESOURCE on this node and fsched's preload library for criu was not loaded",
	  "reinstall fsched" },
	{ "Can't restore cur > max", NULL, OBSTACLE_NODE, "a resource limit of the job cannot be set on this node", NULL },

	{ "CPUs of their own, and this node has", NULL, OBSTACLE_NODE, NULL, NULL },

	/* what Slurm has given to the job */
	{ "CPUs of their own, and the job has got", NULL, OBSTACLE_GIVEN, NULL, NULL },

	/* the job's files */
	{ "Can't open file", "Permission denied", OBSTACLE_JOB,
	  "the job's user may not open a file any more that the job had open", "give the permission back" },
	{ "has bad mode", NULL, OBSTACLE_JOB, "the mode of a file that the job has open was changed", "set it back" },
	{ "Can't open file", NULL, OBSTACLE_JOB, "a file that the job had open cannot be opened", "put it back" },
	{ "cannot continue byte-identical", NULL, OBSTACLE_JOB, NULL, NULL },
	{ "was a regular file that the job writes", NULL, OBSTACLE_JOB, NULL, NULL },
	{ "no copy was made of it", NULL, OBSTACLE_JOB, NULL, NULL },

	/* the epoch */
	{ "orrupted", NULL, OBSTACLE_EPOCH, "the epoch is damaged", NULL },
	{ "External socket found in image", NULL, OBSTACLE_EPOCH,
	  "the job was connected to a Unix socket of a process outside the job", NULL },

	/* errors of checkpoints */
	{ "io_uring", NULL, OBSTACLE_EPOCH, "a process of the job uses io_uring, which cannot be checkpointed",
	  "switch it off in the program" },
	{ "send_fds failed", NULL, OBSTACLE_EPOCH,
	  "a process of the job has a kind of descriptor open that cannot be checkpointed (io_uring, for instance)",
	  NULL },
	{ "Unseizable", NULL, OBSTACLE_EPOCH, "a process of the job is being traced (by a debugger or strace)",
	  "detach it and try again" },
	{ "already traced", NULL, OBSTACLE_EPOCH, "a process of the job is being traced (by a debugger or strace)",
	  "detach it and try again" },
	{ "External socket is used", NULL, OBSTACLE_EPOCH,
	  "the job is connected to a Unix socket of a process outside the job",
	  "close the connection, or start that process in the job" },
	{ "Can't dump half of", NULL, OBSTACLE_EPOCH, "the job is connected to a Unix socket of a process outside the job",
	  "close the connection, or start that process in the job" },
	{ "ctty inheritance detected", NULL, OBSTACLE_EPOCH, "a process of the job has /dev/tty open", "close it" },
	{ "Found slave peer", NULL, OBSTACLE_EPOCH,
	  "the other end of a terminal of the job is open outside the job only", "close it, or redirect it to a file" },
	{ "Found dangling tty", NULL, OBSTACLE_EPOCH, "a terminal of the job belongs to a session outside the job",
	  "close it, or redirect it to a file" },
	{ "exceeding limit", NULL, OBSTACLE_EPOCH,
	  "the job has a deleted file open that is larger than CheckpointFileLimit", "raise the limit" },
	{ "too big (have", NULL, OBSTACLE_EPOCH,
	  "the job has a deleted file open that is larger than CheckpointFileLimit", "raise the limit" },
	{ "increase limit", NULL, OBSTACLE_EPOCH,
	  "the job has a deleted file open that is larger than CheckpointFileLimit", "raise the limit" },
	{ "doesn't live in IPC ns", NULL, OBSTACLE_EPOCH, "the job uses System V IPC objects from outside its pod",
	  "create them in the job" },
	{ "Connected TCP socket, consider using", NULL, OBSTACLE_EPOCH, "the job has an open TCP connection", "close it" },
	{ "n-flight connection", NULL, OBSTACLE_EPOCH, "a connection of the job is just being made", "try again",
	  RETRY_YES },
	{ "recv failed (", NULL, OBSTACLE_EPOCH,
	  "a TCP connection of the job has urgent data (MSG_OOB) that its program has not read", "try again", RETRY_YES },
	{ "nested time", NULL, OBSTACLE_EPOCH,
	  "a process of the job has made a time namespace for its children (unshare --time)", "start them without" },
	{ "MPTCP", NULL, OBSTACLE_EPOCH, "a program in Go uses MPTCP, which cannot be checkpointed",
	  "set GODEBUG=multipathtcp=0 in the script" },
	{ "Can't splice all pages to pipe", NULL, OBSTACLE_EPOCH,
	  "this criu is too old for the C library of the job (guard pages)", "install criu 4.2 or newer" },

	/* Checkpoints that may succeed at the next attempt. A process ended while criu walked the tree: */
	{ .needle = "No such process", .retry = RETRY_YES },
	{ .needle = "found while seizing", .retry = RETRY_YES },
	{ .needle = "Zombie thread", .retry = RETRY_YES },
	{ .needle = "Can't find task with pid", .retry = RETRY_YES },
	/* data in flight between two sockets */
	{ "in-flight socket", NULL, OBSTACLE_EPOCH,
	  "a process has connected to a Unix socket of the job and sent data, and the connection is not accepted yet",
	  "try again", RETRY_YES },
	{ "Control messages in queue", NULL, OBSTACLE_EPOCH,
	  "data waits in a Unix socket of the job together with a descriptor, credentials or a time stamp", "try again",
	  RETRY_YES },
	{ .needle = "waits to be accepted", .retry = RETRY_YES },
	{ "corked dgram", NULL, OBSTACLE_EPOCH,
	  "a process of the job holds back what it writes to a UDP socket (UDP_CORK)", "try again", RETRY_YES },
	/* a thread that executes a breakpoint of its own, or traces itself by one */
	{ "pending SIGTRAP", NULL, OBSTACLE_EPOCH,
	  "a thread of the job has a trap (SIGTRAP) that it has not handled yet", "try again", RETRY_YES },
	/* a connection that preflight() has not seen */
	{ .needle = "since the job was checked", .retry = RETRY_YES },
	/* the tree did not stop in time */
	{ .needle = "Unable to freeze", .retry = RETRY_YES },
	{ .needle = "Timeout reached", .retry = RETRY_YES },
	{ .needle = "Individually stopped threads", .retry = RETRY_YES },
	/* criu or the worker was killed, by the OOM killer or by a person */
	{ .needle = "criu was killed", .retry = RETRY_YES },
	{ .needle = "criu ended without a message", .retry = RETRY_YES },
	{ .needle = "checkpoint worker was killed by signal", .retry = RETRY_YES },
	/* munged is being restarted, or others use the memory or the processes at the moment */
	{ .needle = "MUNGE", .retry = RETRY_YES },
	{ .needle = "Resource temporarily unavailable", .retry = RETRY_YES },

	/* the end of a log that gives no reason */
	{ "Restoring FAILED", NULL, OBSTACLE_UNKNOWN, "criu gives no reason",
	  "look at restore.log in the job's checkpoint directory" },
	{ "Dumping FAILED", NULL, OBSTACLE_UNKNOWN, "criu gives no reason",
	  "look at dump.log in the job's checkpoint directory" },
};

static bool obstacle_matches(const struct obstacle *o, const char *text)
{
	return strcasestr(text, o->needle) && (!o->also || strcasestr(text, o->also));
}

const struct obstacle *obstacle_find(const char *text)
{
	for (size_t i = 0; i < ARRAY_SIZE(table); i++)
		if ((table[i].class != OBSTACLE_UNKNOWN || table[i].sentence) && obstacle_matches(&table[i], text))
			return &table[i];
	return NULL;
}

enum obstacle_class obstacle_class(const char *text)
{
	const struct obstacle *o = obstacle_find(text);

	return o ? o->class : OBSTACLE_UNKNOWN;
}

bool obstacle_retry_checkpoint(const char *text)
{
	for (size_t i = 0; i < ARRAY_SIZE(table); i++)
		if (table[i].retry != RETRY_UNKNOWN && obstacle_matches(&table[i], text))
			return table[i].retry == RETRY_YES;
	return false;
}
