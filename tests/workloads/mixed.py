#!/usr/bin/python3
"""mixed.py KIND: a job of one kind that counts, in the current directory, until there is a file "stop".

Every file of the job whose name ends with ".count" holds 0, 1, 2, ... one number a line, whatever happens to its node; a job that sees
that its own state is wrong ends with status 1 and says why."""
import multiprocessing
import os
import socket
import sqlite3
import struct
import sys
import time

PAUSE = 0.05


def stopped():
    return os.path.exists("stop")


def count(name):
    """Numbers for the file: opened anew for each line, as a script's `>>` does."""
    i = 0
    while not stopped():
        with open(name, "a") as f:
            f.write(f"{i}\n")
        yield i
        i += 1
        time.sleep(PAUSE)


def expect(condition, what):
    if not condition:
        print(what, flush=True)
        sys.exit(1)


def growing():
    """Files that stay open: one grows, one is written in place."""
    table = open("table", "w+b", buffering=0)
    with open("open.count", "w", buffering=1) as grows:
        for i in count("main.count"):
            grows.write(f"{i}\n")
            table.seek(8 * (i % 1000))
            table.write(struct.pack("<Q", i))
            table.seek(8 * (i // 2 % 1000))
            value = struct.unpack("<Q", table.read(8))[0]
            expect(value % 1000 == i // 2 % 1000 and value <= i, f"table has {value} at step {i}")


def tcp():
    """A connection over loopback: every number goes there and comes back, with data always on its way in both directions."""
    listener = socket.create_server(("127.0.0.1", 0))
    if os.fork() == 0:
        conn = listener.accept()[0]
        for i, line in enumerate(conn.makefile("r")):
            if int(line) != i:
                os._exit(1)
            conn.sendall(line.encode())
        os._exit(0)
    conn = socket.create_connection(listener.getsockname())
    answers, sent = conn.makefile("r"), 0
    for i in count("main.count"):
        while sent < i + 5:
            conn.sendall(f"{sent}\n".encode())
            sent += 1
        got = answers.readline()
        expect(got == f"{i}\n", f"{got!r} came back for {i}")
    conn.shutdown(socket.SHUT_WR)
    expect(os.wait()[1] == 0, "the server has seen a wrong number")


def daemons():
    """A daemon of its own session, whose parent has ended, and a child that is stopped and continued."""
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            for _ in count("daemon.count"):
                pass
            open("daemon.ended", "w").close()
        os._exit(0)
    os.wait()
    for _ in count("main.count"):
        pass
    end = time.monotonic() + 60
    while not os.path.exists("daemon.ended"):
        expect(time.monotonic() < end, "the daemon is gone")
        time.sleep(PAUSE)


def square(i):
    return i * i


def pool():
    with multiprocessing.Pool(3) as workers:
        for i in count("main.count"):
            got = workers.map(square, range(i, i + 20))
            expect(got == [k * k for k in range(i, i + 20)], f"the pool computed {got}")


def sqlite():
    db = sqlite3.connect("rows.db", isolation_level=None)
    db.execute("create table rows (i integer)")
    for i in count("main.count"):
        db.execute("insert into rows values (?)", (i,))
        if i % 20 == 0:
            rows = [r[0] for r in db.execute("select i from rows order by rowid")]
            expect(rows == list(range(i + 1)), f"the table has {len(rows)} rows at step {i}")
    expect(db.execute("pragma integrity_check").fetchone() == ("ok",), "the database is damaged")


KINDS = {f.__name__: f for f in (growing, tcp, daemons, pool, sqlite)}
if __name__ == "__main__":
    KINDS[sys.argv[1]]()
    print("whole", flush=True)
