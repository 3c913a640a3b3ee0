"""Processes that cannot be restored, or only with rights that the job does not have, are refused before the freeze."""
import os
import shutil
import struct
import subprocess

import pytest

from refused import Job, base, nothing_left_of_pods, pods, python  # noqa: F401  (fixtures)


def test_a_first_thread_that_has_ended(pods, base):
    Job(pods, base / "odd", "main-ended").start().refused("process 3 (odd)", "has ended its first thread while others run on", "main()")


@pytest.mark.parametrize("flag, words", [(0x400, "descriptors of its own"), (0x200, "a working directory and umask of its own")])
def test_a_thread_with_things_of_its_own(pods, flag, words):
    job = python(pods, f"""
def own():
    assert libc.unshare({flag}) == 0
    ready()
t = threading.Thread(target=own)
t.start()
t.join()
""")
    job.start().refused("(python3)", "has a thread,", words)


@pytest.mark.parametrize("signal", [0, 10])
def test_a_child_with_another_exit_signal(pods, signal):
    job = python(pods, f"""
import signal
signal.signal(signal.SIGUSR1, lambda *a: None)
clone = 56
child = libc.syscall(clone, {signal}, 0, 0, 0, 0)
if child == 0:
    time.sleep(100)
    os._exit(0)
ready()
os.kill(child, 9)
os.waitpid(child, 0x40000000)
""")
    job.start().refused("(python3)", f"by signal {signal} instead of SIGCHLD")


def test_a_program_that_is_a_memfd(pods):
    job = python(pods, """
fd = os.memfd_create("program")
os.write(fd, open("/bin/sleep", "rb").read())
child = os.posix_spawn(f"/proc/self/fd/{fd}", ["sleep", "100"], os.environ)
while "memfd" not in os.readlink(f"/proc/{child}/exe"):
    time.sleep(0.01)
ready()
os.kill(child, 9)
""")
    job.start().refused("runs a program that is a memfd")


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="another layout of the vdso")
def test_half_of_the_vdso(pods, base):
    Job(pods, base / "odd", "no-vvar").start().refused("process 3 (odd)", "only one of the kernel's two mappings", "valgrind")


@pytest.mark.parametrize("left", [0, 1, 3])
def test_hardly_a_descriptor_left(pods, base, left):
    job = Job(pods, base / "odd", "full", str(left)).start()
    job.refused("process 3 (odd)", f"has {64 - left} of the 64 descriptors open", "ulimit -n")


def test_enough_descriptors_left(pods, base):
    Job(pods, base / "odd", "full", "4").start().comes_back()


def copy_of(base, pods):
    """A program owned by root that the job's user can run."""
    d = pods.place("tools")
    if os.statvfs(d).f_flag & os.ST_NOSUID:
        pytest.skip("no set-user-ID programs here")
    shutil.copy(base / "odd", d / "tool")
    return d / "tool"


def test_a_set_group_id_program(pods, base):
    tool = copy_of(base, pods)
    shutil.chown(tool, group="tty")
    tool.chmod(0o2755)
    Job(pods, tool, "plain").start().refused("process 3 (tool)", "runs with another group than the job", "ssh-agent")


def test_a_set_user_id_program(pods, base):
    tool = copy_of(base, pods)
    shutil.chown(tool, user="daemon")
    tool.chmod(0o4755)
    Job(pods, tool, "plain").start().refused("process 3 (tool)", "runs under another user than the job")


def test_a_program_with_capabilities(pods, base):
    tool = copy_of(base, pods)
    net_raw = 1 << 13   # effective, revision 2
    os.setxattr(tool, "security.capability", struct.pack("<IIIII", 0x02000001, net_raw, 0, 0, 0))
    Job(pods, tool, "plain").start().refused("process 3 (tool)", "has capabilities", "ping")


def test_a_thread_with_other_credentials(pods, base):
    """The system call setgid() changes one thread only."""
    tool = copy_of(base, pods)
    shutil.chown(tool, group="tty")
    tool.chmod(0o2755)
    source = tool.with_suffix(".c")
    source.write_text("""
#define _GNU_SOURCE
#include <pthread.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>
static void *hold(void *a) { printf("ready\\n"); fflush(stdout); for (;;) pause(); return a; }
int main(void)
{
	gid_t own = getgid();
	pthread_t t;
	pthread_create(&t, 0, hold, 0);
	syscall(SYS_setresgid, own, own, own);
	while (access("go", F_OK)) usleep(20000);
	return 0;
}
""")
    subprocess.run(["gcc", "-o", tool, source, "-pthread"], check=True)
    shutil.chown(tool, group="tty")
    tool.chmod(0o2755)
    Job(pods, tool).start().refused("process 3 (tool)", "runs with another group than the job")


def test_an_ordinary_program(pods, base):
    Job(pods, base / "odd", "plain").start().comes_back()


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="moved.c makes calls of another process")
@pytest.mark.parametrize("kinds, what", [(["user"], "user"), (["user", "mnt"], "mount")])
@pytest.mark.parametrize("fault", ["", "no-preflight"])
def test_the_whole_job_in_namespaces_of_its_own(pods, base, kinds, what, fault):
    """All processes, the first one included, are in the same other namespaces; with the fault as if they had entered them just before the
    freeze. criu would follow them as root to mounts of the user's choice."""
    job = Job(pods, base / "moved", *kinds).start()
    job.refused("process 2 (", f"is in another {what} namespace than the pod", fault=fault)
