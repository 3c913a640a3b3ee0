"""Open files that the job's user could not open again are refused before the freeze, with process, descriptor and path."""
import os
import shutil
import subprocess

import pytest

from refused import base, nothing_left_of_pods, pods, python  # noqa: F401  (fixtures)

CANNOT = "could not open it again, or would get another one"
PROC = {
    "mem": ("os.open('/proc/self/mem', os.O_RDONLY)", "/mem open as descriptor 3", CANNOT),
    "pagemap": ("os.open('/proc/self/pagemap', os.O_RDONLY)", "/pagemap open as descriptor 3", CANNOT),
    "map_files": ("os.open('/proc/self/map_files', os.O_RDONLY)", "/map_files open as descriptor 3", CANNOT),
    "uid_map": ("os.open('/proc/self/uid_map', os.O_RDONLY)", "/uid_map open as descriptor 3", CANNOT),
    "clear_refs": ("os.open('/proc/self/clear_refs', os.O_WRONLY)", "/clear_refs open as descriptor 3", "open for writing"),
    "comm": ("os.open('/proc/self/comm', os.O_RDWR)", "/comm open as descriptor 3", "open for writing"),
    "a directory of a process": ("os.open('/proc/self', os.O_RDONLY)", " open as descriptor 3", "the directory of a process"),
    "no process of the job": ("os.open('/proc/1/stat', os.O_RDONLY)", "/proc/1/stat open as descriptor 3", "is not part of the job"),
    "an ended process": ("""
pid = os.fork() or time.sleep(100)
fd = os.open(f'/proc/{pid}/stat', os.O_RDONLY)
os.kill(pid, 9)
os.waitpid(pid, 0)""", "/stat open as descriptor 3", "has ended"),
    "maps of the parent": ("""
os.set_inheritable(os.open('/proc/self/maps', os.O_RDONLY), True)
if os.fork() == 0:
    while not os.path.exists('go'):
        time.sleep(0.05)
    os._exit(0)""", "/maps open as descriptor 3", "only that process itself"),
    "a thread": ("""
threading.Thread(target=lambda: ready(), daemon=True).start()
tid = [t for t in os.listdir('/proc/self/task') if int(t) != os.getpid()][0]
os.open(f'/proc/self/task/{tid}/comm', os.O_RDONLY)""", "/comm open as descriptor 3", "it describes a thread"),
    "a POSIX message queue": ("""
ctypes.CDLL('librt.so.1').mq_open(b'/fsched-test', os.O_RDWR | os.O_CREAT, 0o600, None)""",
                              "/fsched-test open as descriptor 3", "a POSIX message queue"),
    "a watch of a deleted file": ("""
os.open('followed', os.O_RDWR | os.O_CREAT)
libc.inotify_add_watch(libc.inotify_init(), b'followed', 2)
os.unlink('followed')""", "followed (deleted), by inotify (descriptor 4)", "remove the watch"),
    "a semaphore": ("""
libc.eventfd(3, 1)
if 'semaphore: 1' not in open('/proc/self/fdinfo/3').read():
    os.pipe2(os.O_DIRECT)      # a kernel before 6.5 does not tell; this is refused with the same words""", "descriptor 3", "close it"),
    "packets in a pipe": ("os.pipe2(os.O_DIRECT)", "a pipe in packet mode (O_DIRECT) open as descriptor ", "close it"),
}


@pytest.mark.parametrize("what", PROC)
def test_a_file_of_procfs_and_the_like(pods, what):
    text, *words = PROC[what]
    said = python(pods, text + "\nready()\n").start().refused(*words)
    assert "process " in said and "(python3)" in said


@pytest.fixture
def mounted(pods):
    """Mounts a file system where the job sees it."""
    places = []

    def mount(job, kind, options="ro"):
        d = job.place / kind
        d.mkdir()
        subprocess.run(["mount", "-t", kind, "-o", options, kind, d], check=True)
        places.append(d)
        return d
    yield mount
    for d in places:
        subprocess.run(["umount", "-l", d], check=True)


def test_another_mount_of_procfs(pods, mounted):
    job = python(pods, "")
    d = mounted(job, "proc")
    job.command = (*job.command[:2], job.command[2] + f"os.open('{d}/meminfo', os.O_RDONLY)\nready()\n")
    job.start().refused(f"{d}/meminfo open as descriptor 3", "another mount of procfs")


def test_a_file_of_debugfs(pods, mounted):
    job = python(pods, "")
    d = mounted(job, "tracefs", "ro,mode=0755")
    job.command = (*job.command[:2], job.command[2] + f"os.open('{d}', os.O_RDONLY)\nready()\n")
    job.start().refused(f"{d} open as descriptor 3", "a file of tracefs")


def test_a_file_of_a_cgroup_open_for_writing(pods):
    root = "/sys/fs/cgroup" if os.path.exists("/sys/fs/cgroup/cgroup.procs") else "/sys/fs/cgroup/pids"
    if not os.path.isdir(root):
        pytest.skip("no cgroups")
    group = f"{root}/fsched-test.{os.getpid()}"
    os.mkdir(group)
    try:
        shutil.chown(f"{group}/cgroup.procs", "nobody")
        job = python(pods, f"os.open('{group}/cgroup.procs', os.O_WRONLY)\nready()\n").start()
        job.refused("/cgroup.procs open as descriptor 3", "a file of cgroup", "open for writing")
    finally:
        os.rmdir(group)



@pytest.mark.parametrize("what,how", [
    ("a file", "os.open('{d}/data', os.O_RDONLY)"),
    ("a file below", "os.open('{d}/below/data', os.O_RDONLY)"),
    ("a directory", "os.open('{d}/below', os.O_RDONLY)"),
    ("a mapping", "fd = os.open('{d}/data', os.O_RDONLY); libc.mmap(None, 4096, 1, 2, fd, 0); os.close(fd)"),
    ("a working directory", "os.chdir('{d}/below')"),
], ids=lambda w: w if w.startswith("a ") else "")
def test_what_the_user_may_open_no_more(pods, what, how):
    job = python(pods, "")
    work = job.place / "others"
    (work / "below").mkdir(parents=True)
    for f in (work / "data", work / "below" / "data"):
        f.write_bytes(bytes(4096))
    text = f"here = os.getcwd()\n{how.format(d=work)}\nprint('ready', flush=True)\n" \
        "while not os.path.exists(here + '/go'):\n    time.sleep(0.05)\n"
    job.command = (*job.command[:2], job.command[2] + text)
    job.start()
    (work / ("data" if what in ("a file", "a mapping") else "below")).chmod(0o700)
    job.refused(f"{work}/", "the job's user could not open it again", "Permission denied",
                {"a mapping": "as a mapping", "a working directory": "as its working directory"}.get(what, "as descriptor 3"))


GOOD = """
names = ['/proc/self/' + n for n in ('stat', 'status', 'statm', 'maps', 'smaps', 'smaps_rollup', 'environ', 'limits', 'cmdline', 'comm',
                                     'cgroup', 'mountinfo', 'oom_score', 'io', 'auxv', 'task', 'fd', 'net/dev')]
names += ['/proc/meminfo', '/proc/stat', '/proc/cpuinfo', '/proc/loadavg', '/proc/net/route', '/proc', '/proc/sys/kernel/osrelease']
names += ['/proc/self/task/' + str(os.getpid())]
names += ['/sys/devices/system/cpu/online', '/sys/devices/system/cpu', '/sys/class/net']
files = {n: os.open(n, os.O_RDONLY) for n in names}
mine = os.open('mine', os.O_RDWR | os.O_CREAT)
os.write(mine, b'text')
os.chmod('mine', 0)
kept = os.open('kept', os.O_RDONLY | os.O_CREAT)
ghost = os.open('ghost', os.O_RDWR | os.O_CREAT)
os.unlink('ghost')
path = os.open('/root', os.O_PATH)
r, w = os.pipe()
os.mkfifo('fifo')
fifo = os.open('fifo', os.O_RDWR)
ready()
for n, fd in files.items():
    st = os.fstat(fd)
    if st.st_mode & 0o170000 == 0o040000:
        assert n == '/proc/self/fd' or os.listdir(fd), n
    else:
        text = os.pread(fd, 4096, 0)
        assert text, n
        if n == '/proc/self/stat':
            assert int(text.split()[0]) == os.getpid(), text
assert os.pread(mine, 10, 0) == b'text'
"""


def test_ordinary_files_come_back(pods):
    python(pods, GOOD).start().comes_back()


def test_many_files_come_back(pods):
    job = python(pods, """
import resource
resource.setrlimit(resource.RLIMIT_NOFILE, (6000, 6000))
os.mkdir('many')
for i in range(5000):
    os.close(os.open(f'many/{i}', os.O_RDWR | os.O_CREAT))
fds = [os.open(f'many/{i}', os.O_RDWR) for i in range(5000)]
ready()
""").start()
    job.comes_back()


@pytest.mark.parametrize("use, words", [("os.open('d', os.O_RDONLY)", "descriptor 3"), ("os.chdir('d')", "its working directory")])
def test_a_removed_directory_whose_name_is_taken(pods, use, words):
    """A restore would give the program the new directory, and remove that."""
    job = python(pods, f"""
top = os.getcwd()
os.mkdir("d")
{use}
os.rmdir(top + "/d")
os.mkdir(top + "/d")
print("ready", flush=True)
while not os.path.exists(top + "/go"):
    time.sleep(0.02)
""")
    job.start().refused("/d (deleted)", words, "something else has its name now")


def test_a_fifo_opened_as_a_path(pods):
    job = python(pods, """
os.mkfifo("f")
fd = os.open("f", os.O_PATH)
ready()
""")
    job.start().refused("/f open as descriptor 3", "O_PATH")


def test_a_path_that_is_too_long(pods):
    job = python(pods, """
top = os.getcwd()
for i in range(25):
    os.mkdir("x" * 200)
    os.chdir("x" * 200)
f = open("f", "w")
os.chdir(top)
ready()
""")
    job.start().refused("path of more than 4095 bytes as descriptor 3")
