"""Files that a job opens between the preflight and the freeze are found in criu's images, before the epoch is complete and again before a restore."""
import pytest

from refused import base, nothing_left_of_pods, pods, python  # noqa: F401  (fixtures)

OPENS = {
    "mem": ("os.open('/proc/self/mem', os.O_RDONLY)", "/proc/3/mem", "process 3 has it open as descriptor 3"),
    "maps": ("""
os.set_inheritable(os.open('/proc/self/maps', os.O_RDONLY), True)
if os.fork() == 0:
    while not os.path.exists('go'):
        time.sleep(0.05)
    os._exit(0)""", "/proc/3/maps", "only that process itself", "process 4 has it open as descriptor 3"),
    "writing": ("os.open('/proc/self/comm', os.O_RDWR)", "/proc/3/comm", "open for writing"),
}


@pytest.mark.parametrize("what", OPENS)
def test_a_file_opened_after_the_preflight(pods, what):
    """No epoch is made, and the program goes on."""
    text, *words = OPENS[what]
    python(pods, text + "\nready()\n").start().refused(*words, "about to be frozen", fault="no-preflight")


def test_the_same_of_a_job_that_is_to_go(pods):
    text, *words = OPENS["mem"]
    python(pods, text + "\nready()\n").start().refused(*words, fault="no-preflight", options=["--kill"])


def test_an_old_epoch_with_such_a_file_is_not_restored(pods):
    text, *words = OPENS["mem"]
    job = python(pods, text + "\nready()\n").start()
    p = job.checkpoint("--kill", fault="no-preflight,no-image-check")
    assert p.returncode == 0, p.stderr
    job.process.wait(30)
    said = job.restore(fails=True)
    for w in (*words, "epoch 1 cannot be restored"):
        assert w in said, said


def test_ordinary_files_pass_both(pods):
    job = python(pods, "files = [open(n) for n in ('/proc/self/maps', '/proc/meminfo', '/sys/devices/system/cpu/online')]\nready()\n")
    job.start().comes_back(fault="no-preflight")
