"""leaving.py HOST PORT: connections to a server that echoes, which is no part of the job, and one within the job.

Prints what each connection reports when it is closed. beat: counts echoes, after an error on a new connection. inner: counts bytes
within the job. It ends when there is a file "stop"."""
import errno
import os
import select
import socket
import sys
import threading
import time

HOST, PORT = sys.argv[1], int(sys.argv[2])


def connect():
    s = socket.create_connection((HOST, PORT), 20)
    s.settimeout(None)
    return s


def say(*words):
    os.write(1, (" ".join(map(str, words)) + "\n").encode())     # at once, whatever the other threads write


def name(call):
    try:
        return repr(call())
    except OSError as e:
        return errno.errorcode[e.errno]


def count(file, n):
    with open(file + ".new", "w") as f:
        f.write(str(n))
    os.rename(file + ".new", file)


def reads(s):
    say("read", name(lambda: s.recv(9)), name(lambda: s.recv(9)))


def waits(s):
    e = select.epoll()
    e.register(s, select.EPOLLIN | select.EPOLLRDHUP | select.EPOLLET)
    events = e.poll()[0][1]
    say("epoll", *(n for n in ("EPOLLIN", "EPOLLERR", "EPOLLHUP", "EPOLLRDHUP") if events & getattr(select, n)), name(lambda: s.recv(9)))


def writes(s):
    while not os.path.exists("write"):
        time.sleep(0.05)
    say("write", name(lambda: s.send(b"x")), name(lambda: s.send(b"x")), name(s.getpeername))


def echoes(s):
    n, ended = 0, False
    while not os.path.exists("stop"):
        try:
            s.sendall(b"ping")
            got = s.recv(9)
            if not got:
                raise ConnectionError(0, "end")
        except OSError as e:
            if not ended:
                say("echo", errno.errorcode.get(e.errno, e))
                ended = True
            s.close()
            s = connect()
            continue
        assert got == b"ping", got
        n += 1
        count("beat", n)
        time.sleep(0.01)


def inner():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        a = socket.create_connection(listener.getsockname())
        b = listener.accept()[0]
    n = 0
    while not os.path.exists("stop"):
        a.sendall(n.to_bytes(4, "big"))
        assert int.from_bytes(b.recv(4, socket.MSG_WAITALL), "big") == n
        n += 1
        count("inner", n)
        time.sleep(0.01)


threads = [threading.Thread(target=f, args=(connect(),), daemon=True) for f in (reads, waits, writes, echoes)]
within = threading.Thread(target=inner)
for t in (*threads, within):
    t.start()
say("ready")
within.join()
threads[-1].join(20)
say("done")
