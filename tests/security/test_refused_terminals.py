"""Terminals that are none of the job's own are refused before the freeze, with process, descriptor and path."""
import os
import pty
import subprocess

import lib
from refused import USER, base, installed, nothing_left_of_pods, pods, python  # noqa: F401  (fixtures)


def started_from(job, fd):
    """Starts the program with this standard output and error, as a shell does that has them."""
    job.process = subprocess.Popen([installed() / "stage/usr/bin/fsched", "pod", "run", "--dir", job.place / "state", "--user", USER, "--", *job.command],
                                   env=job.pods.env(), stdin=subprocess.DEVNULL, stdout=fd, stderr=fd, cwd=job.work)
    job.pods.running.append(job.process)
    lib.wait_for(lambda: (job.work / "ready").exists() or job.process.poll() is not None, "the program to be ready")
    return job


def init_of(job):
    return next(p for p in lib.descendants(job.process.pid) if lib.comm(p) == "fsched-init")


READY = """
open("ready", "w").close()
while not os.path.exists("go"):
    time.sleep(0.02)
"""


def test_the_terminal_of_a_login(pods):
    master, slave = pty.openpty()
    os.chmod(os.ttyname(slave), 0o666)
    name = os.ttyname(slave)
    said = started_from(python(pods, READY), slave).refused(f"has the terminal {name} open as descriptor 1", "opened outside the job")
    assert "process " in said and "(python3)" in said and "redirected to files" in said
    os.close(slave)
    os.close(master)


def test_a_login_and_the_job_use_the_same_number(pods):
    """The number of the login's terminal exists in the pod too: one is the job's, and the other is not."""
    master, slave = pty.openpty()
    number = int(os.ttyname(slave).rsplit("/", 1)[1])
    own = f"import pty\npairs = [pty.openpty() for _ in range({number + 1})]\nassert os.ttyname(pairs[-1][1]) == '/dev/pts/{number}'\n"
    job = started_from(python(pods, own + "null = os.open('/dev/null', os.O_RDWR)\nos.dup2(null, 1)\nos.dup2(null, 2)\n" + READY), slave)
    job.comes_back()
    job = started_from(python(pods, own + READY), slave)
    job.refused(f"has the terminal /dev/pts/{number} open as descriptor 1", "opened outside the job")
    os.close(slave)
    os.close(master)


def test_the_other_end_of_a_login(pods):
    """A master of the node's devpts, opened by the same name as one of the pod's."""
    master = os.open("/dev/ptmx", os.O_RDWR | os.O_NOCTTY)
    started_from(python(pods, READY), master).refused("has the terminal /dev/ptmx open as descriptor", "opened outside the job")
    os.close(master)


def test_a_console(pods):
    console = os.open("/dev/console", os.O_WRONLY | os.O_NOCTTY)
    started_from(python(pods, READY), console).refused("has the terminal /dev/console open as descriptor", "a console")
    os.close(console)


def test_the_controlling_terminal_by_its_name(pods):
    python(pods, """
import pty
pid, master = pty.fork()
if pid == 0:
    fd = os.open("/dev/tty", os.O_RDWR)
    while not os.path.exists("go"):
        time.sleep(0.02)
    os._exit(0)
while not os.path.exists(f"/proc/{pid}/fd/3") or os.readlink(f"/proc/{pid}/fd/3") != "/dev/tty":
    time.sleep(0.02)
ready()
""").start().refused("has the terminal /dev/tty open as descriptor 3", "controlling terminal", "close it")


def test_the_other_end_is_outside(pods):
    """A person who has entered the pod holds the master."""
    job = python(pods, """
print("waits", flush=True)
while not os.path.exists("name"):
    time.sleep(0.02)
fd = os.open(open("name").read(), os.O_RDWR | os.O_NOCTTY)
ready()
""")
    job.process = pods.start(job.work, "run", "--dir", job.place / "state", "--user", USER, "--", *job.command, out=job.work / "out")
    lib.wait_for(lambda: "waits" in job.output(), "the program")
    with subprocess.Popen(["nsenter", "-t", str(init_of(job)), "-m", "/usr/bin/python3", "-c", """
import os, pty, sys
m, s = pty.openpty()
os.chmod(os.ttyname(s), 0o666)
print(os.ttyname(s), flush=True)
os.close(s)
sys.stdin.read()
"""], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as person:
        name = person.stdout.readline().strip()
        (job.work / "name.part").write_text(name)
        (job.work / "name.part").rename(job.work / "name")
        lib.wait_for(lambda: "ready" in job.output(), "the program to be ready")
        job.refused(f"has the terminal {name} open as descriptor 3", "no process of the job has its other end open")
        person.stdin.close()


def test_another_devpts_in_the_pod(pods):
    job = python(pods, """
print("waits", flush=True)
while not os.path.exists("mounted"):
    time.sleep(0.02)
fd = os.open("other/ptmx", os.O_RDWR | os.O_NOCTTY)
ready()
""")
    (job.work / "other").mkdir()
    job.process = pods.start(job.work, "run", "--dir", job.place / "state", "--user", USER, "--", *job.command, out=job.work / "out")
    lib.wait_for(lambda: "waits" in job.output(), "the program")
    subprocess.run(["nsenter", "-t", str(init_of(job)), "-m", "mount", "-t", "devpts", "-o", "ptmxmode=0666", "devpts", job.work / "other"],
                   check=True)
    (job.work / "mounted").touch()
    lib.wait_for(lambda: "ready" in job.output(), "the program to be ready")
    job.refused("other/ptmx open as descriptor 3", "none of the job's own")


def test_exclusive_mode(pods):
    python(pods, """
import fcntl, pty, termios
m, s = pty.openpty()
fcntl.ioctl(s, termios.TIOCEXCL)
ready()
""").start().refused("has the terminal /dev/pts/0 open as descriptor", "exclusive mode (TIOCEXCL)")


def test_a_number_beyond_those_of_criu(pods):
    python(pods, """
import resource
soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 1100), hard))
fds = [os.open("/dev/ptmx", os.O_RDWR | os.O_NOCTTY) for _ in range(1002)]
for fd in fds[:-1]:
    os.close(fd)
ready()
""").start().refused("has the terminal /dev/ptmx open as descriptor", "numbers up to 1000")


def test_a_terminal_whose_other_end_is_closed_comes_back(pods):
    python(pods, """
import pty
m, s = pty.openpty()
os.close(m)
ready()
assert os.read(s, 10) == b""
""").start().comes_back()
