"""Terminals: the pod's own devpts, what a restored job finds of them, and the programs that use them."""
import contextlib
import json
import os
import shutil
import subprocess

import lib
import pytest
from test_pod import USER, base, installed, pods  # noqa: F401  (fixtures)

PYTHON = "/usr/bin/python3"
WORKLOAD = lib.ROOT / "tests" / "workloads" / "terminals.py"


@contextlib.contextmanager
def node_takes(count):
    """Terminals of the node, as logins have them."""
    fds = [os.open("/dev/ptmx", os.O_RDWR | os.O_NOCTTY) for _ in range(count)]
    yield
    for fd in fds:
        os.close(fd)


class Job:
    """A command in a pod, whose working directory is self.work."""

    def __init__(self, pods, *command, prepare=lambda work: None, node=None):
        self.pods, self.restores, self.node = pods, 0, node
        self.place = pods.place("job")
        self.work, self.state = self.place / "work", self.place / "state"
        prepare(self.work)
        self.process = self.start("run", "--dir", self.state, "--user", USER, "--", *command, out=self.work / "out")

    def start(self, *argv, out):
        """node: commands that change the mounts of a machine."""
        if not self.node:
            return self.pods.start(self.work, *argv, out=out)
        with open(out, "ab") as f:
            shutil.chown(out, USER)
            p = subprocess.Popen(["unshare", "-m", "sh", "-ec", f'{self.node}\nexec "$@"', "sh", installed() / "stage/usr/bin/fsched", "pod", *argv],
                                 env=self.pods.env(), stdin=subprocess.DEVNULL, stdout=f, stderr=f, cwd=self.work)
        self.pods.running.append(p)
        return p

    def output(self):
        return (self.work / "out").read_text()

    def wait_output(self, text):
        lib.wait_for(lambda: text in self.output() or self.process.poll() is not None, f"{text!r} in {self.output()!r}", 20)
        assert text in self.output(), self.output()
        return self

    def checkpoint(self, *options):
        p = self.pods.checkpoint(self.state, *options)
        assert p.returncode == 0, p.stdout + p.stderr + self.output()

    def vacate_and_restore(self):
        """Restores the job while all the low numbers are in use on the node."""
        self.checkpoint("--kill")
        self.process.wait(30)
        self.restores += 1
        said = self.work / f"restore.{self.restores}"
        with node_takes(12):
            self.process = self.start("restore", self.state, out=said)
            lib.wait_for(lambda: self.process.poll() is not None or "restored from" in said.read_text(), "the restore")
        assert self.process.poll() in (None, 0), said.read_text() + (self.state / "restore.log").read_text()

    def ends(self, status=0):
        assert self.process.wait(60) == status, self.output()


def look(work, n):
    """What each process of the workload sees now."""
    names = ["leader", "front", "back", "others"]
    (work / f"look.{n}").touch()
    lib.wait_for(lambda: all((work / f"{name}.{n}").exists() for name in names), f"look {n}")
    return {name: json.loads((work / f"{name}.{n}").read_text()) for name in names}


def same(now, before):
    assert [(who, what, now[who][what], before[who][what]) for who in before for what in before[who] if now[who][what] != before[who][what]] == []


def test_everything_is_as_before(pods):
    job = Job(pods, PYTHON, WORKLOAD).wait_output("ready")
    before = look(job.work, 0)
    assert before["leader"]["ttys"][0]["name"] == "/dev/pts/0" and before["leader"]["all"] == ["0", "1", "2", "ptmx"]
    for n in range(1, 4):
        job.vacate_and_restore()
        same(look(job.work, n), before)
    (job.work / "stop").touch()
    job.ends()
    assert job.output() == "ready\nend\n"


def test_pods_have_terminals_of_their_own(pods):
    """Two pods and the node use the same numbers at the same time, and one pod does not see those of another."""
    with node_takes(3):
        jobs = [Job(pods, PYTHON, WORKLOAD, str(n)) for n in (1, 3)]
        for job in jobs:
            job.wait_output("ready")
        before = [look(job.work, 0) for job in jobs]
        assert [b["leader"]["all"] for b in before] == [["0", "1", "ptmx"], ["0", "1", "2", "3", "ptmx"]]
        for job in jobs:
            job.vacate_and_restore()
        for job, b in zip(jobs, before):
            same(look(job.work, 1), b)
        for job in jobs:
            (job.work / "stop").touch()
            job.ends()


MACHINES = {
    "a container whose ptmx is its host's": "mount -t devpts -o newinstance,ptmxmode=0666 devpts /dev/pts; mount --bind /dev/pts/ptmx /dev/ptmx",
    "a link to pts/ptmx": """mkdir dev
mount -t tmpfs dev dev
for f in null zero full random urandom tty shm; do
    [ $f = shm ] && mkdir dev/$f || touch dev/$f
    mount --bind /dev/$f dev/$f
done
mkdir dev/pts
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
mount --move dev /dev
rmdir dev""",
    "nothing on /dev/pts": "umount /dev/pts",
}


@pytest.mark.parametrize("machine", MACHINES)
def test_machines_with_other_devices(pods, machine):
    job = Job(pods, PYTHON, WORKLOAD, node=MACHINES[machine]).wait_output("ready")
    before = look(job.work, 0)
    assert before["leader"]["all"] == ["0", "1", "2", "ptmx"]
    job.vacate_and_restore()
    same(look(job.work, 1), before)
    (job.work / "stop").touch()
    job.ends()


def test_a_job_of_an_older_version(pods):
    """It runs in a pod without a devpts of its own, and has terminals of the node's."""
    with node_takes(3):
        job = Job(pods, "sh", "-c", f"echo waits; until [ -e begin ]; do sleep 0.05; done; exec {PYTHON} {WORKLOAD}").wait_output("waits")
        init = next(p for p in lib.descendants(job.process.pid) if lib.comm(p) == "fsched-init")
        subprocess.run(["nsenter", "-t", str(init), "-m", "umount", "/dev/pts"], check=True)
        (job.work / "begin").touch()
        job.wait_output("ready")
        before = look(job.work, 0)
        job.vacate_and_restore()
        after = look(job.work, 1)
        for who in before:
            assert set(before[who]["all"]) > set(after[who].pop("all"))
            before[who].pop("all")
        same(after, before)
        (job.work / "stop").touch()
        job.ends()


def test_many_terminals_in_any_order(pods):
    """criu looks for the number of a terminal among the next 32 only."""
    job = Job(pods, PYTHON, "-c", """
import os, time
pairs = {}
for i in range(90):
    m = os.open("/dev/ptmx", os.O_RDWR | os.O_NOCTTY)
    pairs[i] = m
for i in (set(range(90)) - {1, 40, 77, 88, 89}):
    os.close(pairs.pop(i))
masters = [pairs[i] for i in (89, 40, 88, 1, 77)]
for i, m in enumerate(masters):             # the order of the descriptors is another one than that of the numbers
    os.dup2(m, 200 + i)
    os.close(m)
pid = os.fork()
if pid == 0:                                # another process with a high number
    for i in range(5):
        os.close(200 + i)
    for i in range(60):
        os.open("/dev/ptmx", os.O_RDWR | os.O_NOCTTY)
    os.closerange(3, 50)
print("ready", pid, flush=True)
while not os.path.exists("stop"):
    time.sleep(0.02)
if pid:
    os.waitpid(pid, 0)
print(sorted(os.listdir("/dev/pts")), flush=True)
""")
    lib.wait_for(lambda: job.output().count("ready") == 2, "both processes")
    job.vacate_and_restore()
    (job.work / "stop").touch()
    job.ends()
    first, second = job.output().splitlines()[-2:]
    assert len(eval(first)) > 6 and second == "['1', '40', '77', '88', '89', 'ptmx']"


def test_data_on_the_way(pods):
    """What is in a terminal at a checkpoint, also half a line, is read once and unchanged, in the job that goes on and in the restored one."""
    job = Job(pods, PYTHON, "-c", """
import os, pty, termios, time, tty
def wait(name):
    while not os.path.exists(name):
        time.sleep(0.02)
cooked, packets, raw, full = (pty.openpty() for _ in range(4))
import fcntl, struct
fcntl.ioctl(packets[0], termios.TIOCPKT, struct.pack("i", 1))
tty.setraw(raw[1])
tty.setraw(full[1])
many = bytes(range(256)) * 30
for n in range(3):
    os.write(cooked[1], b"out 1\\nout 2\\n")
    os.write(cooked[0], b"in 1\\nin 2\\nend\\4par")
    os.write(packets[1], b"packet\\n")
    os.write(raw[1], b"raw\\n\\r\\x11\\x13\\x03")
    os.write(raw[0], b"raw\\n\\r\\x11\\x13\\x03")
    os.set_blocking(full[1], False)
    sent = os.write(full[1], many)
    print("ready", n, flush=True)
    wait(f"go.{n}")
    os.write(cooked[0], b"tial\\n")
    print([os.read(cooked[1], 100) for _ in range(4)])
    got = b""
    while not got.endswith(b"tial\\r\\n"):
        got += os.read(cooked[0], 100)
    print(got)
    print(os.read(packets[0], 100), os.read(raw[0], 100), os.read(raw[1], 100))
    got = b""
    while len(got) < sent:
        got += os.read(full[0], 10000)
    print(got == many[:sent], flush=True)
""")
    for n, step in enumerate((lambda: None, job.checkpoint, job.vacate_and_restore)):
        job.wait_output(f"ready {n}")
        step()
        (job.work / f"go.{n}").touch()
    job.ends()
    undisturbed, going_on, restored = job.output().split("ready ")[1:]
    assert "b'in 1\\n', b'in 2\\n', b'end', b'partial\\n'" in undisturbed and "False" not in undisturbed
    assert going_on[1:] == undisturbed[1:]
    assert restored[1:] == undisturbed[1:]


# ---- programs ----------------------------------------------------------------

STEPS = 'i=0; while [ $i -lt 400 ]; do i=$((i + 1)); echo "$1 step $i on $(tty)"; [ -e hurry ] || sleep 0.2; done'
COMMAND = ["env", "SHELL=/bin/sh", "TERM=xterm", "LANG=C.UTF-8", "sh", "job.sh"]
PROGRAMS = {
    "script": """script -qec 'sh steps.sh in-script; echo status $?' typescript >/dev/null
grep -v ^Script typescript""",
    "screen": """export SCREENDIR=$PWD/screens; mkdir -m 700 screens
screen -d -m -S one sh -c 'sh steps.sh one >one; read line; echo "got $line" >>one'
until [ -s one ]; do sleep 0.05; done
screen -D -m -S two sh -c 'sh steps.sh two | tee two'
screen -S one -X stuff 'a line^M'
until grep -q got one; do sleep 0.05; done
until screen -ls | grep -q 'No Sockets'; do sleep 0.05; done
cat one two""",
    "tmux": """tmux -f /dev/null -S sock new-session -d -x 90 -y 30 -s s 'sh steps.sh first | tee first; read line; echo "got $line" >>first'
tmux -S sock split-window -t s 'stty size >second; sh steps.sh second >>second; touch done.2'
until [ -e done.2 ]; do sleep 0.05; done
tmux -S sock list-panes -t s -F '#{pane_tty} #{pane_width}'
until tmux -S sock send-keys -t s.0 'a line' Enter && sleep 0.3 && grep -q got first; do sleep 0.05; done
cat first second""",
    "expect": """expect -f steps.exp""",
    "pty.fork": """/usr/bin/python3 steps.py""",
}
EXPECT = r"""
log_user 0
set timeout 60
spawn sh -c {while read line; do echo "<$line> on $(tty)"; done}
for {set i 0} {$i < 400} {incr i} {
    send "question $i\r"
    expect -re {<(question \d+)> on ([^\r\n]*)\r\n} { puts "$expect_out(1,string) $expect_out(2,string)" } timeout { puts "timeout $i" } eof { puts eof }
    if {![file exists hurry]} { after 200 }
}
close
wait
puts end
"""
PYTHON_STEPS = r"""
import os, pty, time
pid, master = pty.fork()
if pid == 0:
    os.execlp("sh", "sh", "-c", "sh steps.sh in-python; cat")
got = b""
with open("third", "wb") as seen:
    while b"step 400 " not in got:
        part = os.read(master, 100)
        got += part
        seen.write(part)
        seen.flush()
os.write(master, b"typed\n\4")
try:
    while True:
        got += os.read(master, 100)
except OSError:
    pass
print(got.decode().replace("\r\n", "\n"), os.waitpid(pid, 0)[1])
"""


def program(work, name):
    (work / "steps.sh").write_text(STEPS)
    (work / "steps.exp").write_text(EXPECT)
    (work / "steps.py").write_text(PYTHON_STEPS)
    (work / "job.sh").write_text(PROGRAMS[name])


def steps(work):
    """How far the program is, by whatever file it writes."""
    return sum(f.read_text(errors="replace").count("\n") for f in work.iterdir()
               if f.is_file() and f.name in ("out", "typescript", "one", "two", "first", "second", "third"))


@pytest.mark.parametrize("name", PROGRAMS)
def test_ten_cycles(pods, name):
    """The output is that of an undisturbed run, after ten restores while the numbers are in use on the node."""
    undisturbed = Job(pods, *COMMAND, prepare=lambda work: (program(work, name), lib.hurry(work)))
    job = Job(pods, *COMMAND, prepare=lambda work: program(work, name))
    for n in range(1, 11):
        lib.wait_for(lambda n=n: steps(job.work) > 3 * n or job.process.poll() is not None, "a few steps")
        assert job.process.poll() is None, job.output()
        job.vacate_and_restore()
    lib.hurry(job.work)
    for j in undisturbed, job:
        j.ends()
    assert "step 400" in job.output() or "question 399" in job.output()
    assert job.output() == undisturbed.output()
