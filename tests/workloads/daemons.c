/* daemons [lost-session]: a family with every kind of relation between processes, sessions and groups, named by what
 * they are: daemons (double fork, own session whose leader has ended), orphans, groups without a leader, sessions,
 * stopped ones, zombies, a sub-reaper. Prints "ready" when all are what they are to be. Ends, status 3, when the file
 * "stop" is there.
 *
 * lost-session: one more, an orphan of a session whose leader has ended that a sub-reaper besides the first process has
 * adopted. */
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>
#include "workload.h"

typedef void body(void);

static int ready[2];
static pid_t parent; /* of the last fork */

static pid_t spawn(const char *name, body *run)
{
	pid_t pid;

	parent = getpid();
	pid = fork();
	if (pid < 0)
		die("fork");
	if (pid)
		return pid;
	prctl(PR_SET_NAME, name);
	run();
	_exit(0);
}

/* The first process waits until nobody has the pipe open any more. */
static void say_ready(void)
{
	close(ready[1]);
}

static void wait_for_ever(void)
{
	say_ready();
	for (;;)
		pause();
}

static void stop(void)
{
	say_ready();
	raise(SIGSTOP);
	for (;;)
		pause();
}

/* Until the parent has ended. */
static void become_orphan(void)
{
	while (getppid() == parent)
		usleep(1000);
}

static void orphan(void)
{
	become_orphan();
	wait_for_ever();
}

static void stopped_orphan(void)
{
	become_orphan();
	stop();
}

static void with_zombie(void)
{
	become_orphan();
	spawn("zombie", say_ready);
	wait_for_ever();
}

static void leaves_orphan(void)
{
	spawn("orphan", orphan);
}

static void leaves_daemon(void)
{
	setsid();
	spawn("daemon", orphan);
}

static void leaves_stopped_daemon(void)
{
	setsid();
	spawn("stopped-daemon", stopped_orphan);
}

static void leaves_daemon_with_zombie(void)
{
	setsid();
	spawn("zombies-parent", with_zombie);
}

/* In a session without a leader: a group with a leader, and one without. */
static void in_a_group(void)
{
	setpgid(0, 0);
	become_orphan();
	spawn("group-member", wait_for_ever);
	wait_for_ever();
}

static void leaves_groups(void)
{
	setsid();
	spawn("group-leader", in_a_group);
	spawn("daemons-group", orphan);
}

static void leaves_a_group(void)
{
	setpgid(0, 0);
	spawn("leaderless", orphan);
}

static void lead_session(void)
{
	setsid();
	spawn("member", wait_for_ever);
	waitpid(spawn("", leaves_orphan), NULL, 0);
	wait_for_ever();
}

/* It is not reaped: its session has a zombie for a leader. */
static void dead_leader(void)
{
	setsid();
	spawn("zombies-session", orphan);
}

static void adopt(void)
{
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	waitpid(spawn("", leaves_orphan), NULL, 0);
	wait_for_ever();
}

static void adopt_daemon(void)
{
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	waitpid(spawn("", leaves_daemon), NULL, 0);
	wait_for_ever();
}

int main(int argc, char **argv)
{
	static body *const left[] = {
		leaves_orphan, leaves_daemon, leaves_daemon, leaves_stopped_daemon, leaves_daemon_with_zombie,
		leaves_groups, leaves_a_group
	};
	char byte;

	if (pipe(ready))
		die("pipe");
	for (size_t i = 0; i < sizeof(left) / sizeof(left[0]); i++)
		waitpid(spawn("", left[i]), NULL, 0);
	spawn("session", lead_session);
	spawn("zombie", say_ready);
	spawn("dead-leader", dead_leader);
	spawn("stopped", stop);
	spawn("adopter", adopt);
	if (argc > 1 && !strcmp(argv[1], "lost-session"))
		spawn("lost", adopt_daemon);
	close(ready[1]);
	if (read(ready[0], &byte, 1) != 0)
		die("read");
	puts("ready");
	fflush(stdout);
	while (access("stop", F_OK))
		usleep(20000);
	return 3;
}
