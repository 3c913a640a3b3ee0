/* Part of libfsched-criu.so: attributes that a process can set only for itself, and that criu does not restore.
 *
 * FSCHED_TASKS in criu's environment lists them: PID:PERSONALITY:MCE:MODE:NODES; for each process that needs it.
 * PERSONALITY is the argument of personality(2), MCE that of PR_MCE_KILL_SET + 1 (0 = not set), and MODE and NODES, a
 * bit mask, are those of set_mempolicy(2). All numbers are decimal. The entry with PID 0 is for the processes that are
 * not listed, since a process inherits what its parent has set. The first thread of a process sets them as soon as criu
 * has forked it, and threads inherit them. */
#include <linux/prctl.h>
#include <sys/syscall.h>

#include "preload/preload.h"
#include "trace/raw_syscall.h"

#define NODES_MAX 64

static const char *tasks;

__attribute__((constructor)) static void task_attributes_begin(int argc, char **argv, char **envp)
{
	const char *value;

	(void)argc;
	(void)argv;
	for (; *envp; envp++)
		if ((value = preload_after(*envp, "FSCHED_TASKS=")))
			tasks = value;
}

/* Reads the numbers of one process, and advances *text beyond them. */
static bool task_attributes_parse(const char **text, long v[5])
{
	for (int i = 0; i < 5; i++) {
		v[i] = preload_number(text, 1L << 59);
		if (v[i] < 0 || **text != (i < 4 ? ':' : ';'))
			return false;
		++*text;
	}
	return true;
}

static void task_attributes_set(const long v[5])
{
	unsigned long nodes = (unsigned long)v[4];

	raw_syscall(SYS_personality, v[1], 0, 0, 0, 0, 0);
	raw_syscall(SYS_prctl, PR_MCE_KILL, v[2] ? PR_MCE_KILL_SET : PR_MCE_KILL_CLEAR, v[2] ? v[2] - 1 : 0, 0, 0, 0);
	raw_syscall(SYS_set_mempolicy, v[3], nodes ? (long)&nodes : 0, nodes ? NODES_MAX : 0, 0, 0, 0);
}

void task_attributes_restore(void)
{
	const long pid = raw_syscall(SYS_getpid, 0, 0, 0, 0, 0, 0);
	long v[5], own[5];
	const char *p = tasks;
	bool found = false;

	while (p && *p && task_attributes_parse(&p, v)) {
		if (v[0] && v[0] != pid)
			continue;
		for (int i = 0; i < 5; i++)
			own[i] = v[i];
		found = true;
	}
	if (found)
		task_attributes_set(own);
}
