"""A sanitizer report (make test-asan) fails the test during which it was written, since the programs have no stderr."""
import glob
import os
import signal
from pathlib import Path

import pytest

# Clusters are for the tests of more than one directory.
pytest_plugins = ["cluster_fixtures", "failures"]

# A background job of a script starts with SIGINT and SIGQUIT ignored, and others may come blocked: programs under test inherit that, and a client
# that is to be interrupted would rightly not be.
signal.pthread_sigmask(signal.SIG_SETMASK, [])
for number in (signal.SIGHUP, signal.SIGQUIT, signal.SIGTERM, signal.SIGCHLD, signal.SIGUSR1, signal.SIGUSR2, signal.SIGALRM):
    if signal.getsignal(number) == signal.SIG_IGN:
        signal.signal(number, signal.SIG_DFL)
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

HERE = Path(__file__).resolve().parent
LOG = os.environ.get("FSCHED_SANITIZER_LOG")


def reports():
    """The texts of new reports; a later call does not return them again."""
    texts = []
    for name in sorted(glob.glob(glob.escape(LOG) + ".*")) if LOG else []:
        with open(name, encoding="utf-8", errors="replace") as f:
            texts.append(f"{os.path.basename(name)}\n{f.read()}")
        os.unlink(name)
    return texts


def is_long(item, listed):
    return item.nodeid in listed or item.nodeid.split("[")[0] in listed


def select_by_length(config, items):
    """FSCHED_TEST_LONG: "no" leaves out what tests/long.txt names, "only" leaves out the rest."""
    wanted = os.environ.get("FSCHED_TEST_LONG", "")
    if wanted not in ("no", "only"):
        return
    lines = [line.strip() for line in (HERE / "long.txt").read_text(encoding="ascii").splitlines()]
    listed = {line for line in lines if line and not line.startswith("#")}
    found = {name for item in items for name in (item.nodeid, item.nodeid.split("[")[0])}
    unknown = sorted(listed - found)
    if unknown and not config.option.keyword:
        raise pytest.UsageError(f"tests/long.txt names tests that do not exist: {', '.join(unknown)}")
    left_out = [item for item in items if is_long(item, listed) == (wanted == "no")]
    items[:] = [item for item in items if is_long(item, listed) == (wanted == "only")]
    config.hook.pytest_deselected(items=left_out)


def pytest_collection_modifyitems(config, items):
    """The files that take longest are begun first, so that nobody has to wait for one of them alone at the end."""
    select_by_length(config, items)
    longest = ["test_recovery.py", "test_soak.py", "test_faults.py"]
    items.sort(key=lambda item: longest.index(item.path.name) if item.path.name in longest else len(longest))


def pytest_terminal_summary(terminalreporter):
    """Prints texts that tests recorded by record_property("say", text), and why tests were run again, before the closing line."""
    for report in terminalreporter.getreports("rerun"):
        terminalreporter.write_line(f"run again: {report.nodeid} ({report.when}, {report.duration:.0f} s)\n{str(report.longrepr)[-3000:]}\n")
    for report in terminalreporter.getreports("passed"):
        for name, text in report.user_properties:
            if name == "say" and report.when == "call":
                terminalreporter.write_line(text)


@pytest.fixture(autouse=True)
def no_report_of_a_sanitizer():
    yield
    found = reports()
    assert not found, "\n".join(found)


@pytest.fixture(scope="session", autouse=True)
def no_late_report_of_a_sanitizer():
    """Made first, so that it ends after all clusters."""
    reports()       # of earlier sessions
    yield
    found = reports()
    assert not found, "\n".join(found)
