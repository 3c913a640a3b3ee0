"""What the job's user can do to criu while it has his effective user id, and to its tasks that are to become the job's processes."""
import os
import pwd
import re
import subprocess
import threading

from refused import USER, base, installed, nothing_left_of_pods, pods, python  # noqa: F401  (fixtures)

# What criu does by a name of the job's, many times; then what it has of the processor.
CALLS = r"""
#define _GNU_SOURCE
#include <sched.h>
#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>
int main(void)
{
	cpu_set_t cpus;
	char c;
	puts("ready");
	fflush(stdout);
	if (read(0, &c, 1) != 1)
		return 1;
	for (int i = 0; i < 100000; i++)
		unlink("/nowhere/nothing");
	sched_getaffinity(0, sizeof(cpus), &cpus);
	printf("%d %d %d\n", getpriority(PRIO_PROCESS, 0), sched_getscheduler(0), CPU_COUNT(&cpus));
	return 0;
}
"""

# As the user: tries to take the processor away from process PID. Says how often the kernel let him.
SLOW_DOWN = r"""
#define _GNU_SOURCE
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
int main(int argc, char **argv)
{
	const struct sched_param idle = { 0 };
	const int pid = atoi(argv[1]);
	cpu_set_t one;
	long done = 0;
	CPU_ZERO(&one);
	CPU_SET(0, &one);
	puts("ready");
	fflush(stdout);
	while (!kill(pid, 0) || errno != ESRCH) {
		done += !setpriority(PRIO_PROCESS, (id_t)pid, 19);
		done += !sched_setaffinity(pid, sizeof(one), &one);
		done += !sched_setscheduler(pid, SCHED_IDLE, &idle);
	}
	printf("%ld\n", done);
	return 0;
}
"""


def is_ours(pid):
    while pid > 1 and pid != os.getpid():
        pid = int(open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()[1])
    return pid > 1


def criu_pids():
    found = []
    for p in os.listdir("/proc"):
        try:
            if p.isdigit() and b"--library-path" in open(f"/proc/{p}/cmdline", "rb").read() and is_ours(int(p)):
                found.append(p)
        except (OSError, ValueError, IndexError):
            pass   # it has ended
    return found


class Watch(threading.Thread):
    """Looks at criu and its tasks again and again: look(pid) until it is stopped."""

    def __init__(self, look):
        super().__init__(daemon=True)
        self.look, self.ended = look, threading.Event()
        self.start()

    def run(self):
        while not self.ended.is_set():
            for p in criu_pids():
                try:
                    self.look(p)
                except (OSError, ValueError, AttributeError):
                    pass

    def stop(self):
        self.ended.set()
        self.join()


def build(d, name, text):
    (d / f"{name}.c").write_text(text)
    subprocess.run(["gcc", "-O2", "-w", "-o", d / name, d / f"{name}.c"], check=True)
    return d / name


def test_criu_keeps_its_share(pods):
    """Its effective user id is the user's while it goes by a name of his, but it has more capabilities than he: he cannot take the processor
    away from it."""
    d, u = pods.place("share"), pwd.getpwnam(USER)
    d.chmod(0o755)
    library = installed() / "stage/usr/libexec/fsched/libfsched-criu.so"
    calls = subprocess.Popen([build(d, "calls", CALLS)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                             env={"LD_PRELOAD": str(library), "FSCHED_JOB": f"{u.pw_uid}:{u.pw_gid}:"})
    assert calls.stdout.readline() == "ready\n"
    slow = subprocess.Popen([build(d, "slow", SLOW_DOWN), str(calls.pid)], stdout=subprocess.PIPE, text=True, user=u.pw_uid, group=u.pw_gid,
                            extra_groups=[])
    assert slow.stdout.readline() == "ready\n"
    had = f"{os.getpriority(os.PRIO_PROCESS, calls.pid)} {os.sched_getscheduler(calls.pid)} {len(os.sched_getaffinity(calls.pid))}"
    said = calls.communicate("x")[0]
    assert slow.communicate()[0] == "0\n"
    assert said.strip() == had


def test_no_core_has_criu_in_it(pods):
    """A task of criu's that is the user's already gets a signal of his: no core of it. Afterwards the job has its own limit."""
    job = python(pods, "import resource\nresource.setrlimit(resource.RLIMIT_CORE, (4096000, 8192000))\nready()\n"
                       "print(resource.getrlimit(resource.RLIMIT_CORE), flush=True)\n").start()
    p = job.checkpoint("--kill")
    assert p.returncode == 0, p.stderr
    job.process.wait(30)
    uid, seen = str(pwd.getpwnam(USER).pw_uid), set()

    def look(pid):
        limits = open(f"/proc/{pid}/limits").read()
        if re.search(r"\nUid:\t(\d+)\t", open(f"/proc/{pid}/status").read()).group(1) == uid:
            seen.add(re.search(r"\nMax core file size +(\w+) ", limits).group(1))
    watch = Watch(look)
    job.restore()
    watch.stop()
    assert "(4096000, 8192000)" in job.output()
    # the job's own: criu's restorer has set it, and is about to give the process its name back
    assert seen - {"4096000"} == {"1"}, seen
