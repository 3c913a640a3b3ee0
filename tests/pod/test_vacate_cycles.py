"""What long jobs are made of, through many vacates: a screen session, a SQLite database in /tmp, a TCP server with a client. 5 cycles in `make test`;
`make test-memory CYCLES=100` for more."""
import os
import sys

import lib

from test_memory import Job
from test_pod import base, lines, pods  # noqa: F401  (fixtures)

CYCLES = int(os.environ.get("FSCHED_CYCLES", "5"))

PROGRAM = r"""
import os, socket, sqlite3, subprocess, threading, time
here = os.getcwd()
os.environ.update(SCREENDIR="/tmp/screens", TERM="xterm"); os.mkdir("/tmp/screens", 0o700)
subprocess.run(["screen", "-d", "-m", "-S", "one", "sh", "-c", "while read line; do echo $line >/tmp/answer; done"], check=True)
server = socket.create_server(("127.0.0.1", 0))
def serve():
    connection = server.accept()[0]
    while data := connection.recv(4096):
        connection.sendall(data)
threading.Thread(target=serve, daemon=True).start()
client = socket.create_connection(server.getsockname())
db = sqlite3.connect("/tmp/db", isolation_level=None); db.execute("create table t(n)"); inode = os.stat("/tmp/db").st_ino
def answer(n):
    subprocess.run(["screen", "-S", "one", "-X", "stuff", f"{n}\n"], check=True)
    end = time.monotonic() + 60
    while time.monotonic() < end:
        if os.path.exists("/tmp/answer") and open("/tmp/answer").read() == f"{n}\n":
            return True
        time.sleep(0.01)
out = open("numbers", "w", buffering=1); n = 0
print("ready", flush=True)
while not os.path.exists(here + "/stop"):
    n += 1
    try:
        db.execute("insert into t values(?)", (n,)); client.sendall(b"%d." % n); got = b""
        while not got.endswith(b"."):
            got += client.recv(100)
        good = got == b"%d." % n and db.execute("select count(*) from t").fetchone()[0] == n and os.stat("/tmp/db").st_ino == inode and answer(n)
        print(n, "good" if good else f"bad: {got} {os.stat('/tmp/db').st_ino}", file=out)
    except Exception as e:
        print(n, "bad:", repr(e), file=out); break
    time.sleep(0.05)
"""


def test_cycles(pods, base, record_property):
    job = Job(pods, base, sys.executable, "-c", PROGRAM)
    for n in range(CYCLES):
        before = lines(job.work / "numbers")
        lib.wait_for(lambda before=before: lines(job.work / "numbers") > before + 1, "numbers")
        done = pods.checkpoint("--kill", job.state)
        said = done.stdout + done.stderr
        assert done.returncode == 0 and "warning" not in said, (n, said)
        said = job.restore()
        assert "restored from epoch" in said and "warning" not in said, (n, said)
        assert "bad" not in (job.work / "numbers").read_text(), (n, (job.work / "numbers").read_text()[-500:])
    before = lines(job.work / "numbers")
    lib.wait_for(lambda: lines(job.work / "numbers") > before + 1, "numbers")
    assert "bad" not in (job.work / "numbers").read_text()
    job.stop()
    record_property("say", f"{CYCLES} cycles")
