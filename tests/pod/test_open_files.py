"""Open files whose names have changed: a complete epoch can be restored more than once, or no epoch is made."""
import shutil
import sys
from pathlib import Path

import lib
import pytest

from test_memory import Job
from test_pod import USER, base, lines, pods  # noqa: F401  (fixtures)


def names_in(directory):
    return sorted(str(p.relative_to(directory)) for p in directory.rglob("*")
                  if p.name not in ("out", "stop") and not p.name.startswith("restore."))


def runs_on(job):
    before = lines(job.out)
    lib.wait_for(lambda: lines(job.out) > before + 3, "the job to go on")


def test_a_name_that_is_gone_while_another_remains(pods, base):
    """`ln part final; rm part`, O_TMPFILE, mapped files, other directories, and an old name that another file has now."""
    job = Job(pods, base, "names")
    names = names_in(job.work)
    assert "epoch 1" in job.checkpoint()
    for _ in range(2):      # it has changed the files since
        runs_on(job)
        assert names_in(job.work) == names
        job.fsched("kill", job.state)
        assert "restored from epoch 1" in job.restore(), job.said.read_text()
    runs_on(job)
    job.checkpoint("--kill")
    assert names_in(job.work) == names
    assert "restored from epoch 2" in job.restore(), job.said.read_text()
    runs_on(job)
    job.stop()
    assert names_in(job.work) == names


HIDDEN = """mkdir hidden; exec 7> part; ln part hidden/final; rm part; chmod 300 hidden
trap 'chmod 700 hidden' EXIT
echo ready; until [ -e stop ]; do echo x >&7; sleep 0.05; done"""


def script(pods, base, text):
    return Job(pods, base, "/bin/bash", "-c", text)


def test_a_name_that_is_not_found(pods, base):
    job = script(pods, base, HIDDEN)
    said = job.checkpoint(fails=True)
    assert "(bash)" in said and f'{job.work}/part" open as descriptor 7' in said and "the command runs on" in said, said
    assert not list(job.state.glob("epochs/*"))
    (job.work / "hidden").chmod(0o700)
    assert "epoch 1" in job.checkpoint()
    job.fsched("kill", job.state)
    assert "restored from epoch 1" in job.restore(), job.said.read_text()
    job.stop()


LATE = """exec 7> part; echo ready; until [ -e now ]; do sleep 0.05; done; ln part {final}; rm part; touch done
until [ -e stop ]; do echo x >&7; sleep 0.05; done"""


@pytest.mark.parametrize("final,found", [("final", True), ("sub/final", False)])
def test_a_name_that_is_lost_between_the_look_and_the_freeze(pods, base, final, found):
    """A new name in the same directory is found. Other directories are not searched in the freeze: that checkpoint fails and the next one succeeds."""
    job = script(pods, base, "mkdir sub; " + LATE.format(final=final))
    p = job.begin("checkpoint", job.state, fault="wait-before-freeze")
    lib.wait_for((job.state / "waiting").exists, "the worker")
    (job.work / "now").touch()
    lib.wait_for((job.work / "done").exists, "the name to be gone")
    (job.state / "waiting").unlink()
    said = p.communicate(timeout=120)[0]
    assert (p.returncode == 0) == found, said
    if not found:
        assert "descriptor 7" in said and "the command runs on" in said and not list(job.state.glob("epochs/*")), said
        job.checkpoint()
    job.fsched("kill", job.state)
    assert "restored from epoch 1" in job.restore(), job.said.read_text()
    job.stop()


def test_a_file_over_the_limit(pods, base):
    """Without a copy of a file that is changed in place the epoch could not be restored as it stands: none is made, also not for a vacate."""
    conf = base / "small-files.conf"
    conf.write_text((base / "fsched.conf").read_text() + "CheckpointFileLimit = 64K\n")
    job = script(pods, base, "head -c 100000 /dev/zero > data; exec 8<> data; echo ready; "
                             "until [ -e stop ]; do echo y >&8; sleep 0.05; done")
    for kill in ([], ["--kill"]):
        said = job.checkpoint(*kill, conf=conf, fails=True)
        assert f'{job.work}/data" is changed in place (process' in said and "(bash), descriptor 8)" in said, said
        assert "CheckpointFileLimit" in said and "the command runs on" in said, said
    assert not list(job.state.glob("epochs/*"))
    job.checkpoint("--kill")
    assert "restored from epoch 1" in job.restore(), job.said.read_text()
    job.stop()


def test_a_job_over_its_limit(pods, base):
    """Everything that an epoch takes counts: the refusal names the sizes and the largest file."""
    conf = base / "small-job.conf"
    conf.write_text((base / "fsched.conf").read_text() + "CheckpointJobLimit = 20M\n")
    job = script(pods, base, "head -c 15M /dev/urandom > /tmp/small; head -c 16M /dev/urandom > data; exec 8<> data; echo ready; "
                             "until [ -e stop ]; do echo y >&8; sleep 0.05; done")
    for kill in ([], ["--kill"]):
        said = job.checkpoint(*kill, conf=conf, fails=True)
        assert "CheckpointJobLimit allows 20.0 MiB" in said and f'(the largest: "{job.work}/data" 16.0 MiB)' in said, said
        assert "the command runs on" in said, said
    assert not list(job.state.glob("epochs/*"))
    job.checkpoint("--kill")
    assert "restored from epoch 1" in job.restore(), job.said.read_text()
    job.stop()


GROWS = """import os, time
print('ready', flush=True)
while not os.path.exists('now'): time.sleep(.05)
{grow}
open('done', 'w')
while not os.path.exists('stop'): time.sleep(.05)"""


@pytest.mark.parametrize("grow", ["x = os.urandom(40 << 20)", "[open(f'/tmp/{i}', 'wb').write(os.urandom(10 << 20)) for i in range(4)]"])
def test_a_job_that_grows_after_it_was_measured(pods, base, grow):
    """A job can notice that its files are copied, and allocate memory or write files before it is stopped."""
    conf = base / "small-grown.conf"
    conf.write_text((base / "fsched.conf").read_text() + "CheckpointJobLimit = 20M\n")
    job = Job(pods, base, sys.executable, "-c", GROWS.format(grow=grow))
    p = job.begin("checkpoint", job.state, fault="wait-before-freeze", conf=conf)
    lib.wait_for((job.state / "waiting").exists, "the worker")
    (job.work / "now").touch()
    lib.wait_for((job.work / "done").exists, "the job to grow")
    (job.state / "waiting").unlink()
    said = p.communicate(timeout=120)[0]
    assert p.returncode and "CheckpointJobLimit allows 20.0 MiB" in said and "has grown" in said, said
    assert "the command runs on" in said and not list(job.state.glob("epochs/*")), said
    job.checkpoint()
    job.stop()


def walks(job):
    return [lib.program(p) for p in lib.descendants(job.p.pid) if lib.comm(p) == "walk"]


@pytest.mark.parametrize("owner", [USER, "root"])
def test_a_program_that_was_replaced(pods, base, owner):
    """An upgrade has replaced the program in a directory that the job may not write, which stays unchanged, and a file that the job reads and its working directory."""
    d = pods.place("software")
    for name in ("walk", "data"):
        shutil.copy("/usr/bin/sleep" if name == "walk" else base / "memory", d / name)
    # more than a MiB: the engine takes shared memory of that size itself
    with open(d / "walk", "ab") as f:
        f.write(bytes(3 << 20))
    (d / "walk").chmod(0o755)
    (d / "gone").mkdir()
    for f in (d, d / "walk", d / "data"):
        shutil.chown(f, owner)
    try:
        job = script(pods, base, f"stop=$PWD/stop; cd {d}/gone; exec 7< {d}/data; {d}/walk 1000 & echo ready; "
                                 f"until [ -e $stop ]; do sleep 0.05; done; kill $! || exit 5; cmp /proc/self/fd/7 {base}/memory")
        lib.wait_for(lambda: walks(job), "the program")
        for name in ("walk", "data"):
            shutil.copy("/usr/bin/true", d / "new")
            (d / "new").rename(d / name)
        (d / "gone").rmdir()
        d.chmod(0o555)
        before = {p: p.stat().st_ctime_ns for p in [d, *d.iterdir()]}
        for n in (1, 2, 3):
            job.checkpoint(*([] if n == 2 else ["--kill"]))
            if n == 2:
                job.fsched("kill", job.state)
            assert f"restored from epoch {n}" in job.restore(), job.said.read_text()
            assert {p: p.stat().st_ctime_ns for p in [d, *d.iterdir()]} == before
        name, = walks(job)
        assert name.startswith("/dev/shm/.deleted.") and name.endswith("/walk (deleted)"), name
        assert not list(Path("/dev/shm").glob(".deleted*"))
        job.stop()
    finally:
        d.chmod(0o755)


def test_leases_and_watches(pods, base):
    """A checkpoint opens no file with a lease of the job and no file that the job only reads. A copy reads the copied file."""
    job = Job(pods, base, "leases")
    for n in range(5):
        assert f"epoch {n + 1}" in job.checkpoint()
    job.stop()
    said = job.out.read_text().splitlines()
    assert "broken 0" in said, said
    assert {line for line in said if line.split()[-1] in ("reading", "both", "writing", ".")} <= {"access both"}, said


LEASED = """import fcntl, os, signal, time
signal.signal(signal.SIGIO, signal.SIG_IGN)
f = os.open('data', os.O_RDWR | os.O_CREAT, 0o600)
os.ftruncate(f, 256 << 20)
os.pwrite(f, b'x' * 5000, 100 << 20)
fcntl.fcntl(f, fcntl.F_SETLEASE, fcntl.F_WRLCK)
print('ready', flush=True)
while not os.path.exists('stop'): time.sleep(.05)
print(os.fstat(f).st_size, os.pread(f, 5000, 100 << 20).strip(b'x'), os.pread(f, 1 << 20, 200 << 20).strip(b'\\0'), flush=True)"""


def test_holes_of_a_file_with_a_lease(pods, base):
    """Such a file is read through the job's own descriptor, where holes cannot be asked for: they must not fill the disk all the same."""
    conf = base / "small-leased.conf"
    conf.write_text((base / "fsched.conf").read_text() + "CheckpointFileLimit = 64K\n")
    job = Job(pods, base, sys.executable, "-c", LEASED)
    job.checkpoint("--kill", conf=conf)
    copies = [s for s in (f.stat() for f in job.state.glob("epochs/*/files/*.data")) if s.st_size > 4096]     # not that of its output
    assert [s.st_size for s in copies] == [256 << 20] and sum(s.st_blocks for s in copies) * 512 <= 64 << 10, copies
    job.restore()
    job.stop()
    assert f"{256 << 20} b'' b''" in job.out.read_text(), job.out.read_text()


def test_leases_after_a_restore(pods, base):
    job = Job(pods, base, "leases")
    job.checkpoint("--kill")
    (job.work / "watched" / "both").write_text("other text, and longer")
    assert "restored from epoch 1" in job.restore(), job.said.read_text()
    job.stop()
    assert (job.work / "watched" / "both").read_text() == "some text\n"


def test_asynchronous_input_and_output(pods, base):
    """The kernel's ring of io_setup(2) is a file without a name, but is no file that was deleted."""
    job = Job(pods, base, "aio")
    job.checkpoint()
    job.checkpoint("--kill")
    assert "restored from epoch" in job.restore()
    job.stop()


def test_files_of_namespaces(pods, base):
    job = Job(pods, base, lib.ROOT / "tests/workloads/namespaces.py")
    job.checkpoint("--kill")
    assert "restored from epoch" in job.restore(), job.said.read_text()
    job.stop()


def test_a_lease_that_is_being_broken(pods, base):
    """Nobody can open such a file: it is copied through the job's own descriptor, and the job gets no signal by that."""
    job = Job(pods, base, lib.ROOT / "tests/workloads/breaking.py")
    for n in range(2):
        assert f"epoch {n + 1}" in job.checkpoint()
    copies = [f.read_bytes() for f in job.state.glob("epochs/*/files/*.data")]
    assert b"some text\n" in copies, copies
    job.stop()


EMPTIED = """exec 7>> log; echo before >&7; echo ready; until [ -e empty ]; do sleep 0.02; done
[ -e lock ] || : > log; echo after >&7; touch emptied; until [ -e stop ]; do sleep 0.02; done"""


def test_a_log_that_is_emptied_after_the_epoch(pods, base):
    """As logrotate's copytruncate does it."""
    job = script(pods, base, EMPTIED)
    lib.wait_for(lambda: (job.work / "log").exists() and (job.work / "log").read_text() == "before\n", "the first line")
    assert "epoch 1" in job.checkpoint()
    (job.work / "empty").touch()
    lib.wait_for((job.work / "emptied").exists, "the log to be emptied")
    job.fsched("kill", job.state)
    (job.work / "empty").unlink(missing_ok=True)
    (job.work / "emptied").unlink(missing_ok=True)
    assert "restored from epoch 1" in job.restore(), job.said.read_text()
    assert (job.work / "log").read_text() == "before\n"
    (job.work / "lock").touch()
    (job.work / "empty").touch()
    lib.wait_for((job.work / "emptied").exists, "the job to go on")
    assert (job.work / "log").read_text() == "before\nafter\n"
    job.stop()
